"""Query features → one similarity for every slice and its candidate training slices (METHOD §3.3–3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memorization_index.neighbors import Index, Nearest
from memorization_index.whitening import Whitening

#: How many candidates each channel names.
CANDIDATES = 3
_EPSILON = 1e-6  # the paper's Eq. 4


@dataclass(frozen=True)
class Retrieved:
    """What retrieval says of ``n`` slices.

    ``similarity`` ``(n,)`` in [0, 1]; ``by_channel`` its parts; ``rows`` and ``views`` ``(n, k)`` the candidates, those
    of the most similar channel first (−1 where there are fewer); ``agreement`` ``(n,)`` the number of channels whose
    nearest slice is the first candidate.
    """

    similarity: NDArray[np.float64]
    by_channel: dict[str, NDArray[np.float32]]
    rows: NDArray[np.int64]
    views: NDArray[np.int64]
    agreement: NDArray[np.int64]


class Retriever:
    """Whitening and index of every channel."""

    def __init__(self, whitenings: Mapping[str, Whitening], banks: Mapping[str, Index]) -> None:
        self.whitenings, self.banks = whitenings, banks

    def search(
        self, features: Mapping[str, NDArray[np.floating]], excluded: NDArray[np.bool_] | None = None
    ) -> Retrieved:
        """Search features ``{channel: (n, views, D)}``; training rows where ``excluded`` is true are left out."""
        found = {
            channel: self.banks[channel].search(self.whitenings[channel](values), CANDIDATES, excluded)
            for channel, values in features.items()
        }
        by_channel = {channel: np.clip(nearest.similarity[:, 0], 0, 1) for channel, nearest in found.items()}
        similarity = aggregated(list(by_channel.values()))
        rows, views = _candidates(found)
        agreement = np.sum([nearest.row[:, 0] == rows[:, 0] for nearest in found.values()], axis=0)
        return Retrieved(similarity, by_channel, rows, views, agreement.astype(np.int64))


def aggregated(similarities: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Geometric mean over channels (Eq. 4), clipped to [0, 1]."""
    logs = [np.log(np.clip(s, 0, 1).astype(np.float64) + _EPSILON) for s in similarities]
    mean: NDArray[np.float64] = np.clip(np.exp(np.mean(logs, axis=0)), 0, 1)
    return mean


def _candidates(found: dict[str, Nearest]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Union of the channels' candidates, the most similar first, each row once."""
    similarity = np.concatenate([nearest.similarity for nearest in found.values()], axis=1)
    rows = np.concatenate([nearest.row for nearest in found.values()], axis=1)
    views = np.concatenate([nearest.view for nearest in found.values()], axis=1)
    order = np.argsort(-similarity, axis=1, kind="stable")
    rows, views = np.take_along_axis(rows, order, 1), np.take_along_axis(views, order, 1)
    for i in range(1, rows.shape[1]):
        rows[(rows[:, :i] == rows[:, i : i + 1]).any(axis=1), i] = -1
    return rows, views
