"""The benchmark at several numbers of training subjects: what a smaller training set costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from memorization_index.bundle import check_own, write_csv
from memorization_index.evaluation.benchmark import Plan, evaluate
from memorization_index.evaluation.kept import MARKS
from memorization_index.evaluation.tables import table
from memorization_index.progress import Progress

COLUMNS = (
    "subjects", "slices", "mean_auc", "worst_auc", "tpr_at_1_percent_fpr", "found_at_1_percent", "named",
    "controls_at_1_percent", "controls_at_5_percent", "smallest_slice_p", "smallest_volume_p",
)  # fmt: skip


def sweep(
    inputs: Sequence[str | Path],
    out: str | Path,
    plan: Plan,
    counts: Sequence[int],
    subjects: str | Path | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Evaluate with each of ``counts`` training subjects (nested, against the same controls); write ``sweep.csv``.

    Each goes to a folder ``subjects-NNN`` of its own and is kept there. Returns a row for each count, in rising order.
    """
    out = Path(out)
    check_own(out, "an evaluation", MARKS)
    rows = []
    for count in sorted(set(counts)):
        one = evaluate(
            inputs, out / f"subjects-{count:03d}", replace(plan, training_subjects=count), subjects, progress
        )
        areas = [row["auc"] for row in one["augmentations"].values()]
        pooled, training = one["all"], one["training"][0]
        own = {name: pooled[name] for name in COLUMNS[4:9]}
        smallest = {name: training["calibration"].get(name, float("nan")) for name in COLUMNS[9:]}
        sizes = {"subjects": training["subjects"], "slices": training["slices"]}
        rows.append({**sizes, "mean_auc": float(np.mean(areas)), "worst_auc": min(areas), **own, **smallest})
    write_csv(out / "sweep.csv", COLUMNS, [[row[c] for c in COLUMNS] for row in rows])
    (out / "sweep.md").write_text(markdown(rows), encoding="utf-8")
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The sweep as a table, and by how much mean AUC ever fell as subjects were added."""
    areas = [row["mean_auc"] for row in rows]
    fall = max((max(areas[:i]) - areas[i] for i in range(1, len(areas))), default=0.0)
    text = table([name.replace("_", " ") for name in COLUMNS], [[row[c] for c in COLUMNS] for row in rows])
    return f"{text}\nLargest fall of mean AUC as subjects are added: {max(fall, 0.0):.4f}\n"
