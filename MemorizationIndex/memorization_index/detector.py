"""The same statistics for features that somebody else computed, in scikit-learn's sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memorization_index.calibration import Null, oni, q_values
from memorization_index.errors import MemorizationIndexError
from memorization_index.features import LayerFeatures, check_same_layers, checked_features, checked_groups
from memorization_index.neighbors import Index
from memorization_index.nulls import fold_labels, hashed
from memorization_index.paper import SPLIT_SEED, THRESHOLD, PaperProtocol
from memorization_index.retrieval import Retriever, concatenated, joined_null
from memorization_index.whitening import Moments, Whitening, merged

Columns = dict[str, NDArray[Any]]

#: Training rows that make up the null, at most (spread over subjects).
_NULL_ROWS = 2000


class MemorizationDetector:
    """Copy evidence from precomputed features ``{layer: (n, D)}``.

    Example::

        >>> import numpy as np
        >>> train = {"a": np.random.default_rng(0).normal(size=(300, 16))}
        >>> detector = MemorizationDetector().fit(train, groups=np.arange(300) // 10)
        >>> scores = detector.score_samples({"a": train["a"][:2]})
        >>> scores["match"].tolist(), bool(scores["p_value"].max() < 0.01)
        ([0, 1], True)

    Parameters
    ----------
    protocol
        ``mi-v1`` (whitening with a shrunk covariance, a null cross-fitted by subject), or ``paper-v1``
        (the published equations: :class:`~memorization_index.paper.PaperProtocol`, which is ``paper_`` once fitted).
    null_splits, null, threshold
        Of ``paper-v1`` alone; see there.
    seed
        ``mi-v1``: decides the folds and which training rows make up the null (default 0). ``paper-v1``: draws the
        splits (default 1234, the published ones).
    """

    def __init__(
        self,
        protocol: str = "mi-v1",
        null_splits: Sequence[tuple[Any, Any]] | None = None,
        null: Literal["global", "refitB"] = "global",
        threshold: float = THRESHOLD,
        *,
        seed: int | None = None,
    ) -> None:
        if protocol not in {"mi-v1", "paper-v1"}:
            raise MemorizationIndexError(f"protocol={protocol!r}: is not known; expected 'mi-v1' or 'paper-v1'.")
        if protocol == "mi-v1" and (null_splits is not None or null != "global" or threshold != THRESHOLD):
            raise MemorizationIndexError(
                "null_splits, null and threshold: are settings of protocol='paper-v1'; leave them out with 'mi-v1'."
            )
        self.protocol, self.null_splits, self.null, self.threshold = protocol, null_splits, null, threshold
        self.seed = (0 if protocol == "mi-v1" else SPLIT_SEED) if seed is None else seed

    def fit(self, features: LayerFeatures, groups: Sequence[Any] | NDArray[Any] | None = None) -> MemorizationDetector:
        """Fit on training features; ``groups`` ``(n,)`` names the subject of each row (else each row is its own).

        Raises :class:`MemorizationIndexError` where shapes disagree or values are not finite.
        """
        if self.protocol == "paper-v1":
            self.paper_ = PaperProtocol(self.null_splits, self.null, self.seed, self.threshold).fit(features, groups)
            self.layers_, self.groups_ = self.paper_.layers_, self.paper_.groups_
            return self
        arrays = checked_features(features, np.float32)
        subjects = checked_groups(groups, len(next(iter(arrays.values()))))
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

    def score_samples(self, features: LayerFeatures) -> Columns:
        """Score samples; returns columns ``(m,)``.

        ``similarity``, ``mi``, ``oni``, ``p_value``, ``q_value``, ``match`` (training row), ``match_group``,
        ``layer_agreement`` (layers that name that row), and ``similarity_<layer>`` for each layer. With fewer than 5
        groups ``mi``, ``oni``, ``p_value`` and ``q_value`` are NaN. With ``paper-v1`` the columns are those of
        :meth:`~memorization_index.paper.PaperProtocol.score_samples`.
        """
        if not hasattr(self, "layers_"):
            raise MemorizationIndexError("MemorizationDetector: is not fitted; call fit with training features first.")
        if self.protocol == "paper-v1":
            return self.paper_.score_samples(features)
        arrays = checked_features(features, np.float32)
        check_same_layers(arrays, {layer: self._retriever.whitenings[layer].mean.size for layer in self.layers_})
        found = self._retriever.search(_as_views(arrays))
        null = self.null_
        unknown = np.full(len(found.similarity), np.nan)
        mi = null.mi(found.similarity, np.full(len(unknown), 0.5)) if null.is_calibrated else unknown
        p = null.slice_p(mi) if null.is_calibrated else unknown
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
        found, self._retriever.scale = joined_null(nearest, labels[rows])
        return Null(
            found.similarity, labels[rows].astype(np.int64), labels[rows].astype(np.int64), np.full(len(rows), 0.5)
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
