"""The pictures of the panel in the documentation are what the panel shows now, but for what fonts may differ in.

All of them are of a real run on volumes that a generator made. ``MEMORIZATION_INDEX_SCREENSHOTS=write`` writes them
anew (``python Testing/host/screenshots.py`` does that for all); look at them.
"""

import os
import unittest
from pathlib import Path

import numpy as np
import slicer
from panelsupport import PanelTestCase
from PIL import Image
from testsupport import NEW, TRAINING, addVolume, sharedReference, waitUntil

FOLDER = Path(__file__).resolve().parents[3] / "Resources" / "Screenshots"
SIZE = (560, 1330)
# Pictures are compared in cells of so many pixels: by how much (of 255) cells may differ on average, and at most.
CELL, MEAN, MOST = 10, 4.0, 90


class PanelScreenshotTest(PanelTestCase):
    def setUp(self):
        sharedReference()
        super().setUp()
        self.widget.parent.show()
        self.widget.parent.resize(*SIZE)
        self.addCleanup(self.widget.parent.hide)
        self.panel.run.say("")
        self.ui.logText.clear()

    def assertLooks(self, name, arrange=lambda: None):
        """The panel looks as in its picture, after ``arrange()``."""
        self.ui.referencePath.setFocus()
        slicer.app.processEvents()
        self.ui.volumeSelector._refresh()  # nodes are hidden after they were added; Slicer's hears of that
        arrange()
        taken, path = self.folder / f"{name}.png", FOLDER / f"{name}.png"
        self.widget.parent.grab().save(str(taken))
        if os.environ.get("MEMORIZATION_INDEX_SCREENSHOTS") == "write":
            path.write_bytes(taken.read_bytes())
        now, golden = (cells(Image.open(file)) for file in (taken, path))
        assert now.shape == golden.shape, path.name
        difference = np.abs(now - golden)
        assert difference.mean() < MEAN, path.name
        assert difference.max() < MOST, path.name

    def chooseVolumes(self):
        nodes = [
            addVolume(array, f"synthetic {i}") for i, array in enumerate((TRAINING[2], NEW, TRAINING[4][:, :, ::-1]))
        ]
        self.check(self.ui.volumeSelector, *nodes)

    def chooseReference(self):
        """The reference, and a name for the picture that is not that of a temporary folder."""
        self.ui.referencePath.currentPath = str(sharedReference() / "reference")
        return self.ui.referenceInfoLabel.text

    def test_empty(self):
        self.assertLooks("panel-empty")

    def test_no_reference(self):
        self.chooseVolumes()
        self.click(self.ui.applyButton)
        assert "No reference is chosen" in self.ui.statusLabel.text
        self.assertLooks("panel-no-reference")

    def test_error(self):
        self.chooseVolumes()
        (Path(self.folder) / "photos").mkdir()
        self.ui.referencePath.currentPath = str(self.folder / "photos")
        self.click(self.ui.applyButton)
        assert "Nothing was started" in self.ui.statusLabel.text
        label = self.ui.referenceInfoLabel
        assert "is not a reference" in label.text
        label.text = label.text.replace(str(self.folder) + os.sep, "/data/")
        self.showPath("/data/photos")
        self.assertLooks("panel-error")

    def test_running_results_reviewed(self):
        self.chooseVolumes()
        self.chooseReference()
        self.click(self.ui.applyButton)
        self.showPath("/data/reference")
        self.assertLooks("panel-running", self.showProgress)
        self.logic.wait()
        waitUntil(lambda: self.panel.display.compare.active)
        slicer.app.processEvents()
        self.showPath("/data/reference")
        self.assertLooks("panel")
        self.panel.results.worklist.move(2)
        self.click(self.ui.volumeNotCopyButton)
        self.panel.results.worklist.move(-2)
        self.ui.readerEdit.setText("Dr. M.")
        self.ui.noteEdit.setText("vessels agree in every slice")
        self.click(self.ui.volumeCopyButton)
        self.showPath("/data/reference")
        self.assertLooks("panel-reviewed")

    def showProgress(self):
        """What a run tells after a while; which moment the picture meets does not depend on the machine."""
        assert self.logic.busy
        event = {"event": "progress", "stage": "verifying", "done": 20, "total": 34, "unit": "slices"}
        self.panel.run._handle({**event, "seconds_left": 3.0})

    def showPath(self, path):
        """Show another path than the one chosen, without choosing it."""
        blocked = self.ui.referencePath.blockSignals(True)
        self.ui.referencePath.currentPath = path
        self.ui.referencePath.blockSignals(blocked)


def cells(image):
    """Mean gray of every cell of a picture."""
    gray = np.asarray(image.convert("L"), float)
    rows, columns = (length // CELL for length in gray.shape)
    return gray[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL).mean(axis=(1, 3))


if __name__ == "__main__":
    unittest.main()
