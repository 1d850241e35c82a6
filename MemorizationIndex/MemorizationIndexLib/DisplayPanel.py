"""The section for what the slice views show."""

from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _


class DisplayPanel:
    """Loads the training volume that the volume which is looked at matches."""

    def __init__(self, ui, logic, run):
        self.ui, self.logic, self.run, self.parameter, self._node = ui, logic, run, None, None
        ui.loadMatchButton.connect("clicked()", self.onLoadMatch)

    def show(self, volumeNode, _row):
        """Another volume or slice is looked at."""
        self._node = volumeNode
        self.update()

    def update(self):
        """Show the state of the run."""
        ready = self.parameter is not None and not self.logic.busy
        self.ui.loadMatchButton.enabled = ready and self._node is not None

    def onLoadMatch(self):
        """Load the matched training volume."""
        try:
            match = self.logic.loadMatch(self._node, self.parameter.trainingFolder)
        except MemorizationIndexError as error:
            self.run.say(str(error))
        else:
            self.run.say(_("Matched training volume: {name}").format(name=match.GetName()))
