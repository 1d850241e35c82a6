"""Run by a second Slicer: opens a saved scene and writes down what the module finds in it."""

import json
import sys
from pathlib import Path

import slicer
from MemorizationIndexLib import MemorizationIndexLogic, Results


def content(table):
    data = table.GetTable()
    columns = {}
    for index in range(data.GetNumberOfColumns()):
        array = data.GetColumn(index)
        columns[array.GetName()] = [array.GetValue(row) for row in range(array.GetNumberOfValues())]
    return columns


slicer.util.loadScene(sys.argv[1])
parameter = MemorizationIndexLogic().getParameterNode()
node = Results(parameter).volumes()["脑 copy"]
match = node.GetNodeReference("MemorizationIndexMatch")
table = parameter.volumeTable.GetTable()
answer = {
    "verdict": node.GetAttribute("MemorizationIndex.Verdict"),
    "match": match.GetName(),
    "matchOf": node.GetName(),
    "referenceFolder": str(parameter.referenceFolder),
    "volumes": [volume.GetName() for volume in parameter.volumes],
    "types": [table.GetColumnByName(name).GetDataTypeAsString() for name in ("verdict", "p_value")],
    "volumeTable": content(parameter.volumeTable),
    "sliceTable": content(parameter.sliceTable),
}
Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")
