"""Writing that a killed process, a full disk or a second writer cannot spoil; reading that a writer cannot spoil.

Imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from memorization_index.errors import MemorizationIndexError

#: Inside a folder of results: a complete new result that is being moved into place.
_COMPLETE = ".complete"
#: Seconds within which a second change of a file may get the same time stamp (Linux ticks in 10 ms, Windows in 16).
TICK = 0.05


@contextlib.contextmanager
def unchanging(files: Sequence[Path]) -> Iterator[None]:
    """Raise :class:`MemorizationIndexError` where one of the files is written to or replaced inside of the block.

    What was written within the last ``TICK`` must first rest that long: a second change within it leaves no trace.
    """
    before = [_state(file) for file in files]  # before the wait: a change during it is one too
    age = time.time() - max(file.stat().st_mtime for file in files)
    if age < TICK:
        time.sleep(min(TICK - age, TICK))
    yield
    if [_state(file) for file in files] != before:
        raise MemorizationIndexError(
            f"{files[0]}: changed while it was read; expected a file that nothing writes to, so try again when it is "
            f"complete."
        )


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


@contextlib.contextmanager
def exclusive(place: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a place, a file ``.<name>.lock`` beside it, so that no other process writes there.

    The system gives the lock back when its process ends in whatever way; a file that a killed process left is taken
    over. Raises :class:`MemorizationIndexError` where another process holds it, unless ``wait``.
    """
    path = place.with_name(f".{place.name.lstrip('.')}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = _locked(path, wait)
    if stream is None:
        raise MemorizationIndexError(
            f"{place}: is being written by another process{_holder(path)}; expected to be the only one, so wait for it "
            f"or choose another --out."
        )
    try:
        stream.write(f"{os.getpid()}\n".encode())
        stream.flush()
        yield
    finally:
        if sys.platform == "win32":  # where an open file cannot be removed
            stream.close()
        with contextlib.suppress(OSError):
            path.unlink()
        stream.close()


def _locked(path: Path, wait: bool) -> BinaryIO | None:
    """The lock file, open and locked; None where another process has it."""
    while True:
        stream = path.open("ab")
        if _lock(stream):
            with contextlib.suppress(OSError):
                # Its last holder may have removed the file between opening and locking: then it locks nothing.
                if os.fstat(stream.fileno()).st_ino == path.stat().st_ino:
                    stream.truncate(0)
                    return stream
            stream.close()
            continue
        stream.close()
        if not wait:
            return None
        time.sleep(0.05)


def _lock(stream: BinaryIO) -> bool:
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a network folder without locks: as safe as it can be
        return error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
    return True


def _holder(path: Path) -> str:
    try:
        number = path.read_text().strip()
    except OSError:
        return ""
    return f" (number {number})" if number.isdigit() else ""


def beside_file(place: Path) -> Path:
    """A name beside a file, to write what will be moved there; no other process of any machine takes it."""
    return place.with_name(f"{place.name}.{uuid.uuid4().hex[:12]}")


def sync(place: Path) -> None:
    """Wait until a file, or a folder and everything in it, is on the disk."""
    if place.is_dir():
        for path in place.iterdir():
            sync(path)
        sync_names(place)
    else:
        _flush(place)


def sync_names(folder: Path) -> None:
    """Wait until the names in a folder (what was moved into it) are on the disk."""
    if sys.platform != "win32":  # which has no such thing
        _flush(folder)


def _flush(place: Path) -> None:
    descriptor = os.open(place, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def prepared(folder: Path) -> Iterator[Path]:
    """A folder to write a whole result into; when that is done, its files take the place of those in ``folder``.

    Killed before the end, the old result stands; killed after, the new one: :func:`finish` moves what was not moved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / "result", wait=True):
        for left in folder.glob(".writing-*"):
            shutil.rmtree(left, ignore_errors=True)
        _finish(folder)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder, ignore_cleanup_errors=True) as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            yield new
            sync(new)
            os.replace(new, folder / _COMPLETE)
        _finish(folder)


def finish(folder: Path) -> None:
    """Move into place what a killed process had written whole but not yet moved."""
    if (folder / _COMPLETE).is_dir():
        with exclusive(folder / "result", wait=True):
            _finish(folder)


def _finish(folder: Path) -> None:
    complete = folder / _COMPLETE
    if not complete.is_dir():
        return
    for path in sorted(complete.iterdir()):
        target = folder / path.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        os.replace(path, target)
    sync_names(folder)
    complete.rmdir()
