"""Volumes of the scene as files: the same voxels at the same places, or a sentence that says why not."""

import csv
import unittest

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from MemorizationIndexLib import VolumeWriter
from testsupport import SceneTestCase, addTransform, addVolume, rotation, texture

LPS = np.array([-1, -1, 1])  # files give places left–posterior–superior, the scene right–anterior–superior
OBLIQUE = rotation(25, (0.3, 0.8, 0.2)) @ rotation(-40, (1, 0, 0))


class VolumeWriterTest(SceneTestCase):
    def write(self, *nodes):
        writer = VolumeWriter(self.folder / "volumes")
        self.table = writer.write(nodes)
        return writer

    def rows(self):
        with self.table.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def image(self, row=0):
        return sitk.ReadImage(str(self.table.parent / self.rows()[row]["path"]))

    def assertSamePlaces(self, node):
        """Every corner voxel of the file lies where the scene shows it, transforms included."""
        image = self.image()
        np.testing.assert_array_equal(sitk.GetArrayViewFromImage(image), slicer.util.arrayFromVolume(node))
        ijkToRAS = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(ijkToRAS)
        toWorld = vtk.vtkGeneralTransform()
        slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(node.GetParentTransformNode(), None, toWorld)
        for index in np.ndindex(2, 2, 2):
            ijk = [int(i * (size - 1)) for i, size in zip(index, image.GetSize(), strict=True)]
            world = toWorld.TransformPoint(ijkToRAS.MultiplyPoint([*ijk, 1])[:3])
            np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(ijk), LPS * world, atol=1e-4)

    def test_oblique_anisotropic(self):
        node = addVolume(texture(0, (9, 10, 11)), "v", OBLIQUE @ np.diag([0.7, 1.3, 5.5, 1]))
        node.SetOrigin(-12.5, 30.25, 7)
        self.write(node)
        self.assertSamePlaces(node)

    def test_left_handed(self):
        node = addVolume(texture(0, (9, 10, 11)), "v", OBLIQUE @ np.diag([-1, 1, 2, 1]))
        self.write(node)
        self.assertSamePlaces(node)

    def test_axes_in_another_order(self):
        node = addVolume(texture(0, (9, 10, 11)), "v", np.eye(4)[[2, 0, 1, 3]] * [1, 2, 3, 1])
        self.write(node)
        self.assertSamePlaces(node)

    def test_under_nested_transforms(self):
        node = addVolume(texture(0, (9, 10, 11)), "v", np.diag([1, 2, 3, 1]))
        outer, inner = addTransform(rotation(33, (0, 0, 1))), addTransform(rotation(12, (1, 1, 0)))
        inner.SetAndObserveTransformNodeID(outer.GetID())
        node.SetAndObserveTransformNodeID(inner.GetID())
        modified = node.GetMTime()
        self.write(node)
        self.assertSamePlaces(node)
        self.assertEqual(node.GetMTime(), modified, "the user's node is left as it was")
        self.assertIsNone(node.GetStorageNode())

    def test_under_a_scaling_transform(self):
        node = addVolume(texture(0, (9, 10, 11)), "v")
        node.SetAndObserveTransformNodeID(addTransform(np.diag([2, 1, -1, 1])).GetID())
        self.write(node)
        self.assertSamePlaces(node)

    def test_voxel_types(self):
        for kind in (np.int16, np.uint8, np.uint16, np.int32, np.float32, np.float64):
            with self.subTest(kind.__name__):
                slicer.mrmlScene.Clear(0)
                array = (texture(0, (5, 6, 7)) / 7).clip(0, 255).astype(kind)
                self.write(addVolume(array, "v"))
                written = sitk.GetArrayFromImage(self.image())
                self.assertEqual(written.dtype, kind)
                np.testing.assert_array_equal(written, array)

    def test_names(self):
        given = ["brain", "brain", "brain_1", "Gehirn ä 脑 🧠", 'a,"b"\t\nc', "   ", "brain"]
        nodes = [addVolume(texture(0, (3, 3, 3)), name) for name in given]
        self.write(*nodes)
        names = [row["volume"] for row in self.rows()]
        expected = ["brain", "brain_1", "brain_1_1", "Gehirn ä 脑 🧠", 'a,"b" c', nodes[5].GetID(), "brain_2"]
        self.assertEqual(names, expected)
        self.assertEqual(len({row["path"] for row in self.rows()}), len(nodes))

    def assertRefused(self, node, *words):
        writer = self.write(node)
        self.assertEqual(writer.written, {})
        [reason] = writer.skipped.values()
        self.assertTrue(reason.startswith(node.GetName() + ": "), reason)
        for word in words:
            self.assertIn(word, reason)
        self.assertEqual(list(self.table.parent.glob("*.nrrd")), [])

    def test_vector_volume_is_refused(self):
        array = np.zeros((3, 4, 5, 3), np.uint8)
        self.assertRefused(
            slicer.util.addVolumeFromArray(array, nodeClassName="vtkMRMLVectorVolumeNode"), "scalar volumes"
        )

    def test_several_components_are_refused(self):
        node = addVolume(np.zeros((3, 4, 5), np.uint8), "v")
        image = vtk.vtkImageData()
        image.SetDimensions(5, 4, 3)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 2)
        node.SetAndObserveImageData(image)
        self.assertRefused(node, "2 values a voxel")

    def test_labelmap_is_refused(self):
        array = np.zeros((3, 4, 5), np.uint8)
        self.assertRefused(
            slicer.util.addVolumeFromArray(array, nodeClassName="vtkMRMLLabelMapVolumeNode"), "scalar volumes"
        )

    def test_empty_volume_is_refused(self):
        self.assertRefused(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"), "no voxels")

    def test_shear_is_refused(self):
        node = addVolume(texture(0, (3, 4, 5)), "v")
        shear = np.eye(4)
        shear[0, 1] = 0.2
        node.SetAndObserveTransformNodeID(addTransform(shear).GetID())
        self.assertRefused(node, "not perpendicular")

    def test_non_linear_transform_is_refused(self):
        node = addVolume(texture(0, (3, 4, 5)), "v")
        warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "warp")
        grid = vtk.vtkImageData()
        grid.SetDimensions(4, 4, 4)
        grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
        spline = slicer.vtkOrientedBSplineTransform()
        spline.SetCoefficientData(grid)
        warp.SetAndObserveTransformFromParent(spline)
        node.SetAndObserveTransformNodeID(warp.GetID())
        self.assertRefused(node, "non-linear transform warp", "harden")

    def test_one_refused_volume_does_not_stop_the_others(self):
        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        writer = self.write(empty, addVolume(texture(0, (3, 4, 5)), "good"))
        self.assertEqual(list(writer.written), ["good"])
        self.assertEqual(list(writer.skipped), ["empty"])


if __name__ == "__main__":
    unittest.main()
