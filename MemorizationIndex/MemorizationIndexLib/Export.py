"""A result and its decisions → a folder like the command line's."""

import csv
import io
import json
from pathlib import Path

from memorization_index.errors import MemorizationIndexError
from memorization_index.privacy import without_places
from slicer.i18n import tr as _

from .Review import COLUMNS

#: The column that tables of the result get: what the reader decided.
DECISION_COLUMN = "reader_decision"


class Export:
    """Writes the result folder that the worker once wrote, from the scene, with what the reader decided.

    ``decisions.csv`` has all of it; ``volumes.csv`` and ``slices.csv`` get a column. The worker then makes the report.
    """

    def __init__(self, results, review):
        self._results, self._review = results, review

    def writing(self, folder):
        """Generator: write into ``folder``, a file a step."""
        files = self._results.files
        names = files.names()
        if "run.json" not in names:
            raise MemorizationIndexError(_("There is no result to write; press Apply first."))
        _checkPlace(folder)
        decisions = self._review.rows()
        if not decisions and _decided(folder / "decisions.csv"):
            raise MemorizationIndexError(
                _("{folder}: has decisions of an earlier reading, and here are none; choose another folder.").format(
                    folder=folder
                )
            )
        yield 0
        for _name in files.extracting(folder):
            yield 0
        _withoutPlaces(folder)
        (folder / "decisions.csv").write_text(_csv(COLUMNS, decisions), encoding="utf-8", newline="")
        for table in ("volumes", "slices"):
            _addDecisions(folder / f"{table}.csv", decisions)
            yield 0


def _checkPlace(folder):
    """Refuse a folder whose files would be overwritten by mistake."""
    foreign = folder.is_dir() and any(folder.iterdir()) and not (folder / "run.json").is_file()
    if foreign or folder.is_file():
        raise MemorizationIndexError(
            _("{folder}: holds other files; choose an empty folder, or one that has an earlier result.").format(
                folder=folder
            )
        )


def _decided(path):
    """Whether a file holds decisions."""
    return path.is_file() and bool(_read(path)[1])


def _withoutPlaces(folder):
    """Name files without the folders they lie in, as the command line does: the scene needs those, others do not."""
    for name, column in (("volumes.csv", "path"), ("inputs.csv", "file")):
        if (folder / name).is_file():
            columns, rows = _read(folder / name)
            for row in rows:
                row[column] = Path(row[column]).name
            (folder / name).write_text(_csv(columns, rows), encoding="utf-8", newline="")
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    if run.get("reference"):
        run["reference"]["path"] = None
    for skipped in run.get("skipped", ()):
        skipped["reason"] = without_places(skipped["reason"], skipped["path"])
        skipped["path"] = Path(skipped["path"]).name
    text = json.dumps(run, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / "run.json").write_text(text + "\n", encoding="utf-8", newline="\n")


def _addDecisions(path, decisions):
    known = {(row["volume"], row["slice"]): row["decision"] for row in decisions}
    columns, rows = _read(path)
    columns = [name for name in columns if name != DECISION_COLUMN]
    for row in rows:
        row[DECISION_COLUMN] = known.get((row["volume"], row.get("slice", "")), "")
    path.write_text(_csv([*columns, DECISION_COLUMN], rows), encoding="utf-8", newline="")


def _read(path):
    """The columns and rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames), list(reader)


def _csv(columns, rows):
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
