"""What of ``score`` runs on a cluster: a query volume is read, described, searched and verified by one worker."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memorization_index.bundle import MANIFEST
from memorization_index.cluster import Cluster, connected, seen
from memorization_index.cluster_building import Recipe, made, recipe_of
from memorization_index.cohort import Entry, Skipped
from memorization_index.encoding import read_slices
from memorization_index.errors import MemorizationIndexError
from memorization_index.linking import Links, links_of
from memorization_index.progress import Progress
from memorization_index.provenance import InputFile, digest_of, inputs_of, seconds_since
from memorization_index.reference import Reference
from memorization_index.scores import Scores
from memorization_index.scoring import Examined, Options, Query, describer_of, examined, judged, nothing_scored
from memorization_index.slices import square_images
from memorization_index.spectral import INPUT_SIZE
from memorization_index.usercache import recall_weights
from memorization_index.verification import TrainingImages

#: What a worker found: of the query itself (or why it is skipped), its files, and training volumes that are not there.
_Found = tuple[Examined | str, list[InputFile], frozenset[int]]
#: What all tasks are given: the reference's folder and fingerprint, the recipe, where training images are, the plane.
_Common = tuple[Path, str, Recipe, Path | None, Links | None, str]


def score_there(
    reference: Reference,
    entries: Sequence[Entry],
    plane: str,
    failed: list[Skipped],
    options: Options,
    progress: Progress,
) -> Scores:
    """The same as ``score`` of a cohort, on a cluster; ``failed`` are the files that are skipped already.

    Raises :class:`MemorizationIndexError` where the reference lies in no folder, which workers could open.
    """
    started = time.monotonic()
    if reference.folder is None:
        raise MemorizationIndexError(
            f"--scheduler {options.scheduler}: needs a reference that workers can open; expected one in a folder that "
            f"they see, so save it there."
        )
    root = None if options.training_root is None else options.training_root.absolute()
    links = links_of(reference, options.training_root, options.key, progress)
    training = TrainingImages(reference.volumes, reference.plane, root, progress, links)
    folder = reference.folder.absolute()
    common = (folder, reference.fingerprint, _recipe(reference, options), root, links, plane)
    with connected(options.scheduler, progress) as cluster:
        assert cluster is not None
        cluster.share(folder / MANIFEST)
        found, files = _examined_there(entries, common, cluster, failed, training, progress)
    if not found:
        raise nothing_scored(failed)
    images = _Images([entries[n] for n in found], [len(pairs) for _, pairs in found.values()], plane)
    scores = judged(reference, list(found.values()), images, failed, training, progress)
    scores.inputs = files
    scores.run["inputs"], scores.run["seconds"] = digest_of(scores.inputs), seconds_since(started, time.monotonic())
    return scores


def _recipe(reference: Reference, options: Options) -> Recipe:
    """How a worker makes the describer of a reference."""
    encoder = reference.manifest["encoder"]
    weights = options.weights or recall_weights(encoder["fingerprint"])
    describer = describer_of(reference, replace(options, weights=weights))
    return recipe_of(describer, weights, options.device, options.cache, encoder["layer_scale"])


def _examined_there(
    entries: Sequence[Entry],
    common: _Common,
    cluster: Cluster,
    failed: list[Skipped],
    training: TrainingImages,
    progress: Progress,
) -> tuple[dict[int, Examined], list[InputFile]]:
    """What workers find, by the number of the entry and in that order, and the files that they read.

    What they skip is added to ``failed``, and training volumes that they do not have to those that are missing.
    """
    tasks = [(*common, replace(e, files=tuple(f.absolute() for f in e.files))) for e in entries]
    progress.begin("comparing with the training set", len(entries), "volumes")
    answers: dict[int, _Found] = {}
    for number, answer in cluster.each(_examine, tasks):
        answers[number] = answer
        if isinstance(answer[0], str):
            progress.skipped(str(entries[number].path), answer[0])
        training.miss(answer[2])
        progress.advance()
    found: dict[int, Examined] = {}
    files: list[InputFile] = []
    for number in range(len(entries)):
        result, read, _ = answers[number]
        if isinstance(result, str):
            failed.append(Skipped(str(entries[number].path), result))
        else:
            one, pairs = result
            found[number] = replace(one, path=str(entries[number].path)), pairs
            files += read
    return found, files


class _Images:
    """Images of slices that are wanted for pictures, a few of all: read here when they are."""

    def __init__(self, entries: Sequence[Entry], sizes: Sequence[int], plane: str) -> None:
        self._entries, self._plane, self._starts = entries, plane, np.cumsum([0, *sizes])

    def __getitem__(self, row: int) -> NDArray[np.float16]:
        number = int(np.searchsorted(self._starts, row, "right")) - 1
        _, stack = read_slices(self._entries[number], self._plane)
        image: NDArray[np.float16] = square_images(stack, INPUT_SIZE)[row - self._starts[number]].astype(np.float16)
        return image


def _examine(
    folder: Path, fingerprint: str, recipe: Recipe, root: Path | None, links: Links | None, plane: str, entry: Entry
) -> _Found:
    reference = _opened(folder, fingerprint)
    seen(entry.files)
    training = TrainingImages(reference.volumes, reference.plane, root, Progress(), links)
    try:
        files = inputs_of(entry)
        volume, stack = read_slices(entry, plane)
    except MemorizationIndexError as error:
        return str(error), [], frozenset()
    query = Query(entry.name, stack, str(entry.path), volume.grid)
    return examined(reference, query, made(recipe), training), files, training.missing


@functools.lru_cache(maxsize=1)
def _opened(folder: Path, _fingerprint: str) -> Reference:
    """On a worker: the reference, kept for the next task."""
    return Reference.open(folder)
