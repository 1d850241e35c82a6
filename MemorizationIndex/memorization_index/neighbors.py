"""Nearest training slices by cosine: FAISS for large references where it is installed, an exact NumPy search otherwise.

Queries come as views: ``(n, V, d)``, several whitened descriptors for each slice. What is found for a slice are its
``count`` nearest *distinct* training slices over all views, each with the view that found it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: From this many training slices on FAISS searches; below, one matrix product is faster (Testing/benchmarks/search.py).
FAISS_FROM = 50_000
#: NumPy computes this many similarities at once (memory: 4 bytes each).
_BLOCK = 16_000_000

#: Another similarity ``(k,)`` of a slice's views ``(V, d)`` and its candidates: by which view each was found ``(k,)``,
#: and their vectors ``(k, d)``.
Measure = Callable[[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]], NDArray[np.float32]]


#: Below so many training slices a larger share of the pairs of a view and a cell is looked into, in proportion.
_SHARE_FROM = 400_000
#: The views between those that look into cells look into so much of their share, where a strong copy is.
_BETWEEN = 1 / 4


@dataclass(frozen=True)
class Probing:
    """How the views of a slice look into cells (see :mod:`.clustered`).

    ``share`` of all pairs of a view and a cell, the nearest, is looked into; the views at the places ``between`` others
    look into a quarter of that, and into none where the others look into all. What it is measured by is in
    docs/performance.md.
    """

    share: float = 1 / 4
    between: NDArray[np.int64] | None = None

    def share_among(self, slices: int) -> float:
        """The share for so many training slices."""
        return min(1.0, self.share * max(1.0, _SHARE_FROM / slices))

    def shares(self, slices: int, views: int) -> NDArray[np.float64]:
        """The share of each view ``(V,)`` for so many training slices."""
        share = self.share_among(slices)
        shares = np.full(views, share)
        if self.between is not None:
            shares[self.between] = 0 if share == 1 else share * _BETWEEN
        return shares


#: Where nothing is known of the views.
ALL_VIEWS = Probing()


@dataclass(frozen=True)
class Nearest:
    """Per slice ``(n, count)``: cosine similarities, best first, training rows, and the views that found them.

    Where fewer training slices exist, rows are −1 and similarities −1. ``measured`` is the similarity by another
    measure, where the search was given one.
    """

    similarity: NDArray[np.float32]
    row: NDArray[np.int64]
    view: NDArray[np.int64]
    measured: NDArray[np.float32] | None = None

    def first(self, count: int) -> Nearest:
        """Only the ``count`` nearest."""
        return Nearest(self.similarity[:, :count], self.row[:, :count], self.view[:, :count])


class Index:
    """Search over whitened unit vectors ``(N, d)``."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        self._faiss: Any = _faiss_index(self.vectors) if len(self.vectors) >= FAISS_FROM else None

    def search(
        self,
        queries: NDArray[np.float32],
        count: int,
        excluded: NDArray[np.bool_] | None = None,
        measure: Measure | None = None,
        known: NDArray[np.int64] | None = None,
        probing: Probing = ALL_VIEWS,
    ) -> Nearest:
        """Nearest distinct rows of queries ``(n, V, d)``; rows where ``excluded`` ``(N,)`` is true are left out.

        With ``measure``, also the candidates' similarity by it. ``known`` and ``probing`` say where a
        :class:`~memorization_index.clustered.ClusteredIndex` looks; here every row is compared with every view.
        """
        nearest = self._nearest(queries, count, excluded)
        if measure is None:
            return nearest
        measured = np.full(nearest.row.shape, -1, np.float32)
        for i, (rows, views) in enumerate(zip(nearest.row, nearest.view, strict=True)):
            there = rows >= 0
            measured[i, there] = measure(queries[i], views[there], self.vectors[rows[there]])
        return replace(nearest, measured=measured)

    def _nearest(self, queries: NDArray[np.float32], count: int, excluded: NDArray[np.bool_] | None) -> Nearest:
        if self._faiss is not None and excluded is None:
            return self._search_faiss(queries, count)
        step = max(1, _BLOCK // max(len(self.vectors) * queries.shape[1], 1))
        parts = [self._search_block(queries[i : i + step], count, excluded) for i in range(0, len(queries), step)]
        if not parts:
            empty = np.zeros((0, count))
            return Nearest(empty.astype(np.float32), empty.astype(np.int64), empty.astype(np.int64))
        return Nearest(
            np.concatenate([p.similarity for p in parts]),
            np.concatenate([p.row for p in parts]),
            np.concatenate([p.view for p in parts]),
        )

    def _search_block(self, queries: NDArray[np.float32], count: int, excluded: NDArray[np.bool_] | None) -> Nearest:
        slices, views, dimension = queries.shape
        similarities = (queries.reshape(-1, dimension) @ self.vectors.T).reshape(slices, views, -1)
        best = similarities.max(axis=1)
        if excluded is not None:
            best[:, excluded] = -1
        available = min(count, best.shape[1])
        rows = np.argpartition(-best, available - 1, axis=1)[:, :available]
        order = np.argsort(-np.take_along_axis(best, rows, 1), axis=1, kind="stable")
        rows = np.take_along_axis(rows, order, 1)
        values = np.take_along_axis(best, rows, 1)
        found_by = np.take_along_axis(similarities, rows[:, None, :], 2).argmax(axis=1)
        rows = np.where(values > -1, rows, -1)
        missing = ((0, 0), (0, count - available))
        return Nearest(
            np.pad(values, missing, constant_values=-1),
            np.pad(rows, missing, constant_values=-1).astype(np.int64),
            np.pad(found_by, missing).astype(np.int64),
        )

    def _search_faiss(self, queries: NDArray[np.float32], count: int) -> Nearest:
        slices, views, dimension = queries.shape
        similarities, rows = self._faiss.search(np.ascontiguousarray(queries.reshape(-1, dimension)), count)
        similarities, rows = similarities.reshape(slices, -1), rows.reshape(slices, -1)
        by_view = np.repeat(np.arange(views), count)
        result = Nearest(
            np.full((slices, count), -1, np.float32),
            np.full((slices, count), -1, np.int64),
            np.zeros((slices, count), np.int64),
        )
        for i in range(slices):
            order = np.argsort(-similarities[i], kind="stable")
            _, first = np.unique(rows[i][order], return_index=True)
            chosen = order[np.sort(first)[:count]]
            result.similarity[i, : len(chosen)] = similarities[i, chosen]
            result.row[i, : len(chosen)] = rows[i, chosen]
            result.view[i, : len(chosen)] = by_view[chosen]
        return result


def _faiss_index(vectors: NDArray[np.float32]) -> Any:
    try:
        import faiss
    except ImportError:
        return None
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index
