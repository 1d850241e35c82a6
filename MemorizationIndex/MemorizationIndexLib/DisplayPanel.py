"""The section for what the slice views show."""

import qt
import slicer
from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _

from .Compare import Compare
from .Locator import Locator
from .Overlay import Overlay
from .Steps import Steps
from .VolumeLoader import Pending, VolumeLoader

_TYPING = 600  # milliseconds without another character, after which a path is taken


class DisplayPanel:
    """The overlay, and the comparison with the training volume that the volume which is looked at matches.

    ``onJump(volumeNode, slice number)`` when the user clicked a slice in a view's band.
    """

    def __init__(self, ui, logic, run, onJump):
        self.ui, self.logic, self.run, self.parameter = ui, logic, run, None
        self._node, self._compared, self._comparing, self._steps = None, None, False, None
        self._number = None  # of the slice that is looked at
        self._matching = False  # whether the user asked for the volume itself
        self.overlay = Overlay(logic.results, onJump)
        self._locator, self._loader = Locator(self._onFound), VolumeLoader(self._onFound, self._onLoaded)
        self.compare = Compare(logic.results, lambda: logic.trainingVolumes(self._locator.files, self._loader.load))
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(_TYPING)
        self._later.connect("timeout()", self._compareAnew)
        ui.loadMatchButton.connect("clicked()", self.onLoadMatch)

    def show(self, volumeNode, row):
        """Another volume or slice is looked at; another volume's match is shown when the application is free."""
        self._number = int(row["slice"]) if row else None
        if volumeNode is not self._node:
            self._node, self._matching = volumeNode, False
            self._loader.stop()
            self.overlay.update()
            qt.QTimer.singleShot(1, self._onFree)  # not 0: what waits, such as drawing, comes first
        elif self.parameter is not None:
            self.update()

    def _onFree(self):
        if self.parameter is not None:
            self.update()

    def update(self):
        """Show the parameters and the state of the run."""
        self.overlay.heatMap = self.parameter.heatMap
        self.overlay.enabled = self.parameter.overlay
        self.ui.heatMapCheckBox.enabled = self.parameter.overlay
        self.compare.matchWindowLevel = self.parameter.matchWindowLevel
        self._updateCompare(self.parameter.compare)
        self.ui.loadMatchButton.enabled = not self.logic.busy and self._node is not None

    def detach(self):
        """Let go of the scene."""
        self.parameter, self._compared = None, None
        self._stopSteps()
        self._later.stop()
        self._loader.stop()
        self._locator.stop()
        self.compare.cleanup()
        self.overlay.cleanup()

    def toggleOverlay(self):
        """Overlay on or off."""
        if self.parameter is not None:
            self.parameter.overlay = not self.parameter.overlay

    def toggleBlink(self):
        """Blink on or off."""
        if self.parameter is not None:
            self.parameter.compare = "side by side" if self.parameter.compare == "blink" else "blink"

    def onLoadMatch(self):
        """Load the matched training volume."""
        self._matching = False
        try:
            folder = self.parameter.trainingFolder
            match = self.logic.loadMatch(self._node, folder, self._locator.files, self._loader.load)
        except Pending as pending:
            self._matching = True
            self.run.say(str(pending), passing=True)
        except MemorizationIndexError as error:
            self.run.say(str(error))
        else:
            self.run.say(_("Matched training volume: {name}").format(name=match.GetName()))
            if self.compare.message:
                self._compareAnew()

    def _onFound(self):
        """The training volume that was looked for or loaded is there, or why it is not."""
        if self._matching:
            self.onLoadMatch()
        self._compareAnew()

    def _onLoaded(self):
        if self.parameter is not None:
            self.run.changed()  # the lists of volumes leave it out

    def _compareAnew(self):
        """Compare again, now that more is known of the training volume."""
        self._compared = None
        self._onFree()

    def _updateCompare(self, mode):
        if self._comparing or slicer.app.layoutManager() is None:
            return  # what is shown changes the scene, which ends up here again
        self._comparing = True
        if self._compared is not None and self._steps is None and not self.compare.active:
            self._compared = None
            if self.compare.dismissed:
                self.parameter.compare = "off"
            else:  # a volume was deleted
                self._startComparing()
        elif mode == "off":
            if self._compared is not None:
                self._loader.stop()
            self._compared = None
            self._stopSteps()
            self.compare.leave()
            self.ui.compareMessageLabel.clear()
        else:
            self.compare.mode = mode
            self._startComparing()
        self._comparing = False

    def _startComparing(self):
        if self._node is None or not slicer.mrmlScene.IsNodePresent(self._node):
            self.ui.compareMessageLabel.clear()  # it was of a volume that is gone, or of one that is not scored
            self._stopSteps()
            self._compared = None
            self.compare.leave()
            return
        wanted = self._node, self.parameter.trainingFolder, self.parameter.keyFile
        if wanted == self._compared:
            return
        if self._compared is not None and self._compared[0] is self._node:
            self._later.start()  # a path is being typed: wait until it is whole
            return
        self._stopSteps()
        self._compared = wanted
        self._steps = Steps(self.compare.showing(self._node, number=self._number), self._onCompared)
        self._steps.start()

    def _stopSteps(self):
        if self._steps is not None:
            self._steps.stop()
            self._steps = None

    def _onCompared(self, _result, error):
        self._steps = None
        if error is None:
            self.ui.compareMessageLabel.text = self.compare.message
        elif isinstance(error, MemorizationIndexError):
            self._compared = None
            self.ui.compareMessageLabel.text = str(error)
        else:
            raise error
