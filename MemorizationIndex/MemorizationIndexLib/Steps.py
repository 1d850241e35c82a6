"""Work that must be done in the application's own process, without keeping it from living."""

import time

import qt
from memorization_index.errors import MemorizationIndexError


def finished(generator):
    """Do all steps of a generator at once; returns what it returns."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


class Steps:
    """Runs a generator a few milliseconds at a time, from the event loop.

    MRML may be touched on the main thread only, and Python threads stand still while Slicer waits for events, so work
    is cut into steps instead. ``onFinished(result, error)`` is called once, with what the generator returned or with
    the exception that ended it (of the kinds that bad data or a full disk cause). After ``stop`` it is not called.
    A step may run the event loop itself, as loading a file may: Qt calls no timer again before it has returned.
    """

    #: Milliseconds of work before the application gets its turn.
    BUDGET = 15

    def __init__(self, generator, onFinished):
        self._generator, self._onFinished, self._stopped = generator, onFinished, False
        self._timer = qt.QTimer()
        self._timer.setInterval(1)
        self._timer.connect("timeout()", self._work)

    def start(self):
        """Begin; returns at once."""
        self._timer.start()

    def stop(self):
        """Do no further step."""
        self._timer.stop()
        self._stopped = True
        if not self._generator.gi_running:
            self._generator.close()

    def _work(self):
        end = time.monotonic() + self.BUDGET / 1000
        result, error = None, None
        try:
            while time.monotonic() < end and not self._stopped:
                next(self._generator)
        except StopIteration as stop:
            result = stop.value
        except (MemorizationIndexError, OSError, ValueError, KeyError, RuntimeError) as raised:
            error = raised
        else:
            if self._stopped:  # by the step itself
                self._generator.close()
            return
        self._timer.stop()
        if not self._stopped:
            self._onFinished(result, error)
