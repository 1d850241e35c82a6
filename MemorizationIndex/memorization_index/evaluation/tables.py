"""Summaries of an evaluation as rows, CSV and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.evaluation.duplication import LEVELS
from memorization_index.statistics import auc, detection_intervals, detection_rate, subject_interval

Rows = Sequence[dict[str, Any]]

#: Columns of slices.csv that are no measure.
COLUMNS = (
    "split", "augmentation", "kind", "subject", "volume", "slice", "similarity", "mi", "p_value", "match_subject",
    "match_class", "ncc", "flagged",
)  # fmt: skip
COMBINED, VERIFIED = "mi-v1", "mi-v1, NCC of the verified match"
#: p-values at which the calibration curve is given.
NOMINAL = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def summary(slices: Rows, volumes: Rows, augmentations: Sequence[str]) -> dict[str, Any]:
    """Figures of some augmentations together: slices and volumes, copies and controls."""
    wanted = set(augmentations)
    copies, controls = (
        [r for r in slices if r["augmentation"] in wanted and r["kind"] == k] for k in ("copy", "control")
    )
    score, p = scores(copies, controls, COMBINED), column(controls, "p_value")
    people = [subjects(rows) for rows in (copies, controls)]
    area, rate = detection_intervals(score[0], people[0], score[1], people[1])
    kinds = {k: [v for v in volumes if v["augmentation"] in wanted and v["kind"] == k] for k in ("copy", "control")}
    found = column(copies, "p_value") <= 0.01
    return {
        "copies": len(copies),
        "controls": len(controls),
        "auc": auc(*score),
        "auc_interval": area,
        "tpr_at_1_percent_fpr": detection_rate(*score),
        "tpr_at_1_percent_fpr_interval": rate,
        "found_at_1_percent": float(found.mean()),
        "found_at_1_percent_interval": subject_interval(found, people[0]),
        "flagged": float(np.mean([r["flagged"] for r in copies])),
        "named": float(np.mean([r["match_subject"] == r["subject"] for r in copies])),
        "controls_at_1_percent": float((p <= 0.01).mean()),
        "controls_at_1_percent_interval": subject_interval(p <= 0.01, people[1]),
        "controls_at_5_percent": float((p <= 0.05).mean()),
        "controls_at_5_percent_interval": subject_interval(p <= 0.05, people[1]),
        "controls_mi_mean": float(column(controls, "mi").mean()),
        "controls_mi_deviation": float(column(controls, "mi").std()),
        "copied_volumes_verdict_copy": float(np.mean([v["verdict"] == "copy" for v in kinds["copy"]])),
        "control_volumes_verdict_copy": float(np.mean([v["verdict"] == "copy" for v in kinds["control"]])),
    }


def column(rows: Rows, name: str) -> NDArray[np.float64]:
    """Numbers ``(n,)`` of one column."""
    return np.array([row[name] for row in rows], float)


def subjects(rows: Rows) -> NDArray[Any]:
    """The subject of each row; the same person in two splits is one."""
    return np.array([row["subject"] for row in rows], object)


def measures_of(rows: Rows) -> list[str]:
    """What is compared: mi-v1 combined and verified, then every measure that the rows have."""
    own = ("augmentation", "kind", "split", "volume", "subject")
    return [COMBINED, VERIFIED, *(name for name in rows[0] if name not in COLUMNS and name not in own)]


def scores(copies: Rows, controls: Rows, measure: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One measure of copies and controls, larger for a copy; mi-v1's is MI, or similarity where there is no MI."""
    name = {COMBINED: "mi", VERIFIED: "ncc"}.get(measure, measure)
    if measure == COMBINED and not np.isfinite(column(copies, "mi")).all():
        name = "similarity"
    return column(copies, name), column(controls, name)


def comparison(slices: Rows) -> list[dict[str, Any]]:
    """AUC and detection at 1 % false alarms of every measure, by augmentation and over all, with intervals."""
    names = list(dict.fromkeys(row["augmentation"] for row in slices))
    result = []
    for measure in measures_of(slices):
        for name in [*names, "all"]:
            rows = [r for r in slices if name in ("all", r["augmentation"])]
            copies, controls = ([r for r in rows if r["kind"] == k] for k in ("copy", "control"))
            ours, theirs = scores(copies, controls, measure)
            row = {"measure": measure, "augmentation": name}
            if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
                result.append(row | dict.fromkeys(("auc", "auc_low", "auc_high", "tpr", "tpr_low", "tpr_high"), np.nan))
                continue
            area, rate = detection_intervals(ours, subjects(copies), theirs, subjects(controls))
            result.append(row | {
                "auc": auc(ours, theirs), "auc_low": area[0], "auc_high": area[1],
                "tpr": detection_rate(ours, theirs), "tpr_low": rate[0], "tpr_high": rate[1],
            })  # fmt: skip
    return result


def calibration(slices: Rows) -> list[dict[str, float]]:
    """How often controls have a p-value of at most each nominal level, with intervals."""
    controls = [r for r in slices if r["kind"] == "control"]
    p, people = column(controls, "p_value"), subjects(controls)
    result = []
    for level in NOMINAL:
        low, high = subject_interval(p <= level, people)
        result.append({"nominal": level, "observed": float((p <= level).mean()), "low": low, "high": high})
    return result


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; numbers have three decimals, NaN is a dash."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """Text of one value: a number, an interval, or text."""
    if isinstance(value, tuple | list):
        number, low, high = value
        return cell(number) if np.isnan(low) else f"{number:.3f} [{low:.3f}, {high:.3f}]"
    if isinstance(value, float | np.floating):
        return "–" if np.isnan(value) else f"{value:.3f}"
    return str(value)


def detection_table(result: dict[str, Any]) -> str:
    """mi-v1 by augmentation."""
    header = [
        "augmentation (always applied)", "AUC [95 %]", "TPR at 1 % FPR [95 %]", "copies found at p ≤ .01",
        "copies flagged", "right subject", "controls at p ≤ .01 [95 %]", "controls at p ≤ .05 [95 %]", "controls MI",
        "copied volumes: copy", "control volumes: copy",
    ]  # fmt: skip
    rows = []
    for name, row in [*result["augmentations"].items(), ("**all**", result["all"])]:
        with_interval = ("auc", "tpr_at_1_percent_fpr", "controls_at_1_percent", "controls_at_5_percent")
        ci = {key: (row[key], *row[f"{key}_interval"]) for key in with_interval}
        rows.append([
            name, ci["auc"], ci["tpr_at_1_percent_fpr"], row["found_at_1_percent"], row["flagged"], row["named"],
            ci["controls_at_1_percent"], ci["controls_at_5_percent"],
            f"{row['controls_mi_mean']:+.2f} ± {row['controls_mi_deviation']:.2f}",
            row["copied_volumes_verdict_copy"], row["control_volumes_verdict_copy"],
        ])  # fmt: skip
    return table(header, rows)


def comparison_table(rows: Rows) -> str:
    """Every measure over all augmentations, and its worst augmentation."""
    lines = []
    for measure in dict.fromkeys(row["measure"] for row in rows):
        own = [r for r in rows if r["measure"] == measure]
        pooled = next(r for r in own if r["augmentation"] == "all")
        single = [r for r in own if r["augmentation"] != "all"]
        worst = min(single, key=lambda r: float("-inf") if np.isnan(r["auc"]) else r["auc"])
        lines.append([
            measure, *((pooled[k], pooled[f"{k}_low"], pooled[f"{k}_high"]) for k in ("auc", "tpr")),
            float(np.mean([r["auc"] for r in single])), worst["auc"],
            "–" if all(r["auc"] == worst["auc"] for r in single) else worst["augmentation"],
        ])  # fmt: skip
    header = ["measure", "AUC, pooled [95 %]", "TPR at 1 % FPR, pooled [95 %]", "mean AUC", "worst AUC", "worst for"]
    return table(header, lines)


def spread_table(rows: Rows) -> str:
    """Set measures at every level: mean over augmentations, with the spread over them.

    Beside a level stands the share that sets really have: a few slices allow no other.
    """
    real = {row["duplication"]: row["copied"] for row in rows}
    header = [
        "set measure: mean (spread over augmentations)",
        *(f"{level:.0%} copies (in fact {real[level]:.1%})" for level in LEVELS),
    ]
    lines = []
    for measure in dict.fromkeys(row["measure"] for row in rows):
        own = {row["duplication"]: row for row in rows if row["measure"] == measure}
        lines.append([measure, *(f"{own[level]['mean']:.3f} ({own[level]['spread']:.3f})" for level in LEVELS)])
    return table(header, lines)


def without_nan(value: Any) -> Any:
    """The same with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
