"""The result of one run: a table of slices, one of volumes, one of alignments, and the provenance."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.agreement import AgreementVolume
from memorization_index.bundle import check_for_result, make_writable, write_csv
from memorization_index.durable import finish, prepared
from memorization_index.errors import MemorizationIndexError
from memorization_index.pictures import Pictures
from memorization_index.privacy import leaving
from memorization_index.provenance import InputFile

if TYPE_CHECKING:
    from memorization_index.pseudonyms import Key

SLICE_COLUMNS = (
    "volume", "plane", "slice", "similarity", "mi", "oni", "p_value", "q_value", "match_subject",
    "match_volume", "match_slice", "match_class", "ncc", "part", "transform", "layer_agreement", "channel",
    "flagged",
)  # fmt: skip
VOLUME_COLUMNS = (
    "volume", "path", "n_slices", "n_flagged", "fraction_copied", "similarity", "null_mean", "null_deviation", "mi_max",
    "mi", "oni", "p_value", "q_value", "match_subject", "match_volume", "agreement", "trajectory", "match_first",
    "match_last", "verdict",
)  # fmt: skip
#: How the matched training slice lies on the query: the numbers of :class:`memorization_index.matching.Match`.
ALIGNMENT_COLUMNS = (
    "volume", "slice", "match_volume", "match_slice", "mirrored", "quarters", "m00", "m01", "m10", "m11", "shift_rows",
    "shift_columns",
)  # fmt: skip
#: The files that were read; empty where queries were in memory.
INPUT_COLUMNS = ("volume", "file", "sha256")
#: The folder of the maps that say where in an image a copy is.
AGREEMENT = "agreement"
_DECIMALS = 6
#: What is smaller is what rounding left of 0.
_ROUNDING = 1e-12
_RUN = "run.json"

Columns = dict[str, NDArray[Any]]


@dataclass(repr=False)
class Scores:
    """The result of one run.

    ``slices``, ``volumes`` and ``alignments`` are columns (NumPy arrays of equal length; ``SLICE_COLUMNS``,
    ``VOLUME_COLUMNS``, ``ALIGNMENT_COLUMNS``); numbers that are not given are NaN. ``run`` is the provenance,
    ``pictures`` are those that the report shows. ``agreement[row]`` is the map of the volume in that row of
    ``volumes``, where it has flagged slices; it is written, not read back. ``inputs`` are the files that were read.
    """

    slices: Columns
    volumes: Columns
    alignments: Columns
    run: dict[str, Any]
    pictures: Pictures
    agreement: dict[int, AgreementVolume] = field(default_factory=dict)
    inputs: list[InputFile] = field(default_factory=list)

    def __repr__(self) -> str:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in self.run["verdicts"].items() if count)
        return f"<Scores: {len(self.volumes['volume'])} volumes ({verdicts}), {len(self.slices['volume'])} slices>"

    def to_frame(self, table: str = "slices") -> Any:
        """The table ``slices`` or ``volumes`` as a pandas DataFrame.

        Raises :class:`MemorizationIndexError` where pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MemorizationIndexError(
                "to_frame needs pandas, which is not installed; expected it, so run 'pip install pandas' or use the "
                "columns as they are."
            ) from error

        return pd.DataFrame({"slices": self.slices, "volumes": self.volumes}[table])

    def to_html(self, path: str | Path) -> None:
        """Write the report as one self-contained HTML file."""
        from memorization_index.report import write_report

        write_report(self, Path(path))

    def write(self, folder: str | Path, *, keep_paths: bool = False, key: Key | None = None) -> None:
        """Write ``slices.csv``, ``volumes.csv``, ``alignments.csv``, ``agreement/``, pictures, report and ``run.json``.

        All is written beside its place, and takes that of an older result at once (see ``durable.prepared``). Files
        are named without the folders they lie in, unless ``keep_paths``; with ``key``, queries get pseudonyms.
        Raises :class:`MemorizationIndexError` where the folder holds anything but an older result.
        """
        folder = Path(folder)
        make_writable(folder)
        with prepared(folder) as beside:
            check_for_result(folder)  # in here: another process may have been moving its result to this place
            (self if keep_paths else leaving(self, key))._write_files(beside)

    def _write_files(self, folder: Path) -> None:
        _write_table(folder / "slices.csv", SLICE_COLUMNS, self.slices)
        _write_table(folder / "volumes.csv", VOLUME_COLUMNS, self.volumes)
        _write_table(folder / "alignments.csv", ALIGNMENT_COLUMNS, self.alignments)
        (folder / AGREEMENT).mkdir()  # also without maps: it takes the place of an older result's
        for row, volume in self.agreement.items():
            volume.write(folder / AGREEMENT / f"{row:04d}.nrrd")
        rows = [(i.volume, i.file, i.sha256) for i in self.inputs]
        write_csv(folder / "inputs.csv", INPUT_COLUMNS, rows)
        text = json.dumps(self.run, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / _RUN).write_text(text + "\n", encoding="utf-8", newline="\n")
        self.pictures.save(folder / "pictures.safetensors")
        self.to_html(folder / "report.html")

    @classmethod
    def read(cls, folder: str | Path) -> Scores:
        """Read what :meth:`write` wrote."""
        folder = Path(folder)
        try:
            finish(folder)
            run = json.loads((folder / _RUN).read_text(encoding="utf-8"))
            slices = _read_table(folder / "slices.csv", SLICE_COLUMNS)
            volumes = _read_table(folder / "volumes.csv", VOLUME_COLUMNS)
            alignments = _read_table(folder / "alignments.csv", ALIGNMENT_COLUMNS)
            pictures = Pictures.load(folder / "pictures.safetensors")
            with (folder / "inputs.csv").open(encoding="utf-8", newline="") as stream:
                inputs = [InputFile(*(row[name] for name in INPUT_COLUMNS)) for row in csv.DictReader(stream)]
            found = {"volumes": len(volumes["volume"]), "slices": len(slices["volume"])}
            if any(run["counts"][table] != count for table, count in found.items()):
                raise ValueError(f"its tables have {found['volumes']} volumes and {found['slices']} slices")
        except (OSError, ArithmeticError, ValueError, LookupError, TypeError, RecursionError) as error:
            reason = repr(str(error)[:200])
            if isinstance(error, OSError) and error.filename:
                reason = f"{Path(error.filename).name}: {error.strerror}"
            raise MemorizationIndexError(
                f"{folder}: is not a complete result ({reason}); expected the folder that "
                f"'memorization-index score' wrote, so check the path or score again."
            ) from error
        return cls(slices, volumes, alignments, run, pictures, inputs=inputs)


def _write_table(path: Path, names: Sequence[str], columns: Columns) -> None:
    write_csv(path, names, zip(*(map(_cell, columns[name]) for name in names), strict=True))


def _cell(value: Any) -> Any:
    """Text of one cell: NaN is empty, numbers have six decimals (small ones six significant digits)."""
    if isinstance(value, float | np.floating):
        number = float(value)
        if not np.isfinite(number):
            return ""
        if abs(number) < _ROUNDING:
            number = 0.0
        return f"{number:.{_DECIMALS}f}" if abs(number) >= 1e-3 or number == 0 else f"{number:.{_DECIMALS}g}"
    if isinstance(value, bool | np.bool_):
        return int(value)
    return value


def _read_table(path: Path, names: Sequence[str]) -> Columns:
    text = {
        "volume",
        "plane",
        "path",
        "match_subject",
        "match_volume",
        "match_class",
        "transform",
        "channel",
        "verdict",
    }
    whole = {
        "slice",
        "match_slice",
        "layer_agreement",
        "n_slices",
        "n_flagged",
        "match_first",
        "match_last",
        "mirrored",
        "quarters",
    }
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    columns: Columns = {}
    for name in names:
        cells = [row[name] for row in rows]
        if name in text:
            columns[name] = np.array(cells, object)
        elif name in whole:
            columns[name] = np.array(cells, np.int64)
        elif name == "flagged":
            columns[name] = np.array([cell == "1" for cell in cells], bool)
        else:
            columns[name] = np.array([float(cell) if cell else np.nan for cell in cells])
    return columns
