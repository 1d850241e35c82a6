"""``memorization-index compare-evaluations``: spread over augmentations and variation across sets, side by side."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memorization_index.bundle import write_csv
from memorization_index.errors import MemorizationIndexError
from memorization_index.evaluation.duplication import LEVELS
from memorization_index.evaluation.tables import table

#: Spread over augmentations and coefficient of variation across sets at 5, 15, 30, 45 % copies (arXiv 2602.13066).
PUBLISHED = (
    ("published: MI, spread over augmentations", (0.02, 0.05, 0.09, 0.14)),
    ("published: MI, CV across sets", (0.163, 0.069, 0.035, 0.019)),
    ("published: C_T, CV across sets", (0.683, 0.441, 0.225, 0.229)),
)
COLUMNS = ("measure", "duplication", "mean", "spread", "cv", "sets")


def compare(folders: Sequence[str | Path], out: str | Path) -> list[dict[str, Any]]:
    """Join the ``spread.csv`` of finished evaluations, each one set; write ``sets.csv`` and ``sets.md`` to ``out``.

    For every set measure and level: its mean over sets, its spread over augmentations (most − least, mean over sets)
    and its coefficient of variation across sets (standard deviation, n − 1, over the absolute mean). Raises
    :class:`MemorizationIndexError` for fewer than two sets or a folder without a finished evaluation.
    """
    if len(folders) < 2:
        raise MemorizationIndexError(f"{len(folders)} evaluation was given; expected two or more, each of one set.")
    tables = [_spread(Path(folder)) for folder in folders]
    shared = [key for key in tables[0] if all(key in one for one in tables)]
    rows = []
    for measure, level in shared:
        means = np.array([one[measure, level][0] for one in tables])
        spreads = [one[measure, level][1] for one in tables]
        variation = float(means.std(ddof=1) / abs(means.mean())) if means.mean() else float("nan")
        rows.append(dict(zip(COLUMNS, (measure, level, float(means.mean()), float(np.mean(spreads)), variation,
                                       len(tables)), strict=True)))  # fmt: skip
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "sets.csv", COLUMNS, [[row[c] for c in COLUMNS] for row in rows])
    (out / "sets.md").write_text(markdown(rows), encoding="utf-8")
    return rows


def _spread(folder: Path) -> dict[tuple[str, float], tuple[float, float]]:
    path = folder / "spread.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return {
                (row["measure"], float(row["duplication"])): (float(row["mean"]), float(row["spread"]))
                for row in csv.DictReader(stream)
            }
    except (OSError, KeyError, ValueError) as error:
        raise MemorizationIndexError(
            f"{path}: cannot be read ({error}); expected the folder that 'memorization-index evaluate' wrote."
        ) from error


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """One table: spread over augmentations and CV across sets of every set measure, the published figures below."""
    levels = LEVELS[1:]
    lines: list[list[Any]] = []
    for measure in dict.fromkeys(row["measure"] for row in rows):
        own = {row["duplication"]: row for row in rows if row["measure"] == measure}
        lines.append(
            [measure, *(f"{own[x]['mean']:.3f} · {own[x]['spread']:.3f} · {own[x]['cv']:.3f}" for x in levels)]
        )
    lines += [[name, *(f"{value:.3f}" for value in values)] for name, values in PUBLISHED]
    header = ["set measure: mean · spread over augmentations · CV across sets", *(f"{x:.0%} copies" for x in levels)]
    return table(header, lines)
