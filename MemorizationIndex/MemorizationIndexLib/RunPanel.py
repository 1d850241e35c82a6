"""What is being done, how far it is, and how it ended."""

import qt
from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _


class RunPanel:
    """Starts and stops runs of the ``logic``; progress bar, status line and log. ``onChanged()`` at start and end."""

    def __init__(self, ui, logic, onChanged):
        self.ui, self.logic, self._onChanged = ui, logic, onChanged
        self._kind, self._onEvent, self._onDone, self._stage = "", None, None, ""
        self._passing = False

    @property
    def kind(self):
        """The run that is going on: ``score``, ``build``, ``preview``, ``export``, or nothing."""
        return self._kind if self.logic.busy else ""

    def changed(self):
        """Something that the whole panel shows is another now."""
        self._onChanged()

    def say(self, text, passing=False):
        """Show one line; a ``passing`` one until the user does something else."""
        self.ui.statusLabel.text = text
        self._passing = passing

    def moveOn(self):
        """The user did something else."""
        if self._passing:
            self.say("")

    def start(self, kind, starter, *arguments, onEvent=None, onDone=None, **options):
        """Start a run; ``onEvent(event)`` hears its events, ``onDone()`` is called when it has done its work."""
        self._kind, self._onEvent, self._onDone, self._stage = kind, onEvent, onDone, ""
        self.ui.progressBar.maximum = 0
        self.say(_("Starting…"))
        try:
            starter(*arguments, onEvent=self._handle, onFinished=self._finish, **options)
        except MemorizationIndexError as error:
            self.say(str(error))
            self.log(str(error))
        self._onChanged()

    def stop(self):
        """Stop the run."""
        self.say(_("Stopping…"))
        self.logic.stop()

    def log(self, text):
        """Add a line to the log."""
        time = qt.QDateTime.currentDateTime().toString("HH:mm:ss")
        self.ui.logText.appendPlainText(f"{time}  {text}")

    def update(self):
        """Show whether a run is going on."""
        self.ui.progressBar.visible = self.logic.busy

    def _handle(self, event):
        if event["event"] == "progress":
            self._showProgress(event)
        elif event["event"] == "skipped":
            self.log(_("Skipped: {reason}").format(reason=event["reason"]))
        elif event["event"] in ("warning", "error"):
            self.log(event["message"])
        if self._onEvent:
            self._onEvent(event)

    def _showProgress(self, event):
        self.ui.progressBar.maximum = event["total"]
        self.ui.progressBar.value = event["done"]
        text = _("{stage}: {done} of {total} {unit}").format(**event)
        if event["seconds_left"] is not None:
            text += _(", {time} left").format(time=_time(event["seconds_left"]))
        self.say(text)
        if event["stage"] != self._stage:
            self._stage = event["stage"]
            self.log(event["stage"])

    def _finish(self, outcome, message):
        text = {"done": _("Done."), "stopped": _("Stopped."), "failed": message}[outcome]
        self.say(text)
        self.log(text)
        if outcome == "done" and self._onDone:
            qt.QTimer.singleShot(0, self._onDone)  # what follows is no part of the run
        self._onChanged()


def _time(seconds):
    """A length of time as people say it."""
    if seconds < 90:
        return _("{count:.0f} s").format(count=seconds)
    return _("{count:.0f} min").format(count=seconds / 60)
