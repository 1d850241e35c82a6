"""What the worker found → the scene, and back from the scene as rows."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk

from .AgreementFile import decoding
from .ResultFiles import ResultFiles
from .Steps import finished

#: Attribute of a scored volume node → column of the volume table that it repeats.
ATTRIBUTES = {
    "MemorizationIndex.Volume": "volume",
    "MemorizationIndex.Verdict": "verdict",
    "MemorizationIndex.MI": "mi",
    "MemorizationIndex.ONI": "oni",
    "MemorizationIndex.PValue": "p_value",
    "MemorizationIndex.QValue": "q_value",
    "MemorizationIndex.MatchSubject": "match_subject",
    "MemorizationIndex.MatchVolume": "match_volume",
    "MemorizationIndex.Reason": "reason",
}
#: Role of the node reference from a scored volume to its matched training volume.
MATCH_ROLE = "MemorizationIndexMatch"
#: Role of the node reference from a scored volume to the volume table that has its row.
TABLE_ROLE = "MemorizationIndexTable"
#: Attribute of the volume table that holds the provenance of the run (JSON).
RUN_ATTRIBUTE = "MemorizationIndex.Run"
# What a reader looks for comes first in the volume table.
_FIRST = ["volume", "verdict", "match_subject", "match_volume"]
# Texts, even where they look like numbers ("001"); any other column whose values are all numbers holds numbers.
_TEXTS = {
    "volume", "path", "plane", "match_subject", "match_volume", "match_class", "transform", "verdict", "reason",
}  # fmt: skip
# So many rows are read, and
_ROWS = 500
# so many values are handed to VTK before the application gets its turn.
_STEP = 5000


class Results:
    """Keeps one result in the scene: tables, the result's files, attributes and node references of scored volumes.

    Everything is reached from ``parameter`` (the parameter node, or a function that gives it), so that a second run
    replaces the first and a saved scene shows it again.
    Rows are dictionaries by column name; texts are ``str``, numbers ``float`` (NaN where none was given).
    """

    def __init__(self, parameter):
        self._parameter = parameter
        self._index, self._files = {}, (None, None)

    @property
    def parameter(self):
        """The scene's parameter node, as it is now."""
        return self._parameter() if callable(self._parameter) else self._parameter

    @property
    def files(self):
        """The result's files (:class:`ResultFiles`); the same object for as long as they are the same."""
        node = self.parameter.resultFiles
        state = (node.GetID(), node.GetMTime()) if node else None
        if self._files[0] != state or self._files[1] is None:
            self._files = state, ResultFiles(node)
        return self._files[1]

    @property
    def reference(self):
        """The folder of the reference that the result was made with; where it is not there, of the chosen one."""
        parameter = self.parameter
        made = Path(parameter.resultReference)
        return made if (made / "manifest.json").is_file() else Path(parameter.referenceFolder)

    def detach(self):
        """Let go of what was read from a scene that is closed."""
        self._index, self._files = {}, (None, None)

    # --- Into the scene ----------------------------------------------------------------------------------------------

    def show(self, folder, nodes, skipped, files=False):
        """Put the worker's output ``folder`` into the scene, at once (see :meth:`showing`)."""
        finished(self.showing(folder, nodes, skipped, files))

    def showing(self, folder, nodes, skipped, files=False):
        """Generator: the same in steps of milliseconds, between which the application can live.

        ``nodes``: ``{volume name: node}`` of the scored volumes; ``skipped``: ``{volume name: reason}``; ``files``:
        whether files were examined, whose paths stay in the volume table.
        """
        tables = {}
        for name in ("slices", "volumes"):
            tables[name] = yield from _reading(folder / f"{name}.csv")
        alignments = folder / "alignments.csv"
        tables["alignments"] = (yield from _reading(alignments)) if alignments.is_file() else {}
        tables["volumes"] = _withSkipped(tables["volumes"], skipped, files)
        arrays = {}
        for name, columns in tables.items():
            arrays[name] = yield from _arrays(columns)
        kept = yield from ResultFiles.keeping(folder, self.parameter.resultFiles)
        self.clear()
        parameter = self.parameter
        with slicer.util.NodeModify(parameter):
            parameter.sliceTable = _table(parameter.sliceTable, _("MemorizationIndex slices"), arrays["slices"])
            parameter.alignmentTable = _table(
                parameter.alignmentTable, _("MemorizationIndex alignments"), arrays["alignments"]
            )
            parameter.volumeTable = _table(parameter.volumeTable, _("MemorizationIndex volumes"), arrays["volumes"])
            parameter.resultFiles = kept
        parameter.volumeTable.SetAttribute(RUN_ATTRIBUTE, (folder / "run.json").read_text(encoding="utf-8"))
        yield
        yield from self._annotating(nodes, tables["volumes"])

    def clear(self):
        """Take an earlier result's attributes and references off its volumes (the tables are filled anew)."""
        for node in self.volumes().values():
            with slicer.util.NodeModify(node):
                for attribute in ATTRIBUTES:
                    node.RemoveAttribute(attribute)
                node.RemoveNodeReferenceIDs(TABLE_ROLE)
                node.RemoveNodeReferenceIDs(MATCH_ROLE)

    def adopt(self, name, node):
        """Make ``node``, loaded from the file that was scored as ``name``, a scored volume of the scene."""
        row = self.row(name)
        self._annotate(node, {column: _shown(row[column]) for column in row})

    def link(self, trainingNodes):
        """Refer from each scored volume to its matched training volume among ``{name in the reference: node}``."""
        for node in self.volumes().values():
            match = trainingNodes.get(node.GetAttribute("MemorizationIndex.MatchVolume"))
            if slicer.mrmlScene.IsNodePresent(match):
                node.SetNodeReferenceID(MATCH_ROLE, match.GetID())

    def _annotating(self, nodes, volumes):
        """Generator: mark scored ``nodes`` by the columns of the volume table; closed, it marks the rest at once."""
        rows = enumerate(volumes["volume"])
        try:
            for row, name in rows:
                self._annotatePresent(nodes.get(name), volumes, row)
                yield
        except GeneratorExit:  # stopped: the tables are the new ones, so are the marks
            for row, name in rows:
                self._annotatePresent(nodes.get(name), volumes, row)
            raise

    def _annotatePresent(self, node, volumes, row):
        if slicer.mrmlScene.IsNodePresent(node):
            self._annotate(node, {column: values[row] for column, values in volumes.items()})

    def _annotate(self, node, row):
        with slicer.util.NodeModify(node):
            for attribute, column in ATTRIBUTES.items():
                if row[column]:
                    node.SetAttribute(attribute, row[column])
            node.SetNodeReferenceID(TABLE_ROLE, self.parameter.volumeTable.GetID())

    # --- Out of the scene --------------------------------------------------------------------------------------------

    def volumes(self):
        """``{volume name in the tables: node}`` of the scored volumes that are in the scene."""
        table = self.parameter.volumeTable
        nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if table else []
        return {
            node.GetAttribute("MemorizationIndex.Volume"): node
            for node in nodes
            if node.GetNodeReference(TABLE_ROLE) is table
        }

    def identities(self):
        """``{volume name: what tells it from another of the same name}``: its node, or else its file."""
        nodes = self.volumes()
        rows = self.rows()
        return {
            row["volume"]: row.get("path") or (nodes.get(row["volume"]) and nodes[row["volume"]].GetID())
            for row in rows
        }

    def nameOf(self, volumeNode):
        """The name of a scored volume node in the tables; None where it was not scored."""
        table = self.parameter.volumeTable
        scored = volumeNode is not None and table and volumeNode.GetNodeReference(TABLE_ROLE) is table
        return volumeNode.GetAttribute("MemorizationIndex.Volume") if scored else None

    def rows(self):
        """Every row of the volume table."""
        return _rows(self.parameter.volumeTable)

    def scored(self):
        """The names of the volumes that were scored, not left out."""
        table = self.parameter.volumeTable
        if table is None:
            return []
        names, verdicts = (table.GetTable().GetColumnByName(name) for name in ("volume", "verdict"))
        every = range(names.GetNumberOfValues())
        return [names.GetValue(number) for number in every if verdicts.GetValue(number) != "skipped"]

    def row(self, name):
        """The row of the volume called ``name``, or None."""
        rows = self._rowsOf(self.parameter.volumeTable, name)
        return rows[0] if rows else None

    def sliceRows(self, name):
        """The rows of the slices of the volume called ``name``, in the order of their slice numbers."""
        return sorted(self._rowsOf(self.parameter.sliceTable, name), key=lambda row: row["slice"])

    def slicesOf(self, volumeNode):
        """The rows of a scored volume's slices, in the order of their slice numbers; empty where it was not scored."""
        name = self.nameOf(volumeNode)
        return self.sliceRows(name) if name else []

    def worstSlice(self, name):
        """The row of the slice to look at first: flagged before others, then by p, then by similarity; or None."""
        rows = self.sliceRows(name)
        return min(rows, key=lambda row: (-row["flagged"], _last(row["p_value"]), -row["similarity"]), default=None)

    def worstClasses(self, order):
        """``{volume name: the class of match among its slices that comes first in ``order``}``."""
        table = self.parameter.sliceTable
        if table is None or table.GetTable().GetColumnByName("match_class") is None:
            return {}
        classes = table.GetTable().GetColumnByName("match_class")
        rank = {name: number for number, name in enumerate(order)}
        found = {}
        for volume, numbers in self._numbers(table).items():
            own = {classes.GetValue(number) for number in numbers}
            found[volume] = min(own, key=lambda name: rank.get(name, len(rank)))
        return found

    def alignmentOf(self, volumeNode, sliceNumber):
        """The row of the alignment of a slice with its matched training slice, or None where none was verified."""
        return next((row for row in self.alignmentsOf(volumeNode) if row["slice"] == sliceNumber), None)

    def alignmentsOf(self, volumeNode):
        """The rows of all alignments of a scored volume's slices."""
        name = self.nameOf(volumeNode)
        return self._rowsOf(self.parameter.alignmentTable, name) if name else []

    def agreementOf(self, volumeNode):
        """Where the volume agrees with what it matches: uint8 (K, J, I) of 0–100 % on the node's voxels, or None."""
        return finished(self.readingAgreement(volumeNode))

    def readingAgreement(self, volumeNode):
        """Generator: the same in steps of milliseconds, however large the volume is; returns it."""
        row = self._rowNumber(self.nameOf(volumeNode))
        content = None if row is None else self.files.read(f"agreement/{row:04d}.nrrd")
        if content is None:
            return None
        return (yield from decoding(content, slicer.util.arrayFromVolume(volumeNode).shape))

    @property
    def run(self):
        """The provenance of the run (``run.json``); an empty dictionary where there is no result."""
        table = self.parameter.volumeTable
        return json.loads((table.GetAttribute(RUN_ATTRIBUTE) if table else None) or "{}")

    def _rowNumber(self, name):
        numbers = self._numbers(self.parameter.volumeTable).get(name)
        return numbers[0] if numbers else None

    def _rowsOf(self, table, name):
        return _rows(table, self._numbers(table).get(name, []))

    def _numbers(self, table):
        """``{volume name: its row numbers}`` of a table, made once for each state of the table."""
        if table is None or table.GetTable().GetColumnByName("volume") is None:
            return {}
        state = (table.GetID(), table.GetTable().GetMTime())
        if self._index.get(table.GetID(), (None,))[0] != state:
            names, numbers = table.GetTable().GetColumnByName("volume"), {}
            for row in range(names.GetNumberOfValues()):
                numbers.setdefault(names.GetValue(row), []).append(row)
            self._index[table.GetID()] = (state, numbers)
        return self._index[table.GetID()][1]


def _reading(path):
    """Generator: read a CSV file; returns ``{column: list of texts}``."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        columns = [[name] for name in next(reader)]
        while rows := list(itertools.islice(reader, _ROWS)):
            for column, values in zip(columns, zip(*rows, strict=True), strict=True):
                column.extend(values)
            yield
    return {column[0]: column[1:] for column in columns}


def _withSkipped(volumes, skipped, files):
    """The volume table with the volumes that were left out, what a reader looks for first, and paths only of files."""
    if not files:
        del volumes["path"]  # of a file that is gone when the worker is
    volumes["reason"] = [""] * len(volumes["volume"])
    for name, reason in skipped.items():
        for column, values in volumes.items():
            values.append({"volume": name, "verdict": "skipped", "reason": reason}.get(column, ""))
    return {name: volumes[name] for name in [*_FIRST, *(name for name in volumes if name not in _FIRST)]}


def _arrays(columns):
    """Generator: VTK arrays of ``{column: list of texts}``; a number that was not given is NaN."""
    arrays = []
    for column, values in columns.items():
        numbers = None if column in _TEXTS else _numbers(values)
        array = vtk.vtkStringArray() if numbers is None else numpy_to_vtk(numbers, deep=True)
        array.SetName(column)
        for start in range(0, len(values) if numbers is None else 0, _STEP):
            for value in values[start : start + _STEP]:
                array.InsertNextValue(value)
            yield
        arrays.append(array)
        yield
    return arrays


def _numbers(values):
    """Texts as float64 (empty: NaN), or None where one is no number."""
    try:
        return np.array([float(value or "nan") for value in values], float)
    except ValueError:
        return None


def _table(node, name, arrays):
    """Fill the table ``node``, or a new one, with VTK arrays as its columns."""
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
    with slicer.util.NodeModify(node):
        node.RemoveAllColumns()
        node.SetUseColumnTitleAsColumnHeader(True)
        node.SetLocked(True)
        for array in arrays:
            node.AddColumn(array)
    return node


def _rows(table, numbers=None):
    """Rows of a table node (those of the given numbers) as dictionaries."""
    if table is None:
        return []
    data = table.GetTable()
    columns = [data.GetColumn(i) for i in range(data.GetNumberOfColumns())]
    chosen = range(data.GetNumberOfRows()) if numbers is None else numbers
    return [{column.GetName(): column.GetValue(number) for column in columns} for number in chosen]


def _last(value):
    """A number to sort by, in which one that was not given comes last."""
    return np.inf if np.isnan(value) else value


def _shown(value):
    """A table's value as the CSV file has it: a number that was not given is empty."""
    if isinstance(value, str):
        return value
    return "" if np.isnan(value) else repr(value)
