"""From a run to the views: copies that the worker found light up and are linked where they really come from."""

import shutil
import unittest
import zipfile

import numpy as np
import scipy.ndimage
import slicer
from memorization_index import Reference
from memorization_index.errors import MemorizationIndexError
from memorization_index.pseudonyms import Key, seal
from MemorizationIndexLib import Compare, MemorizationIndexLogic, Overlay, TrainingVolumes
from MemorizationIndexLib.CompareLayout import QUERY, TRAINING
from MemorizationIndexLib.ScoredVolume import ScoredVolume
from MemorizationIndexLib.VolumeWriter import worldMatrix
from testsupport import NEW, addVolume, rotation, sharedReference
from testsupport import TRAINING as SCANS
from viewsupport import ViewTestCase

OBLIQUE = rotation(15, (0.3, 0.8, 0.2)) @ rotation(-20, (1, 0, 0)) @ np.diag([-1.0, -1.0, 3.0, 1])
DEGREES = 7
SCAN = SCANS[2]
MIDDLE = (SCAN.shape[2] - 1) / 2


def turnedBy(degrees, j, i):
    """Where ``scipy.ndimage.rotate`` takes (j, i) from."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    j, i = j - MIDDLE, i - MIDDLE
    return cos * j + sin * i + MIDDLE, -sin * j + cos * i + MIDDLE


# The copies, and for each the place (k, j, i) of the scan that its voxel (k, j, i) shows.
COPIES = {
    "mirrored": (SCAN[:, :, ::-1], lambda k, j, i: (k, j, 2 * MIDDLE - i)),
    "quarter turn": (np.rot90(SCAN, 1, (1, 2)), lambda k, j, i: (k, i, 2 * MIDDLE - j)),
    "rotated": (
        scipy.ndimage.rotate(SCAN, DEGREES, (1, 2), reshape=False, order=1),
        lambda k, j, i: (k, *turnedBy(DEGREES, j, i)),
    ),
    "shifted up": (np.roll(SCAN, (2, -3), (0, 1)), lambda k, j, i: (k - 2, j + 3, i)),
}
PATCHED = 10  # a slice most of which is the patch
PLACES = [(6, 20, 16), (6, 30, 30), (8, 16, 28)]


class FoundCopiesTest(ViewTestCase):
    @classmethod
    def setUpClass(cls):
        cls.reference = sharedReference() / "reference"

    def score(self, *nodes):
        self.logic_ = MemorizationIndexLogic()
        self.addCleanup(self.logic_.wait)
        self.logic_.score(list(nodes), self.reference)
        return self.logic_.results

    def test_the_views_are_linked_where_the_copy_comes_from(self):
        """To half a slice and one pixel, for copies that were altered and lie elsewhere in the scene."""
        nodes = {name: addVolume(array, name, OBLIQUE) for name, (array, _source) in COPIES.items()}
        results = self.score(*nodes.values())
        comparing = Compare(results, self.logic_.trainingVolumes)
        self.addCleanup(comparing.cleanup)
        for name, (_array, source) in COPIES.items():
            comparing.show(nodes[name])
            self.assertEqual(comparing.message, "")
            for place in PLACES:
                with self.subTest(name, place=place):
                    self.assertShown(nodes[name], place, source(*place))

    def test_a_planted_patch_lights_up_where_it_was_planted(self):
        """A part of a scan in a head that is new: the heat map shows it at that RAS point, and nothing beside it."""
        array = NEW.copy()
        array[:, 8:40, 8:32] = SCAN[:, 8:40, 8:32]
        nodes = {"straight": addVolume(array, "straight"), "oblique": addVolume(array, "oblique", OBLIQUE)}
        results = self.score(*nodes.values())
        overlay = Overlay(results)
        self.addCleanup(overlay.cleanup)
        for name, node in nodes.items():
            flagged = [int(row["slice"]) for row in results.slicesOf(node) if row["flagged"]]
            self.assertIn(PATCHED, flagged)
            toWorld = slicer.util.arrayFromVTKMatrix(worldMatrix(node, name))
            slices = ScoredVolume(node, results.slicesOf(node)).slices
            k = round((np.linalg.inv(toWorld) @ [*slices.center(PATCHED), 1])[2])
            within, beside = ((toWorld @ [i, 24, k, 1])[:3] for i in (20, 37))
            overlay.enabled = False
            self.show(node, along=True)
            self.offset(within)
            plain = [np.ptp(self.colorAt(place)) for place in (within, beside)]
            overlay.enabled = True
            self.offset(within)
            lit, dark = (np.ptp(self.colorAt(place)) for place in (within, beside))
            with self.subTest(name):
                self.assertEqual(plain, [0, 0], "gray without the overlay")
                self.assertGreater(lit, 40)
                self.assertLess(dark, 10)

    def assertShown(self, node, place, expected):
        """Where the left view shows the voxel (k, j, i), the right one shows this place (k, j, i) of the scan."""
        k, j, i = place
        toWorld = slicer.util.arrayFromVTKMatrix(worldMatrix(node, "copy"))
        world = (toWorld @ [i, j, k, 1])[:3]
        self.offset(world, QUERY)
        x, y = self.pixel(world, QUERY)
        seen = self.sliceNode(TRAINING).GetXYToRAS().MultiplyPoint([x, y, 0, 1])
        shown = slicer.mrmlScene.GetNodeByID(self.composite(TRAINING).GetBackgroundVolumeID())
        moved = slicer.util.arrayFromVTKMatrix(shown.GetParentTransformNode().GetMatrixTransformToParent())
        inScan = np.linalg.inv(moved @ slicer.util.arrayFromVTKMatrix(worldMatrixOf(shown))) @ seen
        i, j, k = inScan[:3]
        self.assertLess(abs(k - expected[0]), 0.5)
        self.assertLess(np.hypot(j - expected[1], i - expected[2]), 1.0)


class PseudonymizedTest(ViewTestCase):
    """A reference that names no file: its owner, who has the key, finds the training volume by its voxels."""

    def setUp(self):
        super().setUp()
        shared = sharedReference()
        self.training = self.folder / "moved"
        shutil.copytree(shared / "training", self.training)
        for number, path in enumerate(sorted(self.training.glob("*.nrrd"))):
            path.rename(path.with_name(f"renamed {number}.nrrd"))
        (self.training / "volumes.csv").unlink()
        self.reference, self.key = self.folder / "reference", self.folder / "reference.key"
        reference = Reference.open(shared / "reference")
        seal(reference, Key.load_or_make(self.key))
        reference.save(self.reference)
        slicer.mrmlScene.Clear(0)

    def test_it_is_found_by_its_voxels(self):
        node = TrainingVolumes(self.reference).load("training2", self.training)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), SCAN)

    def test_what_is_missing_is_said(self):
        volumes = TrainingVolumes(self.reference)
        with self.assertRaisesRegex(MemorizationIndexError, "the reference is pseudonymized; name the folder"):
            volumes.load("training2")
        empty = self.folder / "empty"
        empty.mkdir()
        shutil.copy(next(self.training.glob("renamed 5*")), empty)
        with self.assertRaisesRegex(MemorizationIndexError, "no file in .*empty holds this training volume"):
            volumes.load("training2", empty)
        self.key.unlink()
        with self.assertRaisesRegex(
            MemorizationIndexError,
            "name its key, which stays with the owner of the training files, under Advanced › Key",
        ):
            volumes.load("training2", self.training)

    def test_a_key_that_lies_elsewhere(self):
        """It is kept with the scene as a path only, and the worker finds the files by it."""
        elsewhere = self.folder / "safe" / "our.key"
        elsewhere.parent.mkdir()
        self.key.rename(elsewhere)
        node = addVolume(SCAN[:, :, ::-1], "copy")
        logic = MemorizationIndexLogic()
        logic.score([node], self.reference, self.training, keyFile=elsewhere)
        self.assertTrue(np.isfinite(logic.results.worstSlice("copy")["ncc"]), "verified: the worker found the files")
        self.assertEqual(logic.getParameterNode().keyFile, elsewhere)
        match = logic.loadMatch(node, self.training)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(match), SCAN)
        slicer.util.saveScene(str(self.folder / "scene.mrb"))
        secret = elsewhere.read_text(encoding="utf-8").split()[-1].encode()
        with zipfile.ZipFile(self.folder / "scene.mrb") as bundle:
            contents = [bundle.read(name) for name in bundle.namelist()]
        self.assertTrue(any(b"our.key" in content for content in contents))
        self.assertFalse(any(secret in content for content in contents))


def worldMatrixOf(node):
    """IJK to RAS of a node, without its transform."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


class ReopenedTest(ViewTestCase):
    def test_a_saved_scene_shows_it_again_without_the_training_volumes(self):
        node = addVolume(SCAN[:, :, ::-1], "copy", OBLIQUE)
        reference = sharedReference() / "reference"
        slicer.mrmlScene.Clear(0)
        node = addVolume(SCAN[:, :, ::-1], "copy", OBLIQUE)
        MemorizationIndexLogic().score([node], reference)
        slicer.util.saveScene(str(self.folder / "scene.mrb"))
        slicer.mrmlScene.Clear(0)
        slicer.util.loadScene(str(self.folder / "scene.mrb"))
        node, logic = slicer.util.getNode("copy"), MemorizationIndexLogic()
        parameter = logic.getParameterNode()
        parameter.referenceFolder = parameter.resultReference = self.folder / "gone"
        overlay = Overlay(logic.results)
        self.addCleanup(overlay.cleanup)
        overlay.enabled = True
        comparing = Compare(logic.results, logic.trainingVolumes)
        self.addCleanup(comparing.cleanup)
        comparing.show(node)
        self.assertIn("A small picture of its slice", comparing.message)
        self.assertIn("training2 slice", self.texts(QUERY)[0])
        self.assertGreater(np.ptp(self.colorAt(self.middle(), QUERY)), 40, "the heat map")
        left, right = self.plain(QUERY), self.plain(TRAINING)
        overlay.enabled = False
        left = self.plain(QUERY)
        self.assertGreater(np.corrcoef(left, right)[0, 1], 0.9, "the picture lies on the copy")

    def middle(self):
        return [self.sliceNode(QUERY).GetSliceToRAS().GetElement(row, 3) for row in range(3)]

    def plain(self, name):
        return self.picture(name)[60:-60, 60:-60].mean(axis=2).ravel()


if __name__ == "__main__":
    unittest.main()
