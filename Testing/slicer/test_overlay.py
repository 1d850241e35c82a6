"""The per-slice overlay, by what one sees in the views."""

import gc
import unittest
import weakref

import numpy as np
import slicer
from memorization_index.alignment import Slices
from MemorizationIndexLib import Overlay
from MemorizationIndexLib.VolumeWriter import worldMatrix
from testsupport import NEW, addTransform, addVolume, rotation, texture
from viewsupport import ViewTestCase, peakMemory, showResult

SHAPE = (10, 40, 40)
OBLIQUE = rotation(25, (0.3, 0.8, 0.2)) @ rotation(-40, (1, 0, 0)) @ np.diag([1.2, 1.2, 4, 1])
BAND_X = 11  # within the band, pixels from the left
VERMILION, BLUE = np.array([213, 94, 0]), np.array([0, 114, 178])


class OverlayTestCase(ViewTestCase):
    def setUp(self):
        super().setUp()
        self.jumps = []

    def scored(self, slices=None, ijkToRAS=None, agreement=None, name="v"):
        """A volume in the view Red, scored in slices of ``{number: row}``, with the overlay on."""
        self.node = addVolume(texture(0, SHAPE), name, np.diag([1, 1, 4, 1]) if ijkToRAS is None else ijkToRAS)
        slices = {n: {"match_slice": 80 + n} for n in range(2, 8)} if slices is None else slices
        self.results = showResult(self.folder / "result", {name: self.node}, {name: slices}, agreement)
        self.show(self.node)
        self.overlay = Overlay(self.results, lambda *jump: self.jumps.append(jump))
        self.addCleanup(self.overlay.cleanup)
        self.overlay.enabled = True
        return self.node

    def slices(self, plane="axial"):
        matrix = slicer.util.arrayFromVTKMatrix(worldMatrix(self.node, "v"))
        return Slices.of(matrix, self.node.GetImageData().GetDimensions(), plane)

    def toSlice(self, number, name="Red", plane="axial"):
        self.offset(self.slices(plane).center(number), name)

    def cell(self, number, name="Red"):
        """The pixel in the middle of a slice's cell, by the documented geometry of the band."""
        height = self.view(name).renderWindow().GetSize()[1]
        return BAND_X, round(height * (0.08 + 0.84 * (number + 0.5) / SHAPE[0]))

    def bandColor(self, number):
        x, y = self.cell(number)
        return self.picture()[y, x]

    def nothingIsShown(self, name="Red"):
        self.assertEqual([text for text in self.texts(name) if text], [])
        self.assertLess(self.picture(name)[:, 4:18].max(), 10, "where the band was")


class TextTest(OverlayTestCase):
    def test_it_says_what_was_found_in_the_slice(self):
        self.scored()
        self.toSlice(5)
        [text] = self.texts()
        self.assertEqual(
            text,
            "slice 5 · copy · p 0.001 · MI 4.2 · ONI -0.75\nsub-012 · sub-012_T1w slice 85 · NCC 0.98 · mirrored",
        )
        self.toSlice(6)
        self.assertIn("slice 86", self.texts()[0])

    def test_it_can_be_read(self):
        self.scored()
        self.toSlice(5)
        top = self.picture()[-40:]
        self.assertGreater((top.min(axis=2) > 200).sum(), 200, "bright letters")
        self.overlay.enabled = False
        self.assertLess((self.picture()[-40:].min(axis=2) > 200).sum(), 5)

    def test_numbers_that_are_not_given_are_left_out(self):
        uncalibrated = dict.fromkeys(("mi", "oni", "p_value", "q_value", "ncc"), "")
        self.scored({5: {**uncalibrated, "match_class": "", "transform": ""}})
        self.toSlice(5)
        self.assertEqual(self.texts(), ["slice 5 · not verified\nsub-012 · sub-012_T1w slice 0"])

    def test_slices_without_a_score(self):
        self.scored()
        self.toSlice(0)
        self.assertEqual(self.texts(), ["Slice 0: empty, not scored."])
        self.toSlice(12)
        self.assertEqual(self.texts(), ["Outside the scored volume."])

    def test_a_volume_that_was_not_scored(self):
        self.scored()
        self.show(addVolume(NEW, "other"))
        self.nothingIsShown()

    def test_the_text_fits_the_view(self):
        self.scored({n: {"match_volume": "a long name of a volume " * 4} for n in range(10)})
        self.toSlice(5)
        shown = self.picture()[-60:]
        bright = np.flatnonzero((shown.min(axis=2) > 180).any(axis=0))
        self.assertGreater(bright.min(), 2)
        self.assertLess(bright.max(), shown.shape[1] - 3)


class PlaneTest(OverlayTestCase):
    def test_a_plane_that_was_not_scored(self):
        self.scored()
        self.show(self.node, "Green")
        self.assertEqual(self.texts("Green"), ["This plane was not scored; axial slices of the volume were."])
        self.assertLess(self.picture("Green")[100:300, 4:18].max(), 10, "no band")

    def test_each_plane_that_was_scored(self):
        for plane, view in (("axial", "Red"), ("coronal", "Green"), ("sagittal", "Yellow")):
            with self.subTest(plane):
                slicer.mrmlScene.Clear(0)
                self.scored({n: {"plane": plane, "match_slice": 50 + n} for n in range(SHAPE[1])})
                self.show(self.node, view)
                for number in (3, 8):
                    self.toSlice(number, view, plane)
                    self.assertIn(f"slice {number} ·", self.texts(view)[0])
                    self.assertIn(f"T1w slice {50 + number}", self.texts(view)[0])
                self.overlay.cleanup()

    def test_an_oblique_volume_is_read_along_its_own_axes_only(self):
        self.scored(ijkToRAS=OBLIQUE)
        self.assertIn("was not scored", self.texts()[0])
        self.show(self.node, along=True)
        for number in (3, 6):
            self.toSlice(number)
            self.assertIn(f"slice {80 + number}", self.texts()[0])

    def test_a_view_that_stays_within_half_a_slice_is_no_other_plane(self):
        self.scored(ijkToRAS=rotation(2, (1, 0, 0)) @ np.diag([1, 1, 4, 1]))
        self.toSlice(5)
        self.assertIn("slice 85", self.texts()[0])

    def test_slices_are_counted_from_inferior_to_superior_whatever_the_voxel_order(self):
        self.scored(ijkToRAS=np.diag([-1, 1, -4, 1]))
        self.offset([0, 0, 0])  # the first stored slice is the uppermost one
        self.assertEqual(self.texts(), ["Slice 9: empty, not scored."])
        self.offset([0, 0, -8])
        self.assertIn("slice 7 ·", self.texts()[0])

    def test_under_transforms(self):
        self.scored()
        transform = addTransform(rotation(90, (1, 0, 0)) * [1, 1, 1, 1])
        lift = np.eye(4)
        lift[2, 3] = 40
        slicer.util.updateTransformMatrixFromArray(transform, lift)
        self.node.SetAndObserveTransformNodeID(transform.GetID())
        self.offset([0, 0, 40 + 4 * 4])
        self.assertIn("slice 84", self.texts()[0])
        lift[2, 3] = 44
        slicer.util.updateTransformMatrixFromArray(transform, lift)
        self.assertIn("slice 83", self.texts()[0])
        shear = np.eye(4)
        shear[0, 1] = 0.3
        slicer.util.updateTransformMatrixFromArray(transform, shear)
        self.assertIn("do not apply", " ".join(self.texts()[0].split()))


class BandTest(OverlayTestCase):
    def test_the_color_of_each_cell_tells_class_and_evidence(self):
        self.scored(
            {2: {}, 3: {"p_value": 0.5}, 4: {"match_class": "novel", "p_value": 1e-3}, 5: {"match_class": "exact"}}
        )
        self.toSlice(8)
        np.testing.assert_allclose(self.bandColor(2), VERMILION, atol=3)
        weak = self.bandColor(3)
        self.assertLess(weak.sum(), 0.6 * VERMILION.sum())
        np.testing.assert_allclose(weak / weak.sum(), VERMILION / VERMILION.sum(), atol=0.03)
        np.testing.assert_allclose(self.bandColor(4), BLUE, atol=3)
        np.testing.assert_allclose(self.bandColor(5), VERMILION, atol=3)
        self.assertEqual(np.ptp(self.bandColor(0)), 0, "gray: not scored")

    def test_the_current_slice_is_marked(self):
        self.scored()
        for number in (3, 6):
            self.toSlice(number)
            column = self.picture()[:, 20].min(axis=1)  # just right of the band
            column[-60:] = 0  # the text
            marked = np.flatnonzero(column > 200)
            _x, y = self.cell(number)
            self.assertTrue(marked.size)
            self.assertLess(abs(marked.mean() - y), 3)

    def test_hovering_tells(self):
        self.scored({n: {"p_value": 0.02, "match_class": "altered copy"} for n in range(10)})
        self.toSlice(2)
        self.mouse("MouseMoveEvent", *self.cell(7))
        self.assertTrue(self.texts()[-1].startswith("slice 7 · altered copy · p 0.02"), self.texts())
        self.mouse("MouseMoveEvent", 200, 200)
        self.assertEqual(len(self.texts()), 1)
        self.mouse("MouseMoveEvent", *self.cell(7))
        self.mouse("LeaveEvent", 0, 0)
        self.assertEqual(len(self.texts()), 1)

    def test_a_click_jumps_and_is_nothing_else(self):
        self.scored()
        display = self.node.GetDisplayNode()
        before = display.GetWindow(), display.GetLevel()
        self.mouse("LeftButtonPressEvent", *self.cell(7))
        self.mouse("MouseMoveEvent", 150, 300)
        self.mouse("LeftButtonReleaseEvent", 150, 300)
        self.assertIn("slice 87", self.texts()[0])
        self.assertEqual(self.jumps, [(self.node, 7)])
        self.assertEqual((display.GetWindow(), display.GetLevel()), before)
        self.mouse("LeftButtonPressEvent", 200, 200)
        self.mouse("LeftButtonReleaseEvent", 200, 200)
        self.assertEqual(len(self.jumps), 1)

    def test_it_follows_the_size_of_the_view(self):
        self.scored()
        self.toSlice(8)
        view = self.view()
        size = view.renderWindow().GetSize()
        view.renderWindow().SetSize(300, 200)
        self.addCleanup(view.renderWindow().SetSize, *size)
        self.overlay.update()
        np.testing.assert_allclose(self.bandColor(2), VERMILION, atol=3)
        self.assertLess(self.picture()[-8:, 4:18].max(), 10)


class HeatMapTest(OverlayTestCase):
    def agreement(self):
        """100 % in a block off the center of slices 4 and 5, little elsewhere."""
        array = np.full(SHAPE, 20, np.uint8)
        array[4:6, 8:16, 22:34] = 100
        return array

    def test_it_lights_up_where_the_copy_is(self):
        for name, ijkToRAS in (("straight", np.diag([1, 1, 4, 1])), ("oblique", OBLIQUE)):
            with self.subTest(name):
                slicer.mrmlScene.Clear(0)
                self.scored(ijkToRAS=ijkToRAS, agreement={"v": self.agreement()})
                self.show(self.node, along=True)
                inside, outside = ((ijkToRAS @ [*ijk, 1])[:3] for ijk in ((28, 12, 4), (10, 28, 4)))
                self.offset(inside)
                self.assertIsColored(inside)
                self.assertIsGray(outside)
                above = (ijkToRAS @ [28, 12, 7, 1])[:3]
                self.offset(above)
                self.assertIsGray(above)
                self.overlay.cleanup()

    def assertIsColored(self, place):
        self.assertGreater(np.ptp(self.colorAt(place)), 60)

    def assertIsGray(self, place):
        color = self.colorAt(place)
        self.assertLess(np.ptp(color), 5, color)
        self.assertGreater(color.max(), 20, "the volume is seen")

    def test_it_can_be_hidden_alone(self):
        self.scored(agreement={"v": self.agreement()})
        self.toSlice(4)
        self.overlay.heatMap = False
        self.assertFalse(self.composite().GetForegroundVolumeID())
        self.assertTrue(self.texts(), "the text stays")
        self.overlay.enabled = False
        self.overlay.enabled = True
        self.assertFalse(self.composite().GetForegroundVolumeID())
        self.overlay.heatMap = True
        self.assertTrue(self.composite().GetForegroundVolumeID())

    def test_it_moves_with_the_volume(self):
        self.scored(agreement={"v": self.agreement()})
        move = np.eye(4)
        move[:3, 3] = [5, -7, 8]
        self.node.SetAndObserveTransformNodeID(addTransform(move).GetID())
        inside = (move @ np.diag([1, 1, 4, 1]) @ [28, 12, 4, 1])[:3]
        self.offset(inside)
        self.assertIsColored(inside)

    def test_there_is_a_legend(self):
        self.scored(agreement={"v": self.agreement()})
        node = self.node.GetNodeReference("MemorizationIndex.Agreement")
        legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(node)
        self.assertTrue(legend.GetVisibility())
        self.assertEqual(legend.GetTitleText(), "Agreement %")
        self.offset([0, 0, 16])
        self.assertGreater(np.ptp(self.picture()[150:250, -40:], axis=2).max(), 60, "its colors at the right edge")

    def test_lightness_rises_also_for_color_blind_readers(self):
        """By the matrices of Machado et al. (2009) for complete protanopia and deuteranopia."""
        self.scored(agreement={"v": self.agreement()})
        node = self.node.GetNodeReference("MemorizationIndex.Agreement").GetDisplayNode().GetColorNode()
        table = np.array([node.GetLookupTable().GetTableValue(i)[:3] for i in range(256)]) ** 2.2
        protan = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
        deutan = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
        for seen in (np.eye(3), np.array(protan), np.array(deutan)):
            lightness = (table @ seen.T).clip(0, 1) @ [0.2126, 0.7152, 0.0722]
            self.assertTrue((np.diff(lightness[::8]) > 0).all())

    def test_the_users_foreground_comes_back(self):
        other = addVolume(NEW, "other")
        self.composite().SetForegroundVolumeID(other.GetID())
        self.composite().SetForegroundOpacity(0.25)
        self.scored(agreement={"v": self.agreement()})
        self.assertNotEqual(self.composite().GetForegroundVolumeID(), other.GetID())
        self.overlay.enabled = False
        self.assertEqual(self.composite().GetForegroundVolumeID(), other.GetID())
        self.assertEqual(self.composite().GetForegroundOpacity(), 0.25)

    def test_the_users_later_choice_is_respected(self):
        self.scored(agreement={"v": self.agreement()})
        other = addVolume(NEW, "other")
        self.composite().SetForegroundVolumeID(other.GetID())
        self.toSlice(5)
        self.overlay.update()
        self.assertEqual(self.composite().GetForegroundVolumeID(), other.GetID())
        self.overlay.enabled = False
        self.assertEqual(self.composite().GetForegroundVolumeID(), other.GetID())

    def test_it_comes_back_with_its_volume(self):
        other = addVolume(NEW, "other")
        self.composite().SetForegroundVolumeID(other.GetID())
        nodes = {name: addVolume(texture(0, SHAPE), name) for name in ("first", "second", "bare")}
        agreement = {name: self.agreement() for name in ("first", "second")}
        slices = {name: {k: {} for k in range(10)} for name in nodes}
        overlay = Overlay(showResult(self.folder / "result", nodes, slices, agreement))
        self.addCleanup(overlay.cleanup)
        overlay.enabled = True
        for name in ("first", "second", "first", "bare", "second", "bare"):
            for view in ("Red", "Green", "Yellow"):
                self.composite(view).SetBackgroundVolumeID(nodes[name].GetID())
            overlay.update()
            expected = nodes[name].GetNodeReferenceID("MemorizationIndex.Agreement") or other.GetID()
            self.assertEqual(self.composite().GetForegroundVolumeID(), expected, name)

    def test_a_new_result_replaces_it(self):
        self.scored(agreement={"v": self.agreement()})
        empty = np.zeros(SHAPE, np.uint8)
        showResult(self.folder / "next", {"v": self.node}, {"v": {5: {}}}, {"v": empty})
        self.overlay.update()
        inside = np.diag([1, 1, 4, 1]) @ [28, 12, 4, 1]
        self.offset(inside[:3])
        self.assertIsGray(inside[:3])


class LifeTest(OverlayTestCase):
    def state(self):
        slicer.app.processEvents()
        return slicer.mrmlScene.GetNumberOfNodes(), [len(self.props(name)) for name in self.manager.sliceViewNames()]

    def test_nothing_is_left_when_switched_off(self):
        self.scored(agreement={"v": np.full(SHAPE, 90, np.uint8)})
        self.overlay.enabled = False
        before = self.state()
        self.overlay.enabled = True
        self.assertNotEqual(self.state(), before)
        self.overlay.enabled = False
        self.assertEqual(self.state(), before)
        self.assertIsNone(self.node.GetNodeReferenceID("MemorizationIndex.Agreement"))
        self.nothingIsShown()

    def test_nothing_is_left_when_the_volume_goes(self):
        self.scored(agreement={"v": np.full(SHAPE, 90, np.uint8)})
        slicer.mrmlScene.RemoveNode(self.node)
        self.nothingIsShown()
        self.assertEqual([n.GetName() for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")], [])

    def test_nothing_is_left_when_the_scene_closes_and_it_works_on(self):
        slicer.mrmlScene.Clear(0)
        before = self.state()
        self.scored(agreement={"v": np.full(SHAPE, 90, np.uint8)})
        slicer.mrmlScene.Clear(0)
        self.assertEqual(self.state()[1], before[1])
        self.nothingIsShown()
        self.assertTrue(self.overlay.enabled)
        node = addVolume(texture(0, SHAPE), "next")
        results = showResult(self.folder / "next", {"next": node}, {"next": {0: {}}})
        self.assertIs(results.parameter.parameterNode, self.results.parameter.parameterNode)
        self.show(node)
        self.offset([0, 0, 0])
        self.overlay.update()
        self.assertIn("slice 0 ·", self.texts()[0])

    def test_fifty_rounds(self):
        peaks = []
        for round_ in range(50):
            slicer.mrmlScene.Clear(0)
            if round_ == 5:
                before = self.state()
            elif round_ > 5:
                self.assertEqual(self.state(), before)
            self.scored(agreement={"v": np.full(SHAPE, 90, np.uint8)})
            self.toSlice(5)
            self.view().forceRender()
            gone = weakref.ref(self.overlay)
            if round_ % 2:
                self.overlay.enabled = False
                self.overlay.cleanup()
                self.doCleanups()
                self.overlay = self.results = None
                gc.collect()
                self.assertIsNone(gone(), "no observer holds it")
            else:
                slicer.mrmlScene.Clear(0)
                self.overlay.cleanup()
            peaks.append(peakMemory())
        self.assertLess(peaks[-1] - peaks[20], 8, "MiB; memory is flat")

    def test_a_layout_that_shows_another_view(self):
        self.scored()
        self.manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutTwoOverTwoView)
        extra = [name for name in self.manager.sliceViewNames() if name not in ("Red", "Green", "Yellow")]
        self.assertTrue(extra)
        self.sliceNode(extra[0]).SetOrientation("Axial")
        self.show(self.node, extra[0])
        self.toSlice(4, extra[0])
        self.assertIn("slice 84", self.texts(extra[0])[0])
        composite = self.composite(extra[0])
        slicer.mrmlScene.RemoveNode(self.sliceNode(extra[0]))
        slicer.mrmlScene.RemoveNode(composite)
        self.overlay.update()
        self.assertIn("slice", self.texts()[0])


if __name__ == "__main__":
    unittest.main()
