"""Whether ``run.json`` says what the tables and the reference of a result give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from memorization_index.fraction import copied_fraction
from memorization_index.generator import bulk, compared
from memorization_index.provenance import digest_of
from memorization_index.runs import from_reference, smallest
from memorization_index.scores import Scores
from memorization_index.verdicts import FLAG_P, MatchClass, Verdict

if TYPE_CHECKING:
    from memorization_index.pseudonyms import Key
    from memorization_index.reference import Reference

#: Half of the last decimal that tables have.
WRITTEN = 5e-7
#: How far numbers that were computed from unrounded ones may be.
_ROUNDED = 1e-3


def another_reference(scores: Scores, reference: Reference) -> str:
    """What is wrong where a record does not name this reference, else nothing."""
    recorded = scores.run.get("reference")
    named = recorded.get("fingerprint") if isinstance(recorded, dict) else None
    if named == reference.fingerprint:
        return ""
    return (
        f"was made with the reference {named} by its run.json, not with this one ({reference.fingerprint}); name that "
        f"one, unless run.json was changed."
    )


def is_without_inputs(scores: Scores) -> bool:
    """Whether the files that a record counts are not in ``inputs.csv``."""
    return not scores.inputs and bool(scores.run["inputs"]["files"])


def p_is_read(scores: Scores) -> bool:
    """Whether p decides anything: not where it was found to be wrong for the images' generator."""
    return (scores.run.get("generator") or {}).get("p_calibrated") is not False


def against_tables(scores: Scores) -> Iterator[str]:
    """What the record says otherwise than the tables."""
    run, counts = scores.run, scores.run["counts"]
    counted = {str(v): int((scores.volumes["verdict"] == str(v)).sum()) for v in Verdict}
    if run["verdicts"] != counted:
        yield f"run.json: counts other verdicts ({run['verdicts']}) than volumes.csv has ({counted})."
    flagged = int(scores.slices["flagged"].sum())
    if counts["flagged"] != flagged:
        yield f"run.json: counts {counts['flagged']} flagged slices, slices.csv has {flagged}."
    if counts["skipped"] != len(run["skipped"]):
        yield f"run.json: counts {counts['skipped']} skipped files and lists {len(run['skipped'])}."
    unverified = int((scores.slices["match_class"] == str(MatchClass.UNVERIFIED)).sum())
    if unverified and not counts["training_volumes_missing"]:
        yield f"run.json: counts no training volume as missing, though {unverified} slices could not be verified."
    digest = digest_of(scores.inputs)
    if any(run["inputs"][key] != digest[key] for key in ("files", "sha256")):
        yield "run.json: its inputs are not those of inputs.csv."
    if scores.inputs and {one.volume for one in scores.inputs} != set(scores.volumes["volume"]):
        yield "inputs.csv: has files of other images than volumes.csv."
    yield from _fraction(scores)


def _fraction(scores: Scores) -> Iterator[str]:
    slices, recorded = scores.slices, scores.run["copied_fraction"]
    p = slices["p_value"] if p_is_read(scores) else np.full(len(slices["p_value"]), np.nan)
    if (np.abs(p - FLAG_P) <= WRITTEN).any():
        return  # rounding decides what counts
    expected = asdict(copied_fraction(p, slices["match_class"], slices["volume"]))
    # Volumes are drawn in the order of their names, which pseudonyms change.
    compared_keys = ("value", "units") if scores.run["inputs"].get("keyed") else tuple(expected)
    for key in compared_keys:
        if not np.isclose(expected[key], recorded[key], rtol=0, atol=2 * WRITTEN):
            yield f"run.json: copied_fraction's {key} is {expected[key]:g} by slices.csv, recorded {recorded[key]:g}."


def against_reference(scores: Scores, reference: Reference) -> Iterator[str]:
    """What the record says otherwise than the reference."""
    run, expected = scores.run, from_reference(reference)
    own = expected.pop("reference")
    del own["path"]
    yield from _others("", expected, run)
    yield from _others("reference.", own, run["reference"])
    missing, volumes = run["counts"]["training_volumes_missing"], own["counts"]["volumes"]
    if not 0 <= missing <= volumes:
        yield f"run.json: counts {missing} training volumes as missing, the reference has {volumes}."
    calibration = reference.manifest["calibration"]
    if not calibration["calibrated"]:
        return
    counts = len(scores.slices["volume"]), len(scores.volumes["volume"])
    yield from _others("smallest.", smallest(calibration, *counts), run["smallest"])
    yield from _generator(scores, reference)


def strange_matches(scores: Scores, reference: Reference, key: Key | None) -> Iterator[str]:
    """Recorded matches that are no slices of the reference, or of another subject there.

    ``key``: of a result under pseudonyms, which are its own unless the reference has some.
    """
    subjects, numbers = _training_slices(reference, key)
    columns = ("volume", "slice", "match_subject", "match_volume", "match_slice")
    for name, number, subject, volume, matched in zip(*(scores.slices[column] for column in columns), strict=True):
        where = f"{name}, slice {number}: matches {volume}"
        if volume not in subjects:
            yield f"{where}, which the reference does not have."
        elif subjects[volume] != subject:
            yield f"{where} of {subject}, which in the reference is of {subjects[volume]}."
        elif int(matched) not in numbers[volume]:
            yield f"{where}, slice {matched}, which the reference does not have."


def _training_slices(reference: Reference, key: Key | None) -> tuple[dict[str, str], dict[str, set[int]]]:
    """The subject of each training volume, and the numbers of its slices, by the names that a result has for them."""

    def named(kind: str, name: str) -> str:
        return name if key is None or "pseudonyms" in reference.manifest else key.pseudonym(kind, name)

    names = [named("volume", volume.name) for volume in reference.volumes]
    subjects = {n: named("subject", volume.subject) for n, volume in zip(names, reference.volumes, strict=True)}
    numbers: dict[str, set[int]] = {name: set() for name in names}
    for place, number in zip(reference.slice_volume.tolist(), reference.slice_number.tolist(), strict=True):
        numbers[names[place]].add(number)
    return subjects, numbers


def _others(where: str, expected: dict[str, Any], recorded: dict[str, Any]) -> Iterator[str]:
    for key, value in expected.items():
        if recorded.get(key) != value:
            yield f"run.json: its {where}{key} is not what the reference has."


def _generator(scores: Scores, reference: Reference) -> Iterator[str]:
    """Whether p is calibrated for the images, by the recorded classes and MI."""
    slices, recorded = scores.slices, scores.run["generator"]
    chosen = bulk(slices["match_class"], slices["p_value"])
    expected = compared(reference.null, slices["mi"][chosen], slices["volume"][chosen].tolist())
    is_sure = not (np.abs(slices["p_value"] - FLAG_P) <= WRITTEN).any()  # else rounding decides what counts
    for key in expected if is_sure else ("p_calibrated",):
        if not _near(expected[key], recorded.get(key)):
            yield f"run.json: generator's {key} is {expected[key]} by the tables, recorded {recorded.get(key)}."


def _near(expected: Any, recorded: Any) -> bool:
    if isinstance(expected, float) and isinstance(recorded, float):
        return abs(expected - recorded) <= _ROUNDED
    return bool(expected == recorded)
