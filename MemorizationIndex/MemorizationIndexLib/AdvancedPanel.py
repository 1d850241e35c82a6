"""The section for what is rarely changed: the device of a deep encoder, and what the keys do."""

import json

import qt
from slicer.i18n import tr as _

from .ChoiceBox import ChoiceBox
from .Run import workerCommand


class AdvancedPanel:
    """Offers the devices that are there. PyTorch knows them, and is imported by a process of its own."""

    def __init__(self, ui, shortcutTexts):
        self.ui, self.parameter, self._process = ui, None, None
        self._device = ChoiceBox(ui.deviceSelector, _texts([]), self._onDevice)
        lines = [f"{key}: {text}" for key, text in shortcutTexts.items()]
        ui.shortcutsLabel.text = "\n".join([_("Keys, while this panel is shown:"), *lines])
        ui.advancedCollapsibleButton.connect("contentsCollapsed(bool)", self._onCollapsed)

    def update(self):
        """Show the parameters."""
        self._device.choose(self.parameter.device)

    def cleanup(self):
        """Stop asking."""
        if self._process is not None:
            self._process.kill()
            self._process.waitForFinished(3000)

    def _onDevice(self, value):
        if self.parameter is not None:
            self.parameter.device = value

    def _onCollapsed(self, collapsed):
        if collapsed or self._process is not None:
            return
        program, arguments, environment = workerCommand(["devices"])
        self._process = qt.QProcess()
        self._process.setEnvironment([f"{name}={value}" for name, value in environment.items()])
        self._process.connect("finished(int,QProcess::ExitStatus)", self._onAnswer)
        self._process.start(program, [argument for argument in arguments if argument != "--watch-stdin"])

    def _onAnswer(self, _exitCode, _exitStatus):
        output = bytes(self._process.readAllStandardOutput().data()).decode("utf-8", "replace")
        for line in output.splitlines():
            try:
                found = json.loads(line)["devices"]
            except (ValueError, KeyError, TypeError):
                continue
            self._device.offer(_texts(found))
            if self.parameter is not None:
                self.update()


def _texts(found):
    """What is offered: the choice of the encoder, the processor, and what else was found."""
    texts = {"auto": _("the fastest that is there"), "cpu": _("processor (cpu)")}
    return {**texts, **{name: name for name in found if name not in texts}}
