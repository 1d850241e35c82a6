"""What leaves: results and bundles without the places that files lie in, and without names where that is asked."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memorization_index.provenance import InputFile, digest_of

if TYPE_CHECKING:
    from memorization_index.pseudonyms import Key
    from memorization_index.scores import Columns, Scores

#: An absolute path up to its last part, as it may stand in a sentence.
_FOLDERS = re.compile(r"(?<![\w./\\])(?:[A-Za-z]:)?[/\\](?:[^/\\:;,'\"()<>|\n]+[/\\])+")


def without_places(text: str, path: str = "") -> str:
    """A sentence in which files stand without the folders they lie in; ``path`` is the file it is about."""
    given = Path(path)
    for folder in {given.parent, given.absolute().parent, Path(os.path.realpath(path)).parent} if path else ():
        text = text.replace(f"{folder}{os.sep}", "")
    return _FOLDERS.sub("", text)


def leaving(scores: Scores, key: Key | None = None) -> Scores:
    """A result as it is written unless paths are asked for: files by name, no folder of this machine.

    Volumes keep the names that they have below what was given to score, or get pseudonyms with a key.
    """
    if key is not None:
        scores = _renamed(scores, key)
    run = dict(scores.run)
    run["reference"] = {**run["reference"], "path": None}
    run["skipped"] = [
        {"path": Path(s["path"]).name, "reason": without_places(s["reason"], s["path"])} for s in run["skipped"]
    ]
    paths = np.array([Path(path).name for path in scores.volumes["path"]], object)
    inputs = [replace(i, file=Path(i.file).name) for i in scores.inputs]
    return replace(scores, run=run, volumes={**scores.volumes, "path": paths}, inputs=inputs)


def _renamed(scores: Scores, key: Key) -> Scores:
    """Queries, and training volumes that have names still, under pseudonyms; the key remembers which is which."""
    is_named = not scores.run["reference"]["pseudonymized"]
    kinds = {"volume": "query", "match_volume": "volume", "match_subject": "subject"}
    known: dict[str, str] = {}

    def renamed(columns: Columns) -> Columns:
        result = dict(columns)
        for column, kind in kinds.items():
            if column in columns and (column == "volume" or is_named):
                names = {str(name): key.pseudonym(kind, str(name)) for name in columns[column]}
                known.update({pseudonym: name for name, pseudonym in names.items()})
                result[column] = np.array([names[str(name)] for name in columns[column]], object)
        return result

    slices, volumes, alignments = (renamed(t) for t in (scores.slices, scores.volumes, scores.alignments))
    skipped = []
    for s in scores.run["skipped"]:
        name = key.pseudonym("query", s["path"])
        known[name] = s["path"]
        # A reason may quote the file that it is about, and others beside it, in any form.
        skipped.append({"path": name, "reason": f"{name}: could not be examined (its owner can see why)"})
    key.remember(known)
    # The SHA-256 of a verbatim copy is that of the training file: without the key it must not be told.
    inputs = [InputFile(key.pseudonym("query", i.volume), "", key.digest("file", i.sha256)) for i in scores.inputs]
    return replace(
        scores,
        slices=slices,
        volumes={**volumes, "path": np.full(len(volumes["path"]), "", object)},
        alignments=alignments,
        run={**scores.run, "skipped": skipped, "inputs": {**digest_of(inputs), "keyed": True}},
        inputs=inputs,
    )
