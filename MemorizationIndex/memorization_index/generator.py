"""Is the null right for this generator? Generated images are not exchangeable with scans (METHOD §3.10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.calibration import Null
from memorization_index.verdicts import FLAG_P, MatchClass

#: Fewer volumes, or slices, that are no copies than this say nothing about a generator.
FEWEST_VOLUMES, FEWEST_SLICES = 10, 20
#: From this shift of the median on (in the null's standard deviations, toward the training set) p is not calibrated.
LIMIT = 1.0


def bulk(match_class: NDArray[Any], p: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which slices ``(n,)`` say something about a generator's novel images: not those that may be copies.

    What may be a copy that verification does not confirm (p ≤ .01) says nothing about them either.
    """
    return np.isin(np.asarray(match_class).astype(str), (MatchClass.NOVEL, MatchClass.UNVERIFIED)) & ~(p <= FLAG_P)


def compared(null: Null, mi: NDArray[np.float64], volumes: Sequence[str]) -> dict[str, Any]:
    """Compare the bulk of a run, MI ``(n,)`` of slices that are no copies, with the null.

    ``shift``: difference of the medians, above 0 where generated images look more
    like the training set than a new person's scan does; ``spread``: ratio of the interquartile ranges; ``ks`` and
    ``ks_p``: Kolmogorov–Smirnov between the medians of volumes and those of the null's subjects, since slices of one
    volume are not independent. ``p_calibrated`` is false beyond :data:`LIMIT`; None where there is too little to say.
    """
    from scipy.stats import ks_2samp

    names = np.asarray(volumes, object)
    distinct = np.unique(names.astype(str))
    result: dict[str, Any] = {"slices": len(mi), "volumes": len(distinct), "limit": LIMIT, "p_calibrated": None}
    if len(mi) < FEWEST_SLICES or len(distinct) < FEWEST_VOLUMES:
        return result
    low, middle, high = np.percentile(mi, (25, 50, 75))
    null_low, null_middle, null_high = np.percentile(null.null_mi, (25, 50, 75))
    shift = float(middle - null_middle)
    medians = [float(np.median(mi[names == name])) for name in distinct]
    null_medians = [float(np.median(null.null_mi[null.subject == s])) for s in np.unique(null.subject)]
    ks = ks_2samp(medians, null_medians)
    return result | {
        "shift": shift,
        "spread": float((high - low) / max(null_high - null_low, 1e-12)),
        "ks": float(ks.statistic),
        "ks_p": float(ks.pvalue),
        "p_calibrated": shift <= LIMIT,
    }
