"""The power card: how many planted copies a reference finds, measured when it is built (METHOD §3.11).

The same slices serve twice. Altered and searched in the whole reference they are copies; altered and searched in a
reference that their person was left out of (with whitening refitted, as for the null) they are controls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.augmentations import AUGMENTATIONS, PUBLISHED, SMALLEST_SIDE
from memorization_index.channels import SPECTRAL, Describer
from memorization_index.progress import Progress
from memorization_index.retrieval import Retrieved, concatenated, joined
from memorization_index.slices import SliceStack, normalized, square_images
from memorization_index.spectral import INPUT_SIZE
from memorization_index.verdicts import FLAG_P, classify, is_flagged
from memorization_index.verification import Candidates, TrainingImages, verify

if TYPE_CHECKING:
    from memorization_index.reference import Reference

#: People whose slices are planted, at most; and with a foundation model, which takes a second a picture on a processor.
PEOPLE, PEOPLE_ENCODED = 24, 4
#: The cheap card: the published augmentations, a crop, and all kinds of changes at once.
CHEAP = (*PUBLISHED, "crop_10", "combo")
#: The cheap card with a foundation model.
CHEAP_ENCODED = ("identity", "rotation_5", "flip_horizontal")
#: The full card: every augmentation that needs no second picture.
FULL = tuple(name for name, entry in AUGMENTATIONS.items() if not entry.needs_partner)
CARDS = ("cheap", "full", "none")


@dataclass(frozen=True)
class Planted:
    """One person's slice, altered by each augmentation, and what was found where the person is left out."""

    subject: str
    stack: SliceStack
    controls: Retrieved


@dataclass
class PowerCard:
    """Collects planted slices while the null is built, and counts what is found when the reference is complete."""

    augmentations: Sequence[str]
    people: int
    describer: Describer
    seed: int
    _planted: list[Planted] = field(default_factory=list)

    @classmethod
    def named(cls, card: str, describer: Describer, seed: int) -> PowerCard:
        """The card ``cheap``, ``full`` or ``none`` for what slices are described by."""
        is_embedded = describer.name == SPECTRAL
        cheap = CHEAP if is_embedded else CHEAP_ENCODED
        augmentations = {"cheap": cheap, "full": FULL, "none": ()}[card]
        return cls(augmentations, PEOPLE if is_embedded or card == "full" else PEOPLE_ENCODED, describer, seed)

    def wants(self, stack: SliceStack, number: int) -> bool:
        """Whether a volume's person is planted as the one with this number (from 0)."""
        return bool(self.augmentations) and number < self.people and min(stack.images[0].shape) >= SMALLEST_SIDE

    def altered(self, stack: SliceStack, number: int) -> SliceStack:
        """The middle slice of a person's volume, altered in every way."""
        middle = len(stack.images) // 2
        image = normalized(stack.images[middle])
        images = [
            AUGMENTATIONS[name].apply(image, np.random.default_rng([self.seed, number, place]))
            for place, name in enumerate(self.augmentations)
        ]
        numbers = np.full(len(images), stack.numbers[middle])
        return SliceStack(images, stack.spacing, numbers, stack.total, stack.plane)

    def add(self, planted: Planted) -> None:
        """Take in what was planted; people come in the order of their numbers."""
        self._planted.append(planted)

    def finish(self, reference: Reference, progress: Progress) -> list[dict[str, Any]]:
        """One row an augmentation: copies, found (flagged), named (the right person), controls, flagged (p ≤ .01)."""
        if not self._planted:
            return []
        progress.begin("measuring the power", len(self._planted), "people")
        found = []
        stacks = ((None, one.stack) for one in self._planted)
        for _, _, one in reference.retriever.examine_each(self.describer, stacks):
            found.append(one)
            progress.advance()
        judged = self._judge(reference, found)
        shape = (len(self.augmentations), len(self._planted))
        rows = []
        for place, (flagged, named) in enumerate(zip(*(one.reshape(shape) for one in judged), strict=True)):
            control = joined(
                concatenated([one.controls.of(slice(place, place + 1)) for one in self._planted]),
                reference.retriever.scale,
            )
            p = reference.null.slice_p(reference.mi(control.similarity, control.rows[:, 0]))
            rows.append(
                {
                    "augmentation": self.augmentations[place],
                    "copies": len(flagged),
                    "found": int(flagged.sum()),
                    "named": int((flagged & named).sum()),
                    "controls": len(flagged),
                    "flagged": int((p <= FLAG_P).sum()),
                }
            )
        return rows

    def _judge(self, reference: Reference, found: Sequence[Retrieved]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which copies are flagged, and which name the right person: both ``(n,)``, augmentation by augmentation."""
        places = range(len(self.augmentations))
        together = joined(
            concatenated([one.of(slice(i, i + 1)) for i in places for one in found]), reference.retriever.scale
        )
        p = reference.null.slice_p(reference.mi(together.similarity, together.rows[:, 0]))
        images = np.stack([square_images(one.stack, INPUT_SIZE) for one in self._planted], axis=1)
        images = images.reshape(-1, INPUT_SIZE, INPUT_SIZE)
        training = TrainingImages(reference.volumes, reference.plane, None, Progress())
        candidates = Candidates(together.rows, together.views, self.describer.views())
        pairs = verify(images, candidates, reference, training, Progress())
        thresholds = reference.thresholds
        flagged = [is_flagged(classify(pair, thresholds), float(one)) for pair, one in zip(pairs, p, strict=True)]
        rows = [pair.row if pair else row for pair, row in zip(pairs, together.rows[:, 0], strict=True)]
        names = [reference.volumes[reference.slice_volume[row]].subject for row in rows]
        own = [one.subject for one in self._planted] * len(self.augmentations)
        return np.array(flagged, bool), np.array([n == s for n, s in zip(names, own, strict=True)], bool)
