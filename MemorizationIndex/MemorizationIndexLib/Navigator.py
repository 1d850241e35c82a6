"""Slice views ↔ slices of a scored volume."""

import numpy as np
import slicer
from memorization_index.alignment import Slices
from memorization_index.errors import MemorizationIndexError
from slicer.util import VTKObservationMixin

from .VolumeWriter import worldMatrix

# A view shows a slice when its normal is this close (cosine) to the volume's.
_PARALLEL = 0.999


class Navigator(VTKObservationMixin):
    """Shows volumes in the slice views, moves the views to a slice, and tells (``onMoved(number)``) which one is shown.

    Numbers are those of the result's tables.
    """

    def __init__(self, onMoved):
        VTKObservationMixin.__init__(self)
        self._onMoved, self._slices, self._told = onMoved, None, None

    def show(self, volumeNode, plane):
        """Show a volume, cut in ``plane``, and follow the views from now on."""
        self.leave()
        try:
            affine = slicer.util.arrayFromVTKMatrix(worldMatrix(volumeNode, volumeNode.GetName()))
            self._slices = Slices.of(affine, volumeNode.GetImageData().GetDimensions(), plane)
        except (MemorizationIndexError, ValueError):
            return  # moved under another transform since it was scored
        if slicer.app.layoutManager() is not None:
            slicer.util.setSliceViewerLayers(background=volumeNode, fit=True)
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            self.addObserver(node, "ModifiedEvent", self._onSliceNode)

    def jump(self, number):
        """Move the views to slice ``number``."""
        if self._slices is not None:
            self._told = number
            place = self._slices.center(number)
            slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *place, slicer.vtkMRMLSliceNode.OffsetJumpSlice)

    def leave(self):
        """Follow no view any more."""
        self.removeObservers()
        self._slices, self._told = None, None

    def numberIn(self, sliceNode):
        """The number of the volume's slice that a view shows, or None where it shows another plane or nothing of it."""
        matrix = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())
        step = self._slices.step / np.linalg.norm(self._slices.step)
        if abs(matrix[:3, 2] @ step) < _PARALLEL:
            return None
        number = round(float(self._slices.pixels(matrix[:3, 3])[0]))
        return number if 0 <= number < self._slices.shape[0] else None

    def _onSliceNode(self, sliceNode, _event):
        number = self.numberIn(sliceNode)
        if number is not None and number != self._told:
            self._told = number
            self._onMoved(number)
