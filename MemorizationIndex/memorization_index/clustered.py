"""Nearest training slices of large references: cells of short codes first, then the best candidates exactly.

Whitened vectors are shortened to their 96 principal components, one byte each, and sorted into cells around centroids
(k-means; an *inverted file* with scalar quantization: Jégou, Douze & Schmid 2011). A slice has up to 140 views: of all
pairs of a view and a cell those with the most similar centroids are looked into, since one view alone resembles a copy
and that one in few cells. The candidates are then compared by their stored features, whitened when they are needed.
Only codes are held in memory; what is stored is mapped from disk.

Nothing is drawn by chance: the same features give the same index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.neighbors import Nearest
from memorization_index.shards import gathered, released, row_blocks
from memorization_index.whitening import Whitening

Floats = NDArray[np.float32]
Shards = Sequence[NDArray[np.float16]]

#: From this many training slices on. Below, all whitened vectors are compared: no copy is lost (docs/performance.md).
CLUSTERED_FROM = 50_000
#: Principal components that a code keeps.
COMPONENTS = 96
#: Cells for each square root of the number of slices, …
_CELLS = 8.0
#: … slices that each is learned from, and rounds of learning.
_LEARNED_FROM, _ROUNDS = 16, 6
#: A view is compared with about so many codes (all, where there are no more) …
_COMPARED = 25_000
#: … but of all pairs of a view and a cell at least this share is looked into.
_PROBED = 1 / 8
#: Candidates that are compared exactly, at least.
_AGAIN = 32
_SAMPLE = 65_536
_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Cells:
    """The part of an index that is held in memory and stored, for ``N`` slices in ``K`` cells.

    ``basis`` ``(D, 96)`` takes whitened vectors to their components; ``centroids`` ``(K, 96)`` of unit length;
    ``codes`` ``(N, 96)``, cell after cell, times ``step`` ``(96,)`` are components of unit length; ``rows`` ``(N,)``
    says which slice each code is of, ``starts`` ``(K + 1,)`` where cells begin.
    """

    basis: Floats
    centroids: Floats
    step: Floats
    codes: NDArray[np.int8]
    rows: NDArray[np.int32]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, shards: Shards, whitening: Whitening) -> Cells:
        """Learn cells from stored features ``(N, D)`` and sort all of them in."""
        count = sum(map(len, shards))
        cells = round(_CELLS * count**0.5)
        basis = _principal(whitening(gathered(shards, rows)) for rows in _parts(_even(count, _SAMPLE)))
        sample = _parts(_even(count, cells * _LEARNED_FROM))
        learned = np.concatenate([_components(whitening(gathered(shards, rows)), basis) for rows in sample])
        released(shards)
        centroids = _learned(learned, cells)
        step = (np.abs(learned).max(axis=0) / 127).astype(np.float32)
        codes, labels = np.empty((count, basis.shape[1]), np.int8), np.empty(count, np.int32)
        start = 0
        for block in row_blocks(shards, _BLOCK_ROWS):
            components = _components(whitening(block), basis)
            stop = start + len(block)
            labels[start:stop] = (components @ centroids.T).argmax(axis=1)
            codes[start:stop] = np.clip(np.round(components / step), -127, 127).astype(np.int8)
            start = stop
        order = np.argsort(labels, kind="stable")
        starts = np.searchsorted(labels[order], np.arange(cells + 1)).astype(np.int64)
        return cls(basis, centroids, step, codes[order], order.astype(np.int32), starts)

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, to be stored; ``Cells(**tensors)`` is the same again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _similarity(self, scaled: Floats, part: slice) -> Floats:
        """Similarity of a part of the codes ``(n,)`` to the view that is most like each."""
        result: Floats = (scaled @ self.codes[part].astype(np.float32).T).max(axis=0)
        return result

    def _everywhere(self, scaled: Floats) -> tuple[NDArray[np.int32], Floats]:
        """All rows, and their similarity."""
        starts = range(0, len(self.codes), _BLOCK_ROWS)
        return self.rows, np.concatenate([self._similarity(scaled, slice(i, i + _BLOCK_ROWS)) for i in starts])

    def _nearby(self, seen: Floats, scaled: Floats, share: float) -> tuple[NDArray[np.int32], Floats]:
        """Rows in a share of all pairs of a view and a cell, the nearest ones, and their similarity."""
        nearness = self.centroids @ seen.T
        pairs = max(1, round(share * nearness.size))
        cell, view = np.nonzero(nearness >= np.partition(nearness, -pairs, axis=None)[-pairs])
        cells, firsts = np.unique(cell, return_index=True)
        within = [slice(start, stop) for start, stop in zip(self.starts[cells], self.starts[cells + 1], strict=True)]
        views = np.split(view, firsts[1:])
        similarity = [self._similarity(scaled[own], part) for own, part in zip(views, within, strict=True)]
        return np.concatenate([self.rows[part] for part in within]), np.concatenate(similarity)

    def candidates(self, queries: Floats, count: int, excluded: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Up to ``count`` rows that are like any view ``(V, D)`` of a slice, in any order."""
        seen = _components(queries, self.basis)
        scaled = seen * self.step
        share = max(_COMPARED / len(self.codes), _PROBED)
        rows, similarity = self._everywhere(scaled) if share >= 1 else self._nearby(seen, scaled, share)
        if excluded is not None:
            kept = ~excluded[rows]
            rows, similarity = rows[kept], similarity[kept]
        if len(rows) > count:
            rows = rows[np.argpartition(-similarity, count - 1)[:count]]
        return np.sort(rows).astype(np.int64)


def read_cells(path: Path) -> Cells:
    """The cells that were stored in a file."""
    from safetensors.numpy import load_file

    return Cells(**load_file(path))


class ClusteredIndex:
    """Search stored features ``(N, D)`` as whitened unit vectors; what is found is exact, what is looked at is not all.

    Several whitenings, such as those of the null's folds, are searched through the same cells.
    """

    def __init__(self, cells: Cells, shards: Shards, whitening: Whitening) -> None:
        self._cells, self._shards, self._whitening = cells, shards, whitening

    def vectors_of(self, rows: NDArray[np.int64]) -> Floats:
        """Whitened unit vectors of rows."""
        return self._whitening(gathered(self._shards, rows))

    def search(self, queries: Floats, count: int, excluded: NDArray[np.bool_] | None = None) -> Nearest:
        """Nearest distinct rows of queries ``(n, V, D)``; rows where ``excluded`` ``(N,)`` is true are left out."""
        result = Nearest(
            np.full((len(queries), count), -1, np.float32),
            np.full((len(queries), count), -1, np.int64),
            np.zeros((len(queries), count), np.int64),
        )
        wanted = max(count, _AGAIN)
        for i, views in enumerate(queries):
            rows = self._cells.candidates(views, wanted, excluded)
            similarity = views @ self.vectors_of(rows).T
            best = similarity.max(axis=0)
            order = np.argsort(-best, kind="stable")[:count]
            found = slice(0, len(order))
            result.similarity[i, found], result.row[i, found] = best[order], rows[order]
            result.view[i, found] = similarity[:, order].argmax(axis=0)
        released(self._shards)
        return result


def _even(count: int, wanted: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


def _parts(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return np.array_split(rows, -(-len(rows) // _BLOCK_ROWS))


def _principal(parts: Iterable[Floats]) -> Floats:
    _, directions = np.linalg.eigh(sum((part.T @ part).astype(np.float64) for part in parts))
    return np.ascontiguousarray(directions[:, ::-1][:, :COMPONENTS], np.float32)


def _components(vectors: Floats, basis: Floats) -> Floats:
    short = vectors @ basis
    result: Floats = short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), np.float32(1e-12))
    return result


def _learned(vectors: Floats, cells: int) -> Floats:
    """Centroids of unit length by k-means, from evenly spaced vectors; one that loses its last vector stays."""
    centroids = vectors[_even(len(vectors), cells)].copy()
    for _ in range(_ROUNDS):
        labels = np.concatenate([(part @ centroids.T).argmax(axis=1) for part in np.array_split(vectors, 64)])
        order = np.argsort(labels, kind="stable")
        present, starts = np.unique(labels[order], return_index=True)
        sums = np.add.reduceat(vectors[order], starts, axis=0)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centroids[present] = np.where(norms > 0, sums / np.maximum(norms, 1e-12), centroids[present])
    return centroids
