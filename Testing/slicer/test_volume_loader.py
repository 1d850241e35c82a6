"""Large volumes come from their files as Slicer itself would load them, in steps, and can be called off."""

import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from memorization_index.errors import MemorizationIndexError
from MemorizationIndexLib.VolumeLoader import Pending, VolumeLoader
from panelsupport import COPY, FLAGGED, PanelTestCase
from testsupport import SceneTestCase, addVolume, texture, waitUntil


def everyFileIsLarge(test, loaders):
    """Until the test's end; ``loaders`` is the class, which a reload of the module makes anew."""
    patch = mock.patch.object(loaders, "LARGE", 100)
    patch.start()
    test.addCleanup(patch.stop)


def writeVolume(path, seed=0, kind=np.int16):
    """A file of 5 × 6 × 7 voxels that lie obliquely, and its path."""
    image = sitk.GetImageFromArray(np.random.default_rng(seed).integers(0, 100, (7, 6, 5)).astype(kind))
    image.SetSpacing((0.5, 1.25, 3.0))
    image.SetOrigin((10.0, -20.0, 30.0))
    turn = sitk.VersorTransform((0.2, 0.9, 0.4), 0.3)
    image.SetDirection(turn.GetMatrix())
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def volumes():
    return [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]


def world(node, place):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix.MultiplyPoint(place)


class VolumeLoaderTest(SceneTestCase):
    def setUp(self):
        super().setUp()
        everyFileIsLarge(self, VolumeLoader)
        self.ended = []
        self.given = []
        self.loader = VolumeLoader(lambda: self.ended.append(True), lambda: self.given.append(True))
        self.addCleanup(self.loader.stop)

    def loaded(self, path, name="volume"):
        self.ended.clear()
        with self.assertRaisesRegex(Pending, f"{name}: loading"):
            self.loader.load(path, name)
        waitUntil(lambda: self.ended)
        return self.loader.load(path, name)

    def test_voxels_and_place_are_those_that_slicer_reads(self):
        for number, (suffix, kind) in enumerate(
            (("nii.gz", np.int16), ("nrrd", np.uint8), ("mha", np.float32), ("nii", np.uint16))
        ):
            path = writeVolume(self.folder / f"scan.{suffix}", number, kind)
            node, expected = self.loaded(path), slicer.util.loadVolume(str(path), {"show": False})
            with self.subTest(suffix):
                voxels, own = slicer.util.arrayFromVolume(node), slicer.util.arrayFromVolume(expected)
                np.testing.assert_array_equal(voxels, own)
                self.assertEqual(voxels.dtype, own.dtype)
                for place in ([0, 0, 0, 1], [4, 5, 6, 1]):
                    np.testing.assert_allclose(world(node, place), world(expected, place), atol=1e-3)
                display = node.GetDisplayNode()
                self.assertGreaterEqual(display.GetWindowLevelMin(), own.min())
                self.assertLessEqual(display.GetWindowLevelMax(), own.max())
                self.assertGreater(display.GetWindow(), 0.8 * np.ptp(own))
                self.assertEqual(display.GetColorNode().GetName(), expected.GetDisplayNode().GetColorNode().GetName())
        self.assertNoTemporaryFiles()

    def test_a_small_one_is_there_at_once(self):
        path = writeVolume(self.folder / "scan.nii.gz")
        with mock.patch.object(VolumeLoader, "LARGE", 5 * 6 * 7):
            node = self.loader.load(path, "small")
        self.assertEqual(node.GetName(), "small")
        waitUntil(lambda: self.given)

    def test_another_one_calls_it_off(self):
        paths = [writeVolume(self.folder / f"{name}.nrrd") for name in ("first", "second")]
        with self.assertRaises(Pending):
            self.loader.load(paths[0], "first")
        self.loaded(paths[1], "second")
        self.assertEqual(volumes(), ["second"])
        with self.assertRaises(Pending):
            self.loader.load(paths[0], "first")
        self.ended.clear()
        self.loader.stop()
        waitUntil(lambda: not list(Path(slicer.app.temporaryPath).glob("MemorizationIndex-*")))
        self.assertEqual((volumes(), self.ended), (["second"], []))

    def test_what_cannot_be_read_is_said(self):
        path = writeVolume(self.folder / "scan.nrrd")
        path.write_bytes(path.read_bytes()[:-20])
        with self.assertRaisesRegex(MemorizationIndexError, "scan.nrrd: is truncated"):
            self.loaded(path)
        self.assertEqual(volumes(), [])
        self.assertNoTemporaryFiles()
        for missing in ("gone.nrrd", "gone.nii.gz"):
            with self.assertRaisesRegex(MemorizationIndexError, f"{missing}: Slicer cannot read this volume"):
                self.loader.load(self.folder / missing, "gone")


class LookingAtLargeFilesTest(PanelTestCase):
    """In the panel: a volume says that it is loading, and another row calls it off."""

    def setUp(self):
        super().setUp()
        if slicer.app.layoutManager() is None:
            raise unittest.SkipTest("there are no views without a main window")
        everyFileIsLarge(self, type(self.panel.results._loader))
        self.addCleanup(slicer.app.layoutManager().setLayout, slicer.app.layoutManager().layout)
        reference = self.folder / "reference"
        reference.mkdir()
        (reference / "manifest.json").write_text("{}")
        rows = [f"{name},{writeVolume(self.folder / f'{name}.nii.gz', seed)}" for seed, name in enumerate("AB")]
        (reference / "volumes.csv").write_text("\n".join(["volume,path", *rows]) + "\n")
        self.logic.getParameterNode().referenceFolder = reference

    def show(self, files=False):
        """Two copies, the first one of the training volume A, the other one of B."""
        results, slices, nodes = {}, {}, {}
        for seed, (name, p, match) in enumerate((("first", 0.001, "A"), ("second", 0.002, "B"))):
            found = {"match_volume": match}
            results[name] = {**COPY, **found, "p_value": p}
            if files:
                results[name]["path"] = str(writeVolume(self.folder / f"{name}.nrrd", seed))
            else:
                nodes[name] = addVolume(texture(seed, (7, 6, 5)), name)
            slices[name] = {k: {**FLAGGED, **found, "match_slice": k} for k in range(7)}
        self.showResult(results, slices, nodes, files)

    def test_the_training_volume_comes_while_a_picture_is_looked_at(self):
        self.show()
        label = self.ui.compareMessageLabel
        waitUntil(lambda: label.text)
        self.assertRegex(label.text, "A: loading")
        self.panel.results.worklist.move(1)
        waitUntil(lambda: "B: loading" in label.text)
        waitUntil(lambda: not label.text)
        self.assertIn("B", volumes())
        self.assertNotIn("A", volumes(), "called off")
        second = self.panel.results.node
        self.assertEqual(second.GetNodeReference("MemorizationIndexMatch").GetName(), "B")
        self.panel.results.worklist.move(-1)
        waitUntil(lambda: "A" in volumes())
        waitUntil(lambda: not label.text)

    def test_the_button_loads_it_too(self):
        self.logic.getParameterNode().compare = "off"
        self.show()
        waitUntil(lambda: self.ui.loadMatchButton.enabled)
        self.click(self.ui.loadMatchButton)
        self.assertEqual(self.ui.statusLabel.text, "A: loading …")
        waitUntil(lambda: self.ui.statusLabel.text == "Matched training volume: A")
        self.assertIn("A", volumes())
        self.assertFalse(self.panel.display.compare.active)

    def test_files_that_were_scored(self):
        self.show(files=True)
        self.assertEqual(self.ui.statusLabel.text, "first: loading …")
        self.assertIn("slice 0", self.ui.volumeLabel.text, "what is known is shown at once")
        self.click(self.ui.volumeCopyButton)
        waitUntil(lambda: self.panel.results.node)
        self.assertEqual(self.ui.statusLabel.text, "")
        self.assertEqual(self.panel.results.node.GetName(), "first")
        waitUntil(lambda: "A" in volumes())
        self.panel.results.worklist.move(1)
        self.assertEqual(self.ui.statusLabel.text, "second: loading …")
        slicer.mrmlScene.Clear(0)
        waitUntil(lambda: not list(Path(slicer.app.temporaryPath).glob("MemorizationIndex-*")))
        self.assertEqual(volumes(), [])


if __name__ == "__main__":
    unittest.main()
