"""Find the files of a result's volumes again, by the SHA-256 that the result recorded, whatever they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memorization_index.cohort import Cohort, Entry, find_volumes
from memorization_index.errors import MemorizationIndexError
from memorization_index.progress import Progress
from memorization_index.provenance import inputs_of
from memorization_index.pseudonyms import Key
from memorization_index.scores import Scores


@dataclass
class Given:
    """The files that were given: those of the result's images by their names there, others, and what is no image."""

    entries: dict[str, Entry]
    others: list[Entry] = field(default_factory=list)
    skipped: int = 0


def recognized(
    scores: Scores, queries: Sequence[str | Path], key_file: Path | None, progress: Progress
) -> dict[str, Entry]:
    """As :func:`given`, those of the result's images alone."""
    return given(scores, queries, key_file, progress).entries


def given(scores: Scores, queries: Sequence[str | Path], key_file: Path | None, progress: Progress) -> Given:
    """The files of the volumes that are among ``queries`` (or still where the result says), and the others there.

    ``key_file``: the key of a result under pseudonyms. Raises :class:`MemorizationIndexError` where the result has no
    files, no place to look is known, or the key is needed and not given.
    """
    if not scores.inputs:
        raise MemorizationIndexError("The result's queries were in memory; expected files, which can be read again.")
    key = None
    if scores.run["inputs"]["keyed"]:
        if key_file is None:
            raise MemorizationIndexError("The result is under pseudonyms; expected the key, so give --key FILE.")
        key = Key.load(key_file)
    cohort = find_volumes(queries) if queries else Cohort(_kept(scores))
    if not cohort.entries:
        raise MemorizationIndexError(
            "The result does not say where its queries are; expected them to be named, so give --queries PATH."
        )
    recorded: dict[str, tuple[str, ...]] = {}
    for one in scores.inputs:
        recorded[one.volume] = (*recorded.get(one.volume, ()), one.sha256)
    known, there, found = set(recorded.values()), {}, Given({}, skipped=len(cohort.skipped))
    progress.begin("recognizing files", len(cohort.entries), "volumes")
    for entry in cohort.entries:
        sums = tuple(i.sha256 if key is None else key.digest("file", i.sha256) for i in inputs_of(entry))
        there[sums] = entry
        if sums not in known:
            found.others.append(entry)
        progress.advance()
    found.entries = {name: there[sums] for name, sums in recorded.items() if sums in there}
    return found


def _kept(scores: Scores) -> list[Entry]:
    """The files that a result says where they are, as far as they are there still."""
    files: dict[str, list[Path]] = {}
    for one in scores.inputs:
        if Path(one.file).is_absolute():
            files.setdefault(one.volume, []).append(Path(one.file))
    return [
        Entry(name, tuple(paths), name, "result") for name, paths in files.items() if all(p.is_file() for p in paths)
    ]
