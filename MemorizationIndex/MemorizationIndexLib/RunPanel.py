"""What is being done, how far it is, and how it ended."""

import collections

import qt
from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _

from .PanelWords import stageInPanelWords, unitInPanelWords


class RunPanel:
    """Starts and stops runs of the ``logic``; progress bar, status line and log. ``onChanged()`` at start and end.

    What is said of a run stands beside the button that started it.
    """

    def __init__(self, ui, logic, onChanged):
        self.ui, self.logic, self._onChanged = ui, logic, onChanged
        self._kind, self._onEvent, self._onDone, self._stage = "", None, None, ""
        self._passing = self._stopping = False
        self._told = collections.Counter()  # of the run: how much was skipped, how many warnings there were
        self._labels = {"build": ui.buildStatusLabel, "preview": ui.buildStatusLabel, "export": ui.exportStatusLabel}
        self.say("")

    @property
    def kind(self):
        """The run that is going on: ``score``, ``build``, ``preview``, ``export``, or nothing."""
        return self._kind if self.logic.busy else ""

    def changed(self):
        """Something that the whole panel shows is another now."""
        self._onChanged()

    def say(self, text, passing=False, kind=""):
        """Show one line, beside the button of that ``kind`` of run; ``passing``: until the user does something else."""
        place = self._labels.get(kind, self.ui.statusLabel)
        for label in {self.ui.statusLabel, *self._labels.values()}:
            label.text = text if label is place else ""
            label.visible = label is place
        self._passing = passing

    def moveOn(self):
        """The user did something else."""
        if self._passing:
            self.say("")

    def start(self, kind, starter, *arguments, onEvent=None, onDone=None, **options):
        """Start a run; ``onEvent(event)`` hears its events, ``onDone()`` is called when it has done its work."""
        self._kind, self._onEvent, self._onDone, self._stage = kind, onEvent, onDone, ""
        self._told.clear()
        self._stopping = False
        self.ui.progressBar.maximum = 0
        self.say(_("Starting…"), kind=kind)
        try:
            starter(*arguments, onEvent=self._handle, onFinished=self._finish, **options)
        except MemorizationIndexError as error:
            self.say(str(error), kind=kind)
            self.log(str(error))
        self._onChanged()

    def stop(self):
        """Stop the run."""
        self._stopping = True
        self.say(_("Stopping…"), kind=self._kind)
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
        elif event["event"] == "warning" and not self._stopping:
            self.log(event["message"])
        self._told[event["event"]] += 1
        if self._onEvent:
            self._onEvent(event)

    def _showProgress(self, event):
        self.ui.progressBar.maximum = event["total"]
        self.ui.progressBar.value = event["done"]
        stage, unit = stageInPanelWords(event["stage"]), unitInPanelWords(event["unit"])
        text = _("{stage}: {done} of {total} {unit}").format(**{**event, "stage": stage, "unit": unit}).strip()
        if event["seconds_left"] is not None:
            text += _(", {time} left").format(time=_time(event["seconds_left"]))
        if not self._stopping:
            self.say(text, kind=self._kind)
        if event["stage"] != self._stage:
            self._stage = event["stage"]
            self.log(stage)

    def _finish(self, outcome, message):
        text = {"done": self._done(), "stopped": _("Stopped."), "failed": message}[outcome]
        self.say(text, kind=self._kind)
        self.log(text)
        if outcome == "done" and self._onDone:
            qt.QTimer.singleShot(0, self._onDone)  # what follows is no part of the run
        self._onChanged()

    def _done(self):
        """That it is done, and what is to be read in the log."""
        skipped, warnings = self._told["skipped"], self._told["warning"]
        told = []
        if skipped:
            told.append(_("1 volume skipped") if skipped == 1 else _("{count} volumes skipped").format(count=skipped))
        if warnings:
            told.append(_("1 warning") if warnings == 1 else _("{count} warnings").format(count=warnings))
        if not told or self._kind == "preview":
            return _("Done.")
        return _("Done; {told}, see Log.").format(told=", ".join(told))


def _time(seconds):
    """A length of time as people say it."""
    if seconds < 90:
        return _("{count:.0f} s").format(count=seconds)
    return _("{count:.0f} min").format(count=seconds / 60)
