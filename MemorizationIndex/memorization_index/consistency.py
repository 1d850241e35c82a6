"""Whether the parts of a result say the same: what follows from recorded numbers, to their last decimal."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memorization_index._version import __version__
from memorization_index.calibration import oni, q_values
from memorization_index.errors import MemorizationIndexError
from memorization_index.limits import check_shape
from memorization_index.record import WRITTEN, against_reference, against_tables, p_is_read
from memorization_index.report import FILE, read_decisions, report
from memorization_index.scores import AGREEMENT, Columns, Scores
from memorization_index.scoring import volume_from_slices
from memorization_index.verdicts import COPIED, FLAG_P, VOLUME_P, MatchClass, Thresholds, is_flagged

if TYPE_CHECKING:
    from memorization_index.reference import Reference

_MATCH = ("match_subject", "match_volume", "agreement", "trajectory", "match_first", "match_last")
#: The kind of what keeps everything else from being compared.
PARTS = "parts"
#: Files of these formats have a voxel grid, on which maps lie.
_WITH_GRID = (".nii.gz", ".nii", ".nrrd", ".mha")
_PICTURE = re.compile(r"data:image/png;base64,([^\"]+)")


def contradictions(scores: Scores, folder: Path, reference: Reference | None = None) -> list[tuple[str, str]]:
    """For each part of a result that follows neither from the others nor from the reference: its kind, a sentence."""
    found = []
    try:
        for one in _contradictions(scores, folder, reference):
            found.append(one)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        found.append((PARTS, f"{folder}: its parts do not fit each other ({type(error).__name__}: {error})."))
    return found


def _contradictions(scores: Scores, folder: Path, reference: Reference | None) -> Iterator[tuple[str, str]]:
    yield from (("q and ONI", said) for said in _tables(scores))
    yield from (("flag", said) for said in _flags(scores))
    yield from (("class", said) for said in _classes(scores))
    yield from (("image", said) for said in _volumes(scores))
    yield from (("record", said) for said in against_tables(scores))
    if reference is not None:
        yield from (("record", said) for said in against_reference(scores, reference))
    yield from (("report", said) for said in _report(scores, folder))
    if _has_maps(scores) and not (folder / AGREEMENT).is_dir():
        yield "file", f"{AGREEMENT}/: is missing, though slices are copies; score writes their maps into it."


def _has_maps(scores: Scores) -> bool:
    """Whether there surely are maps of agreement: copied slices, of a file that has a grid."""
    copied = set(scores.slices["volume"][np.isin(scores.slices["match_class"], COPIED)])
    return any(one.volume in copied and one.file.endswith(_WITH_GRID) for one in scores.inputs)


def _tables(scores: Scores) -> Iterator[str]:
    for table, columns in (("slices.csv", scores.slices), ("volumes.csv", scores.volumes)):
        # q adds up rounded p, ONI is steepest at 0, where it follows MI one to one.
        if not _same(q_values(columns["p_value"]), columns["q_value"], WRITTEN * (1 + len(columns["q_value"]))):
            yield f"{table}: its q-values are not those of its p-values."
        if not _same(oni(columns["mi"]), columns["oni"], 2 * WRITTEN):
            yield f"{table}: its ONI are not those of its MI."


def _same(expected: NDArray[Any], recorded: NDArray[Any], allowed: float) -> bool:
    return np.allclose(expected.astype(float), recorded.astype(float), rtol=0, atol=allowed, equal_nan=True)


def _flags(scores: Scores) -> Iterator[str]:
    slices, read = scores.slices, p_is_read(scores)
    for i, (name, match_class, p) in enumerate(
        zip(slices["volume"], slices["match_class"], slices["p_value"], strict=True)
    ):
        if read and abs(p - FLAG_P) <= WRITTEN:
            continue
        expected = is_flagged(MatchClass(match_class), p if read else np.nan)
        if expected != bool(slices["flagged"][i]):
            said = "not flagged" if expected else "flagged"
            yield f"{name}, slice {slices['slice'][i]}: is {said}, against its class and p."


def _classes(scores: Scores) -> Iterator[str]:
    """Classes that the recorded agreement rules out."""
    slices, limits = scores.slices, Thresholds(**scores.run["calibration"]["thresholds"])
    columns = ("volume", "slice", "match_class", "ncc", "part")
    for name, number, match_class, ncc, part in zip(*(slices[column] for column in columns), strict=True):
        if not _can_be(MatchClass(match_class), ncc, part, limits):
            said = f"class '{match_class}'" if match_class else "no class"
            yield f"{name}, slice {number}: has {said}, against its NCC ({ncc:g}), part ({part:g}) and the thresholds."


def _can_be(match_class: MatchClass, ncc: float, part: float, limits: Thresholds) -> bool:
    """Whether a slice can have a class, by what of ``verdicts.classify`` follows from its agreement as it is written.

    Of an exact one only that it was compared: its pixels decide.
    """
    if match_class is MatchClass.UNVERIFIED or np.isnan(ncc):
        return match_class is MatchClass.UNVERIFIED and bool(np.isnan(ncc))
    may_be_part, is_part = (part >= limits.altered_part + written for written in (-WRITTEN, WRITTEN))
    low, high = {
        MatchClass.NOVEL: (-np.inf, -np.inf if is_part else limits.altered_ncc),
        MatchClass.SAME_ANATOMY: (limits.altered_ncc, limits.rescan_ncc),
        MatchClass.ALTERED: (-np.inf if may_be_part else limits.altered_ncc, limits.copy_ncc),
        MatchClass.COPY: (limits.copy_ncc, np.inf),
        MatchClass.EXACT: (-np.inf, np.inf),
    }[match_class]
    return bool(low - WRITTEN <= ncc <= high + WRITTEN)


def _volumes(scores: Scores) -> Iterator[str]:
    """Rows of volumes that are not what their slices give."""
    volumes, names = scores.volumes, scores.slices["volume"]
    trusted = bool(scores.run["calibration"]["calibrated"]) and p_is_read(scores)
    for row, name in enumerate(volumes["volume"]):
        own = {column: values[names == name] for column, values in scores.slices.items()}
        p = float(volumes["p_value"][row]) if trusted else np.nan
        expected = volume_from_slices(own, p, trusted)
        skipped = {*_MATCH, "verdict"} if _is_tied(own, scores.run["inputs"].get("keyed", False)) else set()
        if abs(p - VOLUME_P) <= WRITTEN:
            skipped.add("verdict")
        for column in expected.keys() - skipped:
            if not _agree(expected[column], volumes[column][row]):
                yield (
                    f"{name}: {column} is {_shown(expected[column])} by its slices, recorded "
                    f"{_shown(volumes[column][row])}."
                )


def _is_tied(own: Columns, keyed: bool) -> bool:
    """Whether it cannot be known from here which training volume is named: of several in most flagged slices the first
    one by its name, which pseudonyms hide; without flagged slices that of the most similar one, to more decimals."""
    if own["flagged"].any():
        named = Counter(own["match_volume"][own["flagged"]])
        return keyed and list(named.values()).count(max(named.values())) > 1
    similarity = own["similarity"]
    return int((similarity >= similarity.max() - 2 * WRITTEN).sum()) > 1


def _agree(expected: Any, recorded: Any) -> bool:
    if isinstance(expected, str):
        return bool(expected == recorded)
    return bool(np.isclose(expected, recorded, rtol=0, atol=2 * WRITTEN, equal_nan=True))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _report(scores: Scores, folder: Path) -> Iterator[str]:
    """There is a report; that of this version says what the tables say, with the decisions beside it or without."""
    path = folder / "report.html"
    if not path.is_file():
        yield "report.html: is missing; score writes one."
        return
    if scores.run["version"] != __version__:
        return
    try:
        recorded = _with_pixels(path.read_text(encoding="utf-8"))
        expected = [_with_pixels(report(scores, decisions)) for decisions in (read_decisions(folder / FILE), ())]
    except (
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        ValueError,
        OverflowError,
        OSError,
        MemorizationIndexError,
    ):
        recorded, expected = "", []
    if recorded not in expected:
        yield (
            f"report.html: does not say or show what the tables and pictures do (with the decisions in {FILE}, or "
            f"without): either they or the report were changed."
        )


def _with_pixels(page: str) -> str:
    """A report with its pictures' pixels: libraries compress them differently."""
    from PIL import Image

    def pixels(found: re.Match[str]) -> str:
        with Image.open(io.BytesIO(base64.b64decode(found[1])), formats=("PNG",)) as picture:
            check_shape(Path("report.html"), picture.size)
            return f"{picture.mode} {picture.size} {hashlib.sha256(picture.tobytes()).hexdigest()}"

    return _PICTURE.sub(pixels, page)
