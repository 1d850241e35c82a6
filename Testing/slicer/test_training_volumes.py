"""Training volumes that are in the scene, at their old places, or in files of other names."""

import shutil
import unittest

import numpy as np
import qt
import slicer
from memorization_index import Reference
from memorization_index.volumes import read_volume
from MemorizationIndexLib import MemorizationIndexLogic, Steps, TrainingVolumes, VolumeWriter
from MemorizationIndexLib.Fingerprint import fingerprinting
from MemorizationIndexLib.Steps import finished
from panelsupport import PanelTestCase
from testsupport import NEW, TRAINING, SceneTestCase, addTransform, addVolume, rotation, sharedReference, waitUntil


class FingerprintTest(SceneTestCase):
    def test_it_is_that_of_a_file_of_the_volume(self):
        flipped = np.diag([-0.9375, 0.9375, -5.2, 1.0])
        turned = rotation(80, (0, 0, 1)) @ np.diag([1.0, -1.1, 3.0, 1.0])
        for matrix in (np.eye(4), flipped, turned, rotation(90, (1, 0, 0))):
            node = addVolume(TRAINING[0], "scan", slicer.util.vtkMatrixFromArray(matrix))
            node.SetAndObserveTransformNodeID(addTransform(rotation(20, (1, 1, 0))).GetID())
            table = VolumeWriter(self.folder / "written").write([node])
            [path] = table.parent.glob("*.nrrd")
            self.assertEqual(finished(fingerprinting(node)), read_volume(path).fingerprint)
            slicer.mrmlScene.Clear(0)


class FilesTest(SceneTestCase):
    """A reference that was built from files, of which some are in the scene as well."""

    def setUp(self):
        super().setUp()
        self.logic, self.reference = MemorizationIndexLogic(), self.folder / "reference"
        self.files = heads(self.folder / "training")
        Reference.build(self.folder / "training", out=self.reference, plane="axial", power="none")
        self.copy = addVolume(TRAINING[2], "copy")

    def verdict(self):
        self.logic.score([self.copy], self.reference)
        return self.copy.GetAttribute("MemorizationIndex.Verdict")

    def test_the_others_are_where_they_were(self):
        self.assertEqual(self.verdict(), "copy")
        self.logic.loadMatch(self.copy)
        self.assertEqual(self.verdict(), "copy", "the reference's other volumes are not in the scene")

    def test_another_reference_that_is_chosen_now(self):
        self.verdict()
        self.logic.getParameterNode().referenceFolder = self.folder / "another"
        self.assertEqual(self.logic.loadMatch(self.copy).GetName(), "head2.nrrd")

    def test_one_that_only_the_scene_has(self):
        node = slicer.util.loadVolume(str(self.files[2]))
        self.files[2].unlink()
        self.assertEqual(self.verdict(), "copy")
        self.assertIs(self.copy.GetNodeReference("MemorizationIndexMatch"), node)


class NextDayTest(PanelTestCase):
    """A reference that was built from volumes of the scene, and another scene."""

    def setUp(self):
        super().setUp()
        self.reference, written = self.folder / "reference", VolumeWriter(self.folder / "temporary")
        table = written.write([addVolume(array, f"head{i}") for i, array in enumerate(TRAINING)])
        Reference.build(table, out=self.reference, plane="axial", power="none")
        shutil.rmtree(written.folder)
        self.files = heads(self.folder / "files")
        slicer.mrmlScene.Clear(0)
        self.ui.referencePath.currentPath = str(self.reference)

    def apply(self):
        self.check(self.ui.volumeSelector, addVolume(TRAINING[2], "copy"))
        self.click(self.ui.applyButton)
        self.logic.wait()
        slicer.app.processEvents()
        return self.row(0)

    def test_the_files_are_loaded_again(self):
        nodes = [slicer.util.loadVolume(str(path)) for path in self.files]
        other = addVolume(NEW, "head2")
        self.assertEqual(self.apply(), ["copy", "copy"])
        copy = slicer.util.getNode("copy")
        self.assertIs(copy.GetNodeReference("MemorizationIndexMatch"), nodes[2])
        self.assertNotIn(other, TrainingVolumes(self.reference).inScene().values(), "of the name only")

    def test_the_folder_is_named(self):
        self.ui.trainingPath.currentPath = str(self.folder / "files")
        self.assertEqual(self.apply(), ["copy", "copy"])
        waitUntil(lambda: self.panel.display.compare.active and not self.ui.compareMessageLabel.text)
        match = slicer.util.getNode("copy").GetNodeReference("MemorizationIndexMatch")
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(match), TRAINING[2])

    def test_what_is_missing_is_said_and_found_once_it_is_loaded(self):
        self.assertNotEqual(self.apply()[1], "copy")
        waitUntil(lambda: "load it, or name the folder" in self.ui.compareMessageLabel.text)
        node = slicer.util.loadVolume(str(self.files[2]))
        self.panel.display._compareAnew()
        waitUntil(lambda: not self.ui.compareMessageLabel.text)
        self.assertIs(slicer.util.getNode("copy").GetNodeReference("MemorizationIndexMatch"), node)


class LargeVolumeTest(SceneTestCase):
    def test_recognizing_goes_in_steps(self):
        ended, turns = [], []
        node = addVolume(np.zeros((200, 256, 256), np.int16), "large")
        steps = Steps(fingerprinting(node), lambda *result: ended.append(result))
        steps.start()
        timer = qt.QTimer()
        timer.connect("timeout()", lambda: turns.append(1))
        timer.start(5)
        waitUntil(lambda: ended)
        timer.stop()
        self.assertIsNone(ended[0][1])
        self.assertGreater(len(turns), 2)


def heads(folder):
    """The training volumes as files head0.nrrd, head1.nrrd, …; their paths."""
    shared = sharedReference() / "training"
    rows = (shared / "volumes.csv").read_text(encoding="utf-8").split()[1:]
    folder.mkdir()
    paths = [folder / f"head{number}.nrrd" for number in range(len(rows))]
    for row, path in zip(rows, paths, strict=True):
        shutil.copy(shared / row.partition(",")[0], path)
    return paths


if __name__ == "__main__":
    unittest.main()
