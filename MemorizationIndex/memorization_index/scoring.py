"""Score query volumes against a reference: one table of slices, one of volumes, one of provenance."""

from __future__ import annotations

import io
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.agreement import AgreementVolume
from memorization_index.calibration import VolumeNumbers, oni, q_values
from memorization_index.channels import SPECTRAL, Describer, make_describer
from memorization_index.cohort import Skipped, find_volumes
from memorization_index.encoding import read_slices
from memorization_index.errors import MemorizationIndexError
from memorization_index.fraction import copied_fraction
from memorization_index.generator import bulk, compared
from memorization_index.linking import links_of
from memorization_index.pictures import Images, draw
from memorization_index.progress import Progress
from memorization_index.provenance import InputFile, digest_of, inputs_of, seconds_since
from memorization_index.reference import Reference
from memorization_index.retrieval import Retrieved
from memorization_index.runs import run_of
from memorization_index.scores import ALIGNMENT_COLUMNS, VOLUME_COLUMNS, Columns, Scores
from memorization_index.slices import SliceStack, square_images
from memorization_index.spectral import INPUT_SIZE
from memorization_index.trajectory import fitted
from memorization_index.usercache import recall_weights
from memorization_index.verdicts import COPIED, VOLUME_P, MatchClass, Thresholds, classify, is_flagged, verdict
from memorization_index.verification import Candidates, Pair, TrainingImages, verify
from memorization_index.volumes import IMAGE_PLANE, Grid, looks_flat
from memorization_index.words import counted


@dataclass(frozen=True)
class Query:
    """What is examined: the slices of one volume, under a name; path and voxel grid of the file it was read from."""

    name: str
    stack: SliceStack
    path: str = ""
    grid: Grid | None = None


@dataclass(frozen=True)
class Options:
    """Where things are on this machine.

    ``training_root``: where the training volumes are now, if they were moved; ``weights``: the encoder's, if not where
    they were last used; ``device``: of a deep encoder; ``cache``: folder that keeps a deep encoder's features, None for
    the user's cache, or ``off``; ``key``: of a pseudonymized reference, to find its training volumes below
    ``training_root`` again; ``scheduler``: of the Dask cluster that works (see :mod:`.cluster`), None for this machine.
    """

    training_root: Path | None = None
    weights: Path | None = None
    device: str = "auto"
    cache: str | Path | None = None
    key: Path | None = None
    scheduler: str | None = None


def score(
    reference: Reference,
    inputs: Sequence[str | Path],
    options: Options | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score every foreground slice of the query volumes, verify the matches, and judge the volumes (METHOD §3).

    A run of 2-D images only may be examined with a reference of volumes; an image *among* volumes is skipped.
    """
    progress, options = progress or Progress(), options or Options()
    check_root(reference, options)
    cohort = find_volumes(inputs)
    cohort.tell(progress)
    failed = list(cohort.skipped)
    only_images = bool(cohort.entries) and all(looks_flat(entry.files) for entry in cohort.entries)
    plane = IMAGE_PLANE if only_images else reference.plane
    if plane != reference.plane:
        progress.warning(
            f"The images are 2-D and the reference was built on volumes: they are compared with its {reference.plane} "
            f"slices, and a copy of a slice in another plane is not found."
        )
    if options.scheduler is not None:
        from memorization_index.cluster_scoring import score_there

        return score_there(reference, cohort.entries, plane, failed, options, progress)

    read: list[InputFile] = []

    def queries() -> Iterator[Query]:
        for entry in cohort.entries:
            try:
                files = inputs_of(entry)
                volume, stack = read_slices(entry, plane)
            except MemorizationIndexError as error:
                failed.append(Skipped(str(entry.path), str(error)))
                progress.skipped(str(entry.path), str(error))
                progress.advance()
                continue
            read.extend(files)
            yield Query(entry.name, stack, str(entry.path), volume.grid)

    progress.begin("comparing with the training set", len(cohort.entries), "volumes")
    scores = score_queries(reference, queries(), failed, options, progress)
    scores.inputs, scores.run["inputs"] = read, digest_of(read)
    return scores


def score_queries(
    reference: Reference,
    queries: Iterable[Query],
    skipped: Sequence[Skipped] = (),
    options: Options | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score slices that are in memory (or come from an iterator); ``skipped`` is read after the last query.

    Raises :class:`MemorizationIndexError` where there is nothing to score or the encoder is another one.
    """
    progress, options = progress or Progress(), options or Options()
    started = time.monotonic()
    describer = describer_of(reference, options)
    with tempfile.TemporaryFile() as images:
        found = _retrieve(reference, queries, describer, images, progress)
        if not found:
            raise nothing_scored(skipped)
        links = links_of(reference, options.training_root, options.key, progress)
        training = TrainingImages(reference.volumes, reference.plane, options.training_root, progress, links)
        if options.training_root is not None and not training.is_any_there():
            progress.warning(_another_folder(reference, options.training_root))
        shape = (sum(len(q.similarity) for q in found), INPUT_SIZE, INPUT_SIZE)
        stored = np.memmap(images, np.float16, "r", shape=shape)
        pairs = _verified(reference, found, stored, describer, training, progress)
        scores = _judged(reference, found, pairs, stored, skipped, training, progress)
        scores.run["seconds"] = seconds_since(started, time.monotonic())
        return scores


def check_root(reference: Reference, options: Options) -> None:
    """Raise :class:`MemorizationIndexError` where the training root is none, before anything is read."""
    TrainingImages(reference.volumes, reference.plane, options.training_root, Progress())


def nothing_scored(skipped: Sequence[Skipped]) -> MemorizationIndexError:
    """The error where no query is left."""
    reason = f"the first reason: {skipped[0].reason}" if skipped else "expected at least one, so check the paths."
    return MemorizationIndexError(f"No query image could be scored; {reason}")


def examined(reference: Reference, query: Query, describer: Describer, training: TrainingImages) -> Examined:
    """What is found for one query by itself: nothing of it depends on the others."""
    images = io.BytesIO()
    found = _retrieve(reference, [query], describer, images, Progress())
    stored = np.frombuffer(images.getbuffer(), np.float16).reshape(-1, INPUT_SIZE, INPUT_SIZE)
    return found[0], _verified(reference, found, stored, describer, training, Progress())


def judged(
    reference: Reference,
    queries: Sequence[Examined],
    images: Images,
    skipped: Sequence[Skipped],
    training: TrainingImages,
    progress: Progress,
) -> Scores:
    """The scores of queries that were examined one by one; ``images`` are those of all their slices."""
    found, pairs = [one for one, _ in queries], [pair for _, own in queries for pair in own]
    return _judged(reference, found, pairs, images, skipped, training, progress)


def _verified(
    reference: Reference,
    found: Sequence[_Retrieved],
    images: NDArray[np.float16],
    describer: Describer,
    training: TrainingImages,
    progress: Progress,
) -> list[Pair | None]:
    rows, views = np.concatenate([q.rows for q in found]), np.concatenate([q.views for q in found])
    candidates = Candidates(rows, views, describer.views())
    return verify(images, candidates, reference, training, progress, _calibrate(reference, found).is_flagged)


def _judged(
    reference: Reference,
    found: Sequence[_Retrieved],
    pairs: Sequence[Pair | None],
    images: Images,
    skipped: Sequence[Skipped],
    training: TrainingImages,
    progress: Progress,
) -> Scores:
    slices, generator = _slice_table(reference, found, pairs, _calibrate(reference, found))
    volumes = _volume_table(reference, found, slices, generator["p_calibrated"] is not False)
    if generator["p_calibrated"] is False:
        progress.warning(
            f"These images look more like the training set than new people's scans do (their median lies "
            f"{generator['shift']:.1f} standard deviations above the null's): p is not calibrated for this "
            f"generator, and verdicts rest on verified matches alone."
        )
    pictures = draw(slices, volumes, images, pairs, reference, training)
    if training.missing:
        progress.warning(_what_follows(len(training.missing), reference))
    p = slices["p_value"] if generator["p_calibrated"] is not False else np.full(len(slices["p_value"]), np.nan)
    share = copied_fraction(p, slices["match_class"], slices["volume"])
    run = run_of(reference, slices, volumes, skipped, training)
    run |= {"generator": generator, "copied_fraction": asdict(share)}
    return Scores(slices, volumes, _alignments(slices, pairs), run, pictures, _agreement(found, pairs))


def _another_folder(reference: Reference, root: Path) -> str:
    """What is said of a folder that has no training volume in it."""
    try:
        held = f"holds {counted(len(find_volumes([root]).entries), 'image')}, none of them"
    except MemorizationIndexError:  # which says that there is no image
        held = "holds no image, and so not"
    key = "; of a pseudonymized reference its --key is needed too" if "pseudonyms" in reference.manifest else ""
    return (
        f"--training-root {root}: {held} a training volume of this reference; expected the folder that holds those "
        f"now{key}."
    )


def _what_follows(missing: int, reference: Reference) -> str:
    """What it means for the verdicts that so many training volumes could not be had."""
    key = " and the key with --key" if "pseudonyms" in reference.manifest else ""
    return (
        f"{missing} of {counted(len(reference.volumes), 'training volume')} could not be read: slices whose "
        f"matches are in them have no class. An image of which no slice could be compared is uncalibrated, but where "
        f"its p is at most {VOLUME_P}: a copy where half of its slices are flagged and follow one training volume in "
        f"order, else suspicious. To verify, name the folder of the training volumes with --training-root{key}."
    )


def describer_of(reference: Reference, options: Options) -> Describer:
    """The describer that a reference was built with; raises :class:`MemorizationIndexError` where it is another one."""
    expected = reference.manifest["encoder"]
    weights = options.weights
    if expected["name"] != SPECTRAL and weights is None:
        weights = recall_weights(expected["fingerprint"])
        if weights is None:
            raise MemorizationIndexError(
                f"The reference was built with the encoder {expected['name']} ({expected['fingerprint']}), whose "
                "weights are not where this machine last had them, if it had; expected them, so give --weights."
            )
    describer = make_describer(
        expected["name"],
        weights,
        options.device,
        options.cache,
        expected["precision"] or "auto",
        expected["layer_scale"],
    )
    if describer.fingerprint != expected["fingerprint"]:
        raise MemorizationIndexError(
            f"The reference was built with another {describer.name} encoder ({expected['fingerprint']}) than this one "
            f"({describer.fingerprint}); expected the same, so build the reference again or use that encoder."
        )
    return describer


@dataclass(frozen=True)
class _Retrieved:
    """A query's names and slice numbers, and what retrieval found for each of its slices."""

    name: str
    path: str
    plane: str
    grid: Grid | None
    shape: tuple[int, int]
    spacing: tuple[float, float]
    numbers: NDArray[np.int64]
    similarity: NDArray[np.float64]
    rows: NDArray[np.int64]
    views: NDArray[np.int64]
    agreement: NDArray[np.int64]
    channel: NDArray[np.object_]


#: What retrieval found for a query, and the verified pair of each of its slices.
Examined = tuple[_Retrieved, list[Pair | None]]


def _retrieve(
    reference: Reference, queries: Iterable[Query], describer: Describer, images: IO[bytes], progress: Progress
) -> list[_Retrieved]:
    """Describe and search every query; its slices' images are appended to the file ``images``."""

    def parts() -> Iterator[tuple[Query, SliceStack]]:
        for query in queries:
            for part in query.stack.batches():
                yield query, part

    result = []
    found: list[Retrieved] = []
    for query, part, one in reference.retriever.examine_each(describer, parts()):
        images.write(square_images(part, INPUT_SIZE).astype(np.float16).tobytes())
        found.append(one)
        if part.numbers[-1] != query.stack.numbers[-1]:
            continue
        result.append(
            _Retrieved(
                query.name,
                query.path,
                query.stack.plane,
                query.grid,
                (query.stack.images[0].shape[0], query.stack.images[0].shape[1]),
                query.stack.spacing,
                query.stack.numbers,
                np.concatenate([f.similarity for f in found]),
                np.concatenate([f.rows for f in found]),
                np.concatenate([f.views for f in found]),
                np.concatenate([f.agreement for f in found]),
                np.concatenate([f.channel for f in found]),
            )
        )
        found = []
        progress.advance()
    images.flush()
    return result


@dataclass(frozen=True)
class _Numbers:
    """What retrieval alone says of each slice, ``(n,)`` each; verification does not change it."""

    similarity: NDArray[np.float64]
    mi: NDArray[np.float64]
    p: NDArray[np.float64]
    thresholds: Thresholds

    def is_flagged(self, index: int, pair: Pair) -> bool:
        """Whether the slice with this index is flagged, given how it matches."""
        return is_flagged(classify(pair, self.thresholds), float(self.p[index]))


def _calibrate(reference: Reference, queries: Sequence[_Retrieved]) -> _Numbers:
    similarity = np.concatenate([q.similarity for q in queries])
    nearest = np.concatenate([q.rows[:, 0] for q in queries])
    null = reference.null
    mi = reference.mi(similarity, nearest) if null.is_calibrated else np.full(len(similarity), np.nan)
    p = null.slice_p(mi) if null.is_calibrated else mi
    return _Numbers(similarity, mi, p, reference.thresholds)


def _slice_table(
    reference: Reference, queries: Sequence[_Retrieved], pairs: Sequence[Pair | None], numbers: _Numbers
) -> tuple[Columns, dict[str, Any]]:
    """The slices, and whether the null is right for those that are no copies (see ``generator.compared``)."""
    nearest = np.concatenate([q.rows[:, 0] for q in queries])
    mi, p = numbers.mi, numbers.p
    classes = [classify(pair, numbers.thresholds) for pair in pairs]
    names = np.array([q.name for q in queries for _ in q.numbers], object)
    generator: dict[str, Any] = {"p_calibrated": None}
    if reference.null.is_calibrated:
        chosen = bulk(np.array(classes, object), p)
        generator = compared(reference.null, mi[chosen], names[chosen].tolist())
    p_flags = p if generator["p_calibrated"] is not False else np.full(len(p), np.nan)
    # The verified candidate is the match; without verification it is the most similar training slice.
    rows = np.array([pair.row if pair else n for pair, n in zip(pairs, nearest, strict=True)], np.int64)
    matched = [reference.volumes[v] for v in reference.slice_volume[rows]]
    columns = {
        "volume": names,
        "plane": np.array([q.plane for q in queries for _ in q.numbers], object),
        "slice": np.concatenate([q.numbers for q in queries]),
        "similarity": numbers.similarity,
        "mi": mi,
        "oni": oni(mi),
        "p_value": p,
        "q_value": q_values(p),
        "match_subject": np.array([m.subject for m in matched], object),
        "match_volume": np.array([m.name for m in matched], object),
        "match_slice": reference.slice_number[rows],
        "match_class": np.array([str(c) for c in classes], object),
        "ncc": np.array([pair.match.ncc if pair else np.nan for pair in pairs]),
        "part": np.array([pair.match.part if pair else np.nan for pair in pairs]),
        "transform": np.array([pair.match.describe() if pair else "" for pair in pairs], object),
        "layer_agreement": np.concatenate([q.agreement for q in queries]),
        "channel": np.concatenate([q.channel for q in queries]),
        "flagged": np.array([is_flagged(c, float(one)) for c, one in zip(classes, p_flags, strict=True)], bool),
    }
    return columns, generator


def _alignments(slices: Columns, pairs: Sequence[Pair | None]) -> Columns:
    """How each verified training slice lies on its query slice."""
    rows = [
        [*(slices[name][i] for name in ALIGNMENT_COLUMNS[:4]), int(pair.match.mirrored), pair.match.quarters,
         *pair.match.matrix.ravel(), *pair.match.shift]
        for i, pair in enumerate(pairs)
        if pair is not None
    ]  # fmt: skip
    columns = list(zip(*rows, strict=True)) or [()] * len(ALIGNMENT_COLUMNS)
    types = {
        "volume": object,
        "match_volume": object,
        "slice": int,
        "match_slice": int,
        "mirrored": int,
        "quarters": int,
    }
    return {n: np.array(c, types.get(n, float)) for n, c in zip(ALIGNMENT_COLUMNS, columns, strict=True)}


def _agreement(queries: Sequence[_Retrieved], pairs: Sequence[Pair | None]) -> dict[int, AgreementVolume]:
    """The maps of flagged slices, by row of the volume table; of volumes that were read from a file with a grid."""
    result = {}
    own = iter(pairs)
    for row, query in enumerate(queries):
        found = {int(n): pair.agreement for n, pair in zip(query.numbers, own, strict=False) if pair is not None}
        maps = {n: agreement for n, agreement in found.items() if agreement is not None}
        if maps and query.grid is not None:
            result[row] = AgreementVolume(query.grid, query.plane, query.shape, query.spacing, maps)
    return result


def _volume_table(reference: Reference, queries: Sequence[_Retrieved], slices: Columns, p_calibrated: bool) -> Columns:
    rows = []
    start = 0
    for query in queries:
        part = slice(start, start + len(query.numbers))
        start = part.stop
        own = {name: column[part] for name, column in slices.items()}
        rows.append(_volume_row(reference, query, own, p_calibrated))
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    for name in ("volume", "path", "match_subject", "match_volume", "verdict"):
        columns[name] = columns[name].astype(object)
    columns["q_value"] = q_values(columns["p_value"])
    return {name: columns[name] for name in VOLUME_COLUMNS}


def _volume_row(reference: Reference, query: _Retrieved, own: Columns, p_calibrated: bool) -> dict[str, Any]:
    calibrated, highest = reference.null.is_calibrated, float(own["mi"].max())
    numbers = reference.null.volume_numbers(highest, len(query.numbers)) if calibrated else VolumeNumbers()
    trusted = calibrated and p_calibrated
    return {
        "volume": query.name,
        "path": query.path,
        "null_mean": numbers.null_mean,
        "null_deviation": numbers.null_deviation,
        "mi": numbers.mi,
        "oni": float(oni(np.array(numbers.mi))),
        "p_value": numbers.p,
        **volume_from_slices(own, numbers.p if trusted else np.nan, trusted),
    }


def volume_from_slices(own: Columns, volume_p: float, trusted: bool) -> dict[str, Any]:
    """What follows for a volume from the rows of its slices, with its p (NaN unless it is ``trusted``)."""
    flagged, classes = own["flagged"], [MatchClass(c) for c in own["match_class"]]
    count = len(classes)
    subject, volume = _main_match(own, flagged)
    matched = own["match_volume"] == volume
    line = fitted(own["slice"][matched], own["match_slice"][matched])
    followed = matched & flagged
    traced = fitted(own["slice"][followed], own["match_slice"][followed]).on_line / count
    return {
        "n_slices": count,
        "n_flagged": int(flagged.sum()),
        "fraction_copied": float(np.mean([c in COPIED for c in classes])),
        "similarity": float(own["similarity"].max()),
        "mi_max": float(own["mi"].max()),
        "match_subject": subject,
        "match_volume": volume,
        "agreement": float(np.mean(own["match_subject"] == subject)),
        "trajectory": line.on_line / count,
        "match_first": line.first,
        "match_last": line.last,
        "verdict": str(verdict(classes, volume_p, trusted, traced)),
    }


def _main_match(own: Columns, flagged: NDArray[np.bool_]) -> tuple[str, str]:
    """The training subject and volume that most flagged slices name; without any, that of the most similar slice."""
    if flagged.any():
        pairs = Counter(zip(own["match_subject"][flagged], own["match_volume"][flagged], strict=True))
        return max(sorted(pairs), key=lambda pair: pairs[pair])
    best = int(np.argmax(own["similarity"]))
    return str(own["match_subject"][best]), str(own["match_volume"][best])
