"""Score the queries of a result again and compare: does the result hold? (``verify REF --result DIR``)"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memorization_index.calibration import q_values
from memorization_index.cohort import Entry
from memorization_index.encoding import read_slices
from memorization_index.errors import MemorizationIndexError
from memorization_index.progress import Progress
from memorization_index.recognition import recognized
from memorization_index.scores import Columns, Scores
from memorization_index.scoring import Options, Query, score_queries

if TYPE_CHECKING:
    from memorization_index.reference import Reference

#: How far a number may be from the recorded one: other processors and library versions round differently.
SIMILARITY, NCC, P = 1e-4, 5e-3, 5e-3
#: MI may differ by what this much similarity makes of it, divided by the null's smallest deviation.
_MI_SIMILARITY = 5e-4
#: Half of the last decimal that tables have.
_WRITTEN = 5e-7


@dataclass
class Recheck:
    """What a comparison found: one sentence for each thing that does not hold, and how much was compared."""

    problems: list[str] = field(default_factory=list)
    volumes: int = 0
    slices: int = 0
    #: Largest absolute difference of each compared number.
    largest: dict[str, float] = field(default_factory=dict)


def recheck(
    reference: Reference,
    result: Path,
    queries: Sequence[str | Path] = (),
    volume: str | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Recheck:
    """Compare a result with what scoring its queries again gives.

    ``queries`` are where the query files are now (by default where the result says, if it kept paths); they are
    recognized by their SHA-256, whatever their names. ``volume``: compare this one alone. Similarity, MI, p and class
    are compared with newly computed ones, q with what the recorded p give.

    Raises :class:`MemorizationIndexError` where the result was made with another reference, or cannot be read.
    """
    options, progress = options or Options(), progress or Progress()
    scores, found = Scores.read(result), Recheck()
    if scores.run["reference"]["fingerprint"] != reference.fingerprint:
        raise MemorizationIndexError(
            f"{result}: was made with the reference {scores.run['reference']['fingerprint']}, not with this one "
            f"({reference.fingerprint}); expected the same, so name the other one."
        )
    names = [str(name) for name in scores.volumes["volume"]]
    if volume is not None and volume not in names:
        raise MemorizationIndexError(f"--volume {volume}: is not in {result}; expected a name of its volumes.csv.")
    _check_q(scores, found)
    wanted = names if volume is None else [volume]
    there = recognized(scores, queries, options.key, progress)
    entries = {name: there[name] for name in wanted if name in there}
    found.problems += [
        f"{name}: no file that was given has the SHA-256 that the result recorded for it."
        for name in wanted
        if name not in there
    ]
    if entries:
        again = score_queries(reference, _read(scores, entries, progress), [], options, progress)
        for name in entries:
            _compare(reference, scores, again, name, found)
    return found


def _check_q(scores: Scores, found: Recheck) -> None:
    for table, columns in (("slices.csv", scores.slices), ("volumes.csv", scores.volumes)):
        expected, recorded = q_values(columns["p_value"]), columns["q_value"]
        allowed = _WRITTEN * (1 + len(expected))
        if not np.allclose(expected, recorded, rtol=0, atol=allowed, equal_nan=True):
            found.problems.append(f"{table}: its q-values are not those of its p-values.")


def _read(scores: Scores, entries: dict[str, Entry], progress: Progress) -> Iterator[Query]:
    progress.begin("comparing with the training set", len(entries), "volumes")
    for name, entry in entries.items():
        plane = str(scores.slices["plane"][scores.slices["volume"] == name][0])
        volume, stack = read_slices(entry, plane)
        yield Query(name, stack, str(entry.path), volume.grid)


def _compare(reference: Reference, scores: Scores, again: Scores, name: str, found: Recheck) -> None:
    old, new = (_rows(s.slices, name) for s in (scores, again))
    if list(old["slice"]) != list(new["slice"]):
        found.problems.append(f"{name}: has other slices ({len(new['slice'])}) than recorded ({len(old['slice'])}).")
        return
    calibration = reference.manifest["calibration"]
    mi, p, volume_p = np.inf, P, P
    if calibration["calibrated"]:
        mi = _MI_SIMILARITY / reference.null.smallest_deviation
        p = max(P, 2 * calibration["smallest_slice_p"])
        volume_p = max(P, calibration["smallest_volume_p"] / 2)
    for column, allowed in (("similarity", SIMILARITY), ("mi", mi), ("p_value", p)):
        _compare_numbers(f"{name}, slices", column, old[column], new[column], allowed, found)
    _compare_classes(name, old, new, calibration["thresholds"], found)
    old, new = (_rows(s.volumes, name) for s in (scores, again))
    if calibration["calibrated"]:  # a volume's MI has a null of its own
        mi /= float(old["null_deviation"][0])
    for column, allowed in (("mi", mi), ("p_value", volume_p)):
        _compare_numbers(name, column, old[column], new[column], allowed, found)
    # Whether p counts is decided by all images of a run together, so only all of them give the same verdict.
    whole = len(again.volumes["volume"]) == len(scores.volumes["volume"])
    if whole and old["verdict"][0] != new["verdict"][0]:
        found.problems.append(f"{name}: verdict is {new['verdict'][0]}, recorded {old['verdict'][0]}.")
    found.volumes += 1
    found.slices += int((scores.slices["volume"] == name).sum())


def _rows(table: Columns, name: str) -> Columns:
    own = table["volume"] == name
    return {column: values[own] for column, values in table.items()}


def _compare_numbers(where: str, column: str, old: np.ndarray, new: np.ndarray, allowed: float, found: Recheck) -> None:
    old, new = old.astype(float), new.astype(float)
    if (np.isnan(old) != np.isnan(new)).any():
        found.problems.append(f"{where}: {column} is given where it was not recorded, or the reverse.")
        return
    difference = float(np.nanmax(np.abs(old - new))) if np.isfinite(old).any() else 0.0
    found.largest[column] = max(found.largest.get(column, 0.0), difference)
    if difference > allowed + _WRITTEN:
        found.problems.append(f"{where}: {column} differs by up to {difference:.6f} (allowed {allowed:.6f}).")


def _compare_classes(name: str, old: Columns, new: Columns, thresholds: dict[str, float], found: Recheck) -> None:
    """Classes must be the same, but where the recorded agreement lies on a threshold."""
    near = np.zeros(len(old["slice"]), bool)
    for threshold, column in (
        ("copy_ncc", "ncc"),
        ("altered_ncc", "ncc"),
        ("rescan_ncc", "ncc"),
        ("altered_part", "part"),
    ):
        if threshold in thresholds and column in old:
            near |= np.abs(old[column].astype(float) - thresholds[threshold]) <= NCC
    other = (old["match_class"] != new["match_class"]) & ~near
    for i in np.flatnonzero(other):
        found.problems.append(
            f"{name}, slice {old['slice'][i]}: class is '{new['match_class'][i]}', recorded '{old['match_class'][i]}'."
        )
