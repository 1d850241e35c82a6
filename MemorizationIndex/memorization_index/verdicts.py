"""Class of match of a slice, flags, and the verdict on a volume (METHOD §3.6–3.7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from memorization_index.verification import CERTAIN_NCC, Pair

#: Slices are flagged from this p-value on, whatever their class.
FLAG_P = 0.01
#: A volume with this p-value and altered copies is a copy; with this p-value alone it is suspicious.
VOLUME_P = 0.05
#: How many standard deviations (of Fisher's z) above the null's NCC an altered copy must lie.
_ALTERED_DEVIATIONS = 4.0
#: Bounds of that threshold, and its value where there is no null.
_ALTERED_BOUNDS, _ALTERED_DEFAULT = (0.60, 0.95), 0.90
#: The copy threshold never lies above this.
_COPY_AT_MOST = 0.995


class MatchClass(StrEnum):
    """How a query slice matches its training slice."""

    EXACT = "exact"
    COPY = "copy"
    ALTERED = "altered copy"
    SAME_ANATOMY = "same anatomy"
    NOVEL = "novel"
    UNVERIFIED = ""


class Verdict(StrEnum):
    """What is said of a volume."""

    COPY = "copy"
    SUSPICIOUS = "suspicious"
    NO_EVIDENCE = "no evidence"
    UNCALIBRATED = "uncalibrated"


@dataclass(frozen=True)
class Thresholds:
    """NCC from which on a match is a copy, and an altered copy, with where each comes from."""

    copy_ncc: float = CERTAIN_NCC
    copy_source: str = "default"
    altered_ncc: float = _ALTERED_DEFAULT
    altered_source: str = "default"

    @classmethod
    def from_null(cls, ncc: NDArray[np.float64]) -> Thresholds:
        """Take thresholds from the NCC ``(k,)`` of the null's matches between different subjects.

        Altered copy: mean plus four standard deviations of Fisher's z = artanh(NCC), which is close to normal. Copy:
        the default, or that where it lies higher.
        """
        if len(ncc) < 50:
            return cls()
        z = np.arctanh(np.clip(ncc, -0.999, 0.999))
        beyond_null = float(np.tanh(z.mean() + _ALTERED_DEVIATIONS * z.std()))
        low, high = _ALTERED_BOUNDS
        source = f"null of {len(ncc)} matches"
        # Smooth anatomy agrees by chance: there the copy threshold rises too.
        copy = min(max(CERTAIN_NCC, beyond_null), _COPY_AT_MOST)
        return cls(copy, source if copy > CERTAIN_NCC else "default", min(max(beyond_null, low), high), source)


def classify(pair: Pair | None, thresholds: Thresholds) -> MatchClass:
    """The class of one verified match; empty where the training image could not be had."""
    if pair is None:
        return MatchClass.UNVERIFIED
    if pair.match.is_exact:
        return MatchClass.EXACT
    if pair.match.ncc >= thresholds.copy_ncc:
        return MatchClass.COPY
    return MatchClass.ALTERED if pair.match.ncc >= thresholds.altered_ncc else MatchClass.NOVEL


def is_flagged(match_class: MatchClass, p: float) -> bool:
    """Whether a slice is flagged: a copy of any kind, or p ≤ .01 (NaN p: by class alone)."""
    return match_class in (MatchClass.EXACT, MatchClass.COPY, MatchClass.ALTERED) or p <= FLAG_P


def verdict(classes: Sequence[MatchClass], volume_p: float, calibrated: bool) -> Verdict:
    """The verdict on a volume from its slices' classes and its own p-value (NaN where uncalibrated)."""
    if MatchClass.EXACT in classes or MatchClass.COPY in classes:
        return Verdict.COPY
    altered = MatchClass.ALTERED in classes
    if volume_p <= VOLUME_P:
        return Verdict.COPY if altered else Verdict.SUSPICIOUS
    if altered:
        return Verdict.SUSPICIOUS
    verified = any(c is not MatchClass.UNVERIFIED for c in classes)
    return Verdict.NO_EVIDENCE if calibrated and verified else Verdict.UNCALIBRATED
