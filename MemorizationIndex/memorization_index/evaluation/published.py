"""Protocol ``paper-code-v1``: what the published code computes, for comparison with published numbers only.

It departs from the paper: features are averaged over the wrong axes, constants differ, nothing is clipped, and nothing
refuses a training set that is too small to whiten, so that MI is then NaN, for exact copies too. Written from a
description of that code's behavior and met to arrays that it computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.errors import MemorizationIndexError
from memorization_index.features import LayerFeatures, check_same_layers, checked_features
from memorization_index.paper import Floats, Neighbors, agreement_with_first, checked_splits, half_splits

#: Eigenvalues of a covariance are raised to this value (the paper adds 1e-6 to all of them instead).
EIGENVALUE_FLOOR = 1e-8
#: Added to a similarity before its logarithm (the paper: 1e-6).
LOG_EPSILON = 1e-8
#: Added to the norm of a whitened vector (the paper: nothing).
NORM_EPSILON = 1e-12
#: Added to the null's standard deviation (the paper adds it to the variance).
DEVIATION_EPSILON = 1e-8


def published_pooling(tokens: NDArray[np.floating]) -> NDArray[np.float32]:
    """Pool block outputs ``(n, h, w, C)`` as the published code does: over columns and channels, to ``(n, h)``.

    Eq. 1 averages over rows and columns, to ``(n, C)``. At 240 pixels the code leaves 15 numbers of each layer.
    """
    tokens = np.asarray(tokens, np.float32)
    if tokens.ndim != 4 or 0 in tokens.shape:
        raise MemorizationIndexError(
            f"The block output has shape {tokens.shape}; expected (slices, rows, columns, channels), none empty."
        )
    pooled: NDArray[np.float32] = tokens.mean(axis=(2, 3))
    return pooled


@dataclass(frozen=True)
class PublishedWhitening:
    """``mean`` ``(D,)``, kept in float32, and ``matrix`` ``(D, D)`` = C^(−1/2) with eigenvalues floored at 1e-8."""

    mean: NDArray[np.float32]
    matrix: Floats

    @classmethod
    def fit(cls, features: NDArray[np.float32]) -> PublishedWhitening:
        """Fit on features ``(N, D)`` of at least two rows, the covariance taken with N − 1."""
        mean = features.mean(axis=0)
        centered = (features - mean).astype(np.float64)
        values, vectors = np.linalg.eigh(centered.T @ centered / (len(features) - 1))
        return cls(mean, (vectors / np.sqrt(np.maximum(values, EIGENVALUE_FLOOR))) @ vectors.T)

    def __call__(self, features: NDArray[np.float32]) -> Floats:
        """Whitened vectors ``(n, D)`` of (nearly) unit length."""
        white = (features - self.mean).astype(np.float64) @ self.matrix
        result: Floats = white / (np.linalg.norm(white, axis=1, keepdims=True) + NORM_EPSILON)
        return result


class PublishedProtocol:
    """Similarity, MI and ONI as the published code computes them from float32 features ``{layer: (n, D)}``.

    Parameters
    ----------
    null_splits
        Pairs (rows of A, rows of B) of training rows. Default: 10 halves, for an even number of rows those of the
        published code's first call in a process.

    Attributes
    ----------
    layers_
        Layers in the order of ``fit``.
    whitenings_
        :class:`PublishedWhitening` of each layer, fitted on all rows and used for every split.
    null_similarities_, null_samples_
        Similarity of each layer, and their geometric mean: ``(k,)``, the A rows of all splits in order. NaN where a
        similarity is below −1e-8.
    null_mean_, null_deviation_
        μ and σ of the null; NaN as soon as one sample is.
    """

    def __init__(self, null_splits: Sequence[tuple[Any, Any]] | None = None) -> None:
        self.null_splits = null_splits

    def fit(self, features: LayerFeatures) -> PublishedProtocol:
        """Fit on training features of at least 4 rows; raises :class:`MemorizationIndexError` for fewer."""
        arrays = checked_features(features, np.float32)
        count = len(next(iter(arrays.values())))
        if count < 4:
            raise MemorizationIndexError(f"paper-code-v1: got {count} training rows; expected at least 4, two a half.")
        splits = half_splits(count) if self.null_splits is None else checked_splits(self.null_splits, count)
        self.whitenings_ = {layer: PublishedWhitening.fit(values) for layer, values in arrays.items()}
        self._white = {layer: self.whitenings_[layer](values) for layer, values in arrays.items()}
        self.null_similarities_ = {
            layer: np.concatenate([Neighbors.find(white[a], white[b]).similarity for a, b in splits])
            for layer, white in self._white.items()
        }
        self.null_samples_ = _aggregated(self.null_similarities_)
        self.null_mean_ = float(self.null_samples_.mean())
        self.null_deviation_ = float(self.null_samples_.std()) + DEVIATION_EPSILON
        self.layers_ = tuple(arrays)
        return self

    def score_samples(self, features: LayerFeatures) -> dict[str, NDArray[Any]]:
        """Score samples; returns columns ``(m,)``, numbers in float64.

        ``similarity``, ``distance``, ``mi``, ``oni`` (NaN as described above), ``match`` (the first layer's nearest
        training row), ``consensus`` (layers that name it), and for each layer ``similarity_<layer>`` (not clipped),
        ``nearest_<layer>`` and ``margin_<layer>``.
        """
        if not hasattr(self, "layers_"):
            raise MemorizationIndexError("PublishedProtocol: is not fitted; call fit with training features first.")
        arrays = checked_features(features, np.float32)
        check_same_layers(arrays, {layer: len(self.whitenings_[layer].mean) for layer in self.layers_})
        found = {
            layer: Neighbors.find(self.whitenings_[layer](arrays[layer]), self._white[layer]) for layer in self.layers_
        }
        similarity = _aggregated({layer: near.similarity for layer, near in found.items()})
        mi = (similarity - self.null_mean_) / self.null_deviation_
        rows = np.stack([near.row for near in found.values()])
        columns: dict[str, NDArray[Any]] = {
            "similarity": similarity,
            "distance": 1 - similarity,
            "mi": mi,
            "oni": -np.tanh(mi),
            "match": rows[0],
            "consensus": agreement_with_first(rows),
        }
        for layer, near in found.items():
            columns |= {
                f"similarity_{layer}": near.similarity, f"nearest_{layer}": near.row, f"margin_{layer}": near.margin
            }  # fmt: skip
        return columns


def _aggregated(similarities: Mapping[str, Floats]) -> Floats:
    """Geometric mean over layers; the logarithm of a negative similarity is NaN, and that is what is published."""
    with np.errstate(invalid="ignore"):
        logs = [np.log(values + LOG_EPSILON) for values in similarities.values()]
    result: Floats = np.exp(np.mean(logs, axis=0))
    return result
