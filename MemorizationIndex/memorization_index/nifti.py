"""What ITK does not say of a NIfTI file: it fills what is missing with zeros, and sets NaN and infinity to zero.

In a header, too: voxels of infinite size become 1 mm, and on some infinite axes it works without end.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from memorization_index.errors import MemorizationIndexError
from memorization_index.limits import VOXEL_SIZES, check_components, check_expansion, check_shape, unreadable

_HEADER = 348  # bytes; NIfTI-2, which ITK does not read, has 540
_BLOCK = 1 << 20
#: NIfTI data type → the NumPy type of those that can hold NaN.
_FLOATS = {16: "f4", 64: "f8"}
#: NIfTI data type → bytes a voxel, of scalars; those of several values a voxel → how many.
_SCALARS = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}
_COMPONENTS = {32: 2, 1792: 2, 128: 3, 2304: 4}


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    kind: int
    offset: int
    size: int  # bytes of voxels
    float_type: str | None  # NumPy's name of the voxels' type where they are floating-point numbers
    place: tuple[float, ...]  # all numbers that say where the voxels lie, and how large they are

    @property
    def end(self) -> int:
        return self.offset + self.size


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def check_nifti(path: Path, *, voxels: bool = True) -> None:
    """Refuse a NIfTI file that is truncated, or holds NaN or infinite voxels.

    The size that the header announces is compared with the file's size, for ``.gz`` with the length in the gzip
    trailer. Only where that disagrees (several gzip members), or voxels are floating-point numbers, is the file
    decompressed here. Without ``voxels`` they are not looked at.
    """
    zipped = path.name.lower().endswith(".gz")
    header = _read_header(path)
    if header is None:
        raise MemorizationIndexError(
            f"{path}: does not begin with a NIfTI-1 header; expected one (NIfTI-2 is not read), so export it again."
        )
    check_components(path, _COMPONENTS.get(header.kind, 1))
    if header.kind not in _SCALARS:
        raise unreadable(path, f"has voxels of the NIfTI data type {header.kind}, which is none of numbers")
    check_shape(path, header.shape)
    if not all(abs(number) <= VOXEL_SIZES[1] for number in header.place):  # false for NaN
        raise unreadable(path, "has voxel sizes or axes that are infinite, no numbers, or beyond any scan")
    if zipped:
        check_expansion(path, header.end, path.stat().st_size)
    with path.open("rb") as raw:
        raw.seek(-4, 2)
        found = struct.unpack("<I", raw.read(4))[0] if zipped else path.stat().st_size
    bad = 0
    if not zipped and found < header.end:
        raise _truncated(path, header)
    if (voxels and header.float_type) or (zipped and found != header.end % 2**32):
        with gzip.open(path, "rb") if zipped else path.open("rb") as stream:
            found, bad = _examined(stream, header)
    elif zipped:
        found = header.end
    if found < header.end:
        raise _truncated(path, header)
    if bad:
        raise not_finite(path, bad)


def _truncated(path: Path, header: _Header) -> MemorizationIndexError:
    return MemorizationIndexError(
        f"{path}: is truncated (its header announces {header.end} bytes, fewer are there); expected a complete NIfTI "
        f"file, so copy or export it again."
    )


def nifti_shape(path: Path) -> tuple[int, ...] | None:
    """Sizes of all axes by the header alone; None where the file has no NIfTI header."""
    try:
        header = _read_header(path)
    except (OSError, EOFError, zlib.error):
        return None
    return None if header is None else header.shape


def _read_header(path: Path) -> _Header | None:
    with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as stream:
        return _header(stream.read(_HEADER))


def not_finite(path: Path, bad: int) -> MemorizationIndexError:
    """The error of a file with ``bad`` voxels that are no numbers."""
    return MemorizationIndexError(
        f"{path}: contains {bad} voxels that are NaN or infinite; expected finite intensities, so replace them (for "
        f"example by the background value) and try again."
    )


def _examined(stream: _Readable, header: _Header) -> tuple[int, int]:
    """Bytes that are there, at most to the header's end, and how many voxels are not finite."""
    found, bad = len(stream.read(header.offset)), 0
    for block in _blocks(stream, header.size):
        found += len(block)
        if header.float_type:
            whole = len(block) - len(block) % np.dtype(header.float_type).itemsize
            bad += int(np.count_nonzero(~np.isfinite(np.frombuffer(block[:whole], header.float_type))))
    return found, bad


def _blocks(stream: _Readable, size: int) -> Iterator[bytes]:
    """Blocks of 1 MiB (the last one shorter) until ``size`` bytes were read or there are no more."""
    try:
        while size > 0 and (block := stream.read(min(_BLOCK, size))):
            yield block
            size -= len(block)
    except EOFError:  # a compressed stream that was cut off
        return


def _header(header: bytes) -> _Header | None:
    """Where the voxels of a single-file NIfTI-1 lie; None where this is not one."""
    order = next((order for order in "<>" if header[:4] == struct.pack(order + "i", _HEADER)), None)
    if order is None or len(header) < _HEADER:
        return None
    dim = struct.unpack_from(order + "8h", header, 40)
    kind = struct.unpack_from(order + "h", header, 70)[0]
    offset = struct.unpack_from(order + "f", header, 108)[0]
    if not 1 <= dim[0] <= 7 or not np.isfinite(offset) or offset < 0:
        return None
    shape = tuple(max(1, d) for d in dim[1 : dim[0] + 1])
    float_type = order + _FLOATS[kind] if kind in _FLOATS else None
    size = math.prod(shape) * _SCALARS.get(kind, 1)
    return _Header(shape, kind, int(offset), size, float_type, _place(header, order, dim[0]))


def _place(header: bytes, order: str, dimension: int) -> tuple[float, ...]:
    """The numbers that place voxels: their sizes, and the quaternion and the matrix where they are said to be used."""
    numbers = struct.unpack_from(order + "3f", header, 80)[:dimension]
    quaternion_used, matrix_used = struct.unpack_from(order + "2h", header, 252)
    if quaternion_used > 0:
        numbers += struct.unpack_from(order + "6f", header, 256)
    if matrix_used > 0:
        numbers += struct.unpack_from(order + "12f", header, 280)
    return numbers
