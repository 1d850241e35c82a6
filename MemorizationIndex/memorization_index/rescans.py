"""What a training slice would look like if the same person were scanned again, and how well that matches (METHOD §3.6).

Two volumes of one subject in a training set are mostly two contrasts, sides or time points and no rescans, so rescans
are simulated: the head lies a little differently (within 2°, 2 % of the width, up to half a slice), the coil shades
differently, the noise is new. Real rescans differ more than that: what is told from these is told from real ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from memorization_index.matching import Match, in_threads, match
from memorization_index.spectral import View

_DEGREES, _SHIFT = 2.0, 0.02  # of the head, at most; the shift as a fraction of the width
_OWN_NOISE = 0.5 / 128  # of the width: standard deviation of the blur that takes the first scan's noise away
_NOISE = 0.025  # of the second scan, as a fraction of the intensity range
_SHADING = 0.3
_BACKGROUND = 0.02

Image = NDArray[np.float32]


def simulated(image: Image, neighbor: Image | None, rng: np.random.Generator, side: int | None = None) -> Image:
    """A rescan of a slice ``(H, W)`` in [0, 1]; up to half way to its neighbor, where a volume has one.

    ``side``: pixels along the longer side when it was acquired, if it was resampled since: noise is one number for each
    of those, and a picture that was made larger or smaller has smoother or weaker noise.
    """
    share = np.float32(rng.uniform(0, 0.5))
    between = image if neighbor is None else (1 - share) * image + share * neighbor
    height, width = image.shape
    angle = np.deg2rad(rng.uniform(-_DEGREES, _DEGREES))
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    center = (np.array([height, width]) - 1) / 2
    offset = center - matrix @ center + rng.uniform(-_SHIFT, _SHIFT, 2) * width
    smooth = scipy.ndimage.gaussian_filter(between, _OWN_NOISE * width)
    moved = scipy.ndimage.affine_transform(smooth, matrix, offset, order=1)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    weights = rng.uniform(-1, 1, 5)
    shading = sum(w * part for w, part in zip(weights, (x, y, x * y, x * x, y * y), strict=True))
    field = 1 - _SHADING * (shading - shading.min()) / np.ptp(shading)
    noise = _NOISE * _acquired_noise(rng, image.shape, side or max(height, width)) * (moved > _BACKGROUND)
    result: Image = np.clip(moved * field + noise, 0, 1).astype(np.float32)
    return result


def _acquired_noise(rng: np.random.Generator, shape: tuple[int, ...], side: int) -> NDArray[np.float64]:
    """Noise of deviation 1 in acquired pixels, as it is after resampling to ``shape``."""
    factor = side / max(shape)
    if factor >= 1:  # the mean of so many pixels in each direction
        return rng.standard_normal(shape) / factor
    coarse = rng.standard_normal([max(1, round(length * factor)) for length in shape])
    return np.asarray(scipy.ndimage.zoom(coarse, np.array(shape) / coarse.shape, order=1))


def matches(pairs: Sequence[tuple[Image, Image | None, int]], seed: int) -> list[Match]:
    """How the simulated rescan of each slice matches it; ``pairs``: slice, its neighbor (if any), and ``side``."""

    def one(number: int) -> Match:
        image, neighbor, side = pairs[number]
        again = simulated(image, neighbor, np.random.default_rng([seed, number]), side)
        return match(again, [(image, View())])

    return in_threads(one, range(len(pairs)))
