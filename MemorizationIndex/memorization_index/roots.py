"""Inverse roots of shrunk second moments: of a whole, and quickly of the whole without a part.

The null needs one root for each fold, and a fold is a small part of the training set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.special
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Random vectors beyond the rank of a matrix.
_SPARE = 8
#: What a part is factored to, relative to its largest moment, and what the quadrature leaves.
_NEGLIGIBLE, _PRECISION = 1e-12, 1e-9
#: Decomposing again is quicker where a part has at all nodes together more columns than this times ``k``.
_MANY = 1.5


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues ``(k,)`` and eigenvectors ``(d, k)`` of second moments ``(d, d)`` of ``count`` slices.

    All other eigenvalues are 0.
    """

    second: Floats
    count: int
    values: Floats
    vectors: Floats

    @classmethod
    def of(cls, second: Floats, count: int) -> Spectrum:
        """Decompose the moments; those of few slices within their range, which is a hundredth of the work."""
        return cls(second, count, *_decomposed(second, _range(second, count)))

    def without(self, second: Floats, count: int) -> Spectrum:
        """The same of what ``second`` of ``count`` of the slices still has, decomposed within the range of all."""
        is_part_of_space = self.vectors.shape[1] < len(self.vectors)
        return Spectrum(second, count, *_decomposed(second, self.vectors if is_part_of_space else None))


def is_low_rank(size: int, count: int) -> bool:
    """Whether so few slices have second moments ``(size, size)`` whose spectrum is found quickly."""
    return 2 * (count - 1 + _SPARE) <= size


def symmetric_root(spectrum: Spectrum, scale: float, floor: float) -> Floats:
    """``(scale · second + floor · I)^(-1/2)``; it does not depend on signs and order of the eigenvectors."""
    values, vectors = spectrum.values, spectrum.vectors
    scales = 1 / np.sqrt(scale * np.clip(values, 0, None) + floor)
    if len(values) == len(vectors):
        return _squared(vectors * np.sqrt(scales))
    rest = 1 / np.sqrt(floor)  # every direction that is not among the eigenvectors has the variance 0
    matrix = -_squared(vectors * np.sqrt(rest - scales))
    matrix[np.diag_indices_from(matrix)] += rest
    return matrix


def symmetric_root_of_rest(whole: Spectrum, second: Floats, count: int, scale: float, floor: float) -> Floats:
    """:func:`symmetric_root` of moments ``second`` of ``count`` of the slices that ``whole`` is of.

    What is left out of few slices has few columns. The inverse root is an integral over inverses of shifted matrices,
    which a dozen nodes give to 1e-9 (Hale, Higham & Trefethen 2008, *Computing A^α, log(A), and related matrix
    functions by contour integrals*, method 3), and each inverse differs from the whole's by what Woodbury's identity
    says.
    """
    if count == whole.count:
        return symmetric_root(whole, scale, floor)
    diagonal = scale * np.clip(whole.values, 0, None) + floor
    nodes, weights = _quadrature(floor, float(diagonal.max()))
    if (whole.count - count + 1) * len(nodes) > _MANY * len(whole.values):
        return symmetric_root(whole.without(second, count), scale, floor)
    part = np.sqrt(scale) * (whole.vectors.T @ _factor(whole.second - second))
    columns = []
    for node, weight in zip(nodes, weights, strict=True):
        left = part / (diagonal + node)[:, None]
        lower = np.linalg.cholesky(np.eye(part.shape[1]) - part.T @ left)
        columns.append(np.sqrt(weight) * (left @ np.linalg.inv(lower).T))
    return symmetric_root(whole, scale, floor) + _squared(whole.vectors @ np.concatenate(columns, axis=1))


def triangular_root(second: Floats, scale: float, floor: float) -> Floats:
    """An inverse root of the same matrix by Cholesky's factors, in a tenth of the time; ``floor`` > 0."""
    shrunk = scale * second
    shrunk[np.diag_indices_from(shrunk)] += floor
    lower = np.linalg.cholesky(shrunk)
    inverse, _ = scipy.linalg.lapack.dtrtri(lower, lower=1)
    return np.asarray(inverse).T


def _squared(half: Floats) -> Floats:
    return np.asarray(half @ half.T)  # of a matrix and itself BLAS computes one half


def _decomposed(second: Floats, basis: Floats | None) -> tuple[Floats, Floats]:
    if basis is None:
        values, vectors = np.linalg.eigh(second)
        return values, vectors
    values, inner = np.linalg.eigh(basis.T @ second @ basis)
    return values, basis @ inner


def _range(second: Floats, count: int) -> Floats | None:
    """An orthonormal basis ``(d, k)`` of what moments of few slices vary in; None where that may be nearly everything.

    It is the range of the product with ``rank`` random vectors, whatever they are (Halko, Martinsson & Tropp 2011,
    exact where the rank is reached).
    """
    size, wanted = len(second), count - 1 + _SPARE
    if not is_low_rank(size, count):
        return None
    drawn = np.random.default_rng(0).standard_normal((size, wanted))
    scaled = second / max(count - 1, 1)
    basis: Floats = np.linalg.qr(scaled @ (scaled @ drawn))[0]
    return basis


def _factor(moments: Floats) -> Floats:
    """Columns ``(d, r)`` whose products are moments of low rank, by Cholesky's method with pivots."""
    limit = _NEGLIGIBLE * float(np.diag(moments).max())
    lower, pivots, rank, _ = scipy.linalg.lapack.dpstrf(moments, tol=max(limit, np.finfo(float).tiny), lower=1)
    columns = np.empty((len(moments), rank))
    columns[pivots - 1] = np.tril(lower)[:, :rank]
    return columns


def _quadrature(lower: float, upper: float) -> tuple[Floats, Floats]:
    """Nodes t and weights w of ``x^(-1/2) ≈ Σ w/(x + t)`` for all x between two positive numbers."""
    ratio = lower / upper
    count = int(np.ceil((3 - np.log(ratio)) * -np.log(_PRECISION) / (2 * np.pi**2))) + 1
    quarter = float(scipy.special.ellipkm1(ratio))
    sine, cosine, delta, _ = scipy.special.ellipj((np.arange(count) + 0.5) * quarter / count, 1 - ratio)
    weights = 2 * quarter * np.sqrt(lower) / (np.pi * count) * delta / np.square(cosine)
    return lower * np.square(sine / cosine), weights
