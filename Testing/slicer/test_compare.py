"""The comparison with the matched training volume, by what one sees in its two views."""

import gc
import unittest
import weakref

import numpy as np
import slicer
from memorization_index.alignment import Alignment, Slices
from memorization_index.errors import MemorizationIndexError
from MemorizationIndexLib import Compare, Overlay, TrainingVolumes, VolumeWriter
from MemorizationIndexLib.CompareLayout import QUERY, TRAINING
from MemorizationIndexLib.VolumeWriter import worldMatrix
from scipy.ndimage import gaussian_filter, map_coordinates
from testsupport import NEW, addTransform, addVolume, rotation, waitUntil
from viewsupport import SAME, ViewTestCase, peakMemory, showResult

NAME = "sub-012_T1w"
OBLIQUE = rotation(20, (0.3, 0.8, 0.2)) @ rotation(-25, (1, 0, 0)) @ np.diag([1.0, 1.1, 3.0, 1])
OBLIQUE[:3, 3] = [12, -30, 44]
TRAINING_SIZE, QUERY_SIZE = (60, 52, 12), (56, 64, 9)
SHIFT = np.array([0.03, -0.05])


def turned(degrees, scale=1.0):
    angle = np.radians(degrees)
    return scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


ALTERED = {
    "as it is": SAME,
    "mirrored": Alignment(True, 0, np.eye(2), SHIFT),
    "quarter turn": Alignment(False, 1, np.eye(2), SHIFT),
    "mirrored, turned, rotated, scaled": Alignment(True, 3, turned(12, 1.1), SHIFT),
}


def slicesOf(node, plane="axial"):
    matrix = slicer.util.arrayFromVTKMatrix(worldMatrix(node, "v"))
    return Slices.of(matrix, node.GetImageData().GetDimensions(), plane)


class CompareTestCase(ViewTestCase):
    def setUp(self):
        super().setUp()
        self.reference = self.folder / "reference"
        self.reference.mkdir()
        (self.reference / "manifest.json").write_text("{}")
        (self.reference / "volumes.csv").write_text(f"volume,path\n{NAME},{self.folder / 'gone' / 'scan.nrrd'}\n")

    def makeTraining(self, seed=0, ijkToRAS=OBLIQUE):
        """A training volume of texture, brightest in one place of each slice."""
        noise = gaussian_filter(np.random.default_rng(seed).normal(size=TRAINING_SIZE[::-1]), 2)
        array = 300 + 100 * noise / noise.std()
        for number in range(array.shape[0]):
            array[number, 15 + number, 20 + 2 * number] = 6000
        array = gaussian_filter(array, (0, 1.2, 1.2))
        self.training = addVolume(array.astype(np.float32), NAME, ijkToRAS)
        TrainingVolumes(self.reference).mark({NAME: self.training})
        return self.training

    def makeCopy(self, alignment=SAME, direction=1, ijkToRAS=None, offset=2, gain=2.0):
        """A volume on another grid, whose slice n shows slice ``n + offset`` (or ``offset − n``) of the training."""
        affine = np.diag([-1.2, 1.0, 4.0, 1]) if ijkToRAS is None else ijkToRAS
        self.node = addVolume(np.zeros(QUERY_SIZE[::-1], np.float32), "copy", affine)
        query, training = slicesOf(self.node), slicesOf(self.training)
        voxels, source = slicer.util.arrayFromVolume(self.node), slicer.util.arrayFromVolume(self.training)
        cube = np.stack([training.image(source, n) for n in range(training.shape[0])])
        self.matched = {}
        for number in range(query.shape[0]):
            match = offset + direction * number
            if not 0 <= match < training.shape[0]:
                continue
            self.matched[number] = match
            toTraining = training.square(match) @ alignment.query_to_training() @ np.linalg.inv(query.square(number))
            rows, columns = np.indices(query.shape[1:])
            pixels = np.stack([np.full(rows.shape, number), rows, columns, np.ones(rows.shape)], axis=-1)
            places = training.pixels((pixels @ query.to_world.T @ toTraining.T)[..., :3])
            query.image(voxels, number)[:] = gain * map_coordinates(cube, np.moveaxis(places, -1, 0), order=1)
        slicer.util.arrayFromVolumeModified(self.node)
        self.node.GetDisplayNode().SetAutoWindowLevel(False)
        self.node.GetDisplayNode().SetWindowLevelMinMax(200 * gain, 950 * gain)
        rows = {n: {"match_slice": m, "match_volume": NAME, "ncc": 0.9} for n, m in self.matched.items()}
        alignments = {"copy": dict.fromkeys(self.matched, alignment)}
        self.results = showResult(self.folder / "result", {"copy": self.node}, {"copy": rows}, None, alignments)
        self.results.parameter.referenceFolder = self.reference
        return self.node

    def compare(self, row=None):
        self.view("Red")  # there are views
        self.comparing = Compare(self.results, lambda: TrainingVolumes(self.reference))
        self.addCleanup(self.comparing.cleanup)
        self.comparing.show(self.node, row)
        for name in (QUERY, TRAINING):
            self.logic(name).GetSliceNode()
        return self.comparing

    def toSlice(self, number, name=QUERY):
        self.offset(slicesOf(self.node).center(number), name)

    def brightest(self, name):
        """The middle (x, y) of the brightest spot of a view, in pixels, its texts and edges left out."""
        picture = self.picture(name)[60:-60, 40:-40].max(axis=2).astype(float)
        weights = np.where(picture > 0.8 * picture.max(), picture, 0)
        y, x = (np.average(index, weights=weights) for index in np.indices(picture.shape))
        return np.array([x, y])

    def pixelsPerVoxel(self):
        node = self.sliceNode(QUERY)
        return node.GetDimensions()[0] / node.GetFieldOfView()[0]


class LinkTest(CompareTestCase):
    def test_the_matched_place_is_at_the_same_pixel(self):
        """Brightest spots of both views, in every slice, for copies that were flipped, turned, scaled and shifted."""
        for name, alignment in ALTERED.items():
            with self.subTest(name):
                slicer.mrmlScene.Clear(0)
                self.makeTraining()
                self.makeCopy(alignment)
                self.compare()
                for number in (2, 5, 6):
                    self.toSlice(number)
                    distance = np.linalg.norm(self.brightest(QUERY) - self.brightest(TRAINING))
                    self.assertLess(distance, self.pixelsPerVoxel(), f"slice {number}")
                self.comparing.leave()

    def test_the_view_shows_the_matched_slice(self):
        """The plane of the right view cuts the training volume, seen through its transform, at the matched slice."""
        self.makeTraining()
        self.makeCopy(ALTERED["mirrored, turned, rotated, scaled"])
        self.compare()
        for number, match in self.matched.items():
            self.toSlice(number)
            self.assertLess(abs(self.shownTrainingSlice() - match), 0.5)

    def shownTrainingSlice(self):
        """The slice of the training volume in the right view's plane, from its nodes alone."""
        copy = slicer.mrmlScene.GetNodeByID(self.composite(TRAINING).GetBackgroundVolumeID())
        toWorld = slicer.util.arrayFromVTKMatrix(copy.GetParentTransformNode().GetMatrixTransformToParent())
        center = [self.sliceNode(TRAINING).GetSliceToRAS().GetElement(row, 3) for row in range(3)]
        return slicesOf(self.training).pixels((np.linalg.inv(toWorld) @ [*center, 1])[:3])[0]

    def test_scrolling_either_view_moves_the_other(self):
        self.makeTraining()
        self.makeCopy(ALTERED["mirrored"])
        self.compare()
        self.toSlice(3)
        for name, other in ((QUERY, TRAINING), (TRAINING, QUERY)):
            before = self.sliceNode(other).GetSliceOffset()
            self.mouse("MouseWheelForwardEvent", 200, 200, name)
            after = self.sliceNode(other).GetSliceOffset()
            self.assertAlmostEqual(abs(after - before), 4.0, places=3)
            self.assertAlmostEqual(self.sliceNode(name).GetSliceOffset(), after, places=3)

    def test_a_copy_whose_slices_run_the_other_way(self):
        self.makeTraining()
        self.makeCopy(ALTERED["mirrored"], direction=-1, offset=9)
        self.compare()
        for number in (2, 6):
            self.toSlice(number)
            self.assertLess(abs(self.shownTrainingSlice() - (9 - number)), 0.5)

    def test_slices_without_an_alignment_are_placed_as_their_neighbors(self):
        self.makeTraining()
        self.makeCopy(ALTERED["mirrored"], offset=5)  # slices 7 and 8 have no counterpart
        self.compare()
        self.toSlice(6)
        self.assertIn(f"{NAME} · slice 11 · mirrored", self.texts(TRAINING))
        self.toSlice(8)
        self.assertIn(f"{NAME} · slice 13 · no verified match here; placed as the nearest one", self.texts(TRAINING))

    def test_volumes_under_transforms(self):
        self.makeTraining()
        self.makeCopy(ALTERED["mirrored"])
        move = rotation(30, (0, 0, 1))
        move[:3, 3] = [40, -20, 10]
        self.node.SetAndObserveTransformNodeID(addTransform(move).GetID())
        self.training.SetAndObserveTransformNodeID(addTransform(rotation(-15, (0, 1, 0))).GetID())
        self.compare()
        self.toSlice(5)
        distance = np.linalg.norm(self.brightest(QUERY) - self.brightest(TRAINING))
        self.assertLess(distance, self.pixelsPerVoxel())

    def test_the_crosshair_follows_through_the_match(self):
        self.makeTraining()
        self.makeCopy(ALTERED["mirrored"])
        self.compare()
        self.toSlice(5)
        crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        plain = {name: self.picture(name) for name in (QUERY, TRAINING)}
        mode = crosshair.GetCrosshairMode()
        self.addCleanup(crosshair.SetCrosshairMode, mode)
        crosshair.SetCrosshairMode(crosshair.ShowBasic)
        spot = self.brightest(QUERY) + np.array([40, 60])  # what brightest left out
        place = self.sliceNode(QUERY).GetXYToRAS().MultiplyPoint([*spot, 0, 1])[:3]
        crosshair.SetCrosshairRAS(*place)
        for name in (QUERY, TRAINING):
            drawn = np.abs(self.picture(name) - plain[name]).sum(axis=2) > 30
            x = np.flatnonzero(drawn.sum(axis=0) > 60)
            y = np.flatnonzero(drawn.sum(axis=1) > 60)
            self.assertLess(abs(np.mean(x) - spot[0]), self.pixelsPerVoxel() + 1, name)
            self.assertLess(abs(np.mean(y) - spot[1]), self.pixelsPerVoxel() + 1, name)

    def test_one_row_of_the_slice_table(self):
        self.makeTraining()
        self.makeCopy()
        self.compare(self.results.slicesOf(self.node)[4])
        self.assertIn(f"{NAME} · slice 6 · mirrored", self.texts(TRAINING))


class UserDataTest(CompareTestCase):
    def test_nothing_of_the_users_is_changed(self):
        self.makeTraining()
        self.makeCopy(ALTERED["mirrored"])
        other = addVolume(NEW, "other")
        self.show(other)
        self.composite().SetForegroundVolumeID(self.node.GetID())
        self.composite().SetForegroundOpacity(0.3)
        self.offset([0, 0, 7])
        before = self.userState()
        self.compare()
        for mode in ("blink", "checkerboard", "difference", "side by side"):
            self.comparing.mode = mode
            self.toSlice(3)
        self.comparing.leave()
        self.assertEqual(self.userState(), before)

    def userState(self):
        volumes = [
            (
                slicer.util.arrayFromVolume(node).sum(),
                slicer.util.arrayFromVTKMatrix(worldMatrix(node, "v")).tolist(),
                node.GetTransformNodeID(),
                node.GetDisplayNode().GetWindow(),
                node.GetDisplayNode().GetLevel(),
            )
            for node in (self.training, self.node)
        ]
        views = [
            (
                slicer.util.arrayFromVTKMatrix(self.sliceNode(name).GetSliceToRAS()).tolist(),
                self.sliceNode(name).GetFieldOfView(),
                self.composite(name).GetBackgroundVolumeID(),
                self.composite(name).GetForegroundVolumeID(),
                self.composite(name).GetForegroundOpacity(),
            )
            for name in ("Red", "Green", "Yellow")
        ]
        return self.manager.layout, slicer.mrmlScene.GetNumberOfNodes(), volumes, views

    def test_a_layout_that_the_user_chose_meanwhile_stays(self):
        self.makeTraining()
        self.makeCopy()
        self.compare()
        self.manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
        self.assertFalse(self.comparing.active)
        self.assertEqual(self.manager.layout, slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
        self.assertNotIn(QUERY, self.manager.sliceViewNames())

    def test_a_saved_scene_does_not_hold_the_comparison(self):
        self.makeTraining()
        self.makeCopy()
        layout = self.manager.layout
        self.compare()
        self.comparing.mode = "difference"
        slicer.util.saveScene(str(self.folder / "scene.mrb"))
        slicer.mrmlScene.Clear(0)
        self.assertEqual(self.manager.layout, layout)
        slicer.util.loadScene(str(self.folder / "scene.mrb"))
        self.assertEqual(self.manager.layout, layout)
        names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
        self.assertEqual(sorted(names), ["copy", NAME])
        self.assertNotIn(QUERY, self.manager.sliceViewNames())
        for kind in ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode"):
            layouts = [node.GetLayoutName() for node in slicer.util.getNodesByClass(kind)]
            self.assertFalse({QUERY, TRAINING} & set(layouts), kind)


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
        self.assertEqual(self.texts(TRAINING), [self.comparing.message])
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
        self.assertIn("a small picture of its slice 7 is shown", self.comparing.message)
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
    from memorization_index.volumes import SliceStack, square_images

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
