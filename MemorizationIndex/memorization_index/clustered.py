"""Nearest training slices of large references: cells of short codes first, then the best candidates exactly.

Whitened vectors are shortened to their 96 principal components, one byte each, and sorted into cells around centroids
(k-means; an *inverted file* with scalar quantization: Jégou, Douze & Schmid 2011). A slice has up to 140 views: of all
pairs of a view and a cell those with the most similar centroids are looked into, since one view alone resembles a copy
and that one in few cells. Where neighboring views show much the same, every second looks into far fewer cells
(``probing``), and the codes that are found are compared with all. Several slices are searched at a time: each cell is
compared with the views of all of them that look into it, in one matrix product. The candidates are then compared by
their stored features, which are whitened when they are needed, once for all slices whose candidates they are. Only
codes are held in memory; what is stored is mapped from disk.

Nothing is drawn by chance: the same features give the same index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.neighbors import ALL_VIEWS, Measure, Nearest, Probing
from memorization_index.shards import gathered, row_blocks
from memorization_index.whitening import Whitening

Floats = NDArray[np.float32]
Shards = Sequence[NDArray[np.float16]]

#: From this many training slices on. Below, all whitened vectors are compared: no copy is lost (docs/performance.md).
CLUSTERED_FROM = 10_000
#: Principal components that a code keeps.
COMPONENTS = 96
#: Cells for each square root of the number of slices, and at most; …
_CELLS, _CELLS_AT_MOST = 8.0, 4000
#: … slices that each is learned from, and rounds of learning.
_LEARNED_FROM, _ROUNDS = 16, 6
#: Of codes that some views looked less for so many times the wanted number are compared with all views.
_SEEN_AGAIN = 4
#: Candidates that are compared exactly, at least.
_AGAIN = 32
_SAMPLE = 65_536
_BLOCK_ROWS = 4096
#: Slices that are searched at a time, at most, and cells that their views are compared with at once.
_TOGETHER, _CELLS_AT_ONCE = 96, 64
#: About so many pairs of a view and a cell tell how near those are that make up the share.
_PAIRS_SAMPLED = 32_768
#: For each candidate so many codes of the nearest cells, at most so many, are compared first.
_FIRST, _NEAREST_CELLS = 16, 1024


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
    def of(cls, shards: Shards, whitening: Whitening, advance: Callable[[int], None] = lambda _rows: None) -> Cells:
        """Learn cells from stored features ``(N, D)`` and sort all of them in; ``advance`` is told how many."""
        count = sum(map(len, shards))
        cells = min(round(_CELLS * count**0.5), _CELLS_AT_MOST)
        basis = _principal(map(whitening, _sampled(shards, _SAMPLE)))
        sample = _sampled(shards, cells * _LEARNED_FROM)
        learned = np.concatenate([_components(whitening(block), basis) for block in sample])
        centroids = _learned(learned, cells)
        step = (np.abs(learned).max(axis=0) / 127).astype(np.float32)
        codes, labels = np.empty((count, basis.shape[1]), np.int8), np.empty(count, np.int32)
        start = 0
        for block in row_blocks(shards, _BLOCK_ROWS):
            components = _components(whitening(block), basis)
            stop = start + len(block)
            labels[start:stop] = (components @ centroids.T).argmax(axis=1)
            codes[start:stop] = np.clip(np.round(components / step), -127, 127).astype(np.int8)
            advance(len(block))
            start = stop
        order = np.argsort(labels, kind="stable")
        starts = np.searchsorted(labels[order], np.arange(cells + 1)).astype(np.int64)
        return cls(basis, centroids, step, codes[order], order.astype(np.int32), starts)

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, to be stored; ``Cells(**tensors)`` is the same again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def candidates(
        self,
        queries: Floats,
        count: int,
        excluded: NDArray[np.bool_] | None,
        probing: Probing,
    ) -> Iterator[NDArray[np.int64]]:
        """About ``count`` rows for each slice that are like any of its views ``(n, V, D)``, in ascending order."""
        usable = np.ones(len(self.codes), bool) if excluded is None else ~excluded[self.rows]
        seen = _components(queries.reshape(-1, queries.shape[2]), self.basis).reshape(*queries.shape[:2], -1)
        shares = probing.shares(len(self.codes), queries.shape[1])
        again = shares.min() < shares.max()
        wanted = _SEEN_AGAIN * count if again else count
        if shares.max() == 1:
            look = self._among_all(seen[:, shares == 1], wanted, usable)
        else:
            look = self._in_cells(seen, wanted, usable, shares)
        for codes, views in zip(look, seen, strict=True):
            chosen = self._most_similar(codes, views, count) if again else codes
            yield np.sort(self.rows[chosen]).astype(np.int64)

    def _in_cells(
        self, seen: Floats, count: int, usable: NDArray[np.bool_], shares: NDArray[np.float64]
    ) -> Iterator[NDArray[np.int64]]:
        """For each slice the ``count`` codes most similar to its views ``(n, V, 96)``, in the cells they look into."""
        for found, similarity in self._similar(seen, count, usable, shares):
            order = np.argsort(-similarity, kind="stable")
            codes, first = np.unique(found[order], return_index=True)
            yield codes[np.argsort(first)[:count]]

    def _most_similar(self, codes: NDArray[np.int64], views: Floats, count: int) -> NDArray[np.int64]:
        """The ``count`` of some codes that are most similar to any view of a slice ``(V, 96)``."""
        similarity = (views * self.step @ self.codes[codes].astype(np.float32).T).max(axis=0)
        return codes[np.argsort(-similarity, kind="stable")[:count]]

    def _among_all(self, seen: Floats, count: int, usable: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
        """The same where every code is compared with every view: in one product, whatever cells the codes are in."""
        places = np.flatnonzero(usable)
        codes = self.codes[places].astype(np.float32).T
        for views in seen:
            similarity = (views * self.step @ codes).max(axis=0)
            if count < len(places):
                least = np.partition(similarity, -count)[-count]  # of several that are as similar all are taken
                yield places[similarity >= least]
            else:
                yield places

    def _similar(
        self, seen: Floats, count: int, usable: NDArray[np.bool_], shares: NDArray[np.float64]
    ) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """For each slice ``(n, V, 96)`` codes that a view is like, and how much; the ``count`` most similar are there.

        A code may be there for several views. What a slice's nearest cells hold says how similar the others must be.
        """
        slices, views, _ = seen.shape
        scaled = (seen * self.step).reshape(slices * views, -1)
        looked, nearness = self._nearest_pairs(seen, shares)
        sizes = np.diff(np.concatenate([[0], usable.cumsum()])[self.starts])
        near = [
            self._in_nearest_cells(nearness[:, number], sizes, _FIRST * count, scaled[own], usable)
            for number, own in enumerate(_batches(slices * views, views))
        ]
        lowest = [np.partition(value, -count)[-count] if len(value) > count else -np.inf for _, value in near]
        limits = np.array(lowest, np.float32).repeat(views)
        of_slice, codes, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        for i in np.flatnonzero(looked.any(axis=1)):
            first, stop = self.starts[i : i + 2]
            own = np.flatnonzero(looked[i])
            similarity = scaled.take(own, axis=0) @ self.codes[first:stop].astype(np.float32).T
            places = np.flatnonzero(similarity >= limits.take(own)[:, None])
            if len(places):
                by, code = np.divmod(places, stop - first)
                of_slice.append(own[by] // views)
                codes.append(first + code)
                values.append(similarity.ravel()[places].astype(np.float32))
        by, code, value = np.concatenate(of_slice), np.concatenate(codes), np.concatenate(values)
        order = np.argsort(by, kind="stable")
        order = order[usable[code[order]]]
        starts = np.searchsorted(by[order], np.arange(1, slices))
        for places, (codes_near, value_near) in zip(np.split(order, starts), near, strict=True):
            yield np.concatenate([codes_near, code[places]]), np.concatenate([value_near, value[places]])

    def _in_nearest_cells(
        self, nearness: Floats, sizes: NDArray[np.int64], enough: int, scaled: Floats, usable: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], Floats]:
        """The usable codes in as many of the nearest cells as have ``enough``, and their similarity to a slice's views.

        ``nearness`` ``(K,)`` of the cells, and their ``sizes`` ``(K,)``: usable codes.
        """
        nearest = np.arange(len(nearness))
        if len(nearest) > _NEAREST_CELLS:
            nearest = np.argpartition(-nearness, _NEAREST_CELLS)[:_NEAREST_CELLS]
        nearest = nearest[np.argsort(-nearness[nearest], kind="stable")]
        cells = nearest[: np.searchsorted(sizes[nearest].cumsum(), enough) + 1]
        codes = np.concatenate([np.arange(*self.starts[c : c + 2]) for c in cells])
        codes = codes[usable[codes]]
        return codes, (scaled @ self.codes[codes].astype(np.float32).T).max(axis=0)

    def _nearest_pairs(self, seen: Floats, shares: NDArray[np.float64]) -> tuple[NDArray[np.bool_], Floats]:
        """Which pairs of a cell and a view are each slice's nearest ``(K, n·V)``; how near cells are to it ``(K, n)``.

        ``seen`` ``(n, V, 96)`` are the components of all views, ``shares`` ``(V,)`` what share is looked into: of the
        pairs of all views that have the same.
        """
        slices, views, _ = seen.shape
        flat = seen.reshape(slices * views, -1).T
        step = max(1, len(self.centroids) * views // _PAIRS_SAMPLED)
        sample = (self.centroids[::step] @ flat).reshape(-1, slices, views).swapaxes(0, 1)
        limits = np.empty((slices, views), np.float32)
        for share in np.unique(shares):
            alike = shares == share
            own = sample[:, :, alike].reshape(slices, -1)
            wanted = max(1, round(float(share) * own.shape[1]))
            limits[:, alike] = np.partition(own, -wanted, axis=1)[:, -wanted, None]
        limit = limits.ravel()
        looked = np.empty((len(self.centroids), slices * views), bool)
        nearest = np.empty((len(self.centroids), slices), np.float32)
        buffer = np.empty((_CELLS_AT_ONCE, slices * views), np.float32)
        for part in _batches(len(self.centroids), _CELLS_AT_ONCE):
            nearness = np.matmul(self.centroids[part], flat, out=buffer[: part.stop - part.start])
            np.greater_equal(nearness, limit, out=looked[part])
            nearness.reshape(-1, slices, views).max(axis=2, out=nearest[part])
        return looked, nearest


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

    def search(
        self,
        queries: Floats,
        count: int,
        excluded: NDArray[np.bool_] | None = None,
        measure: Measure | None = None,
        known: NDArray[np.int64] | None = None,
        probing: Probing = ALL_VIEWS,
    ) -> Nearest:
        """Nearest distinct rows of queries ``(n, V, D)``; rows where ``excluded`` ``(N,)`` is true are left out.

        With ``measure``, also the candidates' similarity by it. Rows that are ``known`` ``(n, k)`` to be worth
        comparing (−1: none) are candidates whatever their codes look like.
        """
        shape = len(queries), count
        result = Nearest(
            np.full(shape, -1, np.float32),
            np.full(shape, -1, np.int64),
            np.zeros(shape, np.int64),
            None if measure is None else np.full(shape, -1, np.float32),
        )
        for part in _batches(len(queries), _TOGETHER):
            listed = list(self._cells.candidates(queries[part], max(count, _AGAIN), excluded, probing))
            if known is not None:
                listed = [np.union1d(rows, own[own >= 0]) for rows, own in zip(listed, known[part], strict=True)]
            every = np.unique(np.concatenate(listed))
            vectors = np.empty((len(every), queries.shape[2]), np.float32)
            for block in _batches(len(every), _BLOCK_ROWS):
                vectors[block] = self._whitening(gathered(self._shards, every[block]))
            for i, rows in enumerate(listed, part.start):
                own = vectors[np.searchsorted(every, rows)]
                similarity = queries[i] @ own.T
                best = similarity.max(axis=0)
                order = np.argsort(-best, kind="stable")[:count]
                place = i, slice(0, len(order))
                found_by = similarity[:, order].argmax(axis=0)
                result.similarity[place], result.row[place], result.view[place] = best[order], rows[order], found_by
                if measure is not None and result.measured is not None:
                    result.measured[place] = measure(queries[i], found_by, own[order])
        return result


def _batches(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _even(count: int, wanted: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


def _sampled(shards: Shards, wanted: int) -> Iterator[NDArray[np.float16]]:
    """So many rows, evenly spaced, in blocks."""
    rows = _even(sum(map(len, shards)), wanted)
    return (gathered(shards, rows[part]) for part in _batches(len(rows), _BLOCK_ROWS))


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
