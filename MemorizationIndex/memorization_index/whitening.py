"""Whitening of features from mergeable moments (METHOD §3.5; the paper's Eq. 2 with a shrunk covariance)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

#: Weight of the identity in the covariance. Full whitening makes N ≲ D training vectors equidistant and amplifies
#: directions that hold only noise; half-way shrinkage holds from 60 slices up (docs/method.md has the comparison).
SHRINKAGE = 0.5
#: Random vectors beyond the rank of a covariance.
_SPARE = 8


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
        within: NDArray[np.float64] | None = None,
        symmetric: bool = True,
    ) -> Whitening:
        """Whiten by the covariance shrunk toward a multiple of the identity with the same trace.

        Every root of its inverse gives the same cosines. The ``symmetric`` one leaves each number where it was (see
        :mod:`.layout`); the triangular one, which needs a ``shrinkage`` above 0, takes a tenth of the time. ``within``:
        for the symmetric one, the range of moments that these are a part of, where it is known (see :func:`range_of`).
        """
        covariance = moments.second / max(moments.count - 1, 1)
        level = max(float(np.trace(covariance)) / len(moments.mean), 1e-12)
        if symmetric:
            basis = range_of(moments) if within is None else within
            root = _symmetric_root(covariance, shrinkage, level, basis)
        else:
            root = _triangular_root(covariance, shrinkage, level)
        return cls(moments.mean.astype(np.float32), root.astype(np.float32))

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Whitened unit vectors of features ``(..., d)``; the mean itself stays zero, and NaN counts as the mean."""
        centered = np.nan_to_num(np.asarray(features, np.float32) - self.mean, copy=False)
        flat = centered.reshape(-1, len(self.mean)) @ self.matrix
        norms = np.linalg.norm(flat, axis=1, keepdims=True)
        result: NDArray[np.float32] = (flat / np.maximum(norms, 1e-12)).reshape(centered.shape)
        return result


def _symmetric_root(
    covariance: NDArray[np.float64], shrinkage: float, level: float, basis: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Inverse root of the shrunk covariance; it does not depend on signs and order of the eigenvectors."""
    if basis is None:
        values, vectors = np.linalg.eigh(covariance)
    else:
        values, inner = np.linalg.eigh(basis.T @ covariance @ basis)
        vectors = basis @ inner
    scales = 1 / np.sqrt((1 - shrinkage) * np.clip(values, 0, None) + shrinkage * level)
    if len(values) == len(covariance):
        half = vectors * np.sqrt(scales)
        return np.asarray(half @ half.T)  # of a matrix and itself BLAS computes one half
    rest = 1 / np.sqrt(shrinkage * level)  # every direction that is not among the eigenvectors has the variance 0
    half = vectors * np.sqrt(rest - scales)
    matrix: NDArray[np.float64] = -(half @ half.T)
    matrix[np.diag_indices_from(matrix)] += rest
    return matrix


def _triangular_root(covariance: NDArray[np.float64], shrinkage: float, level: float) -> NDArray[np.float64]:
    """Inverse root of the shrunk covariance by Cholesky's factors."""
    shrunk = (1 - shrinkage) * covariance
    shrunk[np.diag_indices_from(shrunk)] += shrinkage * level
    lower = np.linalg.cholesky(shrunk)
    inverse, _ = scipy.linalg.lapack.dtrtri(lower, lower=1)
    return np.asarray(inverse).T


def range_of(moments: Moments) -> NDArray[np.float64] | None:
    """An orthonormal basis ``(d, k)`` of what features of few slices vary in; None where that may be nearly everything.

    Few slices have a covariance of low rank. Its range is that of its product with ``rank`` random vectors, whatever
    they are (Halko, Martinsson & Tropp 2011, exact where the rank is reached), which is a hundredth of the work. The
    range of a part of the slices lies within it.
    """
    size, wanted = len(moments.mean), moments.count - 1 + _SPARE
    if 2 * wanted > size:
        return None
    drawn = np.random.default_rng(0).standard_normal((size, wanted))
    scaled = moments.second / max(moments.count - 1, 1)
    basis: NDArray[np.float64] = np.linalg.qr(scaled @ (scaled @ drawn))[0]
    return basis
