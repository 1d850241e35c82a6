"""The panel, driven as a user drives it, and the module's life in the application."""

import sys
import unittest
from pathlib import Path

import qt
import slicer
from MemorizationIndexLib.CompareLayout import QUERY
from panelsupport import MODULE, PanelTestCase
from testsupport import NEW, TRAINING, addVolume, sharedReference, waitUntil


class RunPanelTestCase(PanelTestCase):
    def setUp(self):
        self.reference = sharedReference() / "reference"
        super().setUp()


class RunTest(RunPanelTestCase):
    def test_nothing_to_do_in_an_empty_scene(self):
        for button in (self.ui.applyButton, self.ui.buildButton, self.ui.loadMatchButton):
            self.assertFalse(button.enabled, button.name)
        self.assertFalse(self.ui.installButton.visible)
        self.assertEqual(self.ui.applyButton.toolTip, "Choose volumes first.")
        self.assertEqual(self.ui.buildButton.toolTip, "Choose training volumes first.")
        node = addVolume(NEW, "new")
        self.check(self.ui.volumeSelector, node)
        self.check(self.ui.trainingSelector, node)
        self.assertIn("Compare the chosen volumes", self.ui.applyButton.toolTip)
        self.assertIn("Fit a reference", self.ui.buildButton.toolTip)

    def test_score_and_load_the_match(self):
        copy, new = addVolume(TRAINING[2], "copy"), addVolume(NEW, "new")
        self.ui.referencePath.currentPath = str(self.reference)
        self.check(self.ui.volumeSelector, copy, new)
        self.click(self.ui.applyButton)
        self.assertEqual(self.ui.applyButton.text, "Stop")
        texts, values = set(), set()
        while self.logic.busy:
            slicer.app.processEvents()
            texts.add(self.ui.statusLabel.text)
            values.add((self.ui.progressBar.value, self.ui.progressBar.maximum))
        slicer.app.processEvents()
        self.assertEqual(self.ui.statusLabel.text, "Done.")
        self.assertTrue(any(" of " in text for text in texts), texts)
        self.assertTrue(any(0 < value == maximum for value, maximum in values), values)
        self.assertEqual(self.ui.applyButton.text, "Apply")
        self.assertEqual(self.row(0), ["copy", "copy"])
        self.assertEqual(self.ui.worklistTable.item(0, 5).text(), "training2")
        waitUntil(lambda: self.ui.loadMatchButton.enabled)
        self.click(self.ui.loadMatchButton)
        self.assertEqual(self.ui.statusLabel.text, "Matched training volume: training2")
        self.assertEqual(copy.GetNodeReference("MemorizationIndexMatch").GetName(), "training2")

    def test_stop(self):
        nodes = [addVolume(TRAINING[i % 6], f"v{i}") for i in range(8)]
        self.ui.referencePath.currentPath = str(self.reference)
        self.check(self.ui.volumeSelector, *nodes)
        self.click(self.ui.applyButton)
        waitUntil(lambda: " of " in self.ui.statusLabel.text)
        self.click(self.ui.applyButton)
        waitUntil(lambda: not self.logic.busy, seconds=5)
        self.assertEqual(self.ui.statusLabel.text, "Stopped.")
        self.assertEqual(self.ui.applyButton.text, "Apply")
        self.assertTrue(self.ui.applyButton.enabled)

    def test_moved_training_files_are_missed_and_found_again(self):
        training, moved = sharedReference() / "training", sharedReference() / "moved"
        training.rename(moved)
        self.addCleanup(moved.rename, training)
        self.ui.referencePath.currentPath = str(self.reference)
        self.check(self.ui.volumeSelector, addVolume(TRAINING[2], "copy"))
        self.click(self.ui.applyButton)
        self.logic.wait()
        waitUntil(lambda: "neither in the scene" in self.ui.compareMessageLabel.text)
        self.assertIn("were not found, so matches were not verified", self.ui.statusLabel.text)
        self.assertIn("were not found, so matches were not verified", self.ui.logText.toPlainText())
        self.assertIn("under Advanced › Training files", self.ui.compareMessageLabel.text)
        self.ui.trainingPath.currentPath = str(moved)
        waitUntil(lambda: not self.ui.compareMessageLabel.text)
        self.click(self.ui.applyButton)
        self.logic.wait()
        slicer.app.processEvents()
        self.assertEqual(self.ui.statusLabel.text, "Done.")
        self.assertEqual(self.row(0), ["copy", "copy"])

    def test_a_match_that_was_loaded_is_compared(self):
        training, moved = sharedReference() / "training", sharedReference() / "moved"
        self.ui.referencePath.currentPath = str(self.reference)
        self.check(self.ui.volumeSelector, addVolume(TRAINING[2], "copy"))
        training.rename(moved)
        try:
            self.click(self.ui.applyButton)
            self.logic.wait()
            waitUntil(lambda: self.ui.compareMessageLabel.text)
        finally:
            moved.rename(training)
        self.click(self.ui.loadMatchButton)
        waitUntil(lambda: not self.ui.compareMessageLabel.text)

    def test_a_row_opens_at_one_slice_and_stays_there(self):
        copy = addVolume(TRAINING[2], "copy")
        self.ui.referencePath.currentPath = str(self.reference)
        self.check(self.ui.volumeSelector, copy, addVolume(NEW, "new"))
        self.click(self.ui.applyButton)
        self.logic.wait()
        waitUntil(lambda: self.panel.display.compare.active)
        best = self.panel.display.compare._comparison._best()
        other = next(row for row in self.panel.results._rows if row["slice"] != best)
        self.logic.results.worstSlice = lambda name: other
        self.addCleanup(self.logic.results.__dict__.pop, "worstSlice")
        for number in (1, 0):
            self.ui.worklistTable.selectRow(number)
            waitUntil(lambda: self.panel.display._steps is None and self.panel.display.compare.active)
        self.assertEqual(self.panel.results._row["slice"], other["slice"])

    def test_the_first_row_after_a_run_has_a_legend(self):
        """The comparison's views are made after the heat map."""
        self.ui.referencePath.currentPath = str(self.reference)
        self.check(self.ui.volumeSelector, addVolume(TRAINING[2], "copy"))
        self.click(self.ui.applyButton)
        self.logic.wait()
        waitUntil(lambda: self.panel.display.compare.active)
        view = slicer.app.layoutManager().sliceWidget(QUERY).sliceView()
        renderers = view.renderWindow().GetRenderers()
        every = [renderers.GetItemAsObject(number) for number in range(renderers.GetNumberOfItems())]
        props = [prop for renderer in every for prop in renderer.GetViewProps()]
        self.assertTrue([prop for prop in props if prop.IsA("vtkScalarBarActor")])

    def test_a_comparison_goes_on_without_the_training_volume(self):
        self.ui.referencePath.currentPath = str(self.reference)
        copy = addVolume(TRAINING[2], "copy")
        self.check(self.ui.volumeSelector, copy)
        self.click(self.ui.applyButton)
        self.logic.wait()
        waitUntil(lambda: self.panel.display.compare.active)
        training, moved = sharedReference() / "training", sharedReference() / "moved"
        training.rename(moved)
        self.addCleanup(moved.rename, training)
        slicer.mrmlScene.RemoveNode(copy.GetNodeReference("MemorizationIndexMatch"))
        self.panel.update()
        waitUntil(lambda: "neither in the scene" in self.ui.compareMessageLabel.text)
        self.assertEqual(self.logic.getParameterNode().compare, "side by side")

    def test_an_empty_volume_stays_ticked(self):
        empty, new = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"), addVolume(NEW, "new")
        self.ui.referencePath.currentPath = str(self.reference)
        self.check(self.ui.volumeSelector, empty, new)
        self.click(self.ui.applyButton)
        self.logic.wait()
        slicer.app.processEvents()
        self.assertEqual(self.ui.statusLabel.text, "Done; 1 volume skipped, see Log.")
        self.assertIn("empty: has no voxels", self.ui.logText.toPlainText())
        self.assertEqual(list(self.logic.getParameterNode().volumes), [empty, new])

    def test_a_path_is_taken_when_it_is_typed(self):
        """Not at every character: the comparison would begin anew with each."""
        self.ui.referencePath.currentPath = str(self.reference)
        self.check(self.ui.volumeSelector, addVolume(TRAINING[2], "copy"))
        self.click(self.ui.applyButton)
        self.logic.wait()
        waitUntil(lambda: self.panel.display.compare.active)
        begun = []
        showing = self.panel.display.compare.showing
        self.panel.display.compare.showing = lambda node, **options: begun.append(node) or showing(node, **options)
        for end in range(1, 6):
            self.ui.trainingPath.currentPath = "/gone/"[:end]
            slicer.app.processEvents()
        self.assertEqual(begun, [])
        waitUntil(lambda: begun)
        waitUntil(lambda: self.panel.display._steps is None)
        self.assertEqual(len(begun), 1)

    def test_one_button_stops_a_build(self):
        nodes = [addVolume(TRAINING[i % 6], f"training{i}") for i in range(8)]
        self.check(self.ui.trainingSelector, *nodes)
        self.check(self.ui.volumeSelector, nodes[0])
        self.ui.referencePath.currentPath = str(self.folder / "reference")
        self.click(self.ui.buildButton)
        self.assertEqual((self.ui.buildButton.text, self.ui.applyButton.text), ("Stop", "Apply"))
        self.assertFalse(self.ui.applyButton.enabled)
        self.assertIn("is being built", self.ui.applyButton.toolTip)
        waitUntil(lambda: " of " in self.ui.buildStatusLabel.text)
        self.click(self.ui.buildButton)
        waitUntil(lambda: not self.logic.busy)
        self.assertTrue(self.ui.applyButton.enabled)
        self.assertEqual(self.ui.buildButton.text, "Build", "of the scene's volumes nothing is left to go on with")
        self.assertIn("Nothing is there yet", self.ui.referenceInfoLabel.text)

    def test_build_then_score(self):
        training = [addVolume(array, f"scan{i}") for i, array in enumerate(TRAINING)]
        self.ui.referencePath.currentPath = str(self.folder / "reference")
        self.ui.planeSelector.setCurrentText("axial")
        self.check(self.ui.trainingSelector, *training)
        self.click(self.ui.buildButton)
        self.logic.wait()
        self.assertEqual(self.ui.buildStatusLabel.text, "Done.")
        self.check(self.ui.volumeSelector, addVolume(TRAINING[1], "copy"))
        self.click(self.ui.applyButton)
        self.logic.wait()
        copy = slicer.util.getNode("copy")
        self.assertIs(copy.GetNodeReference("MemorizationIndexMatch"), training[1])

    def test_the_root_of_the_disk_is_no_reference(self):
        self.ui.trainingSourceSelector.setCurrentText("A folder or table on disk")
        self.ui.referencePath.currentPath = "/"
        self.assertIn("is not a reference", self.ui.referenceInfoLabel.text)
        self.assertEqual(self.ui.buildButton.text, "Build")

    def test_too_few_subjects_for_p_are_said(self):
        for count, few in ((4, True), (5, False)):
            training = [addVolume(array, f"scan{i}") for i, array in enumerate(TRAINING[:count])]
            self.logic.build(training, self.folder / str(count), subjects=[node.GetName() for node in training])
            self.ui.referencePath.currentPath = str(self.folder / str(count))
            self.assertIn(f"{count} subjects", self.ui.referenceInfoLabel.text)
            self.assertEqual("too few subjects for p" in self.ui.referenceInfoLabel.text, few)

    def test_an_error_is_one_line_in_the_panel(self):
        self.check(self.ui.volumeSelector, addVolume(NEW, "new"))
        self.click(self.ui.applyButton)
        self.assertIn("No reference is chosen", self.ui.statusLabel.text)
        self.ui.referencePath.currentPath = str(self.folder)
        self.click(self.ui.applyButton)
        self.assertIn("is not a reference", self.ui.referenceInfoLabel.text)
        self.assertEqual(self.ui.statusLabel.text, "Nothing was started: the reference above cannot be used.")
        self.assertEqual(self.ui.applyButton.text, "Apply")


class SceneTest(RunPanelTestCase):
    def test_choices_are_kept_in_the_scene_and_shown_again(self):
        first, second = addVolume(NEW, "first"), addVolume(NEW, "second")
        self.ui.planeSelector.setCurrentText("coronal")
        self.check(self.ui.volumeSelector, second)
        parameter = self.logic.getParameterNode()
        self.assertEqual((parameter.plane, list(parameter.volumes)), ("coronal", [second]))
        self.widget.enter()
        self.assertEqual(self.ui.planeSelector.currentText, "coronal")
        self.assertEqual(self.ui.volumeSelector.checkState(first), qt.Qt.Unchecked)
        self.assertEqual(self.ui.volumeSelector.checkState(second), qt.Qt.Checked)

    def test_a_saved_scene_shows_its_choices(self):
        addVolume(NEW, "other")
        node = addVolume(NEW, "chosen")
        self.check(self.ui.volumeSelector, node)
        self.ui.referencePath.currentPath = str(self.reference)
        bundle = str(self.folder / "scene.mrb")
        self.assertTrue(slicer.util.saveScene(bundle))
        slicer.mrmlScene.Clear(0)
        self.assertNotEqual(self.ui.referencePath.currentPath, str(self.reference))
        slicer.util.loadScene(bundle)
        self.assertEqual(self.ui.referencePath.currentPath, str(self.reference))
        states = [self.ui.volumeSelector.checkState(slicer.util.getNode(name)) for name in ("other", "chosen")]
        self.assertEqual(states, [qt.Qt.Unchecked, qt.Qt.Checked])

    def test_everything_chosen_is_saved_with_the_scene(self):
        parameter = self.logic.getParameterNode()
        volumes = {"trainingVolumes": [addVolume(NEW, "trained on")], "volumes": [addVolume(NEW, "chosen")]}
        names = ["referenceFolder", "trainingFiles", "files", "exportFolder", "trainingFolder", "keyFile", "weights"]
        names.append("resultReference")
        chosen = {
            **{name: Path("/data") / name for name in names},
            "trainingSource": "files", "plane": "sagittal", "source": "hierarchy", "reader": "Dr. M.",
            "overlay": False, "heatMap": False, "compare": "difference", "matchWindowLevel": False,
            "encoder": "mri-core", "device": "cpu",
        }  # fmt: skip
        for name, value in {**volumes, **chosen}.items():
            setattr(parameter, name, value)
        tables = {name for name in parameter.allParameters if name.endswith("Table") or name == "resultFiles"}
        self.assertEqual(set(parameter.allParameters), {*volumes, *chosen, *tables}, "a new one is to be tried as well")
        bundle = str(self.folder / "scene.mrb")
        self.assertTrue(slicer.util.saveScene(bundle))
        slicer.mrmlScene.Clear(0)
        slicer.util.loadScene(bundle)
        parameter = self.logic.getParameterNode()
        self.assertEqual({name: getattr(parameter, name) for name in chosen}, chosen)
        for name, nodes in (("trainingVolumes", ["trained on"]), ("volumes", ["chosen"])):
            self.assertEqual([node.GetName() for node in getattr(parameter, name)], nodes)
        self.assertEqual(self.ui.readerEdit.text, "Dr. M.")
        self.assertEqual(self.ui.keyPath.currentPath, "/data/keyFile")
        self.assertFalse(self.ui.overlayCheckBox.checked)

    def test_a_deleted_node_is_forgotten(self):
        node = addVolume(NEW, "gone")
        self.check(self.ui.volumeSelector, node)
        self.assertTrue(self.ui.applyButton.enabled)
        slicer.mrmlScene.RemoveNode(node)
        self.logic.getParameterNode().Modified()
        self.assertFalse(self.ui.applyButton.enabled)

    def test_the_scene_closed_while_running(self):
        self.ui.referencePath.currentPath = str(self.reference)
        self.check(self.ui.volumeSelector, addVolume(NEW, "new"))
        self.click(self.ui.applyButton)
        slicer.mrmlScene.Clear(0)
        waitUntil(lambda: not self.logic.busy, seconds=5)
        self.assertEqual(self.ui.statusLabel.text, "Stopped.")
        self.check(self.ui.volumeSelector, addVolume(NEW, "later"))
        self.assertEqual([node.GetName() for node in self.logic.getParameterNode().volumes], ["later"])

    def test_a_script_changes_what_the_panel_shows(self):
        node = addVolume(NEW, "new")
        parameter = self.logic.getParameterNode()
        parameter.volumes = [node]
        parameter.plane = "sagittal"
        self.assertEqual(self.ui.volumeSelector.checkState(node), qt.Qt.Checked)
        self.assertEqual(self.ui.planeSelector.currentText, "sagittal")
        self.assertTrue(self.ui.applyButton.enabled)


class LifeTest(RunPanelTestCase):
    def test_reload_takes_up_changes_and_leaves_nothing_of_the_old(self):
        old, oldLibrary = self.widget.panel, sys.modules["MemorizationIndexLib.Widget"]
        self.widget.onReload()
        self.use(getattr(slicer.modules, MODULE + "Widget"))
        self.assertIsNot(sys.modules["MemorizationIndexLib.Widget"], oldLibrary, "the library is read again too")
        self.widget.enter()
        node = addVolume(NEW, "new")
        self.check(self.widget.panel.ui.volumeSelector, node)
        self.assertEqual(list(self.logic.getParameterNode().volumes), [node])
        self.assertEqual(old.ui.volumeSelector.checkState(node), qt.Qt.Unchecked, "the old panel is cut off")

    def test_reload_while_running_stops_the_worker(self):
        self.ui.referencePath.currentPath = str(self.reference)
        self.check(self.ui.volumeSelector, addVolume(NEW, "new"))
        self.click(self.ui.applyButton)
        logic = self.logic
        self.widget.onReload()
        self.assertFalse(logic.busy)
        self.assertNoTemporaryFiles()

    def test_after_cleanup_the_scene_is_not_watched(self):
        widget = self.widget
        widget.cleanup()
        self.assertEqual(widget.Observations if hasattr(widget, "Observations") else [], [])
        slicer.mrmlScene.Clear(0)
        addVolume(NEW, "new")
        self.assertIsNone(widget.panel._parameter)
        widget.onReload()

    def test_the_module_describes_itself(self):
        module = getattr(slicer.modules, MODULE.lower())
        self.assertEqual(module.title, "Memorization Index")
        self.assertEqual(module.categories, ["Quantification"])
        self.assertTrue(Path(self.widget.resourcePath(f"UI/{MODULE}.ui")).is_file())

    def test_self_test(self):
        slicer.selfTests[MODULE]()


if __name__ == "__main__":
    unittest.main()
