"""Nearest training slices by cosine: FAISS where it is installed, an exact NumPy search otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: NumPy searches this many similarities at once (memory: 4 bytes each).
_BLOCK = 32_000_000


class Index:
    """Exact inner-product search over unit vectors ``(N, d)``."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        self._faiss = _faiss_index(self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Similarities and row numbers ``(m, count)`` of the nearest vectors of queries ``(m, d)``, best first."""
        count = min(count, len(self.vectors))
        queries = np.ascontiguousarray(queries, np.float32)
        if self._faiss is not None:
            similarities, rows = self._faiss.search(queries, count)
            return similarities, rows
        step = max(1, _BLOCK // max(len(self.vectors), 1))
        parts = [self._search_block(queries[i : i + step], count) for i in range(0, len(queries), step)]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _search_block(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        similarities = queries @ self.vectors.T
        nearest = np.argpartition(-similarities, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(similarities, nearest, 1), axis=1, kind="stable")
        nearest = np.take_along_axis(nearest, order, 1)
        return np.take_along_axis(similarities, nearest, 1), nearest.astype(np.int64)


def _faiss_index(vectors: NDArray[np.float32]) -> Any:
    try:
        import faiss
    except ImportError:
        return None
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index
