"""Slice views ↔ slices of a scored volume."""

import slicer
import vtk

from .CompareLayout import QUERY, TRAINING
from .Observations import Observations
from .ScoredVolume import ScoredVolume


class Navigator:
    """Shows volumes in the slice views, moves the views to a slice, and tells (``onMoved(number)``) which one is shown.

    Numbers are those of the result's tables.
    """

    def __init__(self, onMoved):
        self._onMoved, self._volume, self._told = onMoved, None, None
        self._observations = Observations()

    def show(self, volumeNode, rows):
        """Show a volume, whose slices have the ``rows``, and follow the views from now on."""
        self.leave()
        self._volume = ScoredVolume(volumeNode, rows)
        for logic in _ownLogics():
            logic.GetSliceCompositeNode().SetBackgroundVolumeID(volumeNode.GetID())
            logic.FitSliceToBackground()
        for node in _sliceNodes():
            self._observations.add(node, "ModifiedEvent", self._onSliceNode)
        # The comparison's views are made later.
        self._observations.add(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self._onNodeAdded)

    def empty(self):
        """Show no volume: the one that was shown is not what is said now."""
        self.leave()
        for logic in _ownLogics():
            logic.GetSliceCompositeNode().SetBackgroundVolumeID(None)

    def jump(self, number):
        """Move the views to slice ``number``."""
        slices = self._slices()
        if slices is not None:
            self._told = number
            for node in _sliceNodes():
                node.JumpSliceByOffsetting(*slices.center(number))

    def leave(self):
        """Follow no view any more."""
        self._observations.clear()
        self._volume, self._told = None, None

    def _slices(self):
        """Where the volume's slices lie now; None where there is none or it was moved so that they lie on no grid."""
        there = self._volume is not None and slicer.mrmlScene.IsNodePresent(self._volume.node)
        return self._volume.slices if there else None

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, _caller, _event, node):
        if node.IsA("vtkMRMLSliceNode") and node.GetLayoutName() != TRAINING:
            self._observations.add(node, "ModifiedEvent", self._onSliceNode)

    def _onSliceNode(self, sliceNode, _event):
        number = self._volume.shownIn(sliceNode) if self._slices() is not None else None
        if number is not None and number != self._told and number in self._volume.rows:
            self._told = number
            self._onMoved(number)


def _ownLogics():
    """The logics of the slice views that have no layers of their own, as those of the comparison have."""
    manager = slicer.app.layoutManager()
    names = manager.sliceViewNames() if manager is not None else ()
    return [manager.sliceWidget(name).sliceLogic() for name in names if name not in (QUERY, TRAINING)]


def _sliceNodes():
    """The slice nodes of all views but that of the training volume, which moves with the query's."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    return [node for node in nodes if node.GetLayoutName() != TRAINING]
