"""Voxels of formats with a text header (NRRD, MetaImage): parsed, checked and decoded here.

ITK's readers of these two end the process on damaged headers (Testing/faults/fuzz.py finds it within a minute), and
follow a header's data file anywhere on the disk.
"""

from __future__ import annotations

import bz2
import gzip
import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from memorization_index.errors import MemorizationIndexError
from memorization_index.limits import (
    NOT_THE_FORMAT,
    TRUNCATED,
    check_components,
    check_dimension,
    check_direction,
    check_expansion,
    check_shape,
    check_spacing,
    unreadable,
)

#: Headers are short; a megabyte allows for notes of thousands of lines.
MAXIMUM_HEADER = 1 << 20
_BLOCK = 1 << 20
_WHOLE = re.compile(r"[+-]?\d{1,18}")


class _Inflated:
    """A zlib stream, read in pieces."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._inflate = stream, zlib.decompressobj(47)  # a gzip header is recognized as well

    def read(self, size: int) -> bytes:
        while not self._inflate.eof:
            block = self._inflate.unconsumed_tail or self._stream.read(_BLOCK)
            if not block:
                raise EOFError
            if found := self._inflate.decompress(block, size):
                return found
        return b""


_OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
    "gzip": lambda stream: gzip.GzipFile(fileobj=stream),
    "bzip2": bz2.BZ2File,
    "zlib": _Inflated,
}


@dataclass(frozen=True)
class Raster:
    """What a header says: ``size``, ``spacing`` (mm), ``origin`` x first; ``direction`` row by row, as ITK has it.

    The voxels are ``kind`` (with byte order), ``encoding`` raw, gzip, bzip2 or zlib, from byte ``offset`` of ``data``
    (negative: the last bytes of the file).
    """

    path: Path
    size: tuple[int, ...]
    kind: np.dtype[Any]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    encoding: str
    data: Path
    offset: int
    components: int = 1

    @property
    def bytes(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.size) * self.kind.itemsize

    def check(self) -> None:
        """Refuse what is too large, no single volume of scalars, or larger than its file can hold."""
        check_components(self.path, self.components)
        check_dimension(self.path, self.size)
        check_shape(self.path, self.size)
        if not self.data.is_file():
            raise unreadable(self.path, TRUNCATED)
        held = self.data.stat().st_size - max(self.offset, 0)
        if self.encoding != "raw":
            check_expansion(self.path, self.bytes, held)
        elif held < self.bytes:
            raise unreadable(self.path, TRUNCATED)

    def image(self) -> Any:
        """The SimpleITK image, after all checks; axes beyond the third, of length 1, are left out."""
        import SimpleITK as sitk

        self.check()
        check_spacing(self.path, self.spacing[:3])
        check_direction(self.path, self.direction)
        kept = min(len(self.size), 3)
        voxels = self._voxels().reshape(self.size[::-1])
        image = sitk.GetImageFromArray(voxels.reshape(self.size[:kept][::-1]))
        image.SetSpacing(self.spacing[:kept])
        image.SetOrigin(self.origin[:kept])
        matrix = np.reshape(self.direction, (len(self.size), len(self.size)))[:kept, :kept]
        image.SetDirection(matrix.ravel().tolist())
        return image

    def _voxels(self) -> NDArray[Any]:
        array: NDArray[Any] = np.empty(math.prod(self.size), self.kind)
        view = memoryview(array.view(np.uint8).data)
        with self.data.open("rb") as stream:
            stream.seek(self.data.stat().st_size - self.bytes if self.offset < 0 else self.offset)
            source: Any = stream if self.encoding == "raw" else _OPENERS[self.encoding](stream)
            filled = 0
            try:
                while filled < len(view) and (block := source.read(min(_BLOCK, len(view) - filled))):
                    view[filled : filled + len(block)] = block
                    filled += len(block)
                if self.encoding != "raw":
                    source.read(1)  # so that checksums at the end are compared
            except EOFError:
                filled = min(filled, len(view) - 1)
            except (OSError, zlib.error) as error:
                raise unreadable(self.path, f"is damaged ({error})") from error
        if filled < len(view):
            raise unreadable(self.path, TRUNCATED)
        return array.astype(self.kind.newbyteorder("="), copy=False)


def header_lines(path: Path) -> bytes:
    """The beginning of a file, at most ``MAXIMUM_HEADER`` bytes."""
    with path.open("rb") as stream:
        return stream.read(MAXIMUM_HEADER)


def data_file(path: Path, name: str) -> Path:
    """The data file that a header names: beside the header or below it, never elsewhere."""
    parts = re.split(r"[/\\]", name)
    if not name.isprintable() or Path(name).is_absolute() or ".." in parts or ":" in parts[0] or parts[0] == "":
        raise MemorizationIndexError(
            f"{path}: names a data file outside its folder ({name[:80]!r}); expected one beside it, so move the file "
            f"there and correct the header."
        )
    return path.parent / name


def numbers(path: Path, text: str, count: int | None = None) -> tuple[float, ...]:
    """Finite numbers separated by spaces; ``count`` of them where that is given."""
    try:
        found = tuple(float(word) for word in text.split())
    except ValueError:
        found = ()
    if not found or not all(map(math.isfinite, found)) or count not in (None, len(found)):
        raise unreadable(path, f"{NOT_THE_FORMAT} ({text[:60]!r} instead of numbers)")
    return found


def whole_numbers(path: Path, text: str, count: int | None = None) -> tuple[int, ...]:
    """Whole numbers separated by spaces; ``count`` of them where that is given."""
    words: Sequence[str] = text.split()
    if not words or not all(_WHOLE.fullmatch(word) for word in words) or count not in (None, len(words)):
        raise unreadable(path, f"{NOT_THE_FORMAT} ({text[:60]!r} instead of whole numbers)")
    return tuple(map(int, words))
