"""From similarities to MI, ONI, p- and q-values, for slices and for volumes (METHOD §3.5, 3.7–3.9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

#: With fewer subjects nothing is calibrated: MI, ONI, p and q stay empty (METHOD §3.9).
MINIMUM_SUBJECTS = 5
#: A null conditioned on relative position needs this many values from this many subjects in every bin (METHOD §3.5).
BIN_VALUES, BIN_SUBJECTS, BINS = 200, 10, 5
_VARIANCE_FLOOR = 1e-8  # the paper's Eq. 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Null:
    """Similarities of training slices to *other* subjects, whitening fitted without their own subjects' fold.

    ``similarity`` ``(n,)``; ``subject`` and ``volume`` ``(n,)`` integer labels; ``position`` ``(n,)`` the relative
    position in [0, 1] of the training slice that was matched.
    """

    similarity: Floats
    subject: NDArray[np.int64]
    volume: NDArray[np.int64]
    position: Floats

    @classmethod
    def empty(cls) -> Null:
        """A null without values, of a training set that has no second subject."""
        return cls(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))

    @property
    def subjects(self) -> int:
        """How many subjects contribute."""
        return len(np.unique(self.subject))

    @property
    def is_calibrated(self) -> bool:
        """Whether there are enough subjects for numbers."""
        return self.subjects >= MINIMUM_SUBJECTS

    @property
    def mean(self) -> float:
        """μ of the paper's Eq. 5, each subject weighing the same."""
        return float(self._weights @ self.similarity)

    @property
    def deviation(self) -> float:
        """σ of the paper's Eq. 5, each subject weighing the same."""
        return float(np.sqrt(self._weights @ np.square(self.similarity - self.mean) + _VARIANCE_FLOOR))

    @property
    def _weights(self) -> Floats:
        _, labels, counts = np.unique(self.subject, return_inverse=True, return_counts=True)
        return 1.0 / (counts[labels] * len(counts))

    @property
    def smallest_slice_p(self) -> float:
        """The smallest p-value that a slice can get from this null."""
        edges = self.bins()
        labels = (
            np.zeros(len(self.similarity), int) if edges is None else np.searchsorted(edges, self.position, "right")
        )
        return float(1 / (np.bincount(labels).max() + 1))

    @property
    def smallest_volume_p(self) -> float:
        """The smallest p-value that a volume can get: one above the number of subjects, inverted."""
        return 1 / (self.subjects + 1)

    def bins(self) -> Floats | None:
        """Inner edges of the position bins that p-values are conditioned on, or None where data are too few."""
        if len(self.similarity) < BIN_VALUES * BINS:
            return None
        edges = np.quantile(self.position, np.linspace(0, 1, BINS + 1)[1:-1])
        labels = np.searchsorted(edges, self.position, side="right")
        for label in range(BINS):
            inside = labels == label
            if inside.sum() < BIN_VALUES or len(np.unique(self.subject[inside])) < BIN_SUBJECTS:
                return None
        return edges

    def slice_p(self, similarity: Floats, position: Floats) -> tuple[Floats, NDArray[np.int64]]:
        """p = (1 + #{null ≥ s}) / (n + 1) of slices ``(m,)``, and the n of each.

        Where the null is large enough it is that of matches at the same relative position only: a fifth of all.
        """
        edges = self.bins()
        if edges is None:
            return _upper_p(self.similarity, similarity), np.full(len(similarity), len(self.similarity))
        labels = np.searchsorted(edges, self.position, side="right")
        wanted = np.searchsorted(edges, position, side="right")
        result = np.empty(len(similarity))
        for label in range(BINS):
            result[wanted == label] = _upper_p(self.similarity[labels == label], similarity[wanted == label])
        return result, np.bincount(labels, minlength=BINS)[wanted]

    def mi(self, similarity: Floats) -> Floats:
        """MI = (s − μ)/σ (Eq. 6)."""
        result: Floats = (np.asarray(similarity) - self.mean) / self.deviation
        return result

    def volume_maxima(self, slices: int) -> tuple[Floats, Floats]:
        """The null of a volume's maximum over ``slices`` slices: values ``(k,)`` and their probabilities (sum 1).

        Each null volume is a person left out. The maximum over a random subset of its slices has a known
        distribution — the j-th smallest of m is the maximum of n drawn ones with probability C(j−1, n−1) / C(m, n) —
        which is used instead of drawing. Volumes with fewer slices than the query contribute their plain maximum.
        """
        values, weights = [], []
        subjects = np.unique(self.subject)
        for subject in subjects:
            own = self.subject == subject
            volumes = np.unique(self.volume[own])
            for volume in volumes:
                ordered = np.sort(self.similarity[own & (self.volume == volume)])
                values.append(ordered)
                weights.append(_maximum_weights(len(ordered), slices) / (len(volumes) * len(subjects)))
        return np.concatenate(values), np.concatenate(weights)

    def volume_numbers(self, maximum: float, slices: int) -> VolumeNumbers:
        """MI and p of a volume whose ``slices`` slices reach ``maximum`` (METHOD §3.8)."""
        values, weights = self.volume_maxima(slices)
        mean = float(weights @ values)
        deviation = float(np.sqrt(weights @ np.square(values - mean) + _VARIANCE_FLOOR))
        exceeding = float(weights[values >= maximum].sum()) * self.subjects
        return VolumeNumbers((maximum - mean) / deviation, (1 + exceeding) / (self.subjects + 1), mean, deviation)


@dataclass(frozen=True)
class VolumeNumbers:
    """MI = (maximum − ``null_mean``) / ``null_deviation`` of a volume, its p; the null's maxima are of as many."""

    mi: float = float("nan")
    p: float = float("nan")
    null_mean: float = float("nan")
    null_deviation: float = float("nan")


def oni(mi: Floats) -> Floats:
    """ONI = −tanh(MI), in [−1, 1]: −1 memorized, 0 typical, +1 novel (Eq. 6)."""
    result: Floats = -np.tanh(mi)
    return result


def q_values(p: Floats) -> Floats:
    """Benjamini–Hochberg adjusted p-values ``(m,)``; NaN stays NaN and does not count."""
    result = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    if len(known) == 0:
        return result
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    result[order] = np.minimum(1, np.minimum.accumulate(scaled[::-1])[::-1])
    return result


def _upper_p(null: Floats, values: Floats) -> Floats:
    ordered = np.sort(null)
    above = len(ordered) - np.searchsorted(ordered, values, side="left")
    result: Floats = (1 + above) / (len(ordered) + 1)
    return result


def _maximum_weights(count: int, drawn: int) -> Floats:
    """Probability that each of ``count`` ordered values is the maximum of ``drawn`` of them (without replacement)."""
    drawn = min(drawn, count)
    rank = np.arange(1, count + 1)
    with np.errstate(invalid="ignore"):
        log = gammaln(rank) - gammaln(rank - drawn + 1) - gammaln(drawn)
    log -= gammaln(count + 1) - gammaln(count - drawn + 1) - gammaln(drawn + 1)
    return np.where(rank >= drawn, np.exp(log), 0.0)
