"""What tests of the panel need. Nothing here knows of the host."""

import csv
import json

import numpy as np
import qt
import slicer
from testsupport import SceneTestCase, addVolume

MODULE = "MemorizationIndex"
_SLICE = {
    "plane": "axial", "similarity": 0.9, "mi": 0.5, "oni": 0.0, "p_value": 0.4, "q_value": 0.5,
    "match_subject": "sub-012", "match_volume": "sub-012_T1w", "match_slice": 3, "match_class": "novel", "ncc": 0.4,
    "transform": "", "layer_agreement": 1, "flagged": 0,
}  # fmt: skip
FLAGGED = {"match_class": "copy", "flagged": 1, "p_value": 0.001, "mi": 9.0, "ncc": 0.99}
_VOLUME = {
    "path": "", "n_slices": 4, "n_flagged": 0, "mi_max": 1, "mi": 0.5, "oni": 0.1, "p_value": 0.4, "q_value": 0.5,
    "match_subject": "sub-012", "match_volume": "sub-012_T1w", "agreement": 1, "verdict": "no evidence",
}  # fmt: skip
COPY = {"verdict": "copy", "p_value": 0.001, "mi": 9.0, "n_flagged": 1}


def writeResult(folder, volumes, slices):
    """A result folder as the worker writes one.

    ``volumes``: ``{name: what differs from a volume without evidence}``; ``slices``: the same by name and slice number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"volume": name, "slice": k, **_SLICE, **row} for name in volumes for k, row in slices[name].items()]
    _write(folder / "volumes.csv", [{"volume": name, **_VOLUME, **row} for name, row in volumes.items()])
    _write(folder / "slices.csv", rows)
    (folder / "run.json").write_text(json.dumps({"kind": "test"}), encoding="utf-8")


def _write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def smallVolume(name, seed=0):
    """A volume of 6 axial slices of 8 × 9 voxels."""
    return addVolume(np.random.default_rng(seed).integers(1, 100, (6, 8, 9)).astype(np.int16), name)


class PanelTestCase(SceneTestCase):
    """The module's panel, as it is in the application."""

    def setUp(self):
        super().setUp()
        self.widget = slicer.util.getModuleWidget(MODULE)
        self.widget.enter()
        self.addCleanup(self.leave)
        self.use(self.widget)

    def use(self, widget):
        self.widget, self.logic, self.panel = widget, widget.logic, widget.panel
        self.form = slicer.util.findChild(widget.parent, MODULE)
        self.ui = slicer.util.childWidgetVariables(self.form)

    def leave(self):
        self.logic.stop()
        self.logic.wait()

    def check(self, selector, *nodes):
        for node in nodes:
            selector.setCheckState(node, qt.Qt.Checked)

    def click(self, button):
        self.assertTrue(button.enabled, f"{button.name} is not enabled")
        button.click()

    def row(self, number, columns=(0, 1)):
        """Texts of the worklist."""
        return [self.ui.worklistTable.item(number, column).text() for column in columns]

    def names(self):
        """The first column of the worklist."""
        return [self.row(number, (0,))[0] for number in range(self.ui.worklistTable.rowCount)]

    def showResult(self, volumes, slices, nodes=None, files=False, skipped=None):
        """Put a result into the scene and the panel, as at the end of a run; ``skipped``: ``{name: reason}``."""
        writeResult(self.folder / "scores", volumes, slices)
        self.logic.results.show(self.folder / "scores", nodes or {}, skipped or {}, files)
        self.panel.onScored()

    def threeVolumes(self):
        """Two volumes without evidence, one of which has no p, and a copy with two flagged slices."""
        nodes = {name: smallVolume(name, seed) for seed, name in enumerate(("first", "second", "third"))}
        slices = {name: {k: {} for k in range(1, 5)} for name in nodes}
        slices["third"][2], slices["third"][4] = FLAGGED, {**FLAGGED, "p_value": 0.0005}
        self.showResult({"first": {}, "second": {"p_value": "", "mi": ""}, "third": COPY}, slices, nodes)
        return nodes
