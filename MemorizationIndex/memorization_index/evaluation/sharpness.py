"""Is a copy found for what it shows, or for how clean it is? Grain, pairs of equal grain, and images made alike."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve, gaussian_filter

from memorization_index.evaluation.sampling import Chosen
from memorization_index.slices import SliceStack

#: The difference of two Laplacians, which is blind to edges and sees noise (Immerkær 1996).
_LAPLACIANS = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float64)
#: Two samples are of equal grain where it differs by less than this factor.
EQUAL = 1.1


class Changed(StrEnum):
    """What is done to images so that they are equally smooth, or equally grainy."""

    BLURRED = "blurred (σ 1.5 % of the width)"
    GRAINY = "noise added (σ .05)"


def grain(image: NDArray[np.float32]) -> float:
    """Standard deviation of the noise in an image ``(h, w)``, estimated; Immerkær 1996, Eq. 6."""
    response = np.abs(convolve(np.asarray(image, np.float64), _LAPLACIANS))[1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) / 6 * response.mean())


def altered(chosen: Sequence[Chosen], change: Changed) -> list[Chosen]:
    """The same images, all blurred or all made grainy; noise depends on the image's place in the list alone."""
    result = []
    for i, one in enumerate(chosen):
        rng = np.random.default_rng(i)
        images = [_altered(image, change, rng) for image in one.stack.images]
        stack = SliceStack(images, one.stack.spacing, one.stack.numbers, one.stack.total, one.stack.plane)
        result.append(Chosen(one.name, one.subject, stack))
    return result


def _altered(image: NDArray[np.float32], change: Changed, rng: np.random.Generator) -> NDArray[np.float32]:
    if change is Changed.BLURRED:
        return np.asarray(gaussian_filter(image, 0.015 * image.shape[1]), np.float32)
    return np.clip(image + rng.normal(0, 0.05, image.shape), 0, 1).astype(np.float32)


def matched_auc(
    score: NDArray[np.float64], grains: NDArray[np.float64], copies: NDArray[np.bool_], others: NDArray[np.bool_]
) -> tuple[float, int]:
    """How often a copy's score lies above another sample's *of equal grain*, over all such pairs, and their number.

    All arrays are ``(n,)``; NaN where there is no pair.
    """
    ratio = grains[copies][:, None] / grains[others][None]
    pairs = (ratio < EQUAL) & (ratio > 1 / EQUAL)
    ours, theirs = score[copies][:, None], score[others][None]
    wins = (ours > theirs) + 0.5 * (ours == theirs)
    count = int(pairs.sum())
    return (float(wins[pairs].mean()) if count else float("nan")), count
