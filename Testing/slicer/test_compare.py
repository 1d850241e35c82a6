"""The comparison with the matched training volume: its two views show what belongs together."""

import unittest

import numpy as np
import slicer
from comparesupport import ALTERED, NAME, CompareTestCase, slicesOf
from MemorizationIndexLib.CompareLayout import QUERY, TRAINING
from MemorizationIndexLib.VolumeWriter import worldMatrix
from testsupport import NEW, addTransform, addVolume, rotation


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
        shown = [" ".join(text.split()) for text in self.texts(TRAINING)]  # wrapped
        self.assertIn(f"{NAME} · slice 13 · no verified match here; placed as the nearest one", shown)

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


if __name__ == "__main__":
    unittest.main()
