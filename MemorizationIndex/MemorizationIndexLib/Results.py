"""What the worker found → the scene."""

import csv

import slicer
import vtk
from slicer.i18n import tr as _

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
# What a reader looks for comes first in the volume table.
_FIRST = ["volume", "verdict", "match_subject", "match_volume"]
_NUMBERS = {
    "slice", "similarity", "mi", "mi_max", "oni", "p_value", "q_value", "match_slice", "ncc", "layer_agreement",
    "n_slices", "n_flagged", "agreement", "flagged",
}  # fmt: skip


class Results:
    """Keeps one result in the scene: two tables, attributes and node references of the scored volumes.

    Everything is reached from ``parameter``, so that a second run replaces the first and a saved scene shows it again.
    """

    def __init__(self, parameter):
        self.parameter = parameter

    def show(self, folder, nodes, skipped):
        """Put the worker's output ``folder`` into the scene.

        ``nodes``: ``{volume name: node}`` of the scored volumes; ``skipped``: ``{volume name: reason}``.
        """
        self.clear()
        slices, volumes = _read(folder / "slices.csv"), _read(folder / "volumes.csv")
        del volumes["path"]  # of a file that is gone when the worker is
        volumes["reason"] = [""] * len(volumes["volume"])
        for name, reason in skipped.items():
            for column, values in volumes.items():
                values.append({"volume": name, "verdict": "skipped", "reason": reason}.get(column, ""))
        volumes = {name: volumes[name] for name in [*_FIRST, *(name for name in volumes if name not in _FIRST)]}
        parameter = self.parameter
        parameter.sliceTable = _table(parameter.sliceTable, _("MemorizationIndex slices"), slices)
        parameter.volumeTable = _table(parameter.volumeTable, _("MemorizationIndex volumes"), volumes)
        parameter.volumeTable.SetAttribute("MemorizationIndex.Run", (folder / "run.json").read_text(encoding="utf-8"))
        for row, name in enumerate(volumes["volume"]):
            if slicer.mrmlScene.IsNodePresent(nodes.get(name)):
                self._annotate(nodes[name], {column: values[row] for column, values in volumes.items()})

    def clear(self):
        """Take an earlier result's attributes and references off its volumes (the tables are filled anew)."""
        for node in self.volumes().values():
            for attribute in ATTRIBUTES:
                node.RemoveAttribute(attribute)
            node.RemoveNodeReferenceIDs(TABLE_ROLE)
            node.RemoveNodeReferenceIDs(MATCH_ROLE)

    def volumes(self):
        """``{volume name in the tables: node}`` of the scored volumes that are in the scene."""
        table = self.parameter.volumeTable
        nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if table else []
        return {
            node.GetAttribute("MemorizationIndex.Volume"): node
            for node in nodes
            if node.GetNodeReference(TABLE_ROLE) is table
        }

    def link(self, trainingNodes):
        """Refer from each scored volume to its matched training volume among ``{name in the reference: node}``."""
        for node in self.volumes().values():
            match = trainingNodes.get(node.GetAttribute("MemorizationIndex.MatchVolume"))
            if slicer.mrmlScene.IsNodePresent(match):
                node.SetNodeReferenceID(MATCH_ROLE, match.GetID())

    def _annotate(self, node, row):
        for attribute, column in ATTRIBUTES.items():
            if row[column]:
                node.SetAttribute(attribute, row[column])
        node.SetNodeReferenceID(TABLE_ROLE, self.parameter.volumeTable.GetID())


def _read(path):
    """A CSV file as ``{column: list of texts}``."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def _table(node, name, columns):
    """Fill the table ``node``, or a new one, with ``columns``; a number that was not given is NaN."""
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
    with slicer.util.NodeModify(node):
        node.RemoveAllColumns()
        node.SetUseColumnTitleAsColumnHeader(True)
        node.SetLocked(True)
        for column, values in columns.items():
            array = vtk.vtkDoubleArray() if column in _NUMBERS else vtk.vtkStringArray()
            array.SetName(column)
            for value in values:
                array.InsertNextValue(float(value or "nan") if column in _NUMBERS else value)
            node.AddColumn(array)
    return node
