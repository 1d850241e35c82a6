"""What is missing, said in one line with one button, and what a deep encoder needs."""

import qt
import slicer
from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _

from .Weights import Weights


class InstallPanel:
    """Ties the installer and the weights to the form; ``onChanged()`` is called when what is missing has changed."""

    def __init__(self, ui, installer, onChanged, weights=None):
        self.ui, self.installer, self.parameter = ui, installer, None
        self.weights = weights or Weights()
        self._onChanged, self._checking, self._refused = onChanged, None, ""
        ui.wheelsPath.currentPath = str(installer.wheelFolder or "")
        ui.wheelsPath.connect("currentPathChanged(QString)", self.onWheels)
        ui.weightsPath.connect("currentPathChanged(QString)", self.onWeights)
        ui.installButton.connect("clicked()", self.onInstall)
        ui.installLogButton.connect("clicked()", self.onCopyLog)

    def update(self):
        """Show what is missing for the chosen encoder, and how the last installation ended."""
        ui, installer = self.ui, self.installer
        busy = installer.state == "installing"
        missing = installer.consentLine(self._feature())
        lines = [missing if not busy else "", installer.message]
        ui.installLabel.text = "\n".join(line for line in lines if line)
        ui.installLabel.visible = bool(ui.installLabel.text)
        ui.installButton.text = _("Cancel") if busy else _("Install")
        ui.installButton.visible = busy or bool(missing)
        ui.installLogButton.visible = installer.state in ("failed", "cancelled")
        ui.weightsInfoLabel.text = self._weightsLine()
        ui.weightsInfoLabel.visible = bool(ui.weightsInfoLabel.text)

    # --- What the user does ------------------------------------------------------------------------------------------

    def onInstall(self):
        """Install what is missing, after asking; or cancel that."""
        if self.installer.state == "installing":
            self.installer.cancel()
            return
        self.installer.install(self._onLine, self._feature())
        self._onChanged()

    def onCopyLog(self):
        """Put the log of the installation onto the clipboard."""
        slicer.app.clipboard().setText(self.installer.log)

    def onWheels(self, path):
        """Install from this folder from now on; from PyPI where it is empty."""
        self.installer.wheelFolder = path or None
        self._onChanged()

    def onWeights(self, path):
        """Check a file of weights, once the application is free, and remember it."""
        self._refused = ""
        chosen = path not in ("", ".")  # how an empty path reads in the scene's parameters
        if chosen and path not in (self._checking, str(self.weights.path)):
            self._checking = path
            qt.QTimer.singleShot(0, self._checkWeights)

    def recall(self):
        """Take the weights that were checked before, where the scene has none and the encoder needs them."""
        parameter = self.parameter
        needed = parameter is not None and parameter.encoder == "mri-core" and str(parameter.weights) == "."
        if needed and self.weights.path is not None:
            parameter.weights = self.weights.path

    def _feature(self):
        return self.parameter.encoder if self.parameter is not None else ""

    def _onLine(self, line):
        self.ui.installLabel.visible = True
        self.ui.installLabel.text = line
        self.ui.installButton.text = _("Cancel")

    def _checkWeights(self):
        path = self._checking
        self.ui.weightsInfoLabel.visible = True
        self.ui.weightsInfoLabel.text = _("Checking the weights…")
        try:
            self.weights.choose(path)
        except MemorizationIndexError as error:
            self._refused = str(error)
        self._checking = None
        self.update()

    def _weightsLine(self):
        if self._refused:
            return self._refused
        if self.weights.path is not None:
            return self.weights.description
        if self._feature() == "mri-core":
            return _("The encoder mri-core needs a file of weights; choose it here. It is checked and remembered.")
        return ""
