"""Decisions: on volumes and slices, undone, counted, exported, kept with the scene."""

import csv
import re
import unittest

import slicer
from MemorizationIndexLib.Review import KEPT_ROLE
from panelsupport import COPY, FLAGGED, PanelTestCase, smallVolume


class DecisionTest(PanelTestCase):
    def setUp(self):
        super().setUp()
        self.nodes = self.threeVolumes()
        self.review = self.logic.review

    def test_by_buttons(self):
        self.ui.readerEdit.setText("Dr. M.")
        self.click(self.ui.volumeCopyButton)
        self.click(self.ui.sliceUnsureButton)
        volume, image = self.review.decisionOf("third"), self.review.decisionOf("third", 4)
        self.assertEqual((volume["decision"], volume["reader"], image["decision"]), ("copy", "Dr. M.", "unsure"))
        self.assertRegex(volume["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual(self.row(0, (7,)), ["copy, 1 slice"])
        self.assertEqual(self.ui.reviewedLabel.text, "1 of 3 reviewed, 1 slice decided")
        self.assertTrue(self.ui.volumeCopyButton.checked)
        self.click(self.ui.volumeCopyButton)
        self.assertIsNone(self.review.decisionOf("third"), "the same decision again takes it back")
        self.assertFalse(self.ui.volumeCopyButton.checked)

    def test_each_volume_and_slice_has_its_own(self):
        self.click(self.ui.sliceCopyButton)
        self.panel.results.moveFlagged(-1)
        self.assertFalse(self.ui.sliceCopyButton.checked)
        self.panel.results.moveFlagged(1)
        self.assertTrue(self.ui.sliceCopyButton.checked)
        self.ui.worklistTable.selectRow(1)
        self.assertFalse(self.ui.sliceCopyButton.checked)

    def test_slices_are_counted_but_are_no_decision_on_the_volume(self):
        self.click(self.ui.sliceCopyButton)
        self.panel.results.moveFlagged(-1)
        self.click(self.ui.sliceNotCopyButton)
        self.assertEqual(self.row(0, (7,)), ["2 slices"])
        self.assertEqual(self.ui.reviewedLabel.text, "0 of 3 reviewed, 2 slices decided")
        self.ui.filterSelector.setCurrentIndex(2)
        self.addCleanup(self.ui.filterSelector.setCurrentIndex, 0)
        self.assertIn("third", self.names(), "not decided yet")
        self.click(self.ui.sliceNotCopyButton)
        self.assertEqual(self.row(0, (7,)), ["1 slice"])

    def test_note(self):
        self.ui.noteEdit.setText("ring\nartifact, 脑")
        self.ui.noteEdit.editingFinished.emit()
        self.assertEqual(self.review.decisionOf("third")["note"], "ring artifact, 脑")
        self.assertEqual(self.ui.reviewedLabel.text, "0 of 3 reviewed", "a note alone is no decision")
        self.click(self.ui.volumeNotCopyButton)
        self.assertEqual(self.review.decisionOf("third")["note"], "ring artifact, 脑")

    def test_undo_and_redo(self):
        self.assertFalse(self.ui.undoButton.enabled)
        self.click(self.ui.volumeCopyButton)
        self.click(self.ui.volumeUnsureButton)
        self.click(self.ui.undoButton)
        self.assertTrue(self.ui.volumeCopyButton.checked)
        self.click(self.ui.undoButton)
        self.assertIsNone(self.review.decisionOf("third"))
        self.assertFalse(self.ui.undoButton.enabled)
        self.click(self.ui.redoButton)
        self.click(self.ui.redoButton)
        self.assertTrue(self.ui.volumeUnsureButton.checked)
        self.click(self.ui.undoButton)
        self.click(self.ui.volumeNotCopyButton)
        self.assertFalse(self.ui.redoButton.enabled, "a new decision forgets what was undone")

    def test_what_was_done_in_another_scene_cannot_be_undone(self):
        self.click(self.ui.volumeCopyButton)
        slicer.mrmlScene.Clear(0)
        self.assertFalse(self.review.canUndo)
        self.threeVolumes()
        self.assertFalse(self.ui.undoButton.enabled)

    def test_an_unknown_decision(self):
        with self.assertRaises(ValueError):
            self.review.decide("third", None, "perhaps")

    def test_another_run_keeps_decisions_on_the_same_volumes(self):
        self.review.decide("first", None, "copy")
        self.review.decide("third", 4, "unsure")
        before = self.logic.results.identities()
        slicer.mrmlScene.RemoveNode(self.nodes["third"])
        nodes = {**self.nodes, "third": smallVolume("third", 9)}
        self.showResult({"first": {}, "third": COPY}, {"first": {1: {}}, "third": {4: FLAGGED}}, nodes)
        self.review.keep(before, self.logic.results.identities())
        self.assertEqual(self.review.decisionOf("first")["decision"], "copy")
        self.assertIsNone(self.review.decisionOf("third", 4), "another volume of the same name")

    def scored(self, nodes, files=()):
        """A run on ``nodes`` ends: ``{name: node}``; ``files`` have names, no nodes."""
        before = self.logic.results.identities()
        volumes = {name: {"path": f"/data/{name}"} for name in (*nodes, *files)}
        self.showResult(volumes, {name: {1: {}} for name in volumes}, nodes, bool(files))
        self.review.keep(before, self.logic.results.identities())
        self.panel.update()

    def test_decisions_come_back_with_their_volume(self):
        self.review.decide("first", None, "copy", "ring", "Dr. M.")
        self.review.decide("third", 4, "unsure")
        decided = self.review.rows()
        self.assertEqual(self.review.putAside(), 0)
        self.scored({}, ["other.nii"])
        self.assertEqual(self.review.putAside(), 2)
        self.assertEqual((self.review.rows(), self.ui.reviewedLabel.text), ([], "0 of 1 reviewed"))
        self.review.decide("other.nii", None, "not a copy")
        bundle = str(self.folder / "scene.mrb")
        self.assertTrue(slicer.util.saveScene(bundle))
        slicer.mrmlScene.Clear(0)
        slicer.util.loadScene(bundle)
        self.scored({name: slicer.util.getNode(name) for name in self.nodes})
        self.assertEqual(self.review.rows(), decided)
        self.assertEqual(self.ui.reviewedLabel.text, "1 of 3 reviewed, 1 slice decided")
        self.scored({}, ["other.nii"])
        self.assertEqual(self.review.decisionOf("other.nii")["decision"], "not a copy")

    def test_decisions_do_not_come_back_with_another_volume(self):
        self.review.decide("third", None, "copy")
        self.scored({"first": self.nodes["first"]})
        self.scored({"third": smallVolume("third", 9)})
        self.assertEqual(self.review.rows(), [])
        self.nodes["third"].RemoveNodeReferenceIDs(KEPT_ROLE)  # as of a node that got the ID of a deleted one
        self.scored({"third": self.nodes["third"]})
        self.assertEqual(self.review.rows(), [])


class ExportTest(PanelTestCase):
    def rows(self, name):
        with (self.folder / "out" / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def export(self):
        """What the panel writes before the worker makes the report (which needs a whole result: see test_reopen)."""
        run = self.logic.startExport
        self.logic.getParameterNode().exportFolder = self.folder / "out"
        run(self.folder / "out")
        self.logic.wait()

    def test_tables(self):
        self.threeVolumes()
        self.click(self.ui.volumeCopyButton)
        self.click(self.ui.sliceUnsureButton)
        self.export()
        decisions = [(row["volume"], row["slice"], row["decision"]) for row in self.rows("decisions.csv")]
        self.assertEqual(decisions, [("third", "", "copy"), ("third", "4", "unsure")])
        column = {row["volume"]: row["reader_decision"] for row in self.rows("volumes.csv")}
        self.assertEqual(column, {"first": "", "second": "", "third": "copy"})
        column = {row["slice"]: row["reader_decision"] for row in self.rows("slices.csv") if row["volume"] == "third"}
        self.assertEqual(column, {"1": "", "2": "", "3": "", "4": "unsure"})

    def test_decisions_of_an_earlier_reading_are_not_lost(self):
        self.threeVolumes()
        self.click(self.ui.volumeCopyButton)
        self.export()
        self.click(self.ui.undoButton)
        self.ui.exportPath.currentPath = str(self.folder / "out")
        self.click(self.ui.exportButton)
        self.logic.wait()
        self.assertIn("has decisions of an earlier reading", self.ui.exportStatusLabel.text)
        self.assertEqual(len(self.rows("decisions.csv")), 1)

    def test_no_folder_and_a_folder_with_other_files(self):
        self.threeVolumes()
        self.click(self.ui.exportButton)
        self.assertIn("No folder is chosen", self.ui.exportStatusLabel.text)
        (self.folder / "out").mkdir()
        (self.folder / "out" / "thesis.txt").write_text("years of work")
        self.ui.exportPath.currentPath = str(self.folder / "out")
        self.click(self.ui.exportButton)
        self.logic.wait()
        self.assertTrue(re.search("holds other files", self.ui.exportStatusLabel.text), self.ui.exportStatusLabel.text)


if __name__ == "__main__":
    unittest.main()
