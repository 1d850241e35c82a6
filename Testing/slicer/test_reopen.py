"""A real run, read and decided, saved as .mrb and opened again without reference or training volumes: all is there."""

import unittest

import numpy as np
import slicer
from panelsupport import PanelTestCase
from testsupport import NEW, TRAINING, addTransform, addVolume, rotation, sharedReference


class ReopenTest(PanelTestCase):
    def setUp(self):
        self.reference = sharedReference() / "reference"
        super().setUp()

    def readAndDecide(self):
        """Score a copy that lies obliquely under a transform, and a new volume; decide on both."""
        turn = rotation(8, (0, 0, 1))
        copy = addVolume(TRAINING[2], "copy", np.linalg.inv(turn))
        copy.SetAndObserveTransformNodeID(addTransform(turn).GetID())
        nodes = [addVolume(NEW, "new"), copy]
        self.ui.referencePath.currentPath = str(self.reference)
        self.check(self.ui.volumeSelector, *nodes)
        self.click(self.ui.applyButton)
        self.logic.wait()
        slicer.app.processEvents()
        self.click(self.ui.volumeCopyButton)
        self.click(self.ui.sliceUnsureButton)
        self.ui.worklistTable.selectRow(1)
        self.click(self.ui.volumeNotCopyButton)
        self.ui.worklistTable.selectRow(0)

    def state(self):
        """All that the panel shows of the result."""
        return {
            "rows": [self.row(number, range(8)) for number in range(self.ui.worklistTable.rowCount)],
            "slice": self.ui.volumeLabel.text,
            "plot": [(point[0], round(point[1], 3)) for point in self.panel.results.plot._points],
            "decisions": self.logic.review.rows(),
            "reviewed": self.ui.reviewedLabel.text,
            "agreement": self.logic.results.agreementOf(self.panel.results.node).tolist(),
            "overlay": self.panel.display.overlay.enabled,
        }

    def test_saved_and_opened(self):
        self.readAndDecide()
        before = self.state()
        self.assertEqual(before["reviewed"], "2 of 2 reviewed, 1 slice decided")
        self.assertGreater(np.max(before["agreement"]), 50)
        bundle = self.folder / "scene.mrb"
        self.assertTrue(slicer.util.saveScene(str(bundle)))
        slicer.mrmlScene.Clear(0)
        self.assertEqual(self.ui.worklistTable.rowCount, 0)
        hidden = self.reference.with_name("hidden")
        self.reference.rename(hidden)
        self.addCleanup(hidden.rename, self.reference)
        slicer.util.loadScene(str(bundle))
        self.assertEqual(self.names(), ["copy", "new"])
        self.ui.worklistTable.selectRow(0)
        after = self.state()
        for name, value in before.items():
            self.assertEqual(after[name], value, name)
        self.assertFalse(self.logic.busy, "nothing was computed")

    def test_report_and_tables_from_a_reopened_scene(self):
        self.readAndDecide()
        bundle = self.folder / "scene.mrb"
        self.assertTrue(slicer.util.saveScene(str(bundle)))
        slicer.mrmlScene.Clear(0)
        slicer.util.loadScene(str(bundle))
        self.ui.exportPath.currentPath = str(self.folder / "result")
        self.click(self.ui.exportButton)
        self.logic.wait()
        slicer.app.processEvents()
        self.assertIn("report.html", self.ui.exportStatusLabel.text)
        report = (self.folder / "result" / "report.html").read_text(encoding="utf-8")
        self.assertIn("copy", report)
        written = {path.name for path in (self.folder / "result").iterdir()}
        self.assertLessEqual({"volumes.csv", "slices.csv", "decisions.csv", "run.json", "report.html"}, written)


if __name__ == "__main__":
    unittest.main()
