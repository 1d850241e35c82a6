"""A result and its decisions → a folder like the command line's."""

import csv
import io

from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _

from .ResultFiles import ResultFiles
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
        files = ResultFiles(self._results.parameter.resultFiles)
        names = files.names()
        if "run.json" not in names:
            raise MemorizationIndexError(_("There is no result to write; press Apply first."))
        _checkPlace(folder)
        yield 0
        for _name in files.extracting(folder):
            yield 0
        decisions = self._review.rows()
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


def _addDecisions(path, decisions):
    known = {(row["volume"], row["slice"]): row["decision"] for row in decisions}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = [name for name in reader.fieldnames if name != DECISION_COLUMN]
        rows = list(reader)
    for row in rows:
        row[DECISION_COLUMN] = known.get((row["volume"], row.get("slice", "")), "")
    path.write_text(_csv([*columns, DECISION_COLUMN], rows), encoding="utf-8", newline="")


def _csv(columns, rows):
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
