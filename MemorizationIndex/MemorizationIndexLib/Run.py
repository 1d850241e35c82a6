"""One run: volumes out of the scene, the worker, its results into the scene."""

import os
import shutil
import tempfile
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from .Job import Job
from .Steps import Steps

#: The folder that holds the module, ``MemorizationIndexLib`` and ``memorization_index``.
MODULE_FOLDER = Path(__file__).resolve().parent.parent

# So many bytes are deleted before the application gets its turn.
_PART = 1 << 24


class Run:
    """Goes through its three parts without blocking the application; the temporary ``folder`` is gone afterwards.

    ``onEvent(event)`` gets the worker's events, and progress events of the same form for the first part;
    ``onFinished(outcome, message)`` is called once (see :class:`Job`). Closing the scene stops the run.
    """

    def __init__(self, onEvent, onFinished):
        self.folder = Path(tempfile.mkdtemp(prefix="MemorizationIndex-", dir=slicer.app.temporaryPath))
        self._onEvent, self._onFinished = onEvent, onFinished
        self._steps, self._job, self._command, self._showing = None, None, None, None
        self.finished = False
        self._observer = slicer.mrmlScene.AddObserver(slicer.mrmlScene.StartCloseEvent, lambda *_event: self.stop())

    def start(self, writing, count, command, showing=None):
        """Begin; returns at once.

        ``writing``: a generator that yields how many of ``count`` volumes are written; ``command()`` then gives the
        worker's arguments, and ``showing()`` a generator that puts the worker's results into the scene.
        """
        self._command, self._showing = command, showing
        self._steps = Steps(self._telling(writing, count), self._onWritten)
        self._steps.start()

    def stop(self):
        """Stop, whatever is being done; returns at once. ``onFinished("stopped", "")`` follows or was called."""
        if self.finished:
            return
        if self._job is not None and not self._job.finished:
            self._job.stop()
        else:
            self._finish("stopped", "")

    def wait(self):
        """Return when the run has ended; the application stays alive meanwhile."""
        while not self.finished:
            if self._job is not None and not self._job.finished:
                self._job.process.waitForFinished(20)
            slicer.app.processEvents()

    def discard(self):
        """Forget the run before it was started."""
        self.finished = True
        slicer.mrmlScene.RemoveObserver(self._observer)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _telling(self, writing, count):
        """The generator ``writing``, with an event whenever another volume is begun."""
        told = None
        for done in writing:
            if done != told:
                told = done
                stage = _("Taking volumes from the scene")
                values = {"done": done, "total": count, "unit": _("volumes"), "seconds_left": None}
                self._onEvent({"event": "progress", "stage": stage, **values})
            yield

    def _onWritten(self, _result, error):
        if error is not None:
            return self._finish("failed", str(error))
        try:
            arguments = self._command()
        except ValueError as raised:
            return self._finish("failed", str(raised))
        self._job = Job(self._onEvent, self._onJobFinished)
        self._job.start(*workerCommand(arguments), self.folder)
        return None

    def _onJobFinished(self, outcome, message):
        if outcome != "done" or self._showing is None:
            self._finish(outcome, message)
            return
        self._steps = Steps(self._showingAll(), self._onShown)
        self._steps.start()

    def _showingAll(self):
        yield from self._showing()
        for path in [path for path in self.folder.rglob("*") if path.is_file()]:  # a large file is not gone at once
            for size in range(path.stat().st_size - _PART, 0, -_PART):
                os.truncate(path, size)
                yield

    def _onShown(self, _result, error):
        if error is None:
            self._finish("done", "")
        else:
            self._finish("failed", _("The results cannot be read: {reason}").format(reason=error))

    def _finish(self, outcome, message):
        if self.finished:
            return
        self._steps.stop()
        self.discard()
        self._onFinished(outcome, message)


def workerCommand(arguments):
    """Program, arguments and environment of a worker."""
    paths = [str(MODULE_FOLDER), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = ["-m", "memorization_index", *arguments, "--json", "--watch-stdin"]
    return shutil.which("PythonSlicer") or "PythonSlicer", command, environment
