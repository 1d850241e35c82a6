"""Score the queries of a result again and compare: does the result hold? (``verify REF --result DIR``)"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memorization_index.cohort import Entry
from memorization_index.consistency import WRITTEN, contradictions
from memorization_index.encoding import read_slices
from memorization_index.errors import MemorizationIndexError
from memorization_index.progress import Progress
from memorization_index.pseudonyms import Key
from memorization_index.recognition import recognized
from memorization_index.scores import Columns, Scores
from memorization_index.scoring import Options, Query, score_queries
from memorization_index.verdicts import VERIFIED

if TYPE_CHECKING:
    from memorization_index.reference import Reference

#: How far a number may be from the recorded one: other processors and library versions round differently.
SIMILARITY, NCC, P = 1e-4, 5e-3, 5e-3
#: MI may differ by what this much similarity makes of it, divided by the null's smallest deviation.
_MI_SIMILARITY = 5e-4
_MATCH = ("match_subject", "match_volume", "match_slice")
#: What run.json has from the reference.
_FROM_REFERENCE = ("protocol", "parameters", "encoder", "seed", "calibration", "controls", "power", "null_from")
#: Which classes lie on both sides of a threshold of which number: on it, rounding may decide.
_SIDES = (
    ("copy_ncc", "ncc", {"copy", "altered copy"}),
    ("altered_ncc", "ncc", {"altered copy", "same anatomy", "novel"}),
    ("altered_part", "part", {"altered copy", "novel"}),
    ("rescan_ncc", "ncc", {"copy", "altered copy", "same anatomy"}),
)


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
    recognized by their SHA-256, whatever their names. ``volume``: compare this one alone. Similarity, MI, p, class and
    verified matches are compared with newly computed ones; everything else must follow from what is recorded.

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
    found.problems += contradictions(scores, result)
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
        if scores.run["inputs"].get("keyed") and options.key:
            _give_pseudonyms(again, Key.load(options.key))
        _compare_runs(scores, again, found)
        for name in entries:
            _compare(reference, scores, again, name, found)
    return found


def _read(scores: Scores, entries: dict[str, Entry], progress: Progress) -> Iterator[Query]:
    progress.begin("comparing with the training set", len(entries), "volumes")
    for name, entry in entries.items():
        plane = str(scores.slices["plane"][scores.slices["volume"] == name][0])
        volume, stack = read_slices(entry, plane)
        yield Query(name, stack, str(entry.path), volume.grid)


def _give_pseudonyms(again: Scores, key: Key) -> None:
    """Name training volumes as a result under pseudonyms does, unless the reference has pseudonyms itself."""
    if again.run["reference"]["pseudonymized"]:
        return
    for column, kind in (("match_subject", "subject"), ("match_volume", "volume")):
        again.slices[column] = np.array([key.pseudonym(kind, str(n)) for n in again.slices[column]], object)


def _is_whole(scores: Scores, again: Scores) -> bool:
    """Whether all images were scored again: together they decide whether p counts, and so each one's verdict."""
    return len(again.volumes["volume"]) == len(scores.volumes["volume"])


def _compare_runs(scores: Scores, again: Scores, found: Recheck) -> None:
    found.problems += [
        f"run.json: its {key} is not what the reference has."
        for key in _FROM_REFERENCE
        if scores.run.get(key) != again.run[key]
    ]
    is_, was = ((run.get("generator") or {}).get("p_calibrated") for run in (again.run, scores.run))
    if _is_whole(scores, again) and is_ != was:
        found.problems.append(f"run.json: whether p is calibrated for the generator is {is_}, recorded {was}.")


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
    _compare_matches(name, old, new, found)
    old, new = (_rows(s.volumes, name) for s in (scores, again))
    if calibration["calibrated"]:  # a volume's MI has a null of its own
        mi /= float(new["null_deviation"][0])
    for column, allowed in (("mi", mi), ("p_value", volume_p), ("null_mean", P), ("null_deviation", P)):
        _compare_numbers(name, column, old[column], new[column], allowed, found)
    if _is_whole(scores, again) and old["verdict"][0] != new["verdict"][0]:
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
    if difference > allowed + WRITTEN:
        found.problems.append(f"{where}: {column} differs by up to {difference:.6f} (allowed {allowed:.6f}).")


def _compare_classes(name: str, old: Columns, new: Columns, thresholds: dict[str, float], found: Recheck) -> None:
    """Classes must be the same, but where the agreement lies on the threshold between the two."""
    for i in np.flatnonzero(old["match_class"] != new["match_class"]):
        both = {old["match_class"][i], new["match_class"][i]}
        if not any(
            both <= sides and abs(float(new[column][i]) - thresholds[threshold]) <= NCC
            for threshold, column, sides in _SIDES
        ):
            found.problems.append(
                f"{name}, slice {old['slice'][i]}: class is '{new['match_class'][i]}', recorded "
                f"'{old['match_class'][i]}'."
            )


def _compare_matches(name: str, old: Columns, new: Columns, found: Recheck) -> None:
    """Verified matches must be the same training slices; others may change places where they are equally similar."""
    verified = np.isin(new["match_class"], VERIFIED)
    for i in np.flatnonzero(verified):
        is_, was = (tuple(str(rows[column][i]) for column in _MATCH) for rows in (new, old))
        if is_ != was:
            found.problems.append(
                f"{name}, slice {old['slice'][i]}: matches {' '.join(is_)}, recorded {' '.join(was)}."
            )
    for column in ("ncc", "part"):
        if verified.any():
            _compare_numbers(f"{name}, slices", column, old[column][verified], new[column][verified], NCC, found)
