"""What the reader decided, kept in the scene."""

import datetime
import json

import slicer
from slicer.i18n import tr as _

#: What can be decided.
DECISIONS = ("copy", "not a copy", "unsure")
COLUMNS = ("volume", "slice", "decision", "note", "time", "reader")
_DECISION, _READER = COLUMNS.index("decision"), COLUMNS.index("reader")
#: Attribute of the table: decisions on volumes that the present result does not have, by what tells these from others.
KEPT_ATTRIBUTE = "MemorizationIndex.KeptDecisions"
#: Role of the node reference from such a volume to the table; another node that gets its ID later has none.
KEPT_ROLE = "MemorizationIndexKeptDecisions"


class Review:
    """Decisions on scored volumes and slices: a table of the scene, one row each, and a stack to undo and redo.

    ``slice`` is the slice number as text, and empty for a decision on the whole volume; ``time`` is UTC.
    """

    def __init__(self, results):
        self._results = results
        self._done, self._undone, self._stackOf = [], [], None

    def decide(self, volume, sliceNumber, decision, note="", reader=""):
        """Decide on a volume (``sliceNumber`` None) or one of its slices; an empty decision and note take it back."""
        if decision not in (*DECISIONS, ""):
            raise ValueError(f"{decision!r} is not one of {DECISIONS}")
        key = (volume, _text(sliceNumber))
        time = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        new = (*key, decision, _oneLine(note), time, _oneLine(reader)) if decision or note else None
        old = self._find(key)
        if (old and old[_DECISION : _DECISION + 2]) == (new and new[_DECISION : _DECISION + 2]):
            return
        self._table()
        self._checkStack()
        self._done.append((key, old, new))
        self._undone.clear()
        self._put(key, new)

    def decisionOf(self, volume, sliceNumber=None):
        """The row on a volume or slice as a dictionary, or None."""
        row = self._find((volume, _text(sliceNumber)))
        return dict(zip(COLUMNS, row, strict=True)) if row else None

    def rows(self):
        """Every decision as a dictionary."""
        return [dict(zip(COLUMNS, row, strict=True)) for row in self._rows().values()]

    def reviewed(self):
        """How many of the scored volumes have a decision, and how many there are."""
        scored, rows = self._results.scored(), self._rows()
        return sum(1 for name in scored if rows.get((name, ""), [""] * len(COLUMNS))[_DECISION]), len(scored)

    def decidedSlices(self):
        """How many slices of the scored volumes have a decision."""
        scored = set(self._results.scored())
        rows = self._rows().items()
        return sum(1 for (volume, number), row in rows if number and row[_DECISION] and volume in scored)

    def putAside(self):
        """On how many volumes there are decisions that are kept, but not counted: the result does not have these."""
        return len(self._aside()) if self._results.parameter.decisionTable is not None else 0

    def keep(self, before, after):
        """After another run, decisions stay with volumes that are the same; another of the same name begins undecided.

        Those on volumes that the run left out are put aside, and come back with the volume. Both: ``{volume name: what
        tells it from another}`` (see :meth:`Results.identities`).
        """
        if self._results.parameter.decisionTable is None:
            return
        aside, rows = self._aside(), []
        for row in self._rows().values():
            identity = before.get(row[0])
            if identity is not None and identity == after.get(row[0]):
                rows.append(row)
            elif identity is not None:
                aside.setdefault(identity, []).append(row)
                self._mark(identity)
        for name, identity in after.items():
            found = aside.pop(identity, [])
            rows += [(name, *row[1:]) for row in found if self._isMarked(identity)]
        self._fill(rows)
        self._table().SetAttribute(KEPT_ATTRIBUTE, json.dumps(aside))
        self._done, self._undone = [], []

    def _aside(self):
        """``{what tells a volume from another: the rows that are kept for it}``."""
        return json.loads(self._table().GetAttribute(KEPT_ATTRIBUTE) or "{}")

    def _mark(self, identity):
        node = slicer.mrmlScene.GetNodeByID(identity)
        if node is not None:  # not a file
            node.SetNodeReferenceID(KEPT_ROLE, self._table().GetID())

    def _isMarked(self, identity):
        node = slicer.mrmlScene.GetNodeByID(identity)
        return node is None or node.GetNodeReference(KEPT_ROLE) is self._table()

    # --- Undo --------------------------------------------------------------------------------------------------------

    @property
    def canUndo(self):
        """Whether there is a decision to take back."""
        self._checkStack()
        return bool(self._done)

    @property
    def canRedo(self):
        """Whether there is a decision that was taken back."""
        self._checkStack()
        return bool(self._undone)

    def undo(self):
        """Take the last decision back; returns its (volume, slice), or None."""
        return self._move(self._done, self._undone, "old") if self.canUndo else None

    def redo(self):
        """Decide again what was taken back last; returns its (volume, slice), or None."""
        return self._move(self._undone, self._done, "new") if self.canRedo else None

    def _move(self, source, target, which):
        key, old, new = source.pop()
        target.append((key, old, new))
        self._put(key, old if which == "old" else new)
        return key

    def _checkStack(self):
        """What was done in another scene cannot be undone in this one."""
        table = self._results.parameter.decisionTable
        if table is not self._stackOf:
            self._done, self._undone, self._stackOf = [], [], table

    # --- The table ---------------------------------------------------------------------------------------------------

    def _rows(self):
        """``{(volume, slice): row}``."""
        table = self._results.parameter.decisionTable
        if table is None:
            return {}
        values = ([table.GetCellText(i, c) for c in range(len(COLUMNS))] for i in range(table.GetNumberOfRows()))
        return {(row[0], row[1]): tuple(row) for row in values}

    def _find(self, key):
        return self._rows().get(key)

    def _put(self, key, row):
        """Make ``row`` the row of ``key``; None removes it."""
        table = self._table()
        number = next((i for i, known in enumerate(self._rows()) if known == key), None)
        with slicer.util.NodeModify(table):
            if row is None:
                if number is not None:
                    table.RemoveRow(number)
                return
            if number is None:
                number = table.AddEmptyRow()
            for column, value in enumerate(row):
                table.SetCellText(number, column, value)

    def _fill(self, rows):
        """Make ``rows`` all that the table has."""
        table = self._table()
        with slicer.util.NodeModify(table):
            table.GetTable().SetNumberOfRows(0)
            for row in rows:
                number = table.AddEmptyRow()
                for column, value in enumerate(row):
                    table.SetCellText(number, column, value)

    def _table(self):
        """The table of decisions, made when the first is put in."""
        parameter = self._results.parameter
        table = parameter.decisionTable
        if table is None:
            table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", _("MemorizationIndex decisions"))
            table.SetUseColumnTitleAsColumnHeader(True)
            for name in COLUMNS:
                table.AddColumn().SetName(name)
            parameter.decisionTable = table
        return table


def _text(sliceNumber):
    return "" if sliceNumber is None else str(int(sliceNumber))


def _oneLine(text):
    return " ".join(text.split())
