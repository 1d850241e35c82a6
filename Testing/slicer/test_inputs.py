"""What can be examined and built from: volumes of the scene, hierarchy folders, files; previews; what is kept."""

import re
import shutil
import unittest

import numpy as np
import qt
import slicer
import vtk
from MemorizationIndexLib import VolumeWriter
from panelsupport import PanelTestCase
from testsupport import NEW, TRAINING, addVolume, column, sharedReference, waitUntil


class InputTestCase(PanelTestCase):
    def setUp(self):
        self.reference = sharedReference() / "reference"
        super().setUp()

    def choose(self, combo, number):
        combo.setCurrentIndex(number)

    def apply(self, said="Done."):
        self.ui.referencePath.currentPath = str(self.reference)
        self.click(self.ui.applyButton)
        self.logic.wait()
        slicer.app.processEvents()
        self.assertEqual(self.ui.statusLabel.text, said)


class FilesTest(InputTestCase):
    def test_a_folder_is_scored_and_its_files_are_loaded_when_chosen(self):
        self.choose(self.ui.sourceSelector, 2)
        self.assertFalse(self.ui.applyButton.enabled)
        self.ui.filesPath.currentPath = str(sharedReference() / "training")
        self.apply()
        self.assertEqual(len(self.names()), 6)
        self.assertEqual({self.row(number, (1,))[0] for number in range(6)}, {"copy"})
        self.ui.worklistTable.selectRow(3)
        node = self.panel.results.node
        self.assertEqual(node.GetAttribute("MemorizationIndex.Verdict"), "copy")
        self.assertEqual(slicer.util.arrayFromVolume(node).shape, TRAINING[0].shape)
        self.assertIsNotNone(self.logic.results.agreementOf(node))

    def test_a_bad_file_is_listed(self):
        folder = self.folder / "queries"
        folder.mkdir()
        (folder / "torn.nrrd").write_bytes(b"NRRD0004\ntype: short\n")
        storage = slicer.vtkMRMLNRRDStorageNode()
        storage.SetFileName(str(folder / "good.nrrd"))
        storage.WriteData(addVolume(NEW, "good"))
        self.choose(self.ui.sourceSelector, 2)
        self.ui.filesPath.currentPath = str(folder)
        self.apply("Done; 1 volume skipped, see Log.")
        self.assertEqual(self.row(1, (1,)), ["skipped"])
        self.assertIn("torn.nrrd", self.ui.logText.toPlainText())
        self.ui.worklistTable.selectRow(1)
        self.assertIn("torn.nrrd", self.ui.volumeLabel.text)


class ResumeTest(InputTestCase):
    def test_a_stopped_build_goes_on_from_what_was_finished(self):
        training = self.folder / "training"
        training.mkdir()
        for number in range(36):  # the first 32 are one unit of work
            source = sorted((sharedReference() / "training").glob("*.nrrd"))[number % 6]
            shutil.copy(source, training / f"scan{number:02d}.nrrd")
        self.choose(self.ui.trainingSourceSelector, 1)
        self.ui.trainingFilesPath.currentPath = str(training)
        self.ui.referencePath.currentPath = str(self.folder / "reference")
        self.assertEqual(self.ui.buildButton.text, "Build")
        self.click(self.ui.buildButton)
        unit = self.folder / ".reference.building" / "unit-000000.safetensors"
        waitUntil(unit.exists, 120)
        self.click(self.ui.buildButton)
        waitUntil(lambda: not self.logic.busy)
        self.assertEqual(self.ui.buildStatusLabel.text, "Stopped.")
        self.assertNotIn("command", self.ui.logText.toPlainText())
        self.assertEqual(self.ui.buildButton.text, "Resume")
        self.assertIn("goes on where it was", self.ui.referenceInfoLabel.text)
        finished, counts = unit.stat().st_mtime_ns, []

        def goesOn():
            found = re.search(r"Reading: (\d+) of 36", self.ui.buildStatusLabel.text)
            counts.extend(int(found[1]) for found in [found] if found)
            return counts and counts[-1] > 32

        self.click(self.ui.buildButton)
        waitUntil(goesOn, 120)
        self.click(self.ui.buildButton)
        waitUntil(lambda: not self.logic.busy)
        self.assertEqual([count for count in counts if 0 < count < 32], [], "those were finished before")
        self.assertEqual(unit.stat().st_mtime_ns, finished, "and are not done again")


class HierarchyTest(InputTestCase):
    def makeFolder(self):
        """A folder with a folder with a volume, and another volume beside."""
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        outer = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "synthetic")
        inner = hierarchy.CreateFolderItem(outer, "batch")
        inside, outside = addVolume(NEW, "inside"), addVolume(NEW, "outside")
        for node, parent in ((inside, inner), (outside, hierarchy.GetSceneItemID())):
            item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(parent, node)
            hierarchy.SetItemParent(item, parent)
        return outer

    def test_all_volumes_below_a_folder(self):
        folder = self.makeFolder()
        self.choose(self.ui.sourceSelector, 1)
        self.assertEqual(self.ui.examineLabel.text, "0 volumes are chosen.")
        self.ui.folderSelector.setCurrentItem(folder)
        self.assertEqual(self.ui.examineLabel.text, "1 volume is chosen.")
        self.apply()
        self.assertEqual(self.names(), ["inside"])

    def test_the_folder_is_kept_with_the_scene(self):
        self.choose(self.ui.sourceSelector, 1)
        self.ui.folderSelector.setCurrentItem(self.makeFolder())
        bundle = self.folder / "scene.mrb"
        self.assertTrue(slicer.util.saveScene(str(bundle)))
        slicer.mrmlScene.Clear(0)
        self.assertEqual(self.logic.getParameterNode().source, "scene")
        slicer.util.loadScene(str(bundle))
        slicer.app.processEvents()
        self.assertEqual(self.ui.sourceSelector.currentIndex, 1)
        self.assertEqual(self.ui.examineLabel.text, "1 volume is chosen.")
        self.assertEqual(self.ui.folderSelector.currentText, "synthetic")


class BuildTest(InputTestCase):
    def test_preview_of_scene_volumes(self):
        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        self.check(self.ui.trainingSelector, addVolume(NEW, "a"), addVolume(NEW, "b"), empty)
        self.click(self.ui.previewButton)
        self.assertIn("2 volumes of 2 subjects (a, b), cut into axial slices.", self.ui.previewLabel.text)
        self.assertIn("1 would be skipped: empty: has no voxels", self.ui.previewLabel.text)
        self.ui.trainingSelector.setCheckState(empty, qt.Qt.Unchecked)
        self.assertEqual(self.ui.previewLabel.text, "", "it was of another choice")

    def test_preview_says_what_lies_in_another_plane(self):
        coronal = addVolume(NEW, "coronal", np.diag([1.0, 1.0, 1.0, 1.0])[:, [0, 2, 1, 3]] * [1, 1, 4, 1])
        self.check(self.ui.trainingSelector, addVolume(NEW, "a"), coronal)
        self.click(self.ui.previewButton)
        self.assertIn("1 volume of 1 subject (a), cut into axial slices.", self.ui.previewLabel.text)
        self.assertIn("coronal: was acquired in coronal slices", self.ui.previewLabel.text)
        self.assertIn("Plane: coronal", self.ui.previewLabel.text)
        self.ui.planeSelector.setCurrentText("coronal")
        self.assertEqual(self.ui.previewLabel.text, "", "it was of another plane")
        self.click(self.ui.previewButton)
        self.assertIn("2 volumes of 2 subjects (coronal, a), cut into coronal slices.", self.ui.previewLabel.text)

    def test_a_build_of_which_nothing_can_be_used_is_not_gone_on_with(self):
        training = self.folder / "training"
        coronal = addVolume(NEW, "coronal", np.diag([1.0, 1.0, 1.0, 1.0])[:, [0, 2, 1, 3]] * [1, 1, 4, 1])
        VolumeWriter(training).write([coronal])
        (training / "volumes.csv").unlink()
        self.choose(self.ui.trainingSourceSelector, 1)
        self.ui.trainingFilesPath.currentPath = str(training)
        self.click(self.ui.previewButton)
        self.logic.wait()
        self.assertIn("was acquired in coronal slices", self.ui.previewLabel.text)
        self.ui.referencePath.currentPath = str(self.folder / "reference")
        self.click(self.ui.buildButton)
        self.logic.wait()
        self.assertIn("None of the 1 training images can be used", self.ui.buildStatusLabel.text)
        self.assertEqual(self.ui.buildButton.text, "Build")
        self.assertIn("Nothing is there yet", self.ui.referenceInfoLabel.text)

    def test_an_error_names_the_volume(self):
        self.ui.logText.clear()
        for selector, button, label in (
            (self.ui.volumeSelector, self.ui.applyButton, self.ui.statusLabel),
            (self.ui.trainingSelector, self.ui.buildButton, self.ui.buildStatusLabel),
        ):
            empty = addVolume(np.zeros((5, 6, 7), np.int16), "blank")
            self.check(selector, empty)
            target = self.reference if button is self.ui.applyButton else self.folder / "reference"
            self.ui.referencePath.currentPath = str(target)
            self.click(button)
            self.logic.wait()
            self.assertIn("blank: every slice is constant or empty", label.text)
            self.assertNotIn(".nrrd", label.text + self.ui.logText.toPlainText())
            self.assertNotIn("query", label.text)
            slicer.mrmlScene.RemoveNode(empty)
        self.assertFalse((self.folder / ".reference.building").exists())

    def test_a_build_without_a_folder(self):
        self.check(self.ui.trainingSelector, addVolume(NEW, "a"))
        self.click(self.ui.buildButton)
        self.assertEqual(self.ui.buildStatusLabel.text, "Name a new, empty folder under Reference folder.")

    def test_what_a_build_would_replace_is_said(self):
        self.ui.referencePath.currentPath = str(self.reference)
        self.assertNotIn("replace", self.ui.referenceInfoLabel.text)
        self.check(self.ui.trainingSelector, addVolume(NEW, "a"))
        self.assertIn("6 subjects, 6 volumes", self.ui.referenceInfoLabel.text)
        self.assertIn("Build would replace it", self.ui.referenceInfoLabel.text)

    def test_preview_of_files_by_the_worker(self):
        (self.folder / "list.csv").write_text(
            "path,subject\n"
            + "".join(f"{p},sub-{i // 2}\n" for i, p in enumerate(self.trainingFiles()))
            + "gone.nrrd,x\n",
            encoding="utf-8",
        )
        self.choose(self.ui.trainingSourceSelector, 1)
        self.ui.trainingFilesPath.currentPath = str(self.folder / "list.csv")
        self.click(self.ui.previewButton)
        self.logic.wait()
        self.assertIn(
            "6 volumes of 3 subjects (sub-0, sub-1, sub-2), cut into axial slices.", self.ui.previewLabel.text
        )
        self.assertIn("1 would be skipped:", self.ui.previewLabel.text)
        self.assertIn("gone.nrrd", self.ui.previewLabel.text)

    def trainingFiles(self):
        return sorted((sharedReference() / "training").glob("*.nrrd"))


class SequenceTest(InputTestCase):
    def test_the_frame_that_a_proxy_volume_shows(self):
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "frames")
        for value, array in enumerate((NEW, TRAINING[2])):
            node = addVolume(array, f"frame {value}")
            sequence.SetDataNodeAtValue(node, str(value))
            slicer.mrmlScene.RemoveNode(node)
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
        browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        slicer.modules.sequences.logic().UpdateAllProxyNodes()
        proxy = browser.GetProxyNode(sequence)
        browser.SetSelectedItemNumber(1)
        self.check(self.ui.volumeSelector, proxy)
        self.ui.referencePath.currentPath = str(self.reference)
        self.click(self.ui.applyButton)
        browser.SetSelectedItemNumber(0)
        self.logic.wait()
        self.assertEqual(column(self.logic.getParameterNode().volumeTable, "verdict"), ["copy"], "as it was at Apply")
        self.assertEqual(proxy.GetAttribute("MemorizationIndex.Verdict"), "copy")


class DeviceTest(PanelTestCase):
    def test_devices_that_are_there(self):
        self.assertEqual([self.ui.deviceSelector.itemText(i) for i in range(self.ui.deviceSelector.count)][1:],
                         ["processor (cpu)"])  # fmt: skip
        self.ui.advancedCollapsibleButton.collapsed = False
        self.addCleanup(setattr, self.ui.advancedCollapsibleButton, "collapsed", True)
        process = self.panel.advanced._process
        waitUntil(lambda: process.state() == qt.QProcess.NotRunning, 240)
        self.assertGreaterEqual(self.ui.deviceSelector.count, 2)
        self.ui.deviceSelector.setCurrentIndex(1)
        self.assertEqual(self.logic.getParameterNode().device, "cpu")


class ChangeMeanwhileTest(InputTestCase):
    def test_voxels_are_those_of_the_moment_of_apply(self):
        node = addVolume(TRAINING[2], "copy")
        self.check(self.ui.volumeSelector, node)
        self.ui.referencePath.currentPath = str(self.reference)
        self.click(self.ui.applyButton)
        empty = vtk.vtkImageData()
        empty.SetDimensions(2, 2, 2)
        empty.AllocateScalars(vtk.VTK_SHORT, 1)
        node.SetAndObserveImageData(empty)
        self.logic.wait()
        self.assertEqual(node.GetAttribute("MemorizationIndex.Verdict"), "copy")


if __name__ == "__main__":
    unittest.main()
