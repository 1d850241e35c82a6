"""The overlay of one slice view: text, band and heat map of the scored volume that the view shows."""

import slicer
from slicer.i18n import tr as _

from .AnnotationText import AnnotationText, describeSlice
from .Band import Band
from .Observations import Observations

_BEFORE_SLICER = 10.0  # priority of an observer that may keep a click from the view's own interaction


class ViewOverlay:
    """Follows one slice view.

    ``scoredVolume(volumeNode)`` gives the :class:`ScoredVolume` of a node, or None; ``onChanged(view)`` is called when
    the view shows other volumes than before; ``onJump(volumeNode, sliceNumber)`` when a cell of the band was clicked.
    """

    def __init__(self, sliceWidget, scoredVolume, heatMap, onChanged, onJump):
        self._view, self.logic = sliceWidget.sliceView(), sliceWidget.sliceLogic()
        self._scoredVolume, self._heatMap, self._onChanged, self._onJump = scoredVolume, heatMap, onChanged, onJump
        renderer = self._view.renderWindow().GetRenderers().GetFirstRenderer()
        self.text, self.hoverText = AnnotationText(renderer), AnnotationText(renderer, atTop=False)
        self.band, self.volume = Band(renderer), None
        self.sliceNode, self.compositeNode = self.logic.GetSliceNode(), self.logic.GetSliceCompositeNode()
        interactor, self._observations = self._view.interactor(), Observations()
        self._observations.add(self.sliceNode, "ModifiedEvent", self._onSliceModified)
        self._observations.add(self.compositeNode, "ModifiedEvent", self._onLayersModified)
        self._observations.add(interactor, "MouseMoveEvent", self._onMouseMove, _BEFORE_SLICER)
        self._observations.add(interactor, "LeaveEvent", self._onLeave, _BEFORE_SLICER)
        self._press = self._observations.add(interactor, "LeftButtonPressEvent", self._onPress, _BEFORE_SLICER)

    def update(self):
        """Show what is known of the slice that the view shows."""
        self.volume = self._scored()
        if self.volume is None:
            self._hide()
        else:
            number = self.volume.shownIn(self.sliceNode)
            self.text.show(self._describe(number))
            if number is None:
                self.band.hide()
            else:
                self.band.show(self.volume, number)
            self._heatMap.show(self.compositeNode, self.volume.node)
        self._view.scheduleRender()

    def leave(self, volumeNode):
        """Show nothing of a volume that is about to be removed."""
        if self.volume is not None and self.volume.node is volumeNode:
            self._hide()
            self.volume = None

    def cleanup(self):
        """Take everything out of the view and stop to follow it."""
        self._observations.clear()
        self._hide()
        self.volume = None
        self._view.scheduleRender()

    def _hide(self):
        for part in (self.text, self.hoverText):
            part.show("")
        self.band.hide()
        self._heatMap.hide(self.compositeNode)

    def _scored(self):
        """The scored volume that the view shows: as background, else as foreground."""
        layers = self.compositeNode.GetBackgroundVolumeID(), self.compositeNode.GetForegroundVolumeID()
        volumes = (self._scoredVolume(slicer.mrmlScene.GetNodeByID(layer)) for layer in layers if layer)
        return next((volume for volume in volumes if volume is not None), None)

    def _describe(self, number):
        volume = self.volume
        if volume.slices is None:
            return _("Moved by a transform that is not linear, or shears: the scores do not apply here.")
        if number is None:
            plane = {"axial": _("axial"), "coronal": _("coronal"), "sagittal": _("sagittal")}
            return _("This plane was not scored; {plane} slices of the volume were.").format(
                plane=plane.get(volume.plane, volume.plane)
            )
        if not 0 <= number < volume.slices.shape[0]:
            return _("Outside the scored volume.")
        if number not in volume.rows:
            return _("Slice {number}: empty, not scored.").format(number=number)
        return _("slice {number}").format(number=number) + " · " + describeSlice(volume.rows[number])

    def _onSliceModified(self, _caller, _event):
        self.update()

    def _onLayersModified(self, _caller, _event):
        self._onChanged(self)

    def _cell(self):
        return self.band.sliceAt(*self._view.interactor().GetEventPosition())

    def _onMouseMove(self, _caller, _event):
        number = self._cell()
        if number is None:
            self._onLeave(_caller, _event)
            return
        known = describeSlice(self.volume.rows[number]) if number in self.volume.rows else _("empty, not scored")
        text = _("slice {number}").format(number=number) + " · " + known.partition("\n")[0]
        self.hoverText.show(text, *self.band.place(number))
        self._view.scheduleRender()

    def _onLeave(self, _caller, _event):
        if self.hoverText.text:
            self.hoverText.show("")
            self._view.scheduleRender()

    def _onPress(self, caller, _event):
        number = self._cell()
        if number is None:
            return
        caller.GetCommand(self._press).SetAbortFlag(1)  # the click is not for the view's own tools
        node = self.volume.node
        self.volume.jump(self.sliceNode, number)
        self._onJump(node, number)
