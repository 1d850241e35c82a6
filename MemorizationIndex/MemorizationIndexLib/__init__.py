"""The extension inside Slicer: scene in, scene out. One class a file; the science is in ``memorization_index``."""

from .Installer import Installer
from .Job import Job
from .Logic import MemorizationIndexLogic
from .Parameter import Parameter
from .Results import Results
from .SampleScans import registerSampleScans
from .TrainingVolumes import TrainingVolumes
from .VolumeWriter import VolumeWriter
from .Weights import Weights
from .Widget import Widget

__all__ = [
    "Installer",
    "Job",
    "MemorizationIndexLogic",
    "Parameter",
    "Results",
    "TrainingVolumes",
    "VolumeWriter",
    "Weights",
    "Widget",
    "registerSampleScans",
]
