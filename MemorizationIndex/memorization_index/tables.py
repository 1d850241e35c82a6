"""Tables and lists of files, as people and spreadsheets write them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from memorization_index.errors import MemorizationIndexError

#: Tables of a million files stay below it.
_MAXIMUM_SIZE = 256 << 20


def read_list(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    lines = [line.strip() for line in _text(path).splitlines()]
    if not any(lines):
        raise MemorizationIndexError(f"{path}: is empty; expected one path a line, so add the files.")
    return list(filter(None, lines))


def read_table(path: Path) -> tuple[list[dict[str, str]], str]:
    """Rows of a table with lower-case column names, and the name of its path column; at least one row.

    Columns are separated by commas, semicolons or tabs, whichever the first line has most of.
    """
    text = _text(path)
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    try:
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
        rows = [{key: (value or "").strip() for key, value in row.items() if isinstance(key, str)} for row in reader]
    except csv.Error as error:
        raise MemorizationIndexError(
            f"{path}: is not a table ({error}); expected CSV or TSV, so save it again."
        ) from error
    column = next((c for c in ("path", "file") if c in reader.fieldnames), None)
    if column is None:
        raise MemorizationIndexError(
            f"{path}: has columns {shown(reader.fieldnames)}; expected a column 'path' or 'file' "
            f"(optional 'subject' or 'subject_id', 'volume' or 'scan_id'), so rename the one that holds the files."
        )
    rows = [row for row in rows if row[column]]
    if not rows:
        raise MemorizationIndexError(f"{path}: has no row with a {column}; expected one row a file, so add the files.")
    return rows, column


def shown(names: Iterable[str]) -> str:
    """Names of columns for a sentence, however many or long they are."""
    return ", ".join(repr(name)[1:-1] for name in names)[:200] or "none"


def _text(path: Path) -> str:
    if path.stat().st_size > _MAXIMUM_SIZE:
        raise MemorizationIndexError(
            f"{path}: has more than {_MAXIMUM_SIZE >> 20} MiB; expected a table or list of files, so check the file."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise UnicodeDecodeError("utf-8", b"\0", 0, 1, "a zero byte")
        return text
    except UnicodeDecodeError as error:
        raise MemorizationIndexError(
            f"{path}: is not UTF-8 text; expected CSV, TSV or a list in UTF-8, so save it as 'CSV UTF-8'."
        ) from error
