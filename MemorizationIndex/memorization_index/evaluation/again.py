"""The same person again: scans that are no copies, of people who were trained on (their own class in ``evaluate``).

*rescan*: simulated, as :mod:`~memorization_index.rescans` does. *other volume*: a second volume of a training subject,
kept out of the training set; in many cohorts that is another contrast, side or time, so it says less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.augmentations import AUGMENTATIONS
from memorization_index.cohort import Entry
from memorization_index.evaluation.sampling import Chosen
from memorization_index.evaluation.tables import Rows, column, subjects, table
from memorization_index.rescans import simulated
from memorization_index.scoring import Query
from memorization_index.statistics import auc, detection_intervals
from memorization_index.verdicts import FLAG_P, MatchClass, Verdict

RESCAN, OTHER_VOLUME = "rescan", "other volume"
#: What changes no geometry: there, and only there, a copy can be told from a new scan of the same person.
UNMOVED = ("identity", "noise", "intensity", "tone", "bias", "blur", "compression")
#: Classes from the least to the most like a copy.
_ORDER = tuple(reversed(MatchClass))


def rescanned(chosen: Sequence[Chosen], seed: Sequence[int]) -> Iterator[Query]:
    """A simulated rescan of each volume: one pose and shading for all of its slices."""
    for i, one in enumerate(chosen):
        beside: Sequence[NDArray[np.float32] | None] = one.following or [None] * len(one.stack.images)
        images = [
            simulated(image, neighbor, np.random.default_rng([*seed, i]))
            for image, neighbor in zip(one.stack.images, beside, strict=True)
        ]
        yield Query(one.name, replace(one.stack, images=images))


def other_volumes(entries: Sequence[Entry], people: Sequence[str]) -> list[Entry]:
    """The last volume of each of these subjects who has several."""
    own: dict[str, list[Entry]] = {}
    for entry in entries:
        own.setdefault(entry.subject, []).append(entry)
    return [own[person][-1] for person in people if len(own[person]) > 1]


def summary(again: Rows, volumes: Rows, copies: Rows) -> list[dict[str, Any]]:
    """One row for each kind: what is said of slices and volumes of people scanned again.

    ``never_novel``: share of slices that are flagged or *same anatomy*. ``auc``: slices of copies whose geometry is
    unaltered against these, ordered by class (novel < same anatomy < altered copy < copy < exact; ties count half),
    with its subject-bootstrap interval.
    """
    unmoved = [r for r in copies if AUGMENTATIONS[r["augmentation"]].family in UNMOVED]
    result = []
    for kind in dict.fromkeys(row["kind"] for row in again):
        rows = [row for row in again if row["kind"] == kind]
        verdicts = [v["verdict"] for v in volumes if v["kind"] == kind]
        classes = [row["match_class"] for row in rows]
        area, interval = float("nan"), (float("nan"), float("nan"))
        if unmoved:
            ours, theirs = _rank(unmoved), _rank(rows)
            area, interval = auc(ours, theirs), detection_intervals(ours, subjects(unmoved), theirs, subjects(rows))[0]
        noticed = [row["flagged"] or row["match_class"] == MatchClass.SAME_ANATOMY for row in rows]
        result.append({
            "kind": kind, "slices": len(rows), "volumes": len(verdicts),
            "named": float(np.mean([row["match_subject"] == row["subject"] for row in rows])),
            "never_novel": float(np.mean(noticed)),
            **{f"class {name}": float(np.mean([c == name for c in classes])) for name in _ORDER[1:]},
            "found_at_1_percent": float((column(rows, "p_value") <= FLAG_P).mean()),
            **{f"verdict {name}": float(np.mean([v == name for v in verdicts])) for name in Verdict},
            "auc": area, "auc_interval": interval,
        })  # fmt: skip
    return result


def _rank(rows: Rows) -> NDArray[np.float64]:
    return np.array([_ORDER.index(row["match_class"]) for row in rows], float)


def again_table(rows: Rows) -> str:
    """People scanned again, as Markdown."""
    if not rows:
        return ""
    header = [
        "same person again", "slices", "right subject", "flagged or same anatomy", "same anatomy", "altered copy",
        "copy or exact", "volumes: no evidence", "suspicious", "copy",
        "AUC by class, unmoved copies against these [95 %]",
    ]  # fmt: skip
    names = (
        "kind", "slices", "named", "never_novel", "class same anatomy", "class altered copy", "verbatim",
        "verdict no evidence", "verdict suspicious", "verdict copy",
    )  # fmt: skip
    lines = []
    for row in rows:
        whole = row | {"verbatim": row["class copy"] + row["class exact"]}
        lines.append([*(whole[name] for name in names), (row["auc"], *row["auc_interval"])])
    return table(header, lines)
