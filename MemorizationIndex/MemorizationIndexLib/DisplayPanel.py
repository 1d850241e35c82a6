"""The section for what the slice views show."""

from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _

from .Overlay import Overlay


class DisplayPanel:
    """The overlay, and the training volume that the volume which is looked at matches.

    ``onJump(volumeNode, slice number)`` when the user clicked a slice in a view's band.
    """

    def __init__(self, ui, logic, run, onJump):
        self.ui, self.logic, self.run, self.parameter, self._node = ui, logic, run, None, None
        self.overlay = Overlay(logic.results, onJump)
        ui.loadMatchButton.connect("clicked()", self.onLoadMatch)

    def show(self, volumeNode, _row):
        """Another volume or slice is looked at."""
        if volumeNode is not self._node:
            self._node = volumeNode
            self.overlay.update()
        if self.parameter is not None:
            self.update()

    def update(self):
        """Show the parameters and the state of the run."""
        self.overlay.enabled = self.parameter.overlay
        self.ui.loadMatchButton.enabled = not self.logic.busy and self._node is not None

    def detach(self):
        """Let go of the scene."""
        self.parameter = None
        self.overlay.cleanup()

    def toggleOverlay(self):
        """Overlay on or off."""
        if self.parameter is not None:
            self.parameter.overlay = not self.parameter.overlay

    def onLoadMatch(self):
        """Load the matched training volume."""
        try:
            match = self.logic.loadMatch(self._node, self.parameter.trainingFolder)
        except MemorizationIndexError as error:
            self.run.say(str(error))
        else:
            self.run.say(_("Matched training volume: {name}").format(name=match.GetName()))
