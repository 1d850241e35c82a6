"""The comparison without the training volume, and when it ends."""

import gc
import unittest
import weakref

import numpy as np
import slicer
from comparesupport import ALTERED, NAME, CompareTestCase, slicesOf
from memorization_index.errors import MemorizationIndexError
from MemorizationIndexLib import Compare, TrainingVolumes, VolumeWriter
from MemorizationIndexLib.CompareLayout import QUERY, TRAINING
from testsupport import NEW, addVolume
from viewsupport import peakMemory


class MissingTest(CompareTestCase):
    def test_from_a_file_in_the_users_folder(self):
        self.makeTraining()
        VolumeWriter(self.folder / "files").write([self.training])
        [written] = (self.folder / "files").glob("*.nrrd")
        written.rename(self.folder / "files" / "scan.nrrd")
        self.makeCopy()
        slicer.mrmlScene.RemoveNode(self.training)
        self.results.parameter.trainingFolder = self.folder / "files"
        self.compare()
        self.assertEqual(self.comparing.message, "")
        self.assertEqual(self.node.GetNodeReference("MemorizationIndexMatch").GetName(), NAME)
        self.training = slicer.util.getNode(NAME)
        self.toSlice(5)
        self.assertLess(np.linalg.norm(self.brightest(QUERY) - self.brightest(TRAINING)), self.pixelsPerVoxel())

    def test_absent_without_a_picture(self):
        self.makeTraining()
        self.makeCopy()
        slicer.mrmlScene.RemoveNode(self.training)
        self.compare()
        self.assertIn("no picture of it", self.comparing.message)
        self.assertIn(NAME, self.comparing.message)
        [shown] = self.texts(TRAINING)
        self.assertGreater(shown.count("\n"), 0, "a long message is wrapped")
        self.assertEqual("".join(shown.split()), "".join(self.comparing.message.split()))
        bright = np.flatnonzero((self.picture(TRAINING)[-60:].min(axis=2) > 180).any(axis=0))
        self.assertGreater(bright.min(), 2)
        self.assertLess(bright.max(), self.picture(TRAINING).shape[1] - 3)
        self.comparing.mode = "difference"  # nothing to compute it from
        self.assertIsNone(self.composite(QUERY).GetForegroundVolumeID())

    def test_absent_with_pictures_of_the_reference(self):
        self.makeTraining()
        self.makeCopy(ALTERED["mirrored"])
        slices, voxels = slicesOf(self.training), slicer.util.arrayFromVolume(self.training)
        pictures = np.stack([squared(slices.image(voxels, number)) for number in range(slices.shape[0])])
        np.save(self.reference / "thumbnails.npy", pictures)
        lines = ["volume_row,slice,position", *(f"0,{number},0" for number in range(slices.shape[0]))]
        (self.reference / "slices.csv").write_text("\n".join(lines) + "\n")
        slicer.mrmlScene.RemoveNode(self.training)
        self.compare()
        self.toSlice(5)
        self.assertIn("A small picture of its slice 7 is shown", self.comparing.message)
        left, right = (self.picture(name)[60:-60, 60:-60].mean(axis=2).ravel() for name in (QUERY, TRAINING))
        self.assertGreater(np.corrcoef(left, right)[0, 1], 0.9, "mirrored as the match is")

    def test_not_scored(self):
        self.makeTraining()
        self.makeCopy()
        comparing = Compare(self.results, lambda: TrainingVolumes(self.reference))
        with self.assertRaisesRegex(MemorizationIndexError, "was not scored"):
            comparing.show(addVolume(NEW, "other"))
        self.assertFalse(comparing.active)


def squared(picture, size=64):
    """uint8 square picture of a slice of square pixels."""
    from memorization_index.slices import SliceStack, square_images

    stack = SliceStack([np.ascontiguousarray(picture, np.float32)], (1.1, 1.0), np.array([0]), 1, "axial")
    return np.round(255 * square_images(stack, size)[0]).astype(np.uint8)


class LifeTest(CompareTestCase):
    def state(self):
        slicer.app.processEvents()
        return (
            slicer.mrmlScene.GetNumberOfNodes(),
            self.manager.layout,
            self.manager.sliceViewNames(),
            self.manager.mrmlSliceLogics().GetNumberOfItems(),
        )

    def test_it_ends_when_a_volume_goes(self):
        for gone in ("node", "training"):
            slicer.mrmlScene.Clear(0)
            self.makeTraining()
            self.makeCopy()
            before = self.state()
            self.compare()
            self.comparing.mode = "difference"
            slicer.mrmlScene.RemoveNode(getattr(self, gone))
            self.assertFalse(self.comparing.active)
            self.assertEqual(self.state()[1:], before[1:])

    def test_a_volume_goes_while_it_begins(self):
        for gone in ("node", "training"):
            slicer.mrmlScene.Clear(0)
            self.makeTraining()
            self.makeCopy()
            self.view("Red")
            before = self.state()
            comparing = Compare(self.results, lambda: TrainingVolumes(self.reference))
            showing = comparing.showing(self.node)
            next(showing)
            slicer.mrmlScene.RemoveNode(getattr(self, gone))
            for _step in showing:
                pass
            self.assertFalse(comparing.active)
            self.assertEqual(self.state()[1:], before[1:])

    def test_another_volume_takes_its_place(self):
        self.makeTraining()
        self.makeCopy()
        layout = self.manager.layout
        self.compare()
        count = slicer.mrmlScene.GetNumberOfNodes()
        self.comparing.show(self.node)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), count)
        self.comparing.leave()
        self.comparing.leave()
        self.assertEqual(self.manager.layout, layout)

    def test_fifty_rounds(self):
        peaks = []
        for round_ in range(50):
            slicer.mrmlScene.Clear(0)
            self.makeTraining()
            self.makeCopy()
            before = self.state()
            self.compare()
            self.comparing.mode = ("blink", "checkerboard", "difference", "side by side")[round_ % 4]
            self.toSlice(round_ % 7)
            self.view(QUERY).forceRender()
            if round_ % 2:
                self.comparing.leave()
                self.assertEqual(self.state(), before)
                gone = weakref.ref(self.comparing)
                self.doCleanups()
                self.comparing = None
                gc.collect()
                self.assertIsNone(gone(), "no observer or slot holds it")
                self.setUp()
            else:
                slicer.mrmlScene.Clear(0)
                self.assertFalse(self.comparing.active)
                self.assertEqual(self.state()[1:], before[1:])
            peaks.append(peakMemory())
        self.assertLess(peaks[-1] - peaks[20], 10, "MiB; memory is flat")


if __name__ == "__main__":
    unittest.main()
