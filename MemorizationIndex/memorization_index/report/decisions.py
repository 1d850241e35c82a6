"""The reader's decisions, as the Slicer panel exports them beside a result: ``decisions.csv``."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from memorization_index.errors import MemorizationIndexError
from memorization_index.report.markup import table, text
from memorization_index.words import plural

FILE = "decisions.csv"


@dataclass(frozen=True)
class Decision:
    """What a reader decided on a volume, or on one of its slices (``slice`` is empty for the whole volume)."""

    volume: str
    slice: str
    decision: str
    note: str = ""
    time: str = ""
    reader: str = ""


_COLUMNS = tuple(field.name for field in fields(Decision))


def read_decisions(path: Path) -> list[Decision]:
    """The decisions in a CSV file with the columns of :class:`Decision`; none where there is no file.

    Raises :class:`MemorizationIndexError` where it is not such a table.
    """
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
            missing = [name for name in ("volume", "slice", "decision") if name not in (reader.fieldnames or [])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise MemorizationIndexError(
            f"{path}: is not a table ({error}); expected CSV in UTF-8, so export the decisions again."
        ) from error
    if missing:
        raise MemorizationIndexError(
            f"{path}: has no column {', '.join(missing)}; expected {', '.join(_COLUMNS)}, so export them again."
        )
    return [Decision(**{name: (row.get(name) or "").strip() for name in _COLUMNS}) for row in rows]


def of_volume(decisions: Sequence[Decision], volume: str) -> list[Decision]:
    """The decisions on a volume and its slices, the volume's first."""
    own = [d for d in decisions if d.volume == volume]
    return sorted(own, key=lambda d: (d.slice != "", len(d.slice), d.slice))  # text of any kind, numbers in order


def summary(decisions: Sequence[Decision], volumes: Sequence[str]) -> str:
    """How many volumes were read, and what was decided, as a paragraph; empty without decisions."""
    if not decisions:
        return ""
    latest = {d.volume: d.decision for d in decisions if not d.slice and d.volume in set(volumes)}
    counts = Counter(latest.values())
    said = ", ".join(f"{count} {text(decision)}" for decision, count in sorted(counts.items()))
    more = sum(1 for d in decisions if d.slice and d.volume in set(volumes))
    slices = f"; {more} {plural('decision', more)} on single slices" if more else ""
    return (
        f"<p>Read by people: {len(latest)} of {len(volumes)} {plural('image', len(volumes))}"
        f"{f' ({said})' if said else ''}{slices}.</p>"
    )


def decisions_table(decisions: Sequence[Decision]) -> str:
    """The decisions on one volume as a table; empty without any."""
    if not decisions:
        return ""
    rows = [
        [text(value) for value in (f"slice {d.slice}" if d.slice else "image", d.decision, d.note, d.reader, d.time)]
        for d in decisions
    ]
    return table(("On", "Reader's decision", "Note", "Reader", "Time"), rows, "the reader's decisions")
