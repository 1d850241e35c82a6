"""What the user chose and what came of it, kept in the scene."""

from pathlib import Path
from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLTableNode, vtkMRMLTextNode
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper


@parameterNodeWrapper
class Parameter:
    """The module's parameter node. An empty path means: not chosen."""

    referenceFolder: Path
    trainingFolder: Path
    plane: Annotated[str, Choice(["axial", "coronal", "sagittal", "native"])] = "axial"
    volumes: list[vtkMRMLScalarVolumeNode]
    trainingVolumes: list[vtkMRMLScalarVolumeNode]
    volumeTable: vtkMRMLTableNode
    sliceTable: vtkMRMLTableNode
    alignmentTable: vtkMRMLTableNode
    resultFiles: vtkMRMLTextNode
