"""What is drawn from a cohort: volumes of training subjects (copies) and of held-out ones (controls)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memorization_index.augmentations import ADJACENT, AUGMENTATIONS, SMALLEST_SIDE, augment_volume
from memorization_index.cohort import Entry
from memorization_index.encoding import read_slices
from memorization_index.errors import MemorizationIndexError
from memorization_index.scoring import Query
from memorization_index.slices import SliceStack, normalized


@dataclass(frozen=True)
class Chosen:
    """A volume that is augmented and scored: some of its slices, in [0, 1].

    ``following``: for each of them the slice beside it in the volume, intensities alike; None of 2-D images.
    """

    name: str
    subject: str
    stack: SliceStack
    following: list[NDArray[np.float32]] | None = None


def choose(entries: Sequence[Entry], subjects: Sequence[str], plane: str, volumes: int, slices: int) -> list[Chosen]:
    """The first volume of up to ``volumes`` subjects, thinned to ``slices`` evenly spaced slices.

    Volumes whose slices are too small to be augmented are passed over.
    """
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.subject, entry)
    result: list[Chosen] = []
    for subject in subjects:
        if len(result) == volumes:
            break
        try:
            _, stack = read_slices(first[subject], plane)
        except MemorizationIndexError:
            continue
        if min(stack.images[0].shape) < SMALLEST_SIDE:
            continue
        keep = np.unique(np.linspace(0, len(stack.images) - 1, slices).round().astype(int))
        images = [normalized(stack.images[i]) for i in keep]
        last = len(stack.images) - 1
        following = [normalized(stack.images[i + 1 if i < last else i - 1]) for i in keep] if last else None
        thinned = SliceStack(images, stack.spacing, stack.numbers[keep], stack.total, stack.plane)
        result.append(Chosen(first[subject].name, subject, thinned, following))
    return result


def augmented(
    chosen: Sequence[Chosen], augmentation: str, seed: Sequence[int], novel: Sequence[Chosen]
) -> Iterator[Query]:
    """Augmented volumes, with the same draw for the i-th copy and the i-th control.

    What is blended or spliced in comes from another subject of ``novel``, the held-out ones, for copies and controls
    alike: beside the copied part a copy then holds nothing that was trained on. Raises :class:`MemorizationIndexError`
    where there is no other held-out subject.
    """
    needs_partner = AUGMENTATIONS[augmentation].needs_partner
    for i, one in enumerate(chosen):
        rng = np.random.default_rng([*seed, i])
        partner = None
        if augmentation == ADJACENT:
            if one.following is None:
                raise MemorizationIndexError(
                    f"--augmentations {ADJACENT}: {one.name} has no slice beside it; expected volumes, so leave it out."
                )
            partner = np.stack(one.following)
        elif needs_partner:
            others = [other for other in novel if other.subject != one.subject]
            if not others:
                raise MemorizationIndexError(
                    f"--augmentations {augmentation}: mixes with another held-out subject, and only one is held out; "
                    f"expected at least 2, so train on fewer subjects."
                )
            partner = fitted(others[i % len(others)].stack, one.stack)
        images = augment_volume(np.stack(one.stack.images), augmentation, rng, partner)
        stack = SliceStack(list(images), one.stack.spacing, one.stack.numbers, one.stack.total, one.stack.plane)
        yield Query(one.name, stack)


def fitted(stack: SliceStack, like: SliceStack) -> NDArray[np.float32]:
    """Slices of one stack in the number and size of another: evenly spaced, cropped or padded around the center."""
    rows, columns = like.images[0].shape
    result = np.zeros((len(like.images), rows, columns), np.float32)
    for i in range(len(like.images)):
        image = stack.images[i * len(stack.images) // len(like.images)]
        high, wide = min(rows, image.shape[0]), min(columns, image.shape[1])
        top, left = (rows - high) // 2, (columns - wide) // 2
        from_top, from_left = (image.shape[0] - high) // 2, (image.shape[1] - wide) // 2
        result[i, top : top + high, left : left + wide] = image[
            from_top : from_top + high, from_left : from_left + wide
        ]
    return result
