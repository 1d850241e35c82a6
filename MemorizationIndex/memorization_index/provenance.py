"""What a result was made from and by: input files, weights, versions, time. Times can be fixed, for equal bytes."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from memorization_index.bundle import sha256_of
from memorization_index.cohort import Entry
from memorization_index.errors import MemorizationIndexError

#: Seconds since 1970 that stand for "now" (https://reproducible-builds.org/specs/source-date-epoch/).
EPOCH = "SOURCE_DATE_EPOCH"
_ALWAYS = ("numpy", "scipy", "SimpleITK", "pydicom", "safetensors", "faiss-cpu")
_DEEP = ("torch", "transformers")


@dataclass(frozen=True)
class InputFile:
    """A file that a query volume was read from, by the SHA-256 (hexadecimal) of its bytes."""

    volume: str
    file: str
    sha256: str


def inputs_of(entry: Entry) -> list[InputFile]:
    """The files of a query volume, in order.

    Raises :class:`MemorizationIndexError` where one cannot be read.
    """
    try:
        return [InputFile(entry.name, str(path.absolute()), sha256_of(path)) for path in entry.files]
    except OSError as error:
        raise MemorizationIndexError(
            f"{error.filename or entry.path}: cannot be opened ({error.strerror}); check its permissions."
        ) from error


def digest_of(inputs: Sequence[InputFile]) -> dict[str, Any]:
    """How many files, and one SHA-256 over theirs in the order of volumes and files (None without any).

    ``keyed``: whether they are HMACs of the files' SHA-256, as in a result under pseudonyms.
    """
    lines = "".join(f"{i.sha256}\n" for i in inputs)
    return {
        "files": len(inputs),
        "sha256": hashlib.sha256(lines.encode()).hexdigest() if inputs else None,
        "keyed": False,
    }


def weights_sha256(weights: str | Path | None) -> str | None:
    """SHA-256 of a file of weights; of a folder, over names and SHA-256 of the safetensors files in it."""
    if weights is None:
        return None
    path = Path(weights)
    if path.is_file():
        return sha256_of(path)
    lines = "".join(f"{sha256_of(file)}  {file.name}\n" for file in sorted(path.glob("*.safetensors")))
    return hashlib.sha256(lines.encode()).hexdigest() if lines else None


def versions(encoder: str) -> dict[str, str]:
    """Versions of Python and of the packages that numbers can depend on, where they are installed."""
    found = {"python": platform.python_version()}
    for name in _ALWAYS if encoder == "spectral" else (*_ALWAYS, *_DEEP):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def now() -> datetime.datetime:
    """The time in UTC; the one that ``SOURCE_DATE_EPOCH`` names, where it is set.

    Raises :class:`MemorizationIndexError` where that is no number of seconds.
    """
    given = os.environ.get(EPOCH)
    if given is None:
        return datetime.datetime.now(datetime.UTC)
    try:
        return datetime.datetime.fromtimestamp(int(given), datetime.UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise MemorizationIndexError(
            f"{EPOCH}={given}: is no time; expected seconds since 1970, so correct or unset the variable."
        ) from error


def timestamp() -> str:
    """:func:`now` in ISO 8601, to the second."""
    return now().isoformat(timespec="seconds")


def seconds_since(started: float, clock: float) -> float | None:
    """Seconds from ``started`` to ``clock``; None where times are fixed."""
    return None if EPOCH in os.environ else round(clock - started, 1)
