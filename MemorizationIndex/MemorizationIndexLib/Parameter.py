"""What the user chose and what came of it, kept in the scene."""

from pathlib import Path
from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLTableNode, vtkMRMLTextNode
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper


@parameterNodeWrapper
class Parameter:
    """The module's parameter node. An empty path means: not chosen."""

    # Reference
    referenceFolder: Path
    trainingSource: Annotated[str, Choice(["scene", "files"])] = "scene"
    trainingVolumes: list[vtkMRMLScalarVolumeNode]
    trainingFiles: Path
    plane: Annotated[str, Choice(["axial", "coronal", "sagittal", "native"])] = "axial"
    # Examine
    source: Annotated[str, Choice(["scene", "hierarchy", "files"])] = "scene"
    volumes: list[vtkMRMLScalarVolumeNode]
    files: Path
    # Results
    resultReference: Path  # what the result was made with, whatever is chosen now
    volumeTable: vtkMRMLTableNode
    sliceTable: vtkMRMLTableNode
    alignmentTable: vtkMRMLTableNode
    resultFiles: vtkMRMLTextNode
    decisionTable: vtkMRMLTableNode
    reader: str
    exportFolder: Path
    # Display
    overlay: bool = True
    heatMap: bool = True
    compare: Annotated[str, Choice(["off", "side by side", "blink", "checkerboard", "difference"])] = "side by side"
    matchWindowLevel: bool = True
    # Advanced
    trainingFolder: Path
    keyFile: Path
    encoder: Annotated[str, Choice(["spectral", "mri-core"])] = "spectral"
    weights: Path
    device: str = "auto"
