"""What leaves: results and bundles without the places that files lie in, and without names where that is asked."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from memorization_index.scores import Scores

#: An absolute path up to its last part, as it may stand in a sentence.
_FOLDERS = re.compile(r"(?<![\w./\\])(?:[A-Za-z]:)?[/\\](?:[^/\\:;,'\"()<>|\n]+[/\\])+")


def without_places(text: str, path: str = "") -> str:
    """A sentence in which files stand without the folders they lie in; ``path`` is the file it is about."""
    given = Path(path)
    for folder in {given.parent, given.absolute().parent, Path(os.path.realpath(path)).parent} if path else ():
        text = text.replace(f"{folder}{os.sep}", "")
    return _FOLDERS.sub("", text)


def encoder_without_places(encoder: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says of its encoder, without where its weights lie."""
    name = str(encoder["name"])
    if name.startswith("hf:"):
        name = f"hf:{Path(name.removeprefix('hf:')).name}"
    return {**encoder, "name": name, "weights": None}


def leaving(scores: Scores) -> Scores:
    """A result as it is written unless paths are asked for: files by name, no folder of this machine.

    Volumes keep the names that they have below what was given to score.
    """
    run = dict(scores.run)
    run["reference"] = {**run["reference"], "path": None}
    run["encoder"] = encoder_without_places(run["encoder"])
    run["skipped"] = [
        {"path": Path(s["path"]).name, "reason": without_places(s["reason"], s["path"])} for s in run["skipped"]
    ]
    paths = np.array([Path(path).name for path in scores.volumes["path"]], object)
    inputs = [replace(i, file=Path(i.file).name) for i in scores.inputs]
    return replace(scores, run=run, volumes={**scores.volumes, "path": paths}, inputs=inputs)
