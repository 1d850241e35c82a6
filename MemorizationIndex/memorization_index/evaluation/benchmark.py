"""``memorization-index evaluate``: how well copies are found, and how often controls are not left alone.

A cohort is split by subject. Volumes of training subjects, augmented, are the copies; volumes of held-out subjects,
*equally* augmented, are the controls. Both are scored as any query is, against a reference built on the training
subjects alone. Every figure pools the slices of all splits; intervals draw whole subjects.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index._version import __version__
from memorization_index.augmentations import PUBLISHED
from memorization_index.bundle import write_csv
from memorization_index.cohort import Entry, find_volumes
from memorization_index.errors import MemorizationIndexError
from memorization_index.evaluation.sampling import Chosen, augmented, choose
from memorization_index.progress import Progress
from memorization_index.reference import Reference
from memorization_index.scores import Scores
from memorization_index.scoring import Options, score_queries
from memorization_index.statistics import auc, subject_interval

COLUMNS = (
    "split", "augmentation", "kind", "subject", "volume", "slice", "similarity", "mi", "p_value", "match_subject",
    "match_class", "ncc", "flagged",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is evaluated: how the cohort is split, and what is drawn from each side."""

    splits: int = 1
    training_subjects: int | None = None
    volumes: int = 30
    slices: int = 12
    augmentations: tuple[str, ...] = PUBLISHED
    plane: str = "native"
    encoder: str = "spectral"
    weights: str | None = None
    device: str = "auto"
    cache: str | None = None
    seed: int = 0


def evaluate(
    inputs: Sequence[str | Path],
    out: str | Path,
    plan: Plan,
    subjects: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run all splits (finished ones are kept) and write ``slices.csv``, ``volumes.csv``, ``evaluate.json`` and ``.md``.

    Raises :class:`MemorizationIndexError` where the cohort has fewer than 4 subjects.
    """
    progress, out = progress or Progress(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    cohort = find_volumes(inputs, subjects)
    names = sorted({entry.subject for entry in cohort.entries})
    if len(names) < 4:
        raise MemorizationIndexError(
            f"The cohort has {len(names)} subjects; expected at least 4, half of them to train on, so give more."
        )
    plan_path = out / "plan.json"
    text = json.dumps([__version__, asdict(plan), [(e.name, e.subject) for e in cohort.entries]])
    if not plan_path.exists() or plan_path.read_text(encoding="utf-8") != text:
        for old in out.glob("split-*.json"):
            old.unlink()
        plan_path.write_text(text, encoding="utf-8")
    splits = [_split(cohort.entries, names, plan, number, out, progress) for number in range(plan.splits)]
    slices = [row for split in splits for row in split["slices"]]
    volumes = [row for split in splits for row in split["volumes"]]
    write_csv(out / "slices.csv", COLUMNS, [[row[c] for c in COLUMNS] for row in slices])
    write_csv(out / "volumes.csv", list(volumes[0]), [list(row.values()) for row in volumes])
    result = {
        "version": __version__,
        "plan": asdict(plan),
        "subjects": len(names),
        "training": [split["training"] for split in splits],
        "augmentations": {name: summary(slices, volumes, [name]) for name in plan.augmentations},
        "all": summary(slices, volumes, plan.augmentations),
    }
    (out / "evaluate.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (out / "evaluate.md").write_text(markdown(result), encoding="utf-8")
    return result


def _split(
    entries: Sequence[Entry], names: Sequence[str], plan: Plan, number: int, out: Path, progress: Progress
) -> dict[str, Any]:
    """One split: build on its training subjects, score copies and controls; kept in a file once complete."""
    path = out / f"split-{number:03d}.json"
    if path.exists():
        done: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return done
    rng = np.random.default_rng([plan.seed, number])
    order = [names[i] for i in rng.permutation(len(names))]
    count = min(plan.training_subjects or len(names) * 2 // 3, len(names) - 1)
    training = set(order[:count])
    with tempfile.TemporaryDirectory(prefix="memorization-index-") as folder:
        table = Path(folder) / "training.csv"
        rows = [[f, e.subject, e.name] for e in entries if e.subject in training for f in map(str, e.files)]
        write_csv(table, ["path", "subject", "volume"], [[str(Path(r[0]).absolute()), *r[1:]] for r in rows])
        reference = Reference.build(
            table,
            plane=plan.plane,
            encoder=plan.encoder,
            weights=plan.weights,
            device=plan.device,
            cache=plan.cache,
            seed=plan.seed,
            power="none",
            progress=progress,
        )
    copies = choose(entries, order[:count], reference.plane, plan.volumes, plan.slices)
    controls = choose(entries, order[count:], reference.plane, plan.volumes, plan.slices)
    slices, volumes = [], []
    started = time.monotonic()
    for name in plan.augmentations:
        for kind, chosen in (("copy", copies), ("control", controls)):
            progress.begin(f"split {number + 1} of {plan.splits}: {name}, {kind}", len(chosen), "volumes")
            weights = None if plan.weights is None else Path(plan.weights)
            options = Options(weights=weights, device=plan.device, cache=plan.cache)
            queries = augmented(chosen, name, [plan.seed, number], controls)
            scores = score_queries(reference, queries, options=options, progress=progress)
            one = {"split": number, "augmentation": name, "kind": kind}
            slices += [{**one, **row} for row in _slice_rows(scores, chosen)]
            volumes += [{**one, **row} for row in _volume_rows(scores, chosen)]
    result = {
        "training": {**reference.manifest["counts"], "calibration": reference.manifest["calibration"]},
        "seconds": time.monotonic() - started,
        "slices": slices,
        "volumes": volumes,
    }
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(result), encoding="utf-8")
    beside.replace(path)
    return result


def _slice_rows(scores: Scores, chosen: Sequence[Chosen]) -> Iterator[dict[str, Any]]:
    subject = {one.name: one.subject for one in chosen}
    table = scores.slices
    for i, volume in enumerate(table["volume"]):
        yield {
            "subject": subject[volume],
            **{name: _plain(table[name][i]) for name in COLUMNS[4:]},
        }


def _volume_rows(scores: Scores, chosen: Sequence[Chosen]) -> Iterator[dict[str, Any]]:
    subject = {one.name: one.subject for one in chosen}
    for i, volume in enumerate(scores.volumes["volume"]):
        names = ("n_slices", "n_flagged", "p_value", "match_subject", "agreement", "verdict")
        yield {
            "subject": subject[volume],
            "volume": volume,
            **{name: _plain(scores.volumes[name][i]) for name in names},
        }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def summary(
    slices: Sequence[dict[str, Any]], volumes: Sequence[dict[str, Any]], augmentations: Sequence[str]
) -> dict[str, Any]:
    """Figures of some augmentations together: slices and volumes, copies and controls."""
    wanted = set(augmentations)
    by_kind = {k: [r for r in slices if r["augmentation"] in wanted and r["kind"] == k] for k in ("copy", "control")}
    copies, controls = by_kind["copy"], by_kind["control"]
    score, p = (_column(copies, "mi"), _column(controls, "mi")), _column(controls, "p_value")
    if not np.isfinite(score[0]).all():
        score = (_column(copies, "similarity"), _column(controls, "similarity"))
    people = np.array([r["subject"] for r in controls], object)
    kinds = {k: [v for v in volumes if v["augmentation"] in wanted and v["kind"] == k] for k in ("copy", "control")}
    return {
        "copies": len(copies),
        "controls": len(controls),
        "auc": auc(*score),
        "found_at_1_percent": float((_column(copies, "p_value") <= 0.01).mean()),
        "flagged": float(np.mean([r["flagged"] for r in copies])),
        "named": float(np.mean([r["match_subject"] == r["subject"] for r in copies])),
        "controls_at_1_percent": float((p <= 0.01).mean()),
        "controls_at_1_percent_interval": subject_interval(p <= 0.01, people),
        "controls_at_5_percent": float((p <= 0.05).mean()),
        "controls_at_5_percent_interval": subject_interval(p <= 0.05, people),
        "controls_mi_mean": float(_column(controls, "mi").mean()),
        "controls_mi_deviation": float(_column(controls, "mi").std()),
        "copied_volumes_verdict_copy": float(np.mean([v["verdict"] == "copy" for v in kinds["copy"]])),
        "control_volumes_verdict_copy": float(np.mean([v["verdict"] == "copy" for v in kinds["control"]])),
    }


def _column(rows: Sequence[dict[str, Any]], name: str) -> NDArray[np.float64]:
    return np.array([row[name] for row in rows], float)


def markdown(result: dict[str, Any]) -> str:
    """The summary as a Markdown table."""
    lines = [
        "| augmentation (always applied) | AUC | copies found at p ≤ .01 | copies flagged | right subject | controls "
        "at p ≤ .01 [95 %] | controls at p ≤ .05 [95 %] | controls MI | copied volumes: copy | control volumes: copy |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in [*result["augmentations"].items(), ("**all**", result["all"])]:
        cells = [name, *(f"{row[key]:.3f}" for key in ("auc", "found_at_1_percent", "flagged", "named"))]
        for level in ("controls_at_1_percent", "controls_at_5_percent"):
            low, high = row[f"{level}_interval"]
            cells.append(f"{row[level]:.3f} [{low:.3f}, {high:.3f}]")
        cells.append(f"{row['controls_mi_mean']:+.2f} ± {row['controls_mi_deviation']:.2f}")
        cells += [f"{row[f'{kind}_verdict_copy']:.3f}" for kind in ("copied_volumes", "control_volumes")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
