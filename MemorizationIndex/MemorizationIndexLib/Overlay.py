"""The per-slice overlay of all slice views."""

import slicer
import vtk

from .HeatMap import HeatMap
from .Observations import Observations
from .ScoredVolume import ScoredVolume
from .ViewOverlay import ViewOverlay


class Overlay:
    """Shows, in every slice view that shows a scored volume, what was found in the slice; leaves nothing when off.

    Off at first, and then with the heat map. ``onJump(volumeNode, sliceNumber)`` is called when the user clicked a cell
    of a view's band.
    """

    def __init__(self, results, onJump=lambda _volumeNode, _sliceNumber: None):
        self._results, self.onJump = results, onJump
        self._heatMap = HeatMap(results, self.update)
        self._views, self._volumes, self._state = {}, {}, None
        self._observations, self._volumeObservations = Observations(), Observations()
        self._enabled = self._updating = False

    @property
    def enabled(self):
        """Whether the overlay is shown."""
        return self._enabled

    @enabled.setter
    def enabled(self, enabled):
        if enabled == self._enabled:
            return
        self._enabled = enabled
        manager = slicer.app.layoutManager()  # None without a main window: then there are no views
        if enabled:
            self._observeScene()
            if manager is not None:
                manager.connect("layoutChanged(int)", self._onLayoutChanged)
            self.update()
        else:
            if manager is not None:
                manager.disconnect("layoutChanged(int)", self._onLayoutChanged)
            self._observations.clear()
            self._release()

    @property
    def heatMap(self):
        """Whether the overlay has the heat map, too."""
        return self._heatMap.enabled

    @heatMap.setter
    def heatMap(self, shown):
        if shown != self._heatMap.enabled:
            self._heatMap.enabled = shown
            self.update()

    def update(self):
        """Bring all views up to date; call it when the results have changed."""
        self._update(None)

    def _updateView(self, view):
        """Bring one view up to date, whose layers have changed."""
        self._update(view)

    def _update(self, only):
        if not self._enabled or self._updating or slicer.mrmlScene.IsClosing() or slicer.mrmlScene.IsBatchProcessing():
            return
        self._updating = True  # changing a view's layers ends up here again
        try:
            self._forgetOldResults()
            if only is None:
                self._findViews()
            for view in self._views.values() if only is None else (only,):
                view.update()
            self._heatMap.keepOnly([view.volume.node for view in self._views.values() if view.volume is not None])
        finally:
            self._updating = False

    def cleanup(self):
        """Switch the overlay off."""
        self.enabled = False

    # --- Views -------------------------------------------------------------------------------------------------------

    def _findViews(self):
        """Follow the views that exist now."""
        manager = slicer.app.layoutManager()
        for name in manager.sliceViewNames() if manager is not None else ():
            widget = manager.sliceWidget(name)
            if name not in self._views and widget.sliceLogic().GetSliceCompositeNode() is not None:
                self._views[name] = ViewOverlay(
                    widget, self._scoredVolume, self._heatMap, self._updateView, self._jumped
                )

    def _release(self):
        for name in list(self._views):
            self._views.pop(name).cleanup()
        self._heatMap.cleanup()
        self._forgetVolumes()

    # --- Volumes -----------------------------------------------------------------------------------------------------

    def _scoredVolume(self, node):
        """The :class:`ScoredVolume` of a node, or None where it was not scored."""
        if node is None:
            return None
        if node.GetID() not in self._volumes:
            rows = self._results.slicesOf(node)
            self._volumes[node.GetID()] = ScoredVolume(node, rows) if rows else None
            if rows:
                moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
                self._volumeObservations.add(node, moved, self._onVolumeMoved)
        return self._volumes[node.GetID()]

    def _forgetVolumes(self):
        self._volumes = {}
        self._volumeObservations.clear()

    def _forgetOldResults(self):
        parameter = self._results.parameter
        table, files = parameter.sliceTable, parameter.resultFiles
        state = (table and (table.GetID(), table.GetTable().GetMTime()), files and files.GetID())
        if state != self._state:
            self._state = state
            self._forgetVolumes()
            self._heatMap.cleanup()

    # --- Events ------------------------------------------------------------------------------------------------------

    def _observeScene(self):
        scene = slicer.mrmlScene
        self._observations.add(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self._observations.add(scene, scene.NodeAboutToBeRemovedEvent, self._onNodeAboutToBeRemoved)
        for event in (scene.EndCloseEvent, scene.EndImportEvent, scene.EndBatchProcessEvent):
            self._observations.add(scene, event, self._onSceneChanged)

    def _onSceneChanged(self, _caller, _event):
        self.update()

    def _onSceneStartClose(self, _caller, _event):
        self._release()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAboutToBeRemoved(self, _caller, _event, node):
        """Let go of a view or volume while it is still there."""
        for name in [name for name, view in self._views.items() if view.sliceNode is node]:
            self._views.pop(name).cleanup()
        if node.GetID() in self._volumes:
            self._forgetVolumes()
            for view in self._views.values():
                view.leave(node)
            self._heatMap.forget(node)

    def _jumped(self, volumeNode, sliceNumber):
        self.onJump(volumeNode, sliceNumber)

    def _onVolumeMoved(self, _caller, _event):
        self.update()

    def _onLayoutChanged(self, _layout):
        self.update()
