"""How long work tells what it is doing, and how it is stopped."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO


class Stopped(Exception):
    """The user asked to stop; whatever was complete is kept, nothing half-written is left."""


class Progress:
    """Reports nothing; the base of those that do.

    Work is a sequence of stages. ``begin`` opens one, ``advance`` counts within it and raises :class:`Stopped` once
    ``stop`` was called (from any thread).
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._lock = threading.RLock()  # work in threads reports from all of them
        self.stage, self.unit, self.total, self.done = "", "", 0, 0
        self._started = 0.0

    def stop(self) -> None:
        """Ask the running work to stop at its next step."""
        self._stop.set()

    def begin(self, stage: str, total: int, unit: str) -> None:
        """Open a stage of ``total`` steps."""
        self.stage, self.total, self.unit, self.done = stage, total, unit, 0
        self._started = time.monotonic()
        self.show()

    def advance(self, steps: int = 1) -> None:
        """Count finished steps; raises :class:`Stopped` if asked to."""
        with self._lock:
            self.done += steps
            self.show()
        self.check()

    def check(self) -> None:
        """Raise :class:`Stopped` if asked to stop."""
        if self._stop.is_set():
            raise Stopped

    @property
    def seconds_left(self) -> float | None:
        """Estimated time left in the stage, or None before enough is done to tell (2 s, 3 steps, 2 % of them)."""
        if self.done >= self.total:
            return 0.0 if self.done else None
        taken = time.monotonic() - self._started
        if self.done < max(3, 0.02 * self.total) or taken < 2:
            return None
        return taken / self.done * max(self.total - self.done, 0)

    def show(self) -> None:
        """Show the state of the stage."""

    def skipped(self, path: str, reason: str) -> None:
        """Tell that a file was left out."""

    def warning(self, message: str) -> None:
        """Tell something that the user should know."""

    def close(self) -> None:
        """Tidy the terminal."""


class LoggedProgress(Progress):
    """Tells what the user should know by the logger ``memorization_index``, which Python shows unless told not to."""

    _logger = logging.getLogger("memorization_index")

    def skipped(self, path: str, reason: str) -> None:
        """Log the reason (it names the file)."""
        self._logger.warning("skipped %s", reason)

    def warning(self, message: str) -> None:
        """Log the message."""
        self._logger.warning(message)


class PlainProgress(Progress):
    """One line a stage and a line every few seconds, for logs."""

    _EVERY = 10.0

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr
        self._last = 0.0

    def show(self) -> None:
        """Print when a stage ends and every ten seconds."""
        now = time.monotonic()
        if self.done and (self.done >= self.total or now - self._last > self._EVERY):
            self._last = now
            left = self.seconds_left
            rest = f", {left:.0f} s left" if left and self.done < self.total else ""
            self._say(f"{self.stage}: {self.done} of {self.total} {self.unit}{rest}")

    def skipped(self, path: str, reason: str) -> None:
        """Print the reason (it names the file)."""
        self._say(f"skipped {reason}")

    def warning(self, message: str) -> None:
        """Print the message."""
        self._say(f"note: {message}")

    def _say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class RichProgress(PlainProgress):
    """A bar with what, how many and how long left, for people at a terminal."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._bar.start()
        self._task: Any = None

    def begin(self, stage: str, total: int, unit: str) -> None:
        """Open a bar of its own for the stage."""
        self._task = self._bar.add_task(stage, total=total, unit=unit)
        super().begin(stage, total, unit)

    def show(self) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=self.done)

    def close(self) -> None:
        """Leave the bars as they are and give the terminal back."""
        self._bar.stop()

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)


class JsonProgress(Progress):
    """One JSON object a line, for programs (see docs/engineer.md)."""

    _EVERY = 0.2

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        super().__init__()
        self._write = write or self._print
        self._last = 0.0

    def event(self, event: str, **values: Any) -> None:
        """Write one event."""
        with self._lock:
            self._write(json.dumps({"event": event, **values}, ensure_ascii=True))

    def show(self) -> None:
        """Write a progress event, at most five a second."""
        now = time.monotonic()
        if self.done in (0, self.total) or now - self._last > self._EVERY:
            self._last = now
            left = self.seconds_left
            self.event(
                "progress",
                stage=self.stage,
                done=self.done,
                total=self.total,
                unit=self.unit,
                seconds_left=None if left is None else round(left, 1),
            )

    def skipped(self, path: str, reason: str) -> None:
        """Write a skipped event."""
        self.event("skipped", path=path, reason=reason)

    def warning(self, message: str) -> None:
        """Write a warning event."""
        self.event("warning", message=message)

    @staticmethod
    def _print(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def stop_when_stdin_closes(progress: Progress, code: int) -> None:
    """End this process when its standard input does, so that no worker outlives the program that started it.

    Work is asked to stop, which leaves nothing half-written; what does not answer within two seconds is
    ended with this exit code.
    """

    descriptor = sys.stdin.fileno()

    def watch() -> None:
        # Not through sys.stdin, whose lock a thread that waits in it would hold while the interpreter ends.
        while os.read(descriptor, 4096):
            pass
        progress.stop()
        time.sleep(2)
        os._exit(code)

    threading.Thread(target=watch, daemon=True).start()
