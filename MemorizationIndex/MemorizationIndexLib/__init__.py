"""The extension inside Slicer: scene in, scene out. One class a file; the science is in ``memorization_index``."""

from .Compare import Compare
from .Export import Export
from .Installer import Installer
from .Job import Job
from .Logic import MemorizationIndexLogic
from .Overlay import Overlay
from .Parameter import Parameter
from .ResultFiles import ResultFiles
from .Results import Results
from .Review import Review
from .Run import Run
from .SampleScans import registerSampleScans
from .ScenePreview import ScenePreview
from .Steps import Steps
from .TrainingVolumes import TrainingVolumes
from .VolumeWriter import VolumeWriter
from .Weights import Weights
from .Widget import Widget

__all__ = [
    "Compare",
    "Export",
    "Installer",
    "Job",
    "MemorizationIndexLogic",
    "Overlay",
    "Parameter",
    "ResultFiles",
    "Results",
    "Review",
    "Run",
    "ScenePreview",
    "Steps",
    "TrainingVolumes",
    "VolumeWriter",
    "Weights",
    "Widget",
    "registerSampleScans",
]
