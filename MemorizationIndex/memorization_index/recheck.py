"""Score the queries of a result again and compare: does the result hold? (``verify REF --result DIR``)"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memorization_index.cohort import Entry
from memorization_index.consistency import PARTS, contradictions
from memorization_index.encoding import read_slices
from memorization_index.errors import MemorizationIndexError
from memorization_index.progress import Progress
from memorization_index.pseudonyms import Key
from memorization_index.recognition import Given, given
from memorization_index.record import WRITTEN, another_reference, is_without_inputs, strange_matches
from memorization_index.scores import Columns, Scores
from memorization_index.scoring import Options, Query, score_queries
from memorization_index.verdicts import VERIFIED, MatchClass
from memorization_index.words import counted, shortened

if TYPE_CHECKING:
    from memorization_index.reference import Reference

#: How far a number may be from the recorded one: other processors and library versions round differently.
SIMILARITY, NCC, P = 1e-4, 5e-3, 5e-3
#: MI may differ by what this much similarity makes of it, divided by the null's smallest deviation.
_MI_SIMILARITY = 5e-4
_MATCH = ("match_subject", "match_volume", "match_slice")
#: So many files of a kind are named.
_NAMED = 5
#: Which classes lie on both sides of a threshold of which number: on it, rounding may decide.
_SIDES = (
    ("copy_ncc", "ncc", {"copy", "altered copy"}),
    ("altered_ncc", "ncc", {"altered copy", "same anatomy", "novel"}),
    ("altered_part", "part", {"altered copy", "novel"}),
    ("rescan_ncc", "ncc", {"copy", "altered copy", "same anatomy"}),
)


@dataclass
class Recheck:
    """What a comparison found: for each thing that does not hold its kind and a sentence, and how much was compared.

    ``unchecked``: slices whose class, match and NCC could not be checked, since the training images are not here, and
    the first ``reason``; ``unclassed``: those that have no class in the result either. ``whole``: how many volumes the
    result has.
    """

    problems: list[tuple[str, str]] = field(default_factory=list)
    volumes: int = 0
    slices: int = 0
    unchecked: int = 0
    unclassed: int = 0
    reason: str = ""
    whole: int = 0
    #: Largest absolute difference of each compared number.
    largest: dict[str, float] = field(default_factory=dict)

    def add(self, kind: str, sentence: str) -> None:
        """Note something that does not hold."""
        self.problems.append((kind, sentence))


def recheck(
    reference: Reference,
    result: Path,
    queries: Sequence[str | Path] = (),
    volume: str | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
    result_key: Path | None = None,
) -> Recheck:
    """Compare a result with what scoring its queries again gives.

    ``queries`` are where the query files are now (by default where the result says, if it kept paths); they are
    recognized by their SHA-256, whatever their names, and none that can be examined may be left out of the result.
    ``volume``: compare this one alone. ``result_key``: the key of a result under pseudonyms, where it is not that of
    the reference (``options.key``). Similarity, MI, p, class and verified matches are compared with newly computed
    ones; everything else must follow from what is recorded. Without the training images classes and matches are only
    compared with the recorded NCC and with what the reference has.

    Raises :class:`MemorizationIndexError` where a key, the images, or the ``volume`` are not those of the result.
    """
    options, progress = options or Options(), progress or Progress()
    key = result_key or options.key
    scores, found = _whole_result(result, reference)
    if scores is None:
        return found
    names = [str(name) for name in scores.volumes["volume"]]
    if volume is not None and volume not in names:
        raise MemorizationIndexError(f"--volume {volume}: is not in {result}; expected a name of its volumes.csv.")
    found.whole = len(names)
    wanted = names if volume is None else [volume]
    there = given(scores, queries, key, progress)
    if key and scores.run["inputs"]["keyed"] and not there.entries:
        raise MemorizationIndexError(
            f"--queries: under the key {key} none of the {len(there.others)} images given is one of the result's; "
            f"expected the key that the result was written with, and the images that were examined."
        )
    pseudonyms = Key.load(key) if key and scores.run["inputs"]["keyed"] else None
    found.problems += [("match", said) for said in strange_matches(scores, reference, pseudonyms)]
    entries = {name: there.entries[name] for name in wanted if name in there.entries}
    for name in wanted:
        if name not in entries:
            found.add("file", f"{name}: no file that was given has the SHA-256 that the result recorded for it.")
    if queries and volume is None:
        _compare_files(scores, there, found)
    if not scores.run["inputs"]["keyed"]:
        _tell_renamed(scores, entries, progress)
    if entries:
        quiet = _Quiet(progress)
        again = score_queries(reference, _read(scores, entries, progress), [], options, quiet)
        if pseudonyms is not None:
            _give_pseudonyms(again, pseudonyms)
        for name in entries:
            _compare(reference, scores, again, name, found)
        if found.unchecked:
            found.reason = next(iter(quiet.warnings), "")
        elif _is_whole(scores, again):
            _compare_judgments(scores, again, found)
    return found


def _whole_result(folder: Path, reference: Reference) -> tuple[Scores | None, Recheck]:
    """A result whose parts fit each other and this reference, as far as images can be compared with it; else None."""
    found = Recheck()
    try:
        scores = Scores.read(folder)
    except MemorizationIndexError as error:
        found.add("file", str(error))
        return None, found
    if problem := another_reference(scores, reference):
        found.add("reference", f"{folder}: {problem}")
        return None, found
    found.problems += contradictions(scores, folder, reference)
    cannot_go_on = any(kind == PARTS for kind, _ in found.problems) or is_without_inputs(scores)
    return (None if cannot_go_on else scores), found


def _compare_files(scores: Scores, there: Given, found: Recheck) -> None:
    """What was given is in the result, unless it cannot be examined; so much, at least, the result may leave out."""
    plane = str(scores.slices["plane"][0])
    left_out = [entry.name for entry in there.others if _can_be_examined(entry, plane)]
    if left_out:
        some = "1 of the files given is" if len(left_out) == 1 else f"{len(left_out)} of the files given are"
        found.add("file", f"{some} not in this result: {shortened(left_out, _NAMED)}.")
    skipped, unusable = len(scores.run["skipped"]), there.skipped + len(there.others) - len(left_out)
    if skipped > unusable:
        found.add(
            "file",
            f"run.json: says that {counted(skipped, 'file')} could not be examined; of the files given {unusable} "
            f"cannot.",
        )


def _can_be_examined(entry: Entry, plane: str) -> bool:
    try:
        read_slices(entry, plane)
    except MemorizationIndexError:
        return False
    return True


def _tell_renamed(scores: Scores, entries: dict[str, Entry], progress: Progress) -> None:
    recorded: dict[str, str] = {}
    for one in scores.inputs:
        recorded.setdefault(one.volume, Path(one.file).name)
    renamed = [f"{e.path.name} is {name}" for name, e in entries.items() if e.path.name != recorded[name]]
    if renamed:
        progress.warning(
            f"{counted(len(renamed), 'image')} recognized by SHA-256 under another name: {shortened(renamed, _NAMED)}."
        )


class _Quiet(Progress):
    """Passes on how far the work is, and keeps what scoring warns of: what follows for a result is said once."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress, self.warnings = progress, list[str]()

    def begin(self, stage: str, total: int, unit: str) -> None:
        self._progress.begin(stage, total, unit)

    def advance(self, steps: int = 1) -> None:
        self._progress.advance(steps)

    def check(self) -> None:
        self._progress.check()

    def warning(self, message: str) -> None:
        self.warnings.append(message)


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


def _compare_judgments(scores: Scores, again: Scores, found: Recheck) -> None:
    """What all images together decide."""
    is_, was = (run["counts"]["training_volumes_missing"] for run in (again.run, scores.run))
    if was and not is_:
        found.add("record", f"run.json: counts {counted(was, 'training volume')} as missing, none is.")
    is_, was = ((run.get("generator") or {}).get("p_calibrated") for run in (again.run, scores.run))
    if is_ != was:
        found.add("record", f"run.json: whether p is calibrated for the generator is {is_}, recorded {was}.")
    for name, new, old in zip(
        scores.volumes["volume"], _verdicts_by_name(scores, again), scores.volumes["verdict"], strict=True
    ):
        if new != old:
            found.add("verdict", f"{name}: verdict is {new}, recorded {old}.")


def _verdicts_by_name(scores: Scores, again: Scores) -> list[str]:
    """The new verdicts, in the order of the result's volumes."""
    new = dict(zip(again.volumes["volume"], again.volumes["verdict"], strict=True))
    return [new[name] for name in scores.volumes["volume"]]


def _compare(reference: Reference, scores: Scores, again: Scores, name: str, found: Recheck) -> None:
    old, new = (_rows(s.slices, name) for s in (scores, again))
    if list(old["slice"]) != list(new["slice"]):
        found.add("slice", f"{name}: has other slices ({len(new['slice'])}) than recorded ({len(old['slice'])}).")
        return
    calibration = reference.manifest["calibration"]
    mi, p, volume_p = np.inf, P, P
    if calibration["calibrated"]:
        mi = _MI_SIMILARITY / reference.null.smallest_deviation
        p = max(P, 2 * calibration["smallest_slice_p"])
        volume_p = max(P, calibration["smallest_volume_p"] / 2)
    for column, allowed in (("similarity", SIMILARITY), ("mi", mi), ("p_value", p)):
        _compare_numbers(f"{name}, slices", column, old[column], new[column], allowed, found)
    found.unclassed += int((old["match_class"] == str(MatchClass.UNVERIFIED)).sum())
    _compare_classes(name, old, new, calibration["thresholds"], found)
    _compare_matches(name, old, new, found)
    old, new = (_rows(s.volumes, name) for s in (scores, again))
    if calibration["calibrated"]:  # a volume's MI has a null of its own
        mi /= float(new["null_deviation"][0])
    for column, allowed in (("mi", mi), ("p_value", volume_p), ("null_mean", P), ("null_deviation", P)):
        _compare_numbers(name, column, old[column], new[column], allowed, found)
    found.volumes += 1
    found.slices += int((scores.slices["volume"] == name).sum())


def _rows(table: Columns, name: str) -> Columns:
    own = table["volume"] == name
    return {column: values[own] for column, values in table.items()}


def _compare_numbers(where: str, column: str, old: np.ndarray, new: np.ndarray, allowed: float, found: Recheck) -> None:
    old, new = old.astype(float), new.astype(float)
    if (np.isnan(old) != np.isnan(new)).any():
        found.add(column, f"{where}: {column} is given where it was not recorded, or the reverse.")
        return
    difference = float(np.nanmax(np.abs(old - new))) if np.isfinite(old).any() else 0.0
    found.largest[column] = max(found.largest.get(column, 0.0), difference)
    if difference > allowed + WRITTEN:
        found.add(column, f"{where}: {column} differs by up to {difference:.6f} (allowed {allowed:.6f}).")


def _compare_classes(name: str, old: Columns, new: Columns, thresholds: dict[str, float], found: Recheck) -> None:
    """Classes must be the same, but where the agreement lies on the threshold between the two.

    Where only the recorded one was verified, the training images are not here: that is not checked.
    """
    for i in np.flatnonzero(old["match_class"] != new["match_class"]):
        both = {old["match_class"][i], new["match_class"][i]}
        if new["match_class"][i] == MatchClass.UNVERIFIED:
            found.unchecked += 1  # in consistency it was compared with what is recorded
        elif not any(
            both <= sides and abs(float(new[column][i]) - thresholds[threshold]) <= NCC
            for threshold, column, sides in _SIDES
        ):
            found.add(
                "class",
                f"{name}, slice {old['slice'][i]}: class is '{new['match_class'][i]}', recorded "
                f"'{old['match_class'][i]}'.",
            )


def _compare_matches(name: str, old: Columns, new: Columns, found: Recheck) -> None:
    """Verified matches must be the same training slices; others may change places where they are equally similar."""
    verified = np.isin(new["match_class"], VERIFIED)
    for i in np.flatnonzero(verified):
        is_, was = (tuple(str(rows[column][i]) for column in _MATCH) for rows in (new, old))
        if is_ != was:
            found.add("match", f"{name}, slice {old['slice'][i]}: matches {' '.join(is_)}, recorded {' '.join(was)}.")
    for column in ("ncc", "part"):
        if verified.any():
            _compare_numbers(f"{name}, slices", column, old[column][verified], new[column][verified], NCC, found)
