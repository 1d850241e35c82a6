"""Statistics of a benchmark whose observations come in groups: slices of one person are not independent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]


def auc(positive: Floats, negative: Floats) -> float:
    """Area under the ROC curve: how often a positive lies above a negative (ties count half); NaN without either."""
    if len(positive) == 0 or len(negative) == 0:
        return float("nan")
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / len(positive) / len(negative))


def subject_interval(
    values: NDArray[np.bool_] | Floats, subjects: NDArray[np.object_], seed: int = 0, rounds: int = 1000
) -> tuple[float, float]:
    """95 % bootstrap interval of a mean, drawing whole subjects (values of one subject stay together).

    ``values`` and ``subjects`` are ``(n,)``. Efron & Tibshirani (1993), section 8.4.
    """
    names, labels = np.unique(subjects.astype(str), return_inverse=True)
    sums = np.bincount(labels, weights=np.asarray(values, float))
    counts = np.bincount(labels)
    drawn = np.random.default_rng(seed).integers(len(names), size=(rounds, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
