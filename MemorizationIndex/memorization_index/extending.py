"""Grow a reference by new volumes, or join references of parts of a training set, without encoding anything twice.

Raw features are copied in the order that one build of everything would give them; whitening, null and thresholds are
fitted again. The result equals that build. The images of the volumes that make up the new null are read again, since a
query is compared under many views of its picture and a reference stores only one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memorization_index.building import Settings, check_scans, fit, in_memory
from memorization_index.bundle import check_place, fingerprint_of, read_manifest
from memorization_index.channels import Describer
from memorization_index.cohort import Cohort, Entry, Skipped, find_volumes
from memorization_index.durable import exclusive
from memorization_index.encoding import Encoded, EncodedVolume, encode, written_shards
from memorization_index.errors import MemorizationIndexError
from memorization_index.progress import Progress
from memorization_index.reference import Reference
from memorization_index.scoring import Options, describer_of
from memorization_index.verification import TrainingImages


@dataclass(frozen=True)
class Growth:
    """What the new null is checked with (``controls``) or taken from (``novel``), and where things are now."""

    controls: str | Path | None = None
    novel: str | Path | None = None
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class _Part:
    """A share of the training set: its features, where its images are, and where its subjects' names came from."""

    cohort: Cohort
    encoded: Encoded
    sources: Counter[str]


def extend(
    reference: Reference,
    inputs: Sequence[str | Path],
    out: str | Path | None,
    growth: Growth,
    subjects: str | Path | None = None,
    progress: Progress | None = None,
) -> Reference:
    """Add volumes to a reference and save the result to ``out``, which may be where the reference lies.

    Files that the reference was built on are passed over, where they were then and below the training root, so that a
    folder which has grown can be given as it is, also where it was moved.
    Raises :class:`MemorizationIndexError` where there is nothing new, or a new volume has the name of an old one.
    """
    progress = progress or Progress()
    _check_named(reference)
    check_scans(growth.controls, growth.novel)
    known = {Path(f) for volume in reference.volumes for f in volume.files}
    if growth.options.training_root is not None:
        moved = TrainingImages(reference.volumes, reference.plane, growth.options.training_root, Progress())
        known |= {f.absolute() for i in range(len(reference.volumes)) for f in moved.locate(i) or ()}
    cohort = find_volumes(inputs, subjects)
    cohort.entries = sorted((e for e in cohort.entries if not known & _absolute(e)), key=lambda entry: entry.name)
    cohort.tell(progress)
    if cohort.subjects_note:
        progress.warning(cohort.subjects_note)
    if not cohort.entries:
        if out is not None:
            _tidy(Path(out).absolute())
        raise MemorizationIndexError("No new training image was found; expected at least one, so check the paths.")
    _check_names(
        [[v.name for v in reference.volumes], [e.name for e in cohort.entries]],
        "; where the reference's images were moved, name the folder they are in now with --training-root",
    )
    describer = describer_of(reference, growth.options)

    def build(workspace: Path) -> Reference:
        encoded = encode(cohort.entries, reference.plane, describer, workspace / "new", progress)
        if not encoded.volumes:
            shutil.rmtree(workspace, ignore_errors=True)
            raise MemorizationIndexError(
                f"None of the {len(cohort.entries)} new images can be used; the first reason: "
                f"{encoded.skipped[0].reason}"
            )
        parts = [_part_of(reference, growth.options), _Part(cohort, encoded, Counter(cohort.subject_sources))]
        return _fitted(parts, reference, describer, growth, workspace, progress)

    return _saved(build, out, progress, reference)


def merge(
    references: Sequence[Reference],
    out: str | Path | None,
    growth: Growth,
    progress: Progress | None = None,
) -> Reference:
    """Join references that were built on parts of one training set and save the result to ``out``.

    Raises :class:`MemorizationIndexError` where they differ in plane, encoder, protocol or seed, or share volumes.
    """
    progress = progress or Progress()
    if len(references) < 2:
        raise MemorizationIndexError(f"{len(references)} reference was given; expected at least two to merge.")
    first, *others = references
    for other in others:
        _check_same(first, other)
    for reference in references:
        _check_named(reference)
    check_scans(growth.controls, growth.novel)
    _check_names([[v.name for v in reference.volumes] for reference in references])
    describer = describer_of(first, growth.options)

    def build(workspace: Path) -> Reference:
        parts = [_part_of(reference, growth.options) for reference in references]
        return _fitted(parts, first, describer, growth, workspace, progress)

    return _saved(build, out, progress)


def _absolute(entry: Entry) -> set[Path]:
    return {f.absolute() for f in entry.files}


def _check_same(first: Reference, other: Reference) -> None:
    one, two = first.manifest, other.manifest
    for what, mine, its in (
        ("plane", one["plane"], two["plane"]),
        ("protocol", one["protocol"], two["protocol"]),
        ("seed", one["seed"], two["seed"]),
        ("encoder", one["encoder"]["name"], two["encoder"]["name"]),
        ("encoder's fingerprint", one["encoder"]["fingerprint"], two["encoder"]["fingerprint"]),
    ):
        if mine != its:
            raise MemorizationIndexError(
                f"{_place(other)}: its {what} is {its}, that of {_place(first)} is {mine}; expected the same, so build "
                f"one of them again."
            )


def _place(reference: Reference) -> str:
    return str(reference.folder or "a reference in memory")


def _check_names(names: Sequence[Sequence[str]], further: str = "") -> None:
    twice = [name for name, count in Counter(n for part in names for n in part).items() if count > 1]
    if twice:
        raise MemorizationIndexError(
            f"{len(twice)} volumes of different parts have the same name (the first: {twice[0]}); expected each volume "
            f"once, so leave it out or name it in a table's column 'volume'{further}."
        )


def _check_named(reference: Reference) -> None:
    """Refuse a pseudonymized reference before anything is read."""
    if "pseudonyms" in reference.manifest:
        raise MemorizationIndexError(
            f"{_place(reference)}: is pseudonymized, so the images that the new null needs cannot be found; build the "
            f"larger reference from the images."
        )


def _part_of(reference: Reference, options: Options) -> _Part:
    """A reference as a share of a larger training set."""
    located = TrainingImages(reference.volumes, reference.plane, options.training_root, Progress())
    ends = np.searchsorted(reference.slice_volume, np.arange(len(reference.volumes) + 1))
    volumes, entries = [], []
    for i, volume in enumerate(reference.volumes):
        numbers = reference.slice_number[ends[i] : ends[i + 1]]
        files = located.locate(i) or tuple(Path(f) for f in volume.files)
        there = replace(volume, files=tuple(str(f.absolute()) for f in files))
        volumes.append(EncodedVolume(there, numbers, volume.total - len(numbers)))
        entries.append(Entry(volume.name, files, volume.subject, ""))
    skipped = [Skipped(**one) for one in reference.manifest["skipped"]]
    sources = Counter(reference.manifest["subjects_from"])
    return _Part(Cohort(entries, []), Encoded(volumes, reference.features, skipped), sources)


def _fitted(
    parts: Sequence[_Part],
    pattern: Reference,
    describer: Describer,
    growth: Growth,
    workspace: Path,
    progress: Progress,
) -> Reference:
    """All parts in the order of their volumes' names, fitted with the settings of the reference ``pattern``."""
    order = sorted(
        ((p, v) for p, part in enumerate(parts) for v in range(len(part.encoded.volumes))),
        key=lambda place: parts[place[0]].encoded.volumes[place[1]].volume.name,
    )
    starts = [np.cumsum([0, *(len(e.numbers) for e in part.encoded.volumes)]) for part in parts]

    def rows(channel: str) -> Iterator[NDArray[np.float16]]:
        for p, v in order:
            yield _between(parts[p].encoded.features[channel], int(starts[p][v]), int(starts[p][v + 1]))

    progress.begin("joining features", len(describer.dimensions), "channels")
    encoded = Encoded([parts[p].encoded.volumes[v] for p, v in order], {}, [])
    for channel in describer.dimensions:
        encoded.features[channel] = written_shards(workspace, channel, rows(channel))
        progress.advance()
    for part in parts:
        encoded.skipped.extend(part.encoded.skipped)
    cohort = Cohort([e for part in parts for e in part.cohort.entries], [s for p in parts for s in p.cohort.skipped])
    manifest = pattern.manifest
    settings = Settings(
        encoder=describer.name,
        weights=growth.options.weights,
        protocol=manifest["protocol"],
        controls=growth.controls,
        novel=growth.novel,
        power=manifest.get("power", {}).get("card", Settings.power),
        device=growth.options.device,
        seed=manifest["seed"],
        cache=growth.options.cache,
        thumbnails=manifest.get("thumbnails", "none"),
    )
    reference = fit(cohort, encoded, pattern.plane, describer, settings, progress)
    reference.manifest["subjects_from"] = dict(sum((part.sources for part in parts), Counter()))
    return reference


def _saved(
    build: Callable[[Path], Reference], out: str | Path | None, progress: Progress, grown: Reference | None = None
) -> Reference:
    """Let ``build`` work in a folder beside the target and save what it makes; in memory where there is no target.

    ``grown`` is the reference that is extended, which may lie at the target.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="memorization-index-") as temporary:
            return in_memory(build(Path(temporary)))
    target = Path(out).absolute()
    check_place(target)
    workspace = _workspace(target)
    with exclusive(workspace):
        if grown is not None and grown.folder is not None and grown.folder.resolve() == target.resolve():
            _check_unchanged(grown.folder, grown.fingerprint)
        workspace.mkdir(parents=True, exist_ok=True)
        reference = build(workspace)
        reference.save(target)
        shutil.rmtree(workspace, ignore_errors=True)
    return reference


def _workspace(target: Path) -> Path:
    """Where encoded units lie, which survive a stopped run and are taken from there by the next."""
    return target.with_name(f".{target.name}.extending")


def _tidy(target: Path) -> None:
    """Remove what a command that was killed after its reference stood could not remove any more."""
    if _workspace(target).exists():
        with exclusive(_workspace(target)):
            shutil.rmtree(_workspace(target), ignore_errors=True)


def _check_unchanged(folder: Path, fingerprint: str) -> None:
    """Refuse to replace a reference that another command extended since it was opened: its volumes would be lost."""
    if fingerprint_of(read_manifest(folder)) != fingerprint:
        raise MemorizationIndexError(
            f"{folder}: was replaced by another command; expected the reference as it was opened, so run "
            f"this command again."
        )


def _between(shards: Sequence[NDArray[np.float16]], start: int, stop: int) -> NDArray[np.float16]:
    """Rows of features that lie in shards."""
    found = []
    for shard in shards:
        if start < len(shard) and stop > 0:
            found.append(shard[max(start, 0) : stop])
        start, stop = start - len(shard), stop - len(shard)
    return np.concatenate(found)
