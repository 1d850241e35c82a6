"""Query features → one similarity for every slice and its candidate training slices (METHOD §3.3–3.4)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memorization_index import layout, spectral
from memorization_index.channels import LAYOUT, SPECTRAL, Describer
from memorization_index.clustered import ClusteredIndex
from memorization_index.combining import CommonScale
from memorization_index.matching import Item, in_order
from memorization_index.neighbors import ALL_VIEWS, Index, Nearest, Probing
from memorization_index.slices import SliceStack
from memorization_index.whitening import Whitening

#: Which training rows ``(N,)`` are left out of a search, if any.
Excluded = NDArray[np.bool_] | None

#: So many slices or a part more are searched together.
SLICES_TOGETHER = 64
#: How many candidates each channel names.
CANDIDATES = 3
#: Parts of the null's subjects that are joined on the scale of the others.
_FOLDS = 10
#: Channel of the similarity in parts, which has no features of its own: it looks again at ``layout``'s best candidates.
PART = "layout.part"
PART_CANDIDATES = 200


@dataclass(frozen=True)
class Retrieved:
    """What retrieval says of ``n`` slices.

    ``similarity`` ``(n,)`` in [0, 1]; ``rows`` and ``views`` ``(n, k)`` the candidates, the strongest first (−1 where
    there are fewer); ``agreement`` ``(n,)`` the number of channels whose nearest slice is the first candidate;
    ``channel`` ``(n,)`` the name of the one whose evidence is strongest; ``nearest`` what each channel found.
    """

    similarity: NDArray[np.float64]
    rows: NDArray[np.int64]
    views: NDArray[np.int64]
    agreement: NDArray[np.int64]
    channel: NDArray[np.object_]
    nearest: dict[str, Nearest]

    def of(self, i: slice) -> Retrieved:
        """The same of some of the slices."""
        nearest = {c: Nearest(n.similarity[i], n.row[i], n.view[i]) for c, n in self.nearest.items()}
        columns = self.similarity[i], self.rows[i], self.views[i], self.agreement[i], self.channel[i]
        return Retrieved(*columns, nearest)

    @property
    def by_channel(self) -> dict[str, NDArray[np.float32]]:
        """Similarity ``(n,)`` of each channel, in [0, 1]."""
        return {channel: np.clip(nearest.similarity[:, 0], 0, 1) for channel, nearest in self.nearest.items()}


class Retriever:
    """Whitening and index of every channel, and the common scale of their similarities."""

    def __init__(
        self,
        whitenings: Mapping[str, Whitening],
        banks: Mapping[str, Index | ClusteredIndex],
        scale: CommonScale | None = None,
    ) -> None:
        self.whitenings, self.banks = whitenings, banks
        self.scale = scale or CommonScale()

    def search(self, features: Mapping[str, NDArray[np.floating]], excluded: Excluded = None) -> Retrieved:
        """Search features ``{channel: (n, views, D)}``; training rows where ``excluded`` is true are left out."""
        found = {c: self.banks[c].search(self.whitenings[c](f), CANDIDATES, excluded) for c, f in features.items()}
        return joined(found, self.scale)

    def examine(self, describer: Describer, stacks: Sequence[SliceStack], excluded: Excluded = None) -> list[Retrieved]:
        """Search slices of several stacks together: what it costs to look into a cell is shared.

        Channels with all views come first, then the others under views that those lead to.
        """
        ends = np.cumsum([0, *(len(stack.images) for stack in stacks)]).tolist()
        parts = [slice(*of_stack) for of_stack in itertools.pairwise(ends)]
        described = [describer.describe_views(stack) for stack in stacks]
        found = {}
        for channel in described[0]:
            whitened = self.whitenings[channel](np.concatenate([features[channel] for features in described]))
            found[channel] = self.banks[channel].search(whitened, CANDIDATES, excluded, probing=probing_of(channel))
        leading = next(iter(found.values()))
        chosen = [describer.describe_chosen(stack, leading.view[i]) for stack, i in zip(stacks, parts, strict=True)]
        for channel in chosen[0]:
            whitened = self.whitenings[channel](np.concatenate([of_stack[channel][0] for of_stack in chosen]))
            views = np.concatenate([of_stack[channel][1] for of_stack in chosen])
            parted = channel == LAYOUT
            count, measure = (PART_CANDIDATES, layout.part_similarity) if parted else (CANDIDATES, None)
            probing = probing_of(channel)
            nearest = self.banks[channel].search(whitened, count, excluded, measure, leading.row, probing)
            if parted:
                found[PART] = _seen_under(views, _by_parts(nearest))
            found[channel] = _seen_under(views, nearest.first(CANDIDATES))
        together = joined(found, self.scale)
        return [together.of(i) for i in parts]

    def grouped(self, parts: Iterable[tuple[Item, SliceStack]]) -> Iterator[list[tuple[Item, SliceStack]]]:
        """Parts in order, each under its label; small ones together where a large training set is searched."""
        least = SLICES_TOGETHER if any(isinstance(bank, ClusteredIndex) for bank in self.banks.values()) else 1
        group: list[tuple[Item, SliceStack]] = []
        for label, part in parts:
            group.append((label, part))
            if sum(len(one.images) for _, one in group) >= least:
                yield group
                group = []
        if group:
            yield group

    def examine_each(
        self, describer: Describer, parts: Iterable[tuple[Item, SliceStack]]
    ) -> Iterator[tuple[Item, SliceStack, Retrieved]]:
        """Search parts of what comes, each under its label, in order and on all cores."""

        def examined(group: list[tuple[Item, SliceStack]]) -> list[Retrieved]:
            return self.examine(describer, [part for _, part in group])

        for group, found in in_order(examined, self.grouped(parts)):
            for (label, part), one in zip(group, found, strict=True):
                yield label, part, one


def probing_of(channel: str) -> Probing:
    """How a channel's views look into cells: an eighth was measured to be enough for ``spectral`` and ``layout``."""
    if channel == SPECTRAL:
        return Probing(1 / 8, spectral.between_views())
    return Probing(1 / 8) if channel == LAYOUT else ALL_VIEWS


def _by_parts(nearest: Nearest) -> Nearest:
    """The candidates whose parts agree best, each under the view that it was found under."""
    similarity = nearest.measured
    assert similarity is not None
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :CANDIDATES]
    rows, views = np.take_along_axis(nearest.row, order, 1), np.take_along_axis(nearest.view, order, 1)
    return Nearest(np.take_along_axis(similarity, order, 1), rows, views)


def _seen_under(views: NDArray[np.int64], nearest: Nearest) -> Nearest:
    """Replace places among a slice's chosen views ``(n, k)`` by the numbers of those views."""
    return Nearest(nearest.similarity, nearest.row, np.take_along_axis(views, nearest.view, axis=1))


def joined(found: dict[str, Nearest], scale: CommonScale) -> Retrieved:
    """One similarity for every slice from what its channels found, and their candidates, the strongest first."""
    scaled = {c: Nearest(scale(c, n.similarity), n.row, n.view) for c, n in found.items()}
    strongest = np.stack([nearest.similarity[:, 0] for nearest in scaled.values()])
    # Of channels that are equal but for rounding (an exact copy is 1 in all) the first is named, on every machine.
    channel = np.array(list(found), object)[strongest.round(5).argmax(axis=0)]
    rows, views = _candidates(scaled)
    agreement = np.sum([nearest.row[:, 0] == rows[:, 0] for nearest in found.values()], axis=0)
    similarity = np.clip(strongest.max(axis=0), 0, 1).astype(np.float64)
    return Retrieved(similarity, rows, views, agreement, channel, found)


def joined_null(found: dict[str, Nearest], subjects: NDArray[np.int64]) -> tuple[Retrieved, CommonScale]:
    """The null's slices joined, and the scale that queries are to be joined on.

    Each tenth of the subjects ``(n,)`` is joined on the scale of the others. On a scale that it had a part in, a slice
    looks more usual than a query does: with 7 channels p ≤ .01 would come out for 1.24 % of strangers, not for 1.06 %.
    """
    scale = CommonScale.fit(_first(found))
    fold = np.unique(subjects, return_inverse=True)[1] % _FOLDS
    folds = np.unique(fold)
    if len(folds) < 2:
        return joined(found, scale), scale
    parts = [joined(_taken(found, fold == f), CommonScale.fit(_first(_taken(found, fold != f)))) for f in folds]
    back = np.argsort(np.argsort(fold, kind="stable"), kind="stable")
    names = ("similarity", "rows", "views", "agreement", "channel")
    columns = {name: np.concatenate([getattr(part, name) for part in parts])[back] for name in names}
    return Retrieved(**columns, nearest=found), scale


def _first(found: dict[str, Nearest]) -> dict[str, NDArray[np.float32]]:
    return {channel: nearest.similarity[:, 0] for channel, nearest in found.items()}


def _taken(found: dict[str, Nearest], chosen: NDArray[np.bool_]) -> dict[str, Nearest]:
    return {c: Nearest(n.similarity[chosen], n.row[chosen], n.view[chosen]) for c, n in found.items()}


def concatenated(parts: Sequence[Retrieved]) -> dict[str, Nearest]:
    """What the channels found for several parts of a query set, put together."""
    return {
        channel: Nearest(
            np.concatenate([part.nearest[channel].similarity for part in parts]),
            np.concatenate([part.nearest[channel].row for part in parts]),
            np.concatenate([part.nearest[channel].view for part in parts]),
        )
        for channel in parts[0].nearest
    }


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
