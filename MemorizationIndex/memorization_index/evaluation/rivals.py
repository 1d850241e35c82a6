"""What is measured beside mi-v1 on the very same slices: its channels alone, plain similarities, published protocols.

All compare with the *bank*: the evenly spaced slices of every training subject that copies are made from. That is less
than mi-v1 searches, which favors the others: fewer training slices, fewer chance resemblances.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.channels import SPECTRAL, Describer, EmbeddedDescriber
from memorization_index.errors import MemorizationIndexError
from memorization_index.evaluation.peers import nearest_cosine, nearest_pixels
from memorization_index.evaluation.published import PublishedProtocol, published_pooling
from memorization_index.evaluation.sampling import Chosen
from memorization_index.matching import Item
from memorization_index.paper import THRESHOLD, PaperProtocol
from memorization_index.reference import Reference
from memorization_index.retrieval import Retrieved, Retriever
from memorization_index.scoring import Query
from memorization_index.slices import SliceStack, square_images

Measures = dict[str, NDArray[np.float64]]

#: Side of the square images that pixels are compared at.
_PIXELS = 64
#: The published image size.
_PUBLISHED_SIZE = 240
PAPER, PAPER_CODE = "paper-v1", "paper-code-v1"


class RecordingRetriever(Retriever):
    """A retriever that keeps what each channel found, for every slice in the order examined."""

    def __init__(self, inner: Retriever) -> None:
        super().__init__(inner.whitenings, inner.banks, inner.scale)
        self._found: list[Measures] = []

    def examine_each(
        self, describer: Describer, parts: Iterable[tuple[Item, SliceStack]]
    ) -> Iterator[tuple[Item, SliceStack, Retrieved]]:
        """As the plain retriever does."""
        for label, part, found in super().examine_each(describer, parts):
            self._found.append({c: np.asarray(s, np.float64) for c, s in found.by_channel.items()})
            yield label, part, found

    def take(self) -> Measures:
        """Similarity ``(n,)`` by channel of what was examined since the last call."""
        found, self._found = self._found, []
        return {f"channel {c}": np.concatenate([part[c] for part in found]) for c in found[0]}


def recording(reference: Reference) -> tuple[Reference, RecordingRetriever]:
    """The same reference with a retriever that records."""
    retriever = RecordingRetriever(reference.retriever)
    return replace(reference, _retriever=retriever), retriever


class Rivals:
    """Scores slices by plain similarities and, where weights are given, by the published protocols.

    ``notes`` says in a sentence for each published protocol why it is not there. ``bank_features`` ``(N, 435)`` are the
    descriptors of the bank.
    """

    def __init__(self, bank: Sequence[Chosen], weights: str | Path | None, device: str) -> None:
        self._describer = EmbeddedDescriber()
        self.bank_features = np.concatenate([self.features(one.stack) for one in bank])
        self._bank_pixels = np.concatenate([square_images(one.stack, _PIXELS) for one in bank])
        self.notes: dict[str, str] = {}
        self._encoders: dict[str, Any] = {}
        self._protocols: dict[str, Any] = {}
        if weights is None:
            sentence = "is left out: it needs a foundation model, so give --published-weights FILE."
            self.notes = {name: f"{name} {sentence}" for name in (PAPER, PAPER_CODE)}
        else:
            self._fit(bank, weights, device)

    def _fit(self, bank: Sequence[Chosen], weights: str | Path, device: str) -> None:
        from memorization_index.encoders import load_encoder

        protocols: dict[str, Any] = {PAPER: PaperProtocol(), PAPER_CODE: PublishedProtocol()}
        for name, protocol in protocols.items():
            # The published loader leaves the position table at zero.
            positions: Any = "zeros" if name == PAPER_CODE else "trained"
            self._encoders[name] = load_encoder(
                "mri-core", weights, image_size=_PUBLISHED_SIZE, positions=positions, device=device
            )
            images = [image for one in bank for image in one.stack.images]
            try:
                self._protocols[name] = protocol.fit(self._encoded(name, images))
            except MemorizationIndexError as error:
                self.notes[name] = str(error)

    def _encoded(self, name: str, images: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        if name == PAPER:
            layers: dict[str, NDArray[np.float32]] = self._encoders[name].encode(list(images), pool="mean")
            return layers
        blocks = self._encoders[name].encode(list(images), pool="none")
        return {layer: published_pooling(tokens) for layer, tokens in blocks.items()}

    def features(self, stack: SliceStack) -> NDArray[np.float32]:
        """Embedded descriptors ``(n, 435)`` of slices as they are: the feature space of the set measures."""
        return self._describer.describe(stack)[SPECTRAL].astype(np.float32)

    def score(self, queries: Sequence[Query]) -> tuple[Measures, NDArray[np.float32]]:
        """Measures ``(n,)`` of all slices, larger for a copy (ONI apart), and their descriptors ``(n, 435)``."""
        features = np.concatenate([self.features(query.stack) for query in queries])
        pixels = np.concatenate([square_images(query.stack, _PIXELS) for query in queries])
        ncc, ssim = nearest_pixels(pixels, self._bank_pixels)
        measures = {"nearest cosine": nearest_cosine(features, self.bank_features), "pixel NCC": ncc, "SSIM": ssim}
        images = [image for query in queries for image in query.stack.images]
        for name, protocol in self._protocols.items():
            measures[name] = protocol.score_samples(self._encoded(name, images))["mi"]
        return measures, features


def flagged_by_paper(mi: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The paper's flag, ONI = −tanh(MI) < 0.68; where MI is NaN nothing is flagged."""
    result: NDArray[np.bool_] = -np.tanh(mi) < THRESHOLD
    return result
