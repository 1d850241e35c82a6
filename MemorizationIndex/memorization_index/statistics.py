"""Statistics of a benchmark whose observations come in groups: slices of one person are not independent.

Intervals are 95 % bootstrap intervals that draw whole subjects (Efron & Tibshirani 1993, section 8.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]

_ROUNDS = 500
_QUANTILES = (0.025, 0.975)


def auc(positive: Floats, negative: Floats) -> float:
    """Area under the ROC curve: how often a positive lies above a negative (ties count half); NaN without either."""
    from scipy.stats import rankdata  # which takes longer to import than all else that build needs

    if len(positive) == 0 or len(negative) == 0:
        return float("nan")
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / len(positive) / len(negative))


def detection_rate(positive: Floats, negative: Floats, false_alarms: float = 0.01) -> float:
    """Share of positives above the threshold that at most ``false_alarms`` of the negatives exceed; NaN without any."""
    if len(positive) == 0 or len(negative) == 0:
        return float("nan")
    allowed = int(np.floor(false_alarms * len(negative) + 1e-9))
    threshold = np.sort(negative)[::-1][allowed]
    return float((positive > threshold).mean())


def roc(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """False-alarm and detection rates of every threshold, from (0, 0) to (1, 1)."""
    thresholds = np.concatenate([[np.inf], np.unique(np.concatenate([positive, negative]))[::-1]])
    rates = [1 - np.searchsorted(np.sort(x), thresholds, side="left") / len(x) for x in (negative, positive)]
    return rates[0], rates[1]


def subject_interval(
    values: NDArray[np.bool_] | Floats, subjects: NDArray[np.object_], seed: int = 0, rounds: int = 1000
) -> Interval:
    """Interval of a mean (values of one subject stay together). ``values`` and ``subjects`` are ``(n,)``."""
    names, labels = np.unique(subjects.astype(str), return_inverse=True)
    sums = np.bincount(labels, weights=np.asarray(values, float))
    counts = np.bincount(labels)
    drawn = np.random.default_rng(seed).integers(len(names), size=(rounds, len(names)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), _QUANTILES)
    return float(low), float(high)


@dataclass(frozen=True)
class _Grouped:
    """Sorted values ``(n,)``, the subject of each, and how often each subject was drawn ``(rounds, subjects)``."""

    values: Floats
    labels: NDArray[np.int64]
    drawn: NDArray[np.int64]

    @classmethod
    def of(cls, values: Floats, subjects: NDArray[Any], rng: np.random.Generator) -> _Grouped:
        names, labels = np.unique(subjects.astype(str), return_inverse=True)
        order = np.argsort(values, kind="stable")
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=_ROUNDS)
        return cls(values[order], labels[order].astype(np.int64), drawn.astype(np.int64))

    @property
    def weights(self) -> NDArray[np.int64]:
        """How often each value was drawn ``(rounds, n)``."""
        return self.drawn[:, self.labels]


def detection_intervals(
    positive: Floats, positive_subjects: NDArray[Any], negative: Floats, negative_subjects: NDArray[Any], seed: int = 0
) -> tuple[Interval, Interval]:
    """Intervals of :func:`auc` and :func:`detection_rate` at 1 %; subjects of both sides are drawn. NaN without any."""
    if len(positive) == 0 or len(negative) == 0:
        return (np.nan, np.nan), (np.nan, np.nan)
    rng = np.random.default_rng(seed)
    ours, theirs = _Grouped.of(positive, positive_subjects, rng), _Grouped.of(negative, negative_subjects, rng)
    areas, rates = _bootstrap_auc(ours, theirs), _bootstrap_rate(ours, theirs)
    (low, high), (least, most) = np.quantile(areas, _QUANTILES), np.quantile(rates, _QUANTILES)
    return (float(low), float(high)), (float(least), float(most))


def _bootstrap_auc(ours: _Grouped, theirs: _Grouped) -> Floats:
    """AUC of each round from the wins of every subject over every other: ``wins`` ``(positive, negative subjects)``."""
    wins = np.zeros((ours.drawn.shape[1], theirs.drawn.shape[1]))
    for subject in range(theirs.drawn.shape[1]):
        own = theirs.values[theirs.labels == subject]
        below = [np.searchsorted(own, ours.values, side=side) for side in ("left", "right")]
        wins[:, subject] = np.bincount(ours.labels, weights=(below[0] + below[1]) / 2, minlength=len(wins))
    counts = [np.bincount(side.labels, minlength=side.drawn.shape[1]) for side in (ours, theirs)]
    pairs = (ours.drawn @ counts[0]) * (theirs.drawn @ counts[1])
    result: Floats = ((ours.drawn @ wins) * theirs.drawn).sum(axis=1) / pairs
    return result


def _bootstrap_rate(ours: _Grouped, theirs: _Grouped) -> Floats:
    """Detection rate at 1 % false alarms of each round."""
    from_top = theirs.weights[:, ::-1].cumsum(axis=1)
    allowed = np.floor(0.01 * from_top[:, -1:] + 1e-9)
    threshold = theirs.values[::-1][(from_top > allowed).argmax(axis=1)]
    first = np.searchsorted(ours.values, threshold, side="right")
    below = np.pad(ours.weights.cumsum(axis=1), ((0, 0), (1, 0)))
    rows = np.arange(len(first))
    result: Floats = 1 - below[rows, first] / below[:, -1]
    return result
