"""One worker process: ``python -m memorization_index … --json --watch-stdin``."""

import contextlib
import json
import os
import signal
from typing import ClassVar

import qt
import slicer
from slicer.i18n import tr as _

from .PanelWords import inPanelWords


class Job:
    """Runs the worker, hands on its events, stops it for certain.

    Slicer's ``PythonSlicer`` is a launcher whose child is the real worker, so killing the process that was started
    would leave the worker alive. The worker ends itself when its standard input closes; one that does not within
    ``stopTimeout`` milliseconds is killed by the process number that its ``start`` event gave.

    ``onEvent(event)`` gets every JSON object that the worker prints; ``onFinished(outcome, message)`` is called once,
    with ``done``, ``stopped`` or ``failed`` and, for the last, one sentence that says why.
    """

    # Those asked to end, which nobody else may keep: the process would go with its QProcess.
    _ending: ClassVar[set] = set()

    def __init__(self, onEvent, onFinished, stopTimeout=3000):
        self._onEvent, self._onFinished, self._stopTimeout = onEvent, onFinished, stopTimeout
        self._buffer, self._errors = b"", b""
        self._pid, self._message, self._complete = None, "", False
        self._stopping = False
        self.finished = False
        self.process = qt.QProcess()
        self.process.connect("readyReadStandardOutput()", self._onOutput)
        self.process.connect("readyReadStandardError()", self._onErrorOutput)
        self.process.connect("finished(int,QProcess::ExitStatus)", self._onProcessFinished)
        self.process.connect("errorOccurred(QProcess::ProcessError)", self._onProcessError)

    def start(self, program, arguments, environment, workingFolder):
        """Start ``program`` with ``arguments`` (strings), the ``environment`` (a dictionary) and a working folder."""
        self.process.setEnvironment([f"{name}={value}" for name, value in environment.items()])
        self.process.setWorkingDirectory(str(workingFolder))
        self.process.start(str(program), [str(argument) for argument in arguments])

    def stop(self):
        """Ask the worker to end; returns at once. ``onFinished`` follows, at the latest after ``stopTimeout``."""
        if self.finished or self._stopping:
            return
        self._stopping = True
        self._ending.add(self)
        self.process.closeWriteChannel()
        qt.QTimer.singleShot(self._stopTimeout, self._kill)

    def wait(self):
        """Return when the worker has ended; the application stays alive meanwhile."""
        while not self.finished:
            self.process.waitForFinished(20)
            slicer.app.processEvents()

    def _kill(self):
        if self.finished:
            return
        if self._pid is not None:
            with contextlib.suppress(OSError):  # the worker may have ended in the meantime
                os.kill(self._pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        self.process.kill()

    def _onOutput(self):
        self._buffer += bytes(self.process.readAllStandardOutput().data())
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._onLine(line)

    def _onLine(self, line):
        try:
            event = json.loads(line)
            kind = event["event"]
        except (ValueError, TypeError, KeyError):
            return  # a library printed something; only events concern us
        for name in ("message", "reason"):
            if name in event:
                event[name] = inPanelWords(event[name])
        if kind == "start":
            self._pid = event.get("pid")
        elif kind == "error":
            self._message = event["message"]
        elif kind == "done":
            self._complete = True
        self._onEvent(event)

    def _onErrorOutput(self):
        # The end is enough to say what went wrong.
        self._errors = (self._errors + bytes(self.process.readAllStandardError().data()))[-4000:]

    def _onProcessFinished(self, exitCode, _exitStatus):
        self._onOutput()
        self._onErrorOutput()
        if self._stopping:
            self._finish("stopped", "")
        elif self._complete:
            self._finish("done", "")
        else:
            self._finish("failed", self._message or self._crash(exitCode))

    def _onProcessError(self, error):
        if error == qt.QProcess.FailedToStart:
            self._finish(
                "failed", _("The worker could not be started: {reason}.").format(reason=self.process.errorString())
            )

    def _crash(self, exitCode):
        lines = [line for line in self._errors.decode("utf-8", "replace").splitlines() if line.strip()]
        return _("The worker ended unexpectedly (exit code {code}): {reason}").format(
            code=exitCode, reason=lines[-1].strip() if lines else _("it said nothing.")
        )

    def _finish(self, outcome, message):
        if not self.finished:
            self.finished = True
            self._ending.discard(self)
            self._onFinished(outcome, message)
