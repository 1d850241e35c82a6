"""From similarities to MI, ONI, p- and q-values, for slices and for volumes (METHOD §3.5, 3.7–3.9)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

#: With fewer subjects nothing is calibrated: MI, ONI, p and q stay empty (METHOD §3.9).
MINIMUM_SUBJECTS = 5
#: How far in relative position a null value counts (standard deviation of a Gaussian weight), and as how many values
#: near by the whole null counts.
_REACH, _WHOLE = 0.05, 10.0
#: Relative positions at which the null's mean and deviation are known: every hundredth.
_PLACES = 101
_VARIANCE_FLOOR = 1e-8  # the paper's Eq. 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Null:
    """Similarities of training slices to *other* subjects, whitening fitted without their own subjects' fold.

    ``similarity`` ``(n,)``; ``subject`` and ``volume`` ``(n,)`` integer labels; ``position`` ``(n,)`` the relative
    position in [0, 1] of the training slice that was matched; ``step``: every how many-th slice of its volumes is here.
    """

    similarity: Floats
    subject: NDArray[np.int64]
    volume: NDArray[np.int64]
    position: Floats
    step: int = 1

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
        """Mean of the whole null, each subject weighing the same."""
        return float(self._weights @ self.similarity)

    @property
    def deviation(self) -> float:
        """Standard deviation of the whole null, each subject weighing the same."""
        return float(np.sqrt(self._weights @ np.square(self.similarity - self.mean) + _VARIANCE_FLOOR))

    @property
    def _weights(self) -> Floats:
        _, labels, counts = np.unique(self.subject, return_inverse=True, return_counts=True)
        return 1.0 / (counts[labels] * len(counts))

    @property
    def smallest_slice_p(self) -> float:
        """The smallest p-value that a slice can get from this null."""
        return 1 / (len(self.similarity) + 1)

    @property
    def smallest_volume_p(self) -> float:
        """The smallest p-value that a volume can get: one above the number of subjects, inverted."""
        return 1 / (self.subjects + 1)

    @property
    def smallest_deviation(self) -> float:
        """The smallest σ that a slice is compared with."""
        return float(self._local[1].min())

    @cached_property
    def _sums(self) -> Floats:
        """What each null value adds to moments around each place: count, similarity, its square ``(3, places, n)``."""
        near = np.exp(-0.5 * np.square((np.linspace(0, 1, _PLACES)[:, None] - self.position) / _REACH))
        near *= self._weights * len(self.similarity)
        centered = self.similarity - self.mean
        return np.stack([near, near * centered, near * np.square(centered)])

    def _around(self, sums: Floats) -> tuple[Floats, Floats]:
        """μ and σ at each place from sums ``(3, places)``; the whole null counts a little, lest few decide."""
        count, first, second = sums
        shift = first / (count + _WHOLE)
        variance = (second + _WHOLE * self.deviation**2) / (count + _WHOLE) - shift**2
        return self.mean + shift, np.sqrt(np.maximum(variance, _VARIANCE_FLOOR))

    @cached_property
    def _local(self) -> tuple[Floats, Floats]:
        """μ and σ of the paper's Eq. 5 where a matched slice lies, at every hundredth of the way through the volume.

        Slices near the end of a head hold little, and strangers look alike there. Null values count by how near they
        are, each subject as much as another.
        """
        if not self._is_local:
            return np.full(_PLACES, self.mean), np.full(_PLACES, self.deviation)
        return self._around(self._sums.sum(axis=2))

    @property
    def _is_local(self) -> bool:
        return bool(np.ptp(self.position) > 0)

    @cached_property
    def null_mi(self) -> Floats:
        """MI of the null's own values ``(n,)``, μ and σ without their own subject where they are local.

        Otherwise a subject would pull them to itself, and new people would look more unusual than they are.
        """
        if not self._is_local:
            return self.mi(self.similarity, self.position)
        result, all_of_them, place = np.empty(len(self.similarity)), self._sums.sum(axis=2), _places(self.position)
        for subject in np.unique(self.subject):
            own = self.subject == subject
            mean, deviation = self._around(all_of_them - self._sums[..., own].sum(axis=2))
            result[own] = (self.similarity[own] - mean[place[own]]) / deviation[place[own]]
        return result

    def mi(self, similarity: Floats, position: Floats) -> Floats:
        """MI = (s − μ)/σ (Eq. 6) of slices ``(m,)`` whose matches lie at these relative positions."""
        mean, deviation = (values[_places(position)] for values in self._local)
        result: Floats = (np.asarray(similarity) - mean) / deviation
        return result

    def slice_p(self, mi: Floats) -> Floats:
        """p = (1 + #{null ≥ MI}) / (n + 1) of slices with these MI ``(m,)``."""
        return _upper_p(self.null_mi, mi)

    @cached_property
    def _volumes(self) -> list[tuple[Floats, float]]:
        """The MI of each volume in ascending order, and what the volume weighs: each subject as much as another."""
        found = []
        subjects = np.unique(self.subject)
        for subject in subjects:
            own = self.subject == subject
            volumes = np.unique(self.volume[own])
            share = 1 / (len(volumes) * len(subjects))
            found += [(np.sort(self.null_mi[own & (self.volume == volume)]), share) for volume in volumes]
        return found

    @cached_property
    def _rise(self) -> float:
        """How much higher the largest MI of a volume is than that of a random half of its slices, on average."""
        rises = [(v[-1] - v @ _maximum_weights(len(v), len(v) // 2), w) for v, w in self._volumes if len(v) > 1]
        values, weights = np.array(rises).reshape(-1, 2).T
        return float(values @ weights / max(weights.sum(), 1e-12))

    def volume_maxima(self, slices: int) -> tuple[Floats, Floats]:
        """The null of a volume's largest MI of ``slices`` slices: values ``(k,)`` and their probabilities (sum 1).

        Each null volume is a person left out. The maximum over a random subset of its slices has a known
        distribution — the j-th smallest of m is the maximum of n drawn ones with probability C(j−1, n−1) / C(m, n) —
        which is used instead of drawing. Volumes with fewer slices than the query contribute their plain maximum.

        Of deep volumes every ``step``-th slice is known. A maximum of more slices than those is taken to be higher by
        ``_rise`` for each doubling, which is at least what it would be: slices between others resemble these.
        """
        values, weights = [], []
        for ordered, share in self._volumes:
            known = len(ordered)
            doublings = np.log2(max(min(slices, known * self.step) / known, 1))
            values.append(ordered + self._rise * doublings if doublings else ordered)
            weights.append(_maximum_weights(known, slices) * share)
        return np.concatenate(values), np.concatenate(weights)

    def volume_numbers(self, maximum: float, slices: int) -> VolumeNumbers:
        """MI and p of a volume whose ``slices`` slices reach the MI ``maximum`` (METHOD §3.8)."""
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


def _places(position: Floats) -> NDArray[np.int64]:
    result: NDArray[np.int64] = np.round(np.asarray(position) * (_PLACES - 1)).astype(np.int64)
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
