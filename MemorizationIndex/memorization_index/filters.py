"""Gaussian filters as matrices, and the band of structures that descriptors and matching look at."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

#: A pixel of which more than this is known counts.
_KNOWN = 0.99
#: A weight that changes no float32 sum; smaller ones, down to denormal numbers, only make products slow.
_NOTHING = 1e-12


@lru_cache(maxsize=16)
def gaussian(sigma: float, size: int) -> NDArray[np.float32]:
    """Matrix ``(size, size)`` that blurs along one axis; ``sigma`` in pixels, beyond the border is background (0)."""
    distance = np.arange(size)[:, None] - np.arange(size)[None, :]
    kernel = np.exp(-0.5 * np.square(distance / sigma))
    total = np.exp(-0.5 * np.square(np.arange(-size, size) / sigma)).sum()
    weights = kernel / total
    weights[weights < _NOTHING] = 0
    matrix: NDArray[np.float32] = weights.astype(np.float32)
    return matrix


def normalized_band(
    images: NDArray[np.float32], fine: float, coarse: float, contrast: float, floor: float
) -> NDArray[np.float32]:
    """Difference of Gaussians of square images ``(n, size, size)``, divided by its local root mean square.

    ``fine``, ``coarse`` and ``contrast`` (the window of the mean square) are standard deviations in pixels; ``floor``
    is added to the mean square, so that noise in air stays small.
    """
    narrow, wide, window = (gaussian(sigma, images.shape[-1]) for sigma in (fine, coarse, contrast))
    band = narrow @ images @ narrow - wide @ images @ wide
    energy = window @ np.square(band) @ window
    result: NDArray[np.float32] = band / np.sqrt(energy + floor)
    return result


def known_band(
    images: NDArray[np.float32], known: NDArray[np.float32], fine: float, coarse: float, contrast: float, floor: float
) -> NDArray[np.float32]:
    """The same where only a part of the images is known, ``known`` ``(size, size)`` from 0 to 1; NaN elsewhere.

    Images are 0 where nothing is known. Means are over what is known (normalized convolution, Knutsson & Westin 1993),
    so that its border is no structure.
    """
    narrow, wide, window = (gaussian(sigma, images.shape[-1]) for sigma in (fine, coarse, contrast))

    def mean(values: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((kernel @ values @ kernel) / np.maximum(kernel @ known @ kernel, 1e-3), np.float32)

    inside = known > _KNOWN
    band = np.where(inside, mean(images, narrow) - mean(images, wide), 0)
    energy = mean(np.square(band), window)
    return np.where(inside, band / np.sqrt(energy + floor), np.float32(np.nan))
