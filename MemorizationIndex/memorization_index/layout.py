"""The embedded descriptor ``layout``: where in the field of view the structures of a slice lie.

Slice (128×128) under one view → 32×32 → difference of Gaussians, normalized by local contrast → 1024 numbers. Unlike
``spectral`` it keeps positions. It therefore survives what bends or covers a picture (elastic deformation, erased
blocks, blends), and its whitened vectors are pictures themselves, so that *parts* of two slices can be compared: the
symmetric whitening leaves every number at its pixel. A shift of more than a few percent is left to ``spectral``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from memorization_index.filters import normalized_band
from memorization_index.spectral import View, warped

_SIZE = 32
DIMENSION = _SIZE * _SIZE
_FINE, _COARSE, _CONTRAST = 0.6, 4.0, 6.0  # standard deviations in pixels of the 32×32 image
_CONTRAST_FLOOR = 4e-3

#: Parts are squares of 12×12 pixels, 5 apart: 25 of them …
_PART, _STEP = 12, 5
#: … and the similarity of two slices in parts is the mean over the best so many.
BEST_PARTS = 8


def describe(images: NDArray[np.float32], view: View | None = None) -> NDArray[np.float32]:
    """Descriptors ``(n, 1024)`` of images ``(n, 128, 128)`` in [0, 1] under a view (default: as they are)."""
    view = view or View()
    halved = warped(images, view.rotation, view.scale)
    small = halved.reshape(len(images), _SIZE, 2, _SIZE, 2).mean(axis=(2, 4))
    band = normalized_band(small, _FINE, _COARSE, _CONTRAST, _CONTRAST_FLOOR)
    turned = np.rot90(band, view.quarter, axes=(1, 2))
    seen = turned[:, :, ::-1] if view.mirrored else turned
    result: NDArray[np.float32] = np.ascontiguousarray(seen, np.float32).reshape(len(images), DIMENSION)
    return result


def part_similarity(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Similarity in parts of whitened vectors ``(k, 1024)``, pair by pair: mean cosine of the 8 best of 25 parts."""
    parts = _parts()
    dots = (query * vectors) @ parts
    norms = np.sqrt((np.square(query) @ parts) * (np.square(vectors) @ parts))
    cosines = dots / np.maximum(norms, 1e-12)
    best = np.partition(cosines, -BEST_PARTS, axis=1)[:, -BEST_PARTS:]
    result: NDArray[np.float32] = best.mean(axis=1).astype(np.float32)
    return result


@lru_cache(maxsize=1)
def _parts() -> NDArray[np.float32]:
    """Which pixels belong to which part: ``(1024, 25)`` of 0 and 1."""
    starts = range(0, _SIZE - _PART + 1, _STEP)
    masks = np.zeros((len(starts) ** 2, _SIZE, _SIZE), np.float32)
    for number, (row, column) in enumerate((r, c) for r in starts for c in starts):
        masks[number, row : row + _PART, column : column + _PART] = 1
    return masks.reshape(len(masks), DIMENSION).T.copy()
