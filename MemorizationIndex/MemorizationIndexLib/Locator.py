"""Finding training files by their voxels without holding the application up."""

import slicer
from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _

from .Job import Job
from .Run import workerCommand
from .VolumeLoader import Pending


class Locator:
    """Looks for files with a worker: every file of the training folder is read the first time, which takes minutes.

    ``onEnd()`` is called when it has found them or failed; :meth:`files` then answers.
    """

    def __init__(self, onEnd):
        self._onEnd, self._job, self._place = onEnd, None, None
        self._files, self._problem = None, ""

    def files(self, reference, folder, key):
        """``{volume name: files}``; raises ``Pending`` while they are looked for."""
        place = (str(reference), str(folder), *(["--key", str(key)] if key else []))
        if place != self._place:
            self._start(place)
        if self._files is not None:
            return self._files
        if self._problem:
            raise MemorizationIndexError(self._problem)
        raise Pending(_("The training volume is being looked for; it is shown when it is found."))

    def stop(self):
        """Look no further, and forget what was found."""
        if self._job is not None:
            self._job.stop()
        self._job, self._place, self._files, self._problem = None, None, None, ""

    def _start(self, place):
        self.stop()
        self._place = place
        # What an earlier job still says is not ours any more.
        job = self._job = Job(
            lambda event: self._onEvent(event) if job is self._job else None,
            lambda outcome, message: self._onFinished(outcome, message) if job is self._job else None,
        )
        job.start(*workerCommand(["locate", *place]), slicer.app.temporaryPath)

    def _onEvent(self, event):
        if event["event"] == "done":
            self._files = event["files"]

    def _onFinished(self, _outcome, message):
        self._job, self._problem = None, message
        self._onEnd()
