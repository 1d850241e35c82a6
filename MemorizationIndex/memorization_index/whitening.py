"""Whitening of features from mergeable moments (METHOD §3.5; the paper's Eq. 2 with a shrunk covariance)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memorization_index.roots import Spectrum, symmetric_root, symmetric_root_of_rest, triangular_root

#: Weight of the identity in the covariance. Full whitening makes N ≲ D training vectors equidistant and amplifies
#: directions that hold only noise; half-way shrinkage holds from 60 slices up (docs/method.md has the comparison).
SHRINKAGE = 0.5


@dataclass(frozen=True)
class Moments:
    """Count, mean ``(d,)`` and centered second moment ``(d, d)`` of features ``(n, d)``, float64.

    Merging does not depend on the order.
    """

    count: int
    mean: NDArray[np.float64]
    second: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> Moments:
        """Moments of features ``(n, d)``."""
        data = np.asarray(features, np.float64)
        if len(data) == 0:
            return cls(0, np.zeros(data.shape[1]), np.zeros((data.shape[1], data.shape[1])))
        mean = data.mean(axis=0)
        centered = data - mean
        return cls(len(data), mean, centered.T @ centered)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets together (Chan, Golub & LeVeque 1979)."""
        count = self.count + other.count
        if count == 0:
            return self
        step = other.mean - self.mean
        mean = self.mean + step * (other.count / count)
        second = self.second + other.second + np.outer(step, step) * (self.count * other.count / count)
        return Moments(count, mean, second)

    def __sub__(self, part: Moments) -> Moments:
        """Moments without a part that is among them: the inverse of adding it."""
        count = self.count - part.count
        if count == 0:
            return Moments(0, np.zeros_like(self.mean), np.zeros_like(self.second))
        mean = self.mean + (self.mean - part.mean) * (part.count / count)
        step = part.mean - mean
        second = self.second - part.second - np.outer(step, step) * (count * part.count / self.count)
        return Moments(count, mean, second)


def merged(moments: Iterable[Moments]) -> Moments:
    """Moments of all sets together; at least one set."""
    return functools.reduce(operator.add, moments)


@dataclass(frozen=True)
class Whitening:
    """An affine map to whitened unit vectors: ``mean`` ``(d,)`` and ``matrix`` ``(d, d)``, float32."""

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        moments: Moments,
        shrinkage: float = SHRINKAGE,
        whole: Spectrum | None = None,
        symmetric: bool = True,
    ) -> Whitening:
        """Whiten by the covariance shrunk toward a multiple of the identity with the same trace.

        Every root of its inverse gives the same cosines. The ``symmetric`` one leaves each number where it was (see
        :mod:`.layout`); the triangular one, which needs a ``shrinkage`` above 0, takes a tenth of the time. ``whole``:
        for the symmetric one, the spectrum of moments that these are a part of, where it is known.
        """
        scale = (1 - shrinkage) / max(moments.count - 1, 1)
        trace = float(np.trace(moments.second)) / max(moments.count - 1, 1)
        floor = shrinkage * max(trace / len(moments.mean), 1e-12)
        if not symmetric:
            root = triangular_root(moments.second, scale, floor)
        elif whole is None:
            root = symmetric_root(spectrum_of(moments), scale, floor)
        else:
            root = symmetric_root_of_rest(whole, moments.second, moments.count, scale, floor)
        return cls(moments.mean.astype(np.float32), root.astype(np.float32))

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Whitened unit vectors of features ``(..., d)``; the mean itself stays zero, and NaN counts as the mean."""
        centered = np.nan_to_num(np.asarray(features, np.float32) - self.mean, copy=False)
        flat = centered.reshape(-1, len(self.mean)) @ self.matrix
        norms = np.linalg.norm(flat, axis=1, keepdims=True)
        result: NDArray[np.float32] = (flat / np.maximum(norms, 1e-12)).reshape(centered.shape)
        return result


def spectrum_of(moments: Moments) -> Spectrum:
    """Eigenvalues and eigenvectors of the moments, for :meth:`Whitening.fit` of a part of them."""
    return Spectrum.of(moments.second, moments.count)
