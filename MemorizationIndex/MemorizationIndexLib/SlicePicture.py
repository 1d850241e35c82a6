"""A picture of one slice, computed anew as the view moves, shown as a volume of a single slice."""

import numpy as np
import slicer

from .Temporary import hide, temporaryNode


class SlicePicture:
    """A temporary volume node that holds one picture (rows, columns)."""

    def __init__(self, name):
        self.node = temporaryNode("vtkMRMLScalarVolumeNode", name)
        self.node.CreateDefaultDisplayNodes()
        self.display = self.node.GetDisplayNode()
        self.display.SetAutoWindowLevel(False)
        self.colors = None
        hide(self.display)

    def setColors(self, colors):
        """Use a color node, which is removed with the picture."""
        self.colors = colors
        self.display.SetAndObserveColorNodeID(colors.GetID())

    def draw(self, picture, toWorld):
        """Show ``picture``; ``toWorld`` (4 × 4) leads from (slice, row, column), with slice 0, to RAS."""
        ijkToRAS = toWorld[:, [2, 1, 0, 3]]
        with slicer.util.NodeModify(self.node):
            self.node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToRAS))
            slicer.util.updateVolumeFromArray(self.node, np.ascontiguousarray(picture, np.float32)[None])

    def cleanup(self):
        """Remove the nodes."""
        for node in (self.node, self.display, self.colors):
            if node is not None and slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)
