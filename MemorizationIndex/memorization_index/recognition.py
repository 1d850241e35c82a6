"""Find the files of a result's volumes again, by the SHA-256 that the result recorded, whatever they are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memorization_index.cohort import Entry, find_volumes
from memorization_index.errors import MemorizationIndexError
from memorization_index.progress import Progress
from memorization_index.provenance import inputs_of
from memorization_index.pseudonyms import Key
from memorization_index.scores import Scores


def recognized(
    scores: Scores, queries: Sequence[str | Path], key_file: Path | None, progress: Progress
) -> dict[str, Entry]:
    """The files of the volumes that are among ``queries`` (or still where the result says): ``{name: files}``.

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
    entries = find_volumes(queries).entries if queries else _kept(scores)
    if not entries:
        raise MemorizationIndexError(
            "The result does not say where its queries are; expected them to be named, so give --queries PATH."
        )
    there = {}
    progress.begin("recognizing files", len(entries), "volumes")
    for entry in entries:
        sums = [i.sha256 for i in inputs_of(entry)]
        there[tuple(sums if key is None else [key.digest("file", one) for one in sums])] = entry
        progress.advance()
    recorded: dict[str, list[str]] = {}
    for one in scores.inputs:
        recorded.setdefault(one.volume, []).append(one.sha256)
    return {name: there[tuple(sums)] for name, sums in recorded.items() if tuple(sums) in there}


def _kept(scores: Scores) -> list[Entry]:
    """The files that a result says where they are, as far as they are there still."""
    files: dict[str, list[Path]] = {}
    for one in scores.inputs:
        if Path(one.file).is_absolute():
            files.setdefault(one.volume, []).append(Path(one.file))
    return [
        Entry(name, tuple(paths), name, "result") for name, paths in files.items() if all(p.is_file() for p in paths)
    ]
