"""A radiologist's whole sitting, by mouse, wheel and keys alone: what the storyboard promises, in its order."""

import re
import unittest

import numpy as np
import qt
import slicer
from MemorizationIndexLib.CompareLayout import LAYOUT, QUERY, TRAINING
from panelsupport import PanelTestCase
from testsupport import NEW, addVolume, sharedReference, waitUntil
from testsupport import TRAINING as SCANS

LEFT, NONE, ALT = qt.Qt.LeftButton, qt.Qt.NoModifier, qt.Qt.AltModifier


class StoryboardTest(PanelTestCase):
    def setUp(self):
        sharedReference()
        super().setUp()
        if not hasattr(qt, "QTest"):
            raise unittest.SkipTest("clicks and keys cannot be sent here")
        self.manager = slicer.app.layoutManager()
        self.addCleanup(self.manager.setLayout, self.manager.layout)
        self.widget.parent.show()
        self.widget.parent.resize(560, 1330)
        self.addCleanup(self.widget.parent.hide)
        self.widget.parent.activateWindow()
        slicer.app.processEvents()

    # --- Hands -------------------------------------------------------------------------------------------------------

    def press(self, widget, place=None):
        qt.QTest.mouseClick(widget, LEFT, NONE, widget.rect.center() if place is None else place)
        slicer.app.processEvents()

    def tick(self, box):
        self.press(box, qt.QPoint(8, box.height // 2))

    def type(self, edit, text):
        edit = edit if isinstance(edit, qt.QLineEdit) else edit.findChild(qt.QLineEdit)
        self.press(edit)
        qt.QTest.keyClick(edit, qt.Qt.Key_A, qt.Qt.ControlModifier)
        qt.QTest.keyClicks(edit, text)
        qt.QTest.keyClick(edit, qt.Qt.Key_Return)

    def key(self, name, modifier=ALT):
        qt.QTest.keyClick(self.ui.worklistTable, getattr(qt.Qt, f"Key_{name}"), modifier)
        slicer.app.processEvents()

    def check(self, number):
        box = self.ui.volumeSelector.findChild(qt.QListWidget)
        place = box.visualItemRect(box.item(number))
        self.press(box.viewport(), qt.QPoint(place.left() + 10, place.center().y()))

    def choose(self, row):
        table = self.ui.worklistTable
        self.press(table.viewport(), table.visualItemRect(table.item(row, 0)).center())

    def wheel(self, name, steps):
        view = self.manager.sliceWidget(name).sliceView()
        place = qt.QPointF(view.width / 2, view.height / 2)
        turn = (qt.QPoint(), qt.QPoint(0, 120 * steps), qt.Qt.NoButton, NONE, qt.Qt.NoScrollPhase, False)
        slicer.app.sendEvent(view, qt.QWheelEvent(place, place, *turn))
        slicer.app.processEvents()

    # --- Eyes --------------------------------------------------------------------------------------------------------

    def shown(self):
        """The slice that the panel's line is about."""
        return int(re.match(r"slice (\d+)", self.ui.volumeLabel.text)[1])

    def texts(self, name):
        renderer = self.manager.sliceWidget(name).sliceView().renderWindow().GetRenderers().GetFirstRenderer()
        props = [renderer.GetViewProps().GetItemAsObject(i) for i in range(renderer.GetViewProps().GetNumberOfItems())]
        return " ".join(prop.GetInput() for prop in props if prop.IsA("vtkTextActor"))

    def foreground(self):
        node = self.manager.sliceWidget(QUERY).sliceLogic().GetForegroundLayer().GetVolumeNode()
        return node.GetName() if node else ""

    # --- The sitting -------------------------------------------------------------------------------------------------

    def test_sitting(self):
        addVolume(NEW, "new")
        addVolume(SCANS[2][:, :, ::-1], "synthetic")
        self.type(self.ui.referencePath, str(sharedReference() / "reference"))
        self.assertIn("6 subjects", self.ui.referenceInfoLabel.text)
        self.examine()
        self.read()
        self.compare()
        self.decide()
        self.report()

    def examine(self):
        self.assertFalse(self.ui.applyButton.enabled)
        self.check(0)
        self.check(1)
        self.assertEqual(self.ui.examineLabel.text, "2 volumes are chosen.")
        self.press(self.ui.applyButton)
        self.assertEqual(self.ui.applyButton.text, "Stop")
        waitUntil(lambda: not self.logic.busy, 120)
        waitUntil(lambda: self.panel.results.node)
        self.assertEqual(self.ui.statusLabel.text, "Done.")

    def read(self):
        self.assertEqual(self.names(), ["synthetic", "new"], "worst first")
        self.choose(1)
        self.assertIn("novel", self.ui.volumeLabel.text)
        self.choose(0)
        waitUntil(lambda: self.manager.layout == LAYOUT and "training2" in self.texts(TRAINING))
        for said in ("copy", "p 0.0", "MI ", "ONI -1.00", "training2 slice", "NCC 1.00", "mirrored"):
            self.assertIn(said, self.texts(QUERY))
        self.assertIn("agreement", self.foreground())
        self.assertIn(f"training2 · slice {self.shown()} · mirrored", self.texts(TRAINING))
        first = self.shown()
        self.key("Right")
        self.assertEqual(self.shown(), first + 1, "the next flagged slice")
        self.wheel(QUERY, 1)
        moved = self.shown()
        self.assertNotEqual(moved, first + 1)
        self.assertIn(f"training2 · slice {moved} ·", self.texts(TRAINING), "the other view follows")
        self.wheel(TRAINING, -1)
        self.assertEqual(self.shown(), first + 1)
        plot = self.panel.results.plot
        self.press(plot, qt.QPoint(*plot.place(8, 3.0)))
        self.assertEqual(self.shown(), 8)

    def compare(self):
        self.ui.compareSelector.setFocus()
        for mode in ("blink", "checkerboard", "difference"):
            qt.QTest.keyClick(self.ui.compareSelector, qt.Qt.Key_Down)
            self.assertEqual(self.panel.display.compare.mode, mode)
            self.assertIn("aligned" if mode == "blink" else "comparison", self.foreground())
        left = self.panel.display.compare._modes._picture.node
        self.assertLess(np.abs(slicer.util.arrayFromVolume(left)).mean(), 20, "a copy leaves no difference")
        self.key("B")
        self.assertEqual(self.ui.compareSelector.currentText, "blink")
        self.key("B")
        self.assertIn("agreement", self.foreground(), "the heat map comes back")
        self.key("O")
        self.assertEqual(self.foreground(), "")
        self.key("O")
        self.tick(self.ui.heatMapCheckBox)
        self.assertEqual(self.foreground(), "", "the heat map alone is hidden")
        self.assertIn("training2 slice", self.texts(QUERY))
        self.tick(self.ui.heatMapCheckBox)
        self.assertIn("agreement", self.foreground())

    def decide(self):
        self.type(self.ui.readerEdit, "Dr. M.")
        self.type(self.ui.noteEdit, "the same vessels")
        self.key("1")
        self.press(self.ui.sliceUnsureButton)
        self.assertEqual(self.ui.reviewedLabel.text, "1 of 2 reviewed, 1 slice decided")
        self.key("Down")
        self.key("2")
        self.assertEqual(self.ui.reviewedLabel.text, "2 of 2 reviewed, 1 slice decided")
        self.press(self.ui.undoButton)
        self.assertEqual(self.ui.reviewedLabel.text, "1 of 2 reviewed, 1 slice decided")
        self.assertEqual(self.row(0, (7,)), ["copy, 1 slice"])

    def report(self):
        self.type(self.ui.exportPath, str(self.folder / "out"))
        self.press(self.ui.exportButton)
        waitUntil(lambda: not self.logic.busy, 120)
        waitUntil(lambda: "report.html" in self.ui.exportStatusLabel.text)
        decisions = (self.folder / "out" / "decisions.csv").read_text(encoding="utf-8")
        self.assertIn("synthetic,,copy,the same vessels,", decisions)
        self.assertIn("synthetic", (self.folder / "out" / "report.html").read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()
