"""A second node for the voxels of a training volume, laid on the synthetic volume; the user's node stays as it is."""

import numpy as np
import slicer
from slicer.i18n import tr as _

from .Temporary import hide, temporaryNode
from .VolumeWriter import worldMatrix


class DisplayCopy:
    """Shows a volume node's voxels (not copied) under a transform and with a window of its own; not saved."""

    def __init__(self, volumeNode):
        self.affine = slicer.util.arrayFromVTKMatrix(worldMatrix(volumeNode, volumeNode.GetName()))
        name = _("{volume} (aligned)").format(volume=volumeNode.GetName())
        self.node = temporaryNode("vtkMRMLScalarVolumeNode", name)
        self.transform = temporaryNode("vtkMRMLLinearTransformNode", name)
        self.node.SetIJKToRASMatrix(worldMatrix(volumeNode, volumeNode.GetName()))
        self.node.SetAndObserveTransformNodeID(self.transform.GetID())
        self.node.CreateDefaultDisplayNodes()
        self.display = self.node.GetDisplayNode()
        own = volumeNode.GetDisplayNode()
        if own is not None:
            self.display.SetAutoWindowLevel(False)  # before there are voxels, of which it would look at every one
            self.display.SetWindowLevel(own.GetWindow(), own.GetLevel())
        self.node.SetAndObserveImageData(volumeNode.GetImageData())
        hide(self.display)

    def place(self, toVolume):
        """Lay the point ``toVolume @ x`` of the volume on the point x of the world (4 × 4)."""
        slicer.util.updateTransformMatrixFromArray(self.transform, np.linalg.inv(toVolume))

    def cleanup(self):
        """Remove the nodes."""
        for node in (self.node, self.display, self.transform):
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)
