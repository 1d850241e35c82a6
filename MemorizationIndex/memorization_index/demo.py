"""The whole way on made data: train, plant copies and controls, build, score, and count what was found.

Copies and controls go through the same published augmentations with the same draws, so that an augmentation alone
cannot pass for a copy. Building and scoring are the calls that the command line makes.
"""

from __future__ import annotations

import csv
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index._version import __version__
from memorization_index.augmentations import PUBLISHED, augment_volume
from memorization_index.bundle import check_own
from memorization_index.errors import MemorizationIndexError
from memorization_index.evaluation.cohorts import make_demo_cohort, read_demo_volume, write_demo_volume
from memorization_index.progress import Progress
from memorization_index.reference import Reference
from memorization_index.scores import Scores

#: Marks a folder as a demo's, complete or not.
_MARK = ".demo"
COPIED_SLICES = 3  # neighboring training slices in a volume that is otherwise a held-out person's


@dataclass(frozen=True)
class Planted:
    """One volume of the synthetic set: what it is made of.

    ``subject`` is the copied training subject, empty for a control; ``slices`` are the numbers of the copied slices.
    """

    path: Path
    augmentation: str
    kind: str  # "whole copy" | "partial copy" | "control"
    subject: str
    slices: tuple[int, ...]


def run_demo(
    out: str | Path,
    seed: int = 0,
    *,
    training_subjects: int = 30,
    held_out_subjects: int = 32,
    copies: int = 4,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make a cohort, plant copies and controls, build, score; return (and write) how many were found.

    For every published augmentation there are ``copies`` altered copies of training volumes, the last of them only
    three slices in a held-out volume, and as many equally altered held-out volumes, by default each of another person.
    ``out`` then holds ``training/``, ``held-out/``, ``synthetic/``, ``truth.csv``, ``reference/``, ``result/`` as
    ``score`` writes it, and ``demo.json``: for each augmentation and in total, ``planted`` volumes,
    how many were ``found`` (verdict copy), how many of those ``named_rightly`` (the training subject), ``controls``,
    ``false_alarms`` (verdict copy), ``suspicious_controls``, and the same for slices (flagged).
    """
    if min(training_subjects, held_out_subjects, copies) < 1 or copies > training_subjects:
        raise MemorizationIndexError(
            f"A demo of {training_subjects} training subjects, {held_out_subjects} held-out subjects and {copies} "
            f"copies of each kind cannot be made; expected at least 1 of each and no more copies than subjects."
        )
    started = time.monotonic()
    out, progress = Path(out), progress or Progress()
    check_own(out, "a demo", (_MARK, "demo.json"))
    if (out / "demo.json").exists():
        progress.warning(f"{out}: holds a demo already; it is replaced.")
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()
    cohort = make_demo_cohort(out / "training", training_subjects, seed, who="training subjects", progress=progress)
    held_out = make_demo_cohort(
        out / "held-out",
        held_out_subjects,
        seed,
        first=training_subjects + 1,
        who="held-out subjects",
        progress=progress,
    )
    planted = _plant(cohort, held_out, out / "synthetic", copies=copies, seed=seed, progress=progress)
    _write_truth(planted, out / "truth.csv")
    Reference.build(cohort, out / "reference", device=device, seed=seed, progress=progress)
    scores = Reference.open(out / "reference").score([p.path for p in planted], device=device, progress=progress)
    scores.write(out / "result")
    result = {
        "version": __version__,
        "seed": seed,
        "training_subjects": training_subjects,
        "held_out_subjects": held_out_subjects,
        "seconds": round(time.monotonic() - started, 1),
        **_count(planted, scores),
    }
    (out / "demo.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8", newline="\n")
    return result


def _plant(
    training: list[Path], held_out: list[Path], folder: Path, *, copies: int, seed: int, progress: Progress
) -> list[Planted]:
    """Write the synthetic set: augmented copies and, with the same draws, augmented controls."""
    folder.mkdir(parents=True, exist_ok=True)
    # Another stream than the cohort's, whose seeds have two parts as well.
    rng = np.random.default_rng([seed, 0, 1])
    planted = []
    progress.begin("planting copies and controls", 2 * copies * len(PUBLISHED), "volumes")
    for number, name in enumerate(PUBLISHED):
        sources = rng.choice(len(training), copies, replace=False)
        for i, source in enumerate(sources):
            draw = int(rng.integers(2**32))
            control = read_demo_volume(held_out[(number * copies + i) % len(held_out)])
            copy = read_demo_volume(training[source])
            slices = tuple(range(len(copy)))
            if i == copies - 1:
                first = int(rng.integers(len(copy) - COPIED_SLICES + 1))
                slices = slices[first : first + COPIED_SLICES]
                host = read_demo_volume(held_out[(number * copies + i + 1) % len(held_out)])
                host[list(slices)] = copy[list(slices)]
                copy = host
            kind = "whole copy" if len(slices) == len(copy) else "partial copy"
            subject = training[source].name.split("_")[0]
            for volume, what, who, which in ((copy, kind, subject, slices), (control, "control", "", ())):
                path = folder / f"{name}_{'control' if what == 'control' else 'copy'}_{i + 1}.nii.gz"
                write_demo_volume(_augmented(volume, name, draw), path)
                planted.append(Planted(path, name, what, who, which))
                progress.advance()
    return planted


def _augmented(volume: NDArray[np.float32], name: str, draw: int) -> NDArray[np.float32]:
    """Augment a volume as the whole of its range, and give it its range back."""
    top = float(volume.max())
    return augment_volume(volume / top, name, np.random.default_rng(draw)) * np.float32(top)


def _write_truth(planted: list[Planted], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "augmentation", "kind", "copied_subject", "copied_slices"])
        for p in planted:
            writer.writerow([p.path.name, p.augmentation, p.kind, p.subject, " ".join(map(str, p.slices))])


def _count(planted: list[Planted], scores: Scores) -> dict[str, Any]:
    """Compare the scores with the truth, for each augmentation, for partial copies alone, and in total."""
    truth = {str(p.path): p for p in planted}
    kinds: dict[str, list[dict[str, int]]] = {name: [] for name in PUBLISHED}
    partial, everything = [], []
    names = dict(zip(scores.volumes["volume"], scores.volumes["path"], strict=True))
    slice_owner = np.array([names[v] for v in scores.slices["volume"]], object)
    for row in range(len(scores.volumes["path"])):
        path = scores.volumes["path"][row]
        own = slice_owner == path
        counts = _count_one(
            truth[path],
            {k: column[row] for k, column in scores.volumes.items()},
            {k: column[own] for k, column in scores.slices.items()},
        )
        kinds[truth[path].augmentation].append(counts)
        everything.append(counts)
        if truth[path].kind == "partial copy":
            partial.append(counts)
    return {
        "total": _sum(everything),
        "partial_copies": _sum(partial),
        "by_augmentation": {name: _sum(counts) for name, counts in kinds.items()},
    }


def _count_one(truth: Planted, volume: dict[str, Any], slices: dict[str, NDArray[Any]]) -> dict[str, int]:
    planted = truth.kind != "control"
    found = volume["verdict"] == "copy"
    copied = np.isin(slices["slice"], truth.slices)
    flagged = slices["flagged"].astype(bool)
    return {
        "planted": int(planted),
        "found": int(planted and found),
        "named_rightly": int(planted and found and volume["match_subject"] == truth.subject),
        "controls": int(not planted),
        "false_alarms": int(not planted and found),
        "suspicious_controls": int(not planted and volume["verdict"] == "suspicious"),
        "slices_planted": int(copied.sum()),
        "slices_found": int((copied & flagged).sum()),
        "slices_named_rightly": int((copied & flagged & (slices["match_subject"] == truth.subject)).sum()),
        "slices_not_copied": int((~copied).sum()),
        "slices_false_alarms": int((~copied & flagged).sum()),
    }


def _sum(counts: list[dict[str, int]]) -> dict[str, int]:
    return {key: sum(one[key] for one in counts) for key in (counts[0] if counts else ())}


def table(result: dict[str, Any]) -> str:
    """Return the result of :func:`run_demo` as a short table for the terminal."""
    head = ("augmentation", "planted", "found", "named rightly", "controls", "false alarms")
    keys = ("planted", "found", "named_rightly", "controls", "false_alarms")
    rows = [head] + [
        (name, *(str(counts[key]) for key in keys))
        for name, counts in {**result["by_augmentation"], "all": result["total"]}.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    t = result["total"]
    suspicious = f"{t['suspicious_controls']} {'is' if t['suspicious_controls'] == 1 else 'are'} suspicious"
    lines.append(
        f"Found and false alarms: volumes with the verdict copy. Of {t['controls']} controls {suspicious}, as about 5 "
        f"of a hundred are by chance."
    )
    lines.append(
        f"Slices: {t['slices_found']} of {t['slices_planted']} planted ones flagged, {t['slices_named_rightly']} with "
        f"the right subject; {t['slices_false_alarms']} of {t['slices_not_copied']} others flagged."
    )
    return "\n".join(lines)
