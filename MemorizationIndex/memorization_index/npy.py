"""NumPy array files (.npy): the header is parsed here, strictly, so that nothing in it is evaluated or allocated."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.limits import NOT_THE_FORMAT, TRUNCATED, check_shape, unreadable

#: What NumPy writes: a dictionary of a simple type, the order of axes and the shape.
_HEADER = re.compile(
    r"\{'descr': '(?P<kind>[<>|=]?[a-zA-Z]\d{1,4})', 'fortran_order': (?P<order>True|False), "
    r"'shape': \((?P<shape>[\d, ]{0,200})\),? ?\}\s*"
)
_MAXIMUM_HEADER = 10_000


@dataclass(frozen=True)
class NpyHeader:
    """Shape and type of the array in a file, and where it begins."""

    path: Path
    shape: tuple[int, ...]
    kind: np.dtype[Any]
    order: str
    offset: int

    def array(self) -> NDArray[Any]:
        """The array, memory-mapped, after its shape and the file's size were compared."""
        check_shape(self.path, self.shape)
        if self.offset + math.prod(self.shape) * self.kind.itemsize > self.path.stat().st_size:
            raise unreadable(self.path, TRUNCATED)
        mode = "F" if self.order == "F" else "C"
        return np.memmap(self.path, self.kind, "r", self.offset, self.shape, order=mode)  # type: ignore[call-overload,no-any-return]


def npy_header(path: Path) -> NpyHeader:
    """Parse a header; raises :class:`MemorizationIndexError` where it is not one that NumPy writes for numbers."""
    with path.open("rb") as stream:
        head = stream.read(_MAXIMUM_HEADER + 12)
    start = {1: 10, 2: 12, 3: 12}.get(head[6] if len(head) > 12 else 0)
    if start is None or not head.startswith(b"\x93NUMPY"):
        raise unreadable(path, NOT_THE_FORMAT)
    end = start + int.from_bytes(head[8:start], "little")
    found = _HEADER.fullmatch(head[start:end].decode("latin-1"))
    if found is None or end > len(head):
        raise unreadable(path, "cannot be read (its header is not that of an array of numbers)")
    try:
        kind = np.dtype(found["kind"])
    except TypeError:
        raise unreadable(path, f"{NOT_THE_FORMAT} (type {found['kind']})") from None
    shape = tuple(int(side) for side in re.findall(r"\d+", found["shape"]))
    return NpyHeader(path, shape, kind, "F" if found["order"] == "True" else "C", end)
