"""The embedded descriptor ``layout``: where in the field of view the structures of a slice lie.

Slice (128×128) under one view → 40×40 → difference of Gaussians, normalized by local contrast → 1600 numbers. Unlike
``spectral`` it keeps positions. It therefore survives what bends or covers a picture (elastic deformation, erased
blocks, blends), and its whitened vectors are pictures themselves, so that *parts* of two slices can be compared: the
symmetric whitening leaves every number at its pixel. A shift of more than a few percent is left to ``spectral``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from memorization_index.filters import known_band
from memorization_index.spectral import INPUT_SIZE, View, warped

_SIZE = 40
_HALVED = 64  # side of an image that was brought under a view
DIMENSION = _SIZE * _SIZE
_FINE, _COARSE, _CONTRAST = 0.6, 5.0, 7.5  # standard deviations in pixels of the 40×40 image
_CONTRAST_FLOOR = 4e-3

#: Parts are squares of 16×16 pixels, 6 apart: 25 of them …
_PART, _STEP = 16, 6
#: … and the similarity of two slices in parts is the mean over the best so many.
BEST_PARTS = 8


def describe(images: NDArray[np.float32], view: View | None = None) -> NDArray[np.float32]:
    """Descriptors ``(n, 1600)`` of images ``(n, 128, 128)`` in [0, 1] under a view (default: as they are).

    What a turned or smaller picture does not show is NaN: unknown, so that its border resembles nothing. Whitening
    takes the mean for it.
    """
    view = view or View()
    halved = warped(images, view.rotation, view.scale)
    small = np.asarray(_reduction() @ halved @ _reduction().T, np.float32)
    band = known_band(small, _shown(view.rotation, view.scale), _FINE, _COARSE, _CONTRAST, _CONTRAST_FLOOR)
    turned = np.rot90(band, view.quarter, axes=(1, 2))
    seen = turned[:, :, ::-1] if view.mirrored else turned
    result: NDArray[np.float32] = np.ascontiguousarray(seen, np.float32).reshape(len(images), DIMENSION)
    return result


def part_similarity(
    views: NDArray[np.float32], found_by: NDArray[np.int64], vectors: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Similarity in parts of whitened vectors ``(k, 1600)`` to those of the views ``(V, 1600)`` that found them.

    It is the mean cosine of the 8 best of 25 parts.
    """
    parts = _parts()
    dots = (views[found_by] * vectors) @ parts
    norms = np.sqrt((np.square(views) @ parts)[found_by] * (np.square(vectors) @ parts))
    cosines = dots / np.maximum(norms, 1e-12)
    best = np.partition(cosines, -BEST_PARTS, axis=1)[:, -BEST_PARTS:]
    result: NDArray[np.float32] = best.mean(axis=1).astype(np.float32)
    return result


@lru_cache(maxsize=1)
def _reduction() -> NDArray[np.float32]:
    """Matrix ``(40, 64)`` that takes 64 pixels in a line to 40: means over the area that each covers."""
    edges = np.linspace(0, _HALVED, _SIZE + 1)
    pixel = np.arange(_HALVED)
    covered = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    matrix: NDArray[np.float32] = (np.clip(covered, 0, None) * (_SIZE / _HALVED)).astype(np.float32)
    return matrix


@lru_cache(maxsize=64)
def _shown(rotation: float, scale: float) -> NDArray[np.float32]:
    """How much of each pixel ``(40, 40)`` lies inside the picture under a view, from 0 to 1."""
    inside = warped(np.ones((1, INPUT_SIZE, INPUT_SIZE), np.float32), rotation, scale)[0]
    shown: NDArray[np.float32] = _reduction() @ inside @ _reduction().T
    return shown


@lru_cache(maxsize=1)
def _parts() -> NDArray[np.float32]:
    """Which pixels belong to which part: ``(1600, 25)`` of 0 and 1."""
    starts = range(0, _SIZE - _PART + 1, _STEP)
    masks = np.zeros((len(starts) ** 2, _SIZE, _SIZE), np.float32)
    for number, (row, column) in enumerate((r, c) for r in starts for c in starts):
        masks[number, row : row + _PART, column : column + _PART] = 1
    return masks.reshape(len(masks), DIMENSION).T.copy()
