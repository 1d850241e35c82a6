"""The extension inside Slicer: scene in, scene out. One class a file; the science is in ``memorization_index``."""

from .Compare import Compare
from .Installer import Installer
from .Job import Job
from .Logic import MemorizationIndexLogic
from .Overlay import Overlay
from .Parameter import Parameter
from .ResultFiles import ResultFiles
from .Results import Results
from .TrainingVolumes import TrainingVolumes
from .VolumeWriter import VolumeWriter
from .Widget import Widget

__all__ = [
    "Compare",
    "Installer",
    "Job",
    "MemorizationIndexLogic",
    "Overlay",
    "Parameter",
    "ResultFiles",
    "Results",
    "TrainingVolumes",
    "VolumeWriter",
    "Widget",
]
