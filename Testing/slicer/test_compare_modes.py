"""The comparison's windows, and blink, checkerboard and difference, by what one sees."""

import unittest

import numpy as np
import slicer
from comparesupport import ALTERED, NAME, OBLIQUE, QUERY_SIZE, TRAINING_SIZE, CompareTestCase, slicesOf
from MemorizationIndexLib import Overlay
from MemorizationIndexLib.CompareLayout import QUERY, TRAINING
from testsupport import addVolume, waitUntil
from viewsupport import SAME, showResult


class WindowTest(CompareTestCase):
    def test_it_follows_by_histogram_and_can_be_switched_off(self):
        self.makeTraining()
        self.makeCopy(gain=2.0)
        self.compare()
        copy = slicer.mrmlScene.GetNodeByID(self.composite(TRAINING).GetBackgroundVolumeID()).GetDisplayNode()
        query = self.node.GetDisplayNode()
        query.SetWindowLevelMinMax(400, 1000)
        np.testing.assert_allclose([copy.GetWindowLevelMin(), copy.GetWindowLevelMax()], [200, 500], rtol=0.06)
        copy.SetWindowLevelMinMax(250, 450)
        np.testing.assert_allclose([query.GetWindowLevelMin(), query.GetWindowLevelMax()], [500, 900], rtol=0.06)
        own = self.training.GetDisplayNode()
        self.comparing.matchWindowLevel = False
        self.assertEqual((copy.GetWindow(), copy.GetLevel()), (own.GetWindow(), own.GetLevel()))
        query.SetWindowLevelMinMax(0, 100)
        self.assertEqual((copy.GetWindow(), copy.GetLevel()), (own.GetWindow(), own.GetLevel()))
        self.comparing.matchWindowLevel = True
        self.assertLess(copy.GetWindowLevelMax(), 100)

    def test_the_same_tissue_looks_the_same(self):
        self.makeTraining()
        self.makeCopy(gain=3.0)
        self.compare()
        self.toSlice(5)
        left, right = (self.picture(name)[100:300, 100:300].mean() for name in (QUERY, TRAINING))
        self.assertLess(abs(left - right), 12)


class ModeTest(CompareTestCase):
    def setUp(self):
        super().setUp()
        self.makeTraining()
        self.makeCopy(ALTERED["mirrored"])
        query = slicesOf(self.node)
        voxels = slicer.util.arrayFromVolume(self.node)
        query.image(voxels, 5)[40:50, 20:30] += 900  # the only difference
        slicer.util.arrayFromVolumeModified(self.node)
        self.node.GetDisplayNode().SetWindowLevelMinMax(0, 1500)
        self.compare()
        self.toSlice(5)
        self.changed, self.same = ((query.to_world @ [5, *place, 1])[:3] for place in ((45, 25), (20, 40)))

    def test_difference(self):
        self.comparing.mode = "difference"
        changed, same = self.colorAt(self.changed, QUERY), self.colorAt(self.same, QUERY)
        self.assertGreater(changed[0] - changed[2], 80, "orange: the query is brighter")
        self.assertLess(same.max(), 40, "black: equal after matching intensities")
        self.toSlice(6)
        self.assertLess(self.colorAt(self.changed + slicesOf(self.node).step, QUERY).max(), 40)

    def test_checkerboard(self):
        plain = self.picture(QUERY)
        self.comparing.mode = "checkerboard"
        mixed = self.picture(QUERY)
        side = round(8 * self.pixelsPerVoxel())

        def difference(place):
            x, y = self.pixel(place, QUERY)
            around = (slice(y - side, y + side), slice(x - side, x + side))
            return np.abs(mixed[around] - plain[around]).max(axis=2)

        self.assertTrue((difference(self.changed) > 60).any())
        self.assertTrue((difference(self.changed) < 12).any())
        self.assertLess(np.median(difference(self.same)), 12, "where nothing differs squares cannot be told apart")

    def test_blink(self):
        def bright():
            return self.colorAt(self.changed, QUERY).max() > 150

        self.comparing.mode = "blink"
        seen = []
        waitUntil(lambda: seen.append(bright()) or {True, False} <= set(seen), seconds=5)
        self.comparing.mode = "side by side"
        self.assertTrue(bright())

    def test_what_is_shown_is_named(self):
        self.comparing.mode = "difference"
        [text] = self.texts(QUERY)
        percent = float(text.removeprefix("difference: up to ").partition(" ")[0])
        self.assertAlmostEqual(percent, 100 * 900 / 1500, delta=10)
        self.node.GetDisplayNode().SetWindowLevelMinMax(0, 3000)
        self.assertIn(f"up to {percent / 2:.1f} %", self.texts(QUERY)[0])
        self.comparing.mode = "checkerboard"
        self.assertEqual(self.texts(QUERY), ["checkerboard: squares of both volumes by turns"])
        self.comparing.mode = "blink"
        for shown in ("scored", "training", "scored"):
            waitUntil(lambda shown=shown: self.texts(QUERY) == [f"blink: {shown} volume"], seconds=5)
            self.assertEqual(self.composite(QUERY).GetForegroundOpacity() > 0, shown == "training")
        self.comparing.mode = "side by side"
        self.assertEqual(self.texts(QUERY), ["copy"], "the volume's name")

    def test_an_exact_copy_does_not_differ(self):
        copy = addVolume(slicer.util.arrayFromVolume(self.training), "exact", OBLIQUE)
        numbers = range(TRAINING_SIZE[2])
        rows = {n: {"match_slice": n, "match_volume": NAME} for n in numbers}
        alignments = {"exact": dict.fromkeys(numbers, SAME)}
        self.results = showResult(self.folder / "exact", {"exact": copy}, {"exact": rows}, None, alignments)
        self.results.parameter.referenceFolder = self.reference
        self.comparing.cleanup()
        self.node = copy
        self.compare().mode = "difference"
        self.assertEqual(self.texts(QUERY), ["difference: none above 0.5 % of the window"])

    def test_modes_are_exclusive_and_leave_nothing(self):
        composite = self.composite(QUERY)
        before = slicer.mrmlScene.GetNumberOfNodes()
        foregrounds = set()
        for mode in ("blink", "checkerboard", "difference", "blink"):
            self.comparing.mode = mode
            self.assertEqual(self.comparing.mode, mode)
            foregrounds.add(composite.GetForegroundVolumeID())
            self.assertIsNone(composite.GetLabelVolumeID())
        self.assertEqual(len(foregrounds), 3)
        self.comparing.mode = "side by side"
        self.assertIsNone(composite.GetForegroundVolumeID())
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), before)
        with self.assertRaisesRegex(ValueError, "expected one of"):
            self.comparing.mode = "overlay"

    def test_the_heat_map_makes_way_and_comes_back(self):
        agreement = np.full(QUERY_SIZE[::-1], 90, np.uint8)
        rows = {n: {"match_slice": m, "match_volume": NAME} for n, m in self.matched.items()}
        alignments = {"copy": dict.fromkeys(self.matched, ALTERED["mirrored"])}
        results = showResult(self.folder / "next", {"copy": self.node}, {"copy": rows}, {"copy": agreement}, alignments)
        overlay = Overlay(results)
        self.addCleanup(overlay.cleanup)
        overlay.enabled = True
        composite = self.composite(QUERY)
        heatMap = self.node.GetNodeReferenceID("MemorizationIndex.Agreement")
        self.assertEqual(composite.GetForegroundVolumeID(), heatMap)
        self.comparing.mode = "difference"
        self.assertNotIn(composite.GetForegroundVolumeID(), (None, heatMap))
        self.assertLess(self.colorAt(self.same, QUERY).max(), 40)
        self.toSlice(6)
        overlay.update()
        self.assertNotIn(composite.GetForegroundVolumeID(), (None, heatMap))
        self.comparing.mode = "side by side"
        self.assertEqual(composite.GetForegroundVolumeID(), self.node.GetNodeReferenceID("MemorizationIndex.Agreement"))


if __name__ == "__main__":
    unittest.main()
