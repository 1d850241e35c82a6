"""An existing Dask cluster as the place where a cohort is worked on (docs/scale.md).

Tasks name files on a file system that this machine and all workers share, and do not depend on each other's results, so
that a lost worker costs the tasks which it had and nothing else.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import platform
import queue
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorization_index._version import __version__
from memorization_index.errors import MemorizationIndexError, install
from memorization_index.matching import use_cores
from memorization_index.progress import Progress

if TYPE_CHECKING:
    from distributed import Client, Future

#: Seconds that a scheduler may take to answer.
_ANSWER = 10
#: Seconds after which it is looked whether the user wants to stop.
_LOOK = 0.2
#: Seconds after which it is looked whether a worker is left; …
_LOOK_FOR_WORKERS = 5
#: … and how long there may be none, as where a batch system starts others, before the command ends.
_ALONE = 1800
#: Up to so many units are made of a cohort before a unit has two of its volumes.
_UNITS = 1024
#: Host and port of an address.
_HOST = re.compile(r"\S+:\d+")


@dataclass(frozen=True)
class Shared:
    """A file whose content says that a worker sees the folder which this machine works in, and with which version."""

    path: Path
    content: bytes
    version: str = __version__


class Cluster:
    """Runs tasks on the workers of a Dask scheduler; made by :func:`connected`."""

    def __init__(self, client: Client, address: str, progress: Progress) -> None:
        self._client, self._address, self._progress = client, address, progress
        self._shared: Shared | None = None
        self._looked = time.monotonic()
        #: Since when there is no worker, of those that were seen.
        self._alone: float | None = None
        self._had_workers = False

    def share(self, file: Path) -> None:
        """Let each worker, before its first task, check that it sees this file as it is here."""
        self._shared = Shared(file.absolute(), file.read_bytes())

    def check_workers(self) -> None:
        """Raise :class:`MemorizationIndexError` where a worker that is there cannot load this module.

        Such a worker would end at the first task, and the next one, which takes over, too.
        """
        answers = self._client.run(importlib.import_module, __name__, on_error="return")
        self._had_workers = bool(answers)
        if not answers:
            self._progress.warning(f"--scheduler {self._address}: has no worker yet; waiting for the first.")
        for answer in answers.values():
            if isinstance(answer, Exception):
                raise _told(answer)

    @staticmethod
    def unit_size(volumes: int, at_most: int) -> int:
        """How many volumes are one unit of work: one, and more where there would be too many files of units."""
        return min(max(volumes // _UNITS, 1), at_most)

    def each(self, work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """The numbers of tasks and what ``work(*task)`` gives, as it comes; what is not done is canceled at the end."""
        futures = [self._submitted(work, task) for task in tasks]
        numbers = {future.key: number for number, future in enumerate(futures)}
        done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        for future in futures:
            future.add_done_callback(done.put)
        try:
            for _ in range(len(numbers)):
                future = self._next(done)
                result = self._result(future)
                future.release()  # the worker need not keep it
                yield numbers[future.key], result
        finally:
            self._client.cancel(futures)

    def all(self, work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What ``work(*task)`` gives, in the order of the tasks."""
        results = dict(self.each(work, tasks))
        return [results[number] for number in range(len(tasks))]

    def merged(
        self, work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], join: Callable[[Any, Any], Any]
    ) -> Any:
        """What ``work(*task)`` gives, joined in pairs on the workers, then these in pairs, … until one is left."""
        level = [self._submitted(work, task) for task in tasks]
        everything = list(level)
        try:
            while len(level) > 1:
                pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
                level = [self._submitted(join, tuple(pair)) if len(pair) == 2 else pair[0] for pair in pairs]
                everything += level
            done: queue.SimpleQueue[Future] = queue.SimpleQueue()
            level[0].add_done_callback(done.put)
            return self._result(self._next(done))
        finally:
            self._client.cancel(everything)

    def _submitted(self, work: Callable[..., Any], task: tuple[Any, ...]) -> Future:
        return self._client.submit(_worked, self._shared, work, *task, pure=False)

    def _next(self, done: queue.SimpleQueue[Future]) -> Future:
        while True:
            self._progress.check()
            with contextlib.suppress(queue.Empty):
                return done.get(timeout=_LOOK)
            if time.monotonic() >= self._looked + _LOOK_FOR_WORKERS:
                self._look_for_workers()

    def _look_for_workers(self) -> None:
        """Say when the last worker went, and raise :class:`MemorizationIndexError` where none has come for long."""
        self._looked = time.monotonic()
        try:
            workers = self._client.nthreads()
        except OSError:  # the scheduler is gone, which canceled tasks tell
            return
        if workers:
            self._had_workers, self._alone = True, None
        elif self._had_workers and self._alone is None:
            self._alone = self._looked
            self._progress.warning(
                f"--scheduler {self._address}: has lost all its workers; waiting {_ALONE / 60:.0f} minutes for another."
            )
        elif self._alone is not None and self._looked >= self._alone + _ALONE:
            raise MemorizationIndexError(
                f"--scheduler {self._address}: has had no worker for {_ALONE / 60:.0f} minutes; expected at least one, "
                f"so start workers and give the same command, which goes on from what was finished."
            )

    def _result(self, future: Future) -> Any:
        from concurrent.futures import CancelledError

        try:
            return future.result()
        except CancelledError as error:
            raise MemorizationIndexError(
                f"--scheduler {self._address}: went away while it worked; expected it to stay, so start it again and "
                f"give the same command, which goes on from what was finished."
            ) from error
        except Exception as error:
            raise _told(error) from error


@contextlib.contextmanager
def connected(address: str | None, progress: Progress) -> Iterator[Cluster | None]:
    """The cluster whose scheduler has this address, or wrote this file; None without one.

    Raises :class:`MemorizationIndexError` where none answers.
    """
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise MemorizationIndexError(
            f"--scheduler {address}: needs distributed, which cannot be imported ({error}); expected it installed, "
            f"{install('cluster')}."
        ) from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is said in a sentence
    place = _place(address)
    try:
        client = Client(place, timeout=_ANSWER, set_as_default=False)
    except (OSError, ValueError) as error:
        raise MemorizationIndexError(
            f"--scheduler {address}: no Dask scheduler answers there ({str(error)[:200] or type(error).__name__}); "
            f"expected the address or the file of one that runs, such as tcp://host:8786."
        ) from error
    try:
        cluster = Cluster(client, address, progress)
        cluster.check_workers()
        yield cluster
    finally:
        client.close()


def _place(given: str) -> str:
    """The address of a scheduler, which may be in a file that it wrote.

    Raises :class:`MemorizationIndexError` where it is none: a client that fails on it is not closed, and says so late.
    """
    from distributed.comm import parse_address
    from distributed.comm.registry import backends

    path = Path(given)
    try:
        address = json.loads(path.read_text(encoding="utf-8"))["address"] if path.is_file() else given
        scheme, location = parse_address(address)
    except (OSError, ValueError, KeyError, TypeError):
        scheme, location = "", ""
    if scheme in backends and (scheme not in ("tcp", "tls") or _HOST.fullmatch(location)):
        return str(address)
    found = "is a file without the address of a scheduler" if path.is_file() else "is no address and no file"
    raise MemorizationIndexError(
        f"--scheduler {given}: {found}; expected the address of a Dask scheduler, such as tcp://host:8786, or the file "
        f"that it wrote (--scheduler-file), so check it."
    )


def _worked(shared: Shared, work: Callable[..., Any], *task: Any) -> Any:
    """On a worker: one task, on one core, as the worker has others beside it."""
    _checked(shared)
    return work(*task)


@lru_cache(maxsize=1)
def _checked(shared: Shared) -> None:
    use_cores(1)
    host = platform.node()
    if shared.version != __version__:
        raise MemorizationIndexError(
            f"The worker on {host} has memorization-index {__version__}; expected {shared.version} as here, so install "
            f"that version there and start the worker again."
        )
    try:
        content = shared.path.read_bytes()
    except OSError:
        content = b""
    if content != shared.content:
        raise MemorizationIndexError(
            f"{shared.path}: is not what the worker on {host} finds there; expected one file system that this machine "
            f"and all workers see, so start workers where that folder is mounted."
        )


def seen(files: Sequence[Path]) -> None:
    """On a worker: raise :class:`MemorizationIndexError` where it does not see files that are there elsewhere."""
    for file in files:
        if not file.exists():
            raise MemorizationIndexError(
                f"{file}: is not there for the worker on {platform.node()}; expected the folder of the images to "
                f"be mounted where workers run, so start them on machines that have it."
            )


def _told(error: Exception) -> Exception:
    """The error that a user is told of one that a worker raised."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, ImportError):
        return MemorizationIndexError(
            f"A worker cannot load what it needs ({error}); expected memorization-index {__version__} with the same "
            f"extras on every worker, so install it there."
        )
    if isinstance(error, KilledWorker):
        return MemorizationIndexError(
            f"One unit of work ended {error.allowed_failures + 1} workers, the last at {error.last_worker.address}; "
            f"expected workers with memory for it, so give them more and repeat the command, which goes on from what "
            f"was finished."
        )
    return error
