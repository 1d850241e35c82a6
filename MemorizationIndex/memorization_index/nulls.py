"""The null: training slices scored as if their subject were new (METHOD §3.5), exactly as queries are."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from memorization_index import rescans
from memorization_index.calibration import Null
from memorization_index.channels import LAYOUT, Describer
from memorization_index.cohort import Entry
from memorization_index.combining import CommonScale
from memorization_index.encoding import read_slices
from memorization_index.matching import Match, in_order
from memorization_index.power import Planted, PowerCard
from memorization_index.progress import Progress
from memorization_index.reference import Reference, blocks
from memorization_index.retrieval import Retrieved, Retriever, concatenated, joined_null
from memorization_index.roots import Spectrum, is_low_rank
from memorization_index.slices import SliceStack, square_images
from memorization_index.spectral import INPUT_SIZE
from memorization_index.verification import CERTAIN_NCC, Candidates, Pair, TrainingImages, check_voxels, verify
from memorization_index.whitening import Moments, Whitening, merged, spectrum_of

#: Up to so many subjects each is a fold of its own; folds of several would leave a visible part of the bank out …
OWN_FOLD_SUBJECTS = 100
#: … and with more subjects this many folds are made, by hash, so that a reference can grow.
FOLDS = 20
#: Whole volumes join the null until it has this many slices and …
NULL_SLICES = 2000
#: … this many subjects (so that a volume's p can fall below .01), …
NULL_SUBJECTS = 100
#: Slices of the null that are also verified, at most.
VERIFIED_SLICES = 1000
#: Slices whose rescan is simulated, about; and how many rescans there are of fewer, at least.
RESCANS, FEWEST_RESCANS = 200, 100


@dataclass
class NullResult:
    """The null, its verified matches, matches of simulated rescans, duplicate training volumes, the channels' scale."""

    null: Null
    matches: list[Match] = field(default_factory=list)
    rescans: list[Match] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    scale: CommonScale = field(default_factory=CommonScale)


def hashed(text: str, seed: int) -> int:
    """A number that depends on a text and a seed only, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{text}".encode()).digest()[:8], "big")


def fold_labels(subjects: Sequence[str], seed: int) -> NDArray[np.int64]:
    """The fold of each subject given, by hash; with at most 100 distinct subjects each has a fold of its own."""
    distinct = sorted(set(subjects))
    if len(distinct) <= OWN_FOLD_SUBJECTS:
        return np.array([distinct.index(s) for s in subjects], np.int64)
    return np.array([hashed(s, seed) % FOLDS for s in subjects], np.int64)


def chosen_volumes(subjects: Sequence[str], names: Sequence[str], sizes: Sequence[int], seed: int) -> list[int]:
    """Which volumes make up the null: one of each subject, then a second of each, … in an order given by hash."""
    by_subject: dict[str, list[int]] = {}
    for i in sorted(range(len(names)), key=lambda i: hashed(names[i], seed)):
        by_subject.setdefault(subjects[i], []).append(i)
    order = sorted(by_subject, key=lambda s: hashed(s, seed))
    chosen: list[int] = []
    slices = 0
    for turn in range(max(map(len, by_subject.values()))):
        for rank, subject in enumerate(order):
            if slices >= NULL_SLICES and (turn > 0 or rank >= NULL_SUBJECTS):
                return chosen
            if turn < len(by_subject[subject]):
                chosen.append(by_subject[subject][turn])
                slices += sizes[chosen[-1]]
    return chosen


def step_between(slices: int) -> int:
    """Of chosen volumes with so many slices every how many-th is scored, so that the null has enough all the same."""
    return max(1, slices // NULL_SLICES)


class NullBuilder:
    """Scores chosen training volumes against the others, fold by fold."""

    def __init__(self, reference: Reference, describer: Describer, seed: int, progress: Progress) -> None:
        self.reference, self.describer, self.seed, self.progress = reference, describer, seed, progress
        self.volumes, self.slice_volume = reference.volumes, reference.slice_volume
        self.subject = reference.subject_labels
        self.fold = fold_labels([v.subject for v in reference.volumes], seed)
        self._kept: dict[tuple[str, int], Moments] = {}
        self._spectra: dict[str, Spectrum] = {}

    def moments(self) -> dict[str, Moments]:
        """Moments of all features, by channel; merged from those of the folds, so that no order matters."""
        folds = [int(fold) for fold in np.unique(self.fold[self.slice_volume])]
        return {
            c: merged(self._summed(c, fold, len(folds) <= FOLDS) for fold in folds) for c in self.reference.features
        }

    def _summed(self, channel: str, fold: int, keep: bool) -> Moments:
        """Moments of a fold, kept for its whitening where folds are few: in float32, for 20 times D² numbers are many.

        More folds are of one subject each, whose few slices are summed again; so are folds of fewer slices than D,
        whose moments have a low rank that rounding would hide.
        """
        found = self._fold_moments(channel, fold)
        if keep and found.count >= len(found.mean):
            self._kept[channel, fold] = replace(found, second=found.second.astype(np.float32))
        return found

    def _fold_moments(self, channel: str, fold: int) -> Moments:
        if (channel, fold) in self._kept:
            return self._kept.pop((channel, fold))
        rows = (self.fold == fold)[self.slice_volume]
        return merged(Moments.of(block) for block in blocks(self.reference.features[channel], rows))

    def whitening(self, channel: str, moments: Moments, whole: Moments) -> Whitening:
        """Whitening of a channel by moments that are (a part of) those of the whole."""
        shrinkage = self.describer.shrinkage[channel]
        if channel != LAYOUT and not is_low_rank(len(whole.mean), whole.count):
            return Whitening.fit(moments, shrinkage, symmetric=False)
        if channel not in self._spectra:  # that of every fold follows from it
            self._spectra[channel] = spectrum_of(whole)
        return Whitening.fit(moments, shrinkage, self._spectra[channel])

    def build(self, moments: dict[str, Moments], entries: dict[str, Entry], card: PowerCard) -> NullResult:
        """Retrieve, verify and collect; without a second subject the null is empty. Controls are planted on the way."""
        if len(np.unique(self.subject)) < 2:
            return NullResult(Null.empty())
        sizes = np.bincount(self.slice_volume, minlength=len(self.volumes)).tolist()
        chosen = chosen_volumes([v.subject for v in self.volumes], [v.name for v in self.volumes], sizes, self.seed)
        step = step_between(sum(sizes[i] for i in chosen))
        self.progress.begin("building the null", len(chosen), "volumes")
        parts = self._parts(self.work(chosen, step, entries, card), moments, card)
        for part in parts:
            if part.altered is not None and part.controls is not None:
                card.add(Planted(self.volumes[part.volume].subject, part.altered, part.controls))
        return self._collect(sorted(parts, key=lambda part: int(self.fold[part.volume])), step)

    def _parts(self, work: Iterable[FoldWork], moments: dict[str, Moments], card: PowerCard) -> list[NullPart]:
        folds = in_order(lambda of_fold: self.fold_parts(of_fold, moments, card), work)
        return [part for _, found in folds for part in found]

    def work(self, chosen: Sequence[int], step: int, entries: dict[str, Entry], card: PowerCard) -> Iterator[FoldWork]:
        """The chosen volumes by fold, the largest first, so that the cores that share them are done together.

        Who can be planted is seen from the image, until there are enough people.
        """
        planted = 0
        sizes = Counter(int(self.fold[i]) for i in chosen)
        for fold in sorted(sizes, key=lambda fold: (-sizes[fold], fold)):
            of_fold = [(i, entries[self.volumes[i].name]) for i in chosen if self.fold[i] == fold]
            yield FoldWork(fold, of_fold, step, planted)
            for _, entry in of_fold:
                if card.augmentations and planted < card.people:  # else nothing need be read
                    planted += card.wants(read_slices(entry, self.reference.plane)[1], planted)

    def fold_parts(self, work: FoldWork, moments: dict[str, Moments], card: PowerCard) -> list[NullPart]:
        """What is found for the chosen volumes of a fold."""
        self.progress.check()
        whitenings = {
            c: self.whitening(c, whole - self._fold_moments(c, work.fold), whole) for c, whole in moments.items()
        }
        banks = {c: self.reference.bank(c, whitening) for c, whitening in whitenings.items()}
        retriever = Retriever(whitenings, banks)
        # The whole fold is left out of the bank, not only the subject: slices that a whitening was not fitted on look
        # closer to each other than queries do to training slices that it was fitted on.
        own_fold = (self.fold == work.fold)[self.slice_volume]
        parts: list[NullPart] = []
        for group in retriever.grouped(self._stacks(work, card, parts)):
            self.progress.check()
            found = retriever.examine(self.describer, [stack for _, stack in group], own_fold)
            for (take, _), one in zip(group, found, strict=True):
                take(one)
        return parts

    def _stacks(
        self, work: FoldWork, card: PowerCard, parts: list[NullPart]
    ) -> Iterator[tuple[Callable[[Retrieved], None], SliceStack]]:
        """What is searched for a fold's volumes, each with what takes in what is found; ``parts`` get one a volume."""
        planted = work.planted
        for volume, entry in work.chosen:
            read, stack = read_slices(entry, self.reference.plane)
            check_voxels(self.volumes[volume], read.fingerprint, entry.path)
            first = hashed(entry.name, self.seed) % min(work.step, len(stack.images))
            scored = stack.part(slice(first, None, work.step))
            images = square_images(scored, INPUT_SIZE).astype(np.float16)  # first: its parts need the same
            part = NullPart(volume, images, _neighbors(stack, images, first, work.step), max(stack.images[0].shape))
            parts.append(part)
            if card.wants(stack, planted):
                part.altered = card.altered(stack, planted)
                planted += 1
                yield part.take_controls, part.altered
            yield from ((part.found.append, batch) for batch in scored.batches())
            self.progress.advance()

    def _collect(self, parts: list[NullPart], step: int) -> NullResult:
        nearest = concatenated([found for part in parts for found in part.found])
        volume = np.concatenate([np.full(len(p.images), p.volume) for p in parts]).astype(np.int64)
        found, scale = joined_null(nearest, self.subject[volume])
        similarity, rows, views = found.similarity, found.rows, found.views
        checked = self._worth_verifying(similarity)
        starts = np.cumsum([0, *(len(p.images) for p in parts)])
        places = zip(np.searchsorted(starts, checked, "right") - 1, checked, strict=True)
        images = np.stack([parts[p].images[i - starts[p]] for p, i in places])
        pairs = self._verified(images, Candidates(rows[checked], views[checked], self.describer.views()))
        is_duplicate, duplicates = self._duplicates(pairs, checked, volume)
        keep = ~is_duplicate
        null = Null(
            similarity[keep],
            self.subject[volume[keep]],
            volume[keep],
            self.reference.slice_position[rows[keep, 0]],
            step,
        )
        matches = [p.match for p, i in zip(pairs, checked, strict=True) if p is not None and keep[i]]
        return NullResult(null, matches, self._rescans(parts), duplicates, scale)

    def _verified(self, images: NDArray[np.float16], candidates: Candidates) -> list[Pair | None]:
        training = TrainingImages(self.volumes, self.reference.plane, None, self.progress)
        return verify(images, candidates, self.reference, training, self.progress)

    def _rescans(self, parts: list[NullPart]) -> list[Match]:
        """Matches of simulated rescans of an even sample of the null's slices; of few slices several each."""
        places = [(part, i) for part in parts for i in range(len(part.images))]
        chosen = places[:: max(1, len(places) // RESCANS)]
        pairs = []
        for part, i in chosen * -(-FEWEST_RESCANS // len(chosen)):
            neighbor = part.neighbors[i]
            between = None if neighbor is None else neighbor.astype(np.float32)
            pairs.append((part.images[i].astype(np.float32), between, part.side))
        return rescans.matches(pairs, self.seed)

    @staticmethod
    def _worth_verifying(similarity: NDArray[np.float64]) -> NDArray[np.int64]:
        """An even sample of the null, and every slice so similar that it may be a duplicate."""
        step = max(1, -(-len(similarity) // VERIFIED_SLICES))
        even = np.arange(0, len(similarity), step)
        median = float(np.median(similarity))
        spread = 1.4826 * float(np.median(np.abs(similarity - median)))
        suspicious = np.flatnonzero(similarity > median + 4 * spread)
        return np.union1d(even, suspicious)

    def _duplicates(
        self, pairs: list[Pair | None], checked: NDArray[np.int64], volume: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], list[tuple[str, str]]]:
        """Slices whose subject has a verified copy of them in another subject, and the pairs of volumes concerned."""
        is_duplicate = np.zeros(len(volume), bool)
        found = set()
        for pair, i in zip(pairs, checked, strict=True):
            if pair is not None and (pair.match.is_exact or pair.match.ncc >= CERTAIN_NCC):
                is_duplicate[i] = True
                names = sorted((self.volumes[volume[i]].name, self.volumes[self.slice_volume[pair.row]].name))
                found.add((names[0], names[1]))
        return is_duplicate, sorted(found)


@dataclass(frozen=True)
class FoldWork:
    """The volumes of a fold of which every ``step``-th slice is scored; ``planted`` people were planted before them."""

    fold: int
    chosen: list[tuple[int, Entry]]
    step: int
    planted: int


@dataclass
class NullPart:
    """The scored slices of one volume ``(n, 128, 128)``, and what is found for them.

    ``neighbors``: the image of the slice that follows each, where the volume has one; ``side``: pixels along the longer
    side of the slices as they were acquired; ``altered``: what the power card planted, and ``controls`` what is found
    for that.
    """

    volume: int
    images: NDArray[np.float16]
    neighbors: list[NDArray[np.float16] | None]
    side: int
    found: list[Retrieved] = field(default_factory=list)
    altered: SliceStack | None = None
    controls: Retrieved | None = None

    def take_controls(self, found: Retrieved) -> None:
        """Keep what is found for the altered slices."""
        self.controls = found


def _neighbors(
    stack: SliceStack, images: NDArray[np.float16], first: int, step: int
) -> list[NDArray[np.float16] | None]:
    """The image of the slice that follows each of the scored ones, which are every ``step``-th from ``first`` on."""
    after = images[1:] if step == 1 else square_images(stack.part(slice(first + 1, None, step)), INPUT_SIZE)
    follows = np.append(np.diff(stack.numbers) == 1, False)[first::step]
    return [after[i].astype(np.float16) if follows[i] else None for i in range(len(images))]
