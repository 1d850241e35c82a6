"""Which share of a set are copies, with an interval (see :func:`copied_fraction`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.verdicts import COPIED, FLAG_P

#: Of fewer volumes the interval says nothing.
FEWEST_VOLUMES = 10
_ROUNDS = 2000


@dataclass(frozen=True)
class Fraction:
    """An estimated share in [0, 1], its 95 % interval, and how many independent units (volumes) it rests on."""

    value: float
    low: float
    high: float
    units: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def copied_fraction(p: NDArray[np.float64], match_class: NDArray[Any], units: NDArray[Any], seed: int = 0) -> Fraction:
    """Estimate the share of slices that are copies, from their p-values ``(n,)`` and classes ``(n,)``.

    A slice counts where its match was verified as a copy or p ≤ .01. Of slices that are no copies, α = .01 have p ≤ .01
    by chance; with π the share of copies, all of them counted, the expected count is π + (1 − π)·α, so
    π = (F − α)/(1 − α) for the counted share F, never less than the verified share (Rogan & Gladen 1978 with
    sensitivity 1). Copies that are not found are not made up for: the estimate is a lower one. Without calibration (p
    is NaN) it is the verified share.

    The interval draws whole ``units`` ``(n,)`` (volumes, or subjects where they are known). Where all units agree
    wholly, which a bootstrap calls certain, the other end is what one dissenting unit in n could hide: 1 − .025^(1/n).
    """
    verified = np.isin(np.asarray(match_class).astype(str), COPIED)
    known = bool(np.isfinite(p).all())
    counted = verified | (p <= FLAG_P)
    names, labels = np.unique(np.asarray(units).astype(str), return_inverse=True)
    sums = np.stack([np.bincount(labels, weights=x.astype(float)) for x in (counted, verified)])
    counts = np.bincount(labels).astype(float)
    drawn = np.random.default_rng(seed).integers(len(names), size=(_ROUNDS, len(names)))
    shares = sums[:, drawn].sum(axis=2) / counts[drawn].sum(axis=1)
    low, high = np.quantile(_estimate(shares[0], shares[1], known), [0.025, 0.975])
    value = float(_estimate(counted.mean(), verified.mean(), known))
    hidden = 1 - 0.025 ** (1 / len(names))
    if not counted.any():
        high = hidden
    if counted.all():
        low = 1 - hidden
    return Fraction(value, float(min(low, value)), float(max(high, value)), len(names))


def estimate(counted: Any, verified: Any) -> Any:
    """The share of copies from the shares that count (verified, or p ≤ .01) and that are verified."""
    return np.maximum(verified, np.clip((counted - FLAG_P) / (1 - FLAG_P), 0, 1))


def _estimate(counted: Any, verified: Any, calibrated: bool) -> Any:
    return estimate(counted, verified) if calibrated else verified
