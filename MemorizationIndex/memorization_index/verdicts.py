"""Class of match of a slice, flags, and the verdict on a volume (METHOD §3.6–3.7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from memorization_index.matching import Match
from memorization_index.verification import CERTAIN_NCC, Pair

#: Slices are flagged from this p-value on, whatever their class.
FLAG_P = 0.01
#: A volume with this p-value and altered copies is a copy; with this p-value alone it is suspicious.
VOLUME_P = 0.05
#: So is one of whose slices this share is flagged and follows one training volume in order.
TRACED = 0.5
#: How many standard deviations (of Fisher's z) above the null's NCC an altered copy must lie.
_ALTERED_DEVIATIONS = 4.0
#: Bounds of that threshold, and its value where there is no null.
_ALTERED_BOUNDS, _ALTERED_DEFAULT = (0.60, 0.95), 0.90
#: The same for the best third of the foreground, which always agrees better than the whole.
_PART_BOUNDS, _PART_DEFAULT = (0.90, 0.995), 0.98
#: Fewer matches than this give no threshold.
_ENOUGH = 50
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


#: Classes that say that a slice was copied.
COPIED = (MatchClass.EXACT, MatchClass.COPY, MatchClass.ALTERED)
#: Classes of slices whose match was aligned and compared in fine detail, and held.
VERIFIED = (*COPIED, MatchClass.SAME_ANATOMY)


class Verdict(StrEnum):
    """What is said of a volume."""

    COPY = "copy"
    SUSPICIOUS = "suspicious"
    NO_EVIDENCE = "no evidence"
    UNCALIBRATED = "uncalibrated"


@dataclass(frozen=True)
class Thresholds:
    """From where on a match is what, with where each threshold comes from.

    ``copy_ncc``, ``altered_ncc``: NCC of copies and of altered copies; ``altered_part``: agreement of the best third
    (``Match.part``) of a partial one; ``rescan_ncc``, ``rescan_in_place``: what a new scan of the same person does not
    exceed (0: unknown, nothing is called *same anatomy*).
    """

    copy_ncc: float = CERTAIN_NCC
    copy_source: str = "default"
    altered_ncc: float = _ALTERED_DEFAULT
    altered_part: float = _PART_DEFAULT
    altered_source: str = "default"
    rescan_ncc: float = 0.0
    rescan_in_place: float = 0.0
    rescan_source: str = "none"

    @classmethod
    def from_null(cls, null: Sequence[Match], rescans: Sequence[Match] = ()) -> Thresholds:
        """Take thresholds from the null's matches between different subjects and from simulated rescans.

        Altered copy: mean plus four standard deviations of Fisher's z = artanh(NCC), which is close to normal. Copy:
        the default, or that where it lies higher. Rescans: the 99th percentile of those that are not in the same place.
        """
        given: dict[str, Any] = {}
        if len(null) >= _ENOUGH:
            beyond = _beyond([m.ncc for m in null])
            # Smooth anatomy agrees by chance: there the copy threshold rises too.
            copy = min(max(CERTAIN_NCC, beyond), _COPY_AT_MOST)
            source = f"null of {len(null)} matches"
            given |= {
                "copy_ncc": copy,
                "copy_source": source if copy > CERTAIN_NCC else "default",
                "altered_ncc": float(np.clip(beyond, *_ALTERED_BOUNDS)),
                "altered_part": float(np.clip(_beyond([m.part for m in null]), *_PART_BOUNDS)),
                "altered_source": source,
            }
        moved = [m for m in rescans if not m.lies_still]
        if len(moved) >= _ENOUGH:
            given |= {
                "rescan_ncc": float(np.quantile([m.ncc for m in moved], 0.99)),
                "rescan_in_place": float(np.quantile([m.in_place for m in moved], 0.99)),
                "rescan_source": f"{len(moved)} simulated rescans",
            }
        return cls(**given)


def _beyond(agreement: Sequence[float]) -> float:
    z = np.arctanh(np.clip(agreement, -0.999, 0.999))
    return float(np.tanh(z.mean() + _ALTERED_DEVIATIONS * z.std()))


def classify(pair: Pair | None, thresholds: Thresholds) -> MatchClass:
    """The class of one verified match; empty where the training image could not be had."""
    if pair is None:
        return MatchClass.UNVERIFIED
    found = pair.match
    if found.is_exact:
        return MatchClass.EXACT
    is_altered = found.ncc >= thresholds.altered_ncc or found.part >= thresholds.altered_part
    if not is_altered:
        return MatchClass.NOVEL
    # A generator's copies have lost their finest structures, as a rescan's are others; but they lie where they lay.
    could_be_rescan = (
        found.ncc <= thresholds.rescan_ncc and found.in_place <= thresholds.rescan_in_place and not found.lies_still
    )
    if could_be_rescan and found.ncc >= thresholds.altered_ncc and found.lies_like_a_rescan:
        return MatchClass.SAME_ANATOMY
    return MatchClass.COPY if found.ncc >= thresholds.copy_ncc else MatchClass.ALTERED


def is_flagged(match_class: MatchClass, p: float) -> bool:
    """Whether a slice is flagged: a copy of any kind, or p ≤ .01 (NaN p: by class alone)."""
    return match_class in COPIED or p <= FLAG_P


def verdict(classes: Sequence[MatchClass], volume_p: float, calibrated: bool, traced: float = 0.0) -> Verdict:
    """The verdict on a volume from its slices' classes and its own p-value (NaN where uncalibrated).

    ``traced``: share of slices in [0, 1] that are flagged and match one training volume in order.
    """
    if MatchClass.EXACT in classes or MatchClass.COPY in classes:
        return Verdict.COPY
    altered, rescan = MatchClass.ALTERED in classes, MatchClass.SAME_ANATOMY in classes
    if volume_p <= VOLUME_P:
        # Partial and bent copies may match too poorly for a class, slice by slice; that they follow one training volume
        # in order is what strangers never do. A new scan of the same person does: its class says so.
        return Verdict.COPY if altered or (traced >= TRACED and not rescan) else Verdict.SUSPICIOUS
    if altered or rescan:
        return Verdict.SUSPICIOUS
    verified = any(c is not MatchClass.UNVERIFIED for c in classes)
    return Verdict.NO_EVIDENCE if calibrated and verified else Verdict.UNCALIBRATED
