"""Stored features ``(N, D)`` that lie in several arrays, mapped from disk: read in blocks, or by row.

What is read of a mapped file stays in the process's memory until the system needs it; here it is given back at once, so
that memory does not grow with the number of slices.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Shards = Sequence[NDArray[np.float16]]


def row_blocks(shards: Shards, size: int, chosen: NDArray[np.bool_] | None = None) -> Iterator[NDArray[np.float16]]:
    """Rows in order, up to ``size`` at a time; only those that are ``chosen`` ``(N,)``, if given."""
    start = 0
    for shard in shards:
        own = np.arange(len(shard)) if chosen is None else np.flatnonzero(chosen[start : start + len(shard)])
        for first in range(0, max(len(own), 1), size):
            yield shard[own[first : first + size]]
        released([shard])
        start += len(shard)


def gathered(shards: Shards, rows: NDArray[np.int64]) -> NDArray[np.float16]:
    """The rows ``(k,)`` as ``(k, D)``. Around a row the system maps far more than the row."""
    starts = np.cumsum([0, *map(len, shards)])
    of_shard = np.searchsorted(starts, rows, side="right") - 1
    result = np.empty((len(rows), shards[0].shape[1]), np.float16)
    for number in np.unique(of_shard):
        here = of_shard == number
        result[here] = shards[number][rows[here] - starts[number]]
        released([shards[number]])
    return result


def released(shards: Shards) -> None:
    """Give back the memory of mapped files; they are read again where they are needed again."""
    for shard in shards:
        mapped = getattr(shard, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, whose working set shrinks by itself
            mapped.madvise(mmap.MADV_DONTNEED)
