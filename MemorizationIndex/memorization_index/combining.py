"""How the similarities of several channels become one: the strongest evidence counts, on a common scale.

Channels differ in how similar strangers look to them. Each channel's similarity is therefore mapped, monotonically, so
that its null gets the quantiles of the first channel's null, and the largest is taken: s = max over k of g_k(s_k).

What that costs: where a channel's null exceeds t with probability a, so do the mapped nulls of all K channels, hence
their maximum with at most K·a (Bonferroni's bound; less where channels agree). So whatever one channel alone finds at
p ≤ α/K, the combination finds at p ≤ α, whichever channel it is. Scaling by a single quantile has no such bound: a
channel with a heavy tail drowns the others. The paper's geometric mean (Eq. 4) lets one blind layer hide a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: Null values that stay above the highest knot.
_ABOVE = 1
#: Tail probabilities of neighboring knots differ by this factor, from ½ down.
_STEP = 2**-0.5


@dataclass(frozen=True)
class CommonScale:
    """Maps similarities of each channel to the scale of ``first``; ``knots`` are quantiles of the channels' nulls.

    Between knots the map is linear; −1 and 1 stay, so that an exact copy is one on every scale. Channels without knots
    are left as they are.
    """

    knots: Mapping[str, list[float]] = field(default_factory=dict)
    first: str = ""

    @classmethod
    def fit(cls, null: Mapping[str, NDArray[np.floating]]) -> CommonScale:
        """From the similarities ``(n,)`` of the same null slices in each channel."""
        count = min(map(len, null.values()), default=0)
        tails = []
        tail = 0.5
        while tail * count >= _ABOVE:
            tails.append(tail)
            tail *= _STEP
        levels = 1 - np.array(tails)
        knots = {c: np.quantile(np.asarray(v, float), levels).tolist() for c, v in null.items()}
        return cls(knots, next(iter(null), ""))

    def __call__(self, channel: str, similarity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Similarities in [−1, 1] of one channel on the common scale."""
        if channel == self.first or channel not in self.knots:
            return similarity
        own, common = ([-1.0, *self.knots[c], 1.0] for c in (channel, self.first))
        return np.interp(similarity, own, common).astype(np.float32)
