"""The same statistics for features that somebody else computed, in scikit-learn's sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.calibration import Null, oni, q_values
from memorization_index.errors import MemorizationIndexError
from memorization_index.neighbors import Index
from memorization_index.nulls import fold_labels, hashed
from memorization_index.retrieval import Retriever, channel_scales, concatenated, joined
from memorization_index.whitening import Moments, Whitening, merged

Features = Mapping[str, NDArray[np.floating]]
Columns = dict[str, NDArray[Any]]

#: Training rows that make up the null, at most (spread over subjects).
_NULL_ROWS = 2000


class MemorizationDetector:
    """Copy evidence from precomputed features ``{layer: (n, D)}``.

    >>> import numpy as np
    >>> train = {"a": np.random.default_rng(0).normal(size=(300, 16))}
    >>> detector = MemorizationDetector().fit(train, groups=np.arange(300) // 10)
    >>> scores = detector.score_samples({"a": train["a"][:2]})
    >>> scores["match"].tolist(), bool(scores["p_value"].max() < 0.01)
    ([0, 1], True)

    Parameters
    ----------
    protocol
        ``mi-v1`` (METHOD §3: whitening with a shrunk covariance, a null cross-fitted by subject).
    seed
        Decides the folds and which training rows make up the null.
    """

    def __init__(self, protocol: str = "mi-v1", *, seed: int = 0) -> None:
        if protocol != "mi-v1":
            raise MemorizationIndexError(f"protocol={protocol!r}: is not known; expected 'mi-v1'.")
        self.protocol, self.seed = protocol, seed

    def fit(self, features: Features, groups: Sequence[Any] | NDArray[Any] | None = None) -> MemorizationDetector:
        """Fit on training features; ``groups`` ``(n,)`` names the subject of each row (else each row is its own).

        Raises :class:`MemorizationIndexError` where shapes disagree or values are not finite.
        """
        arrays = _checked(features)
        count = len(next(iter(arrays.values())))
        subjects = [str(g) for g in (range(count) if groups is None else groups)]
        if len(subjects) != count:
            raise MemorizationIndexError(f"groups: has {len(subjects)} entries; expected one for each of {count} rows.")
        self.layers_ = tuple(arrays)
        self.groups_ = np.array(subjects, object)
        folds = fold_labels(subjects, self.seed)
        moments = {
            layer: {int(f): Moments.of(values[folds == f]) for f in np.unique(folds)}
            for layer, values in arrays.items()
        }
        self._retriever = _retriever({layer: merged(by.values()) for layer, by in moments.items()}, arrays)
        self.null_ = self._fit_null(arrays, moments, folds)
        return self

    def score_samples(self, features: Features) -> Columns:
        """Score samples; returns columns ``(m,)``.

        ``similarity``, ``mi``, ``oni``, ``p_value``, ``q_value``, ``match`` (training row), ``match_group``,
        ``layer_agreement`` (layers that name that row), and ``similarity_<layer>`` for each layer. With fewer than 5
        groups ``mi``, ``oni``, ``p_value`` and ``q_value`` are NaN.
        """
        arrays = _checked(features)
        self._check_layers(arrays)
        found = self._retriever.search(_as_views(arrays))
        null = self.null_
        unknown = np.full(len(found.similarity), np.nan)
        mi = null.mi(found.similarity) if null.is_calibrated else unknown
        p = null.slice_p(found.similarity, np.full(len(mi), 0.5)) if null.is_calibrated else unknown
        match = found.rows[:, 0]
        return {
            "similarity": found.similarity,
            "mi": mi,
            "oni": oni(mi),
            "p_value": p,
            "q_value": q_values(p),
            "match": match,
            "match_group": self.groups_[match],
            "layer_agreement": found.agreement,
            **{f"similarity_{layer}": values for layer, values in found.by_channel.items()},
        }

    def _fit_null(
        self, arrays: dict[str, NDArray[np.float32]], moments: dict[str, dict[int, Moments]], folds: NDArray[np.int64]
    ) -> Null:
        """Score training rows against the other folds, whitening fitted without their own (METHOD §3.5)."""
        distinct, labels = np.unique(self.groups_.astype(str), return_inverse=True)
        if len(distinct) < 2 or len(np.unique(folds)) < 2:
            return Null.empty()
        rows = _spread(labels, self.seed)
        rows = rows[np.argsort(folds[rows], kind="stable")]
        parts = []
        for fold in np.unique(folds[rows]):
            others, own = folds != fold, rows[folds[rows] == fold]
            rest = {layer: merged([m for f, m in by.items() if f != fold]) for layer, by in moments.items()}
            retriever = _retriever(rest, {layer: values[others] for layer, values in arrays.items()})
            parts.append(retriever.search(_as_views({layer: values[own] for layer, values in arrays.items()})))
        nearest = concatenated(parts)
        self._retriever.scales = channel_scales({layer: one.similarity[:, 0] for layer, one in nearest.items()})
        similarity = joined(nearest, self._retriever.scales).similarity
        return Null(similarity, labels[rows].astype(np.int64), labels[rows].astype(np.int64), np.full(len(rows), 0.5))

    def _check_layers(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        if tuple(arrays) != self.layers_ and set(arrays) != set(self.layers_):
            raise MemorizationIndexError(
                f"The samples have layers {', '.join(arrays)}; expected {', '.join(self.layers_)}, as in fit."
            )
        for layer, values in arrays.items():
            expected = self._retriever.whitenings[layer].mean.size
            if values.shape[1] != expected:
                raise MemorizationIndexError(
                    f"Layer {layer} of the samples has {values.shape[1]} features; expected {expected}, as in fit."
                )


def _retriever(moments: Mapping[str, Moments], arrays: Mapping[str, NDArray[np.float32]]) -> Retriever:
    whitenings = {layer: Whitening.fit(m) for layer, m in moments.items()}
    return Retriever(whitenings, {layer: Index(whitenings[layer](values)) for layer, values in arrays.items()})


def _as_views(arrays: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Precomputed features have one view: as they are."""
    return {layer: values[:, None, :] for layer, values in arrays.items()}


def _spread(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Up to 2,000 rows, the same number of each subject as far as they go, chosen by hash."""
    order = sorted(range(len(labels)), key=lambda i: hashed(str(i), seed))
    turn: dict[int, int] = {}
    ranked = []
    for i in order:
        label = int(labels[i])
        turn[label] = turn.get(label, 0) + 1
        ranked.append((turn[label], i))
    return np.array(sorted(i for _, i in sorted(ranked)[:_NULL_ROWS]), np.int64)


def _checked(features: Features) -> dict[str, NDArray[np.float32]]:
    arrays = {}
    for layer, values in features.items():
        array = np.asarray(values)
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.number) or 0 in array.shape:
            raise MemorizationIndexError(
                f"Layer {layer} has shape {array.shape} and type {array.dtype}; expected numbers of shape "
                "(slices, features)."
            )
        if not np.isfinite(array).all():
            raise MemorizationIndexError(f"Layer {layer} contains NaN or infinite values; expected finite features.")
        arrays[str(layer)] = array.astype(np.float32)
    if len({len(a) for a in arrays.values()}) != 1:
        sizes = ", ".join(f"{layer}: {len(a)}" for layer, a in arrays.items()) or "none"
        raise MemorizationIndexError(f"Layers differ in their number of rows ({sizes}); expected the same for all.")
    return arrays
