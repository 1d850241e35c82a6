"""The pictures of the views in the documentation are what the views show now, but for what renderers may differ in.

The head is made up by a generator. ``MEMORIZATION_INDEX_SCREENSHOTS=write`` writes the pictures anew; look at them.
"""

import os
import unittest
from pathlib import Path

import numpy as np
import pytest
import slicer
from memorization_index.agreement import on_slice
from memorization_index.alignment import Alignment, Slices
from memorization_index.evaluation.cohorts import make_demo_cohort
from memorization_index.matching import Match, agreement_map
from memorization_index.slices import SliceStack, square_images
from memorization_index.spectral import INPUT_SIZE
from MemorizationIndexLib import Compare, Overlay, TrainingVolumes
from MemorizationIndexLib.CompareLayout import QUERY, TRAINING
from MemorizationIndexLib.VolumeWriter import worldMatrix
from PIL import Image
from viewsupport import ViewTestCase, showResult

FOLDER = Path(__file__).resolve().parents[3] / "Resources" / "Screenshots"
MIRRORED = Alignment(True, 0, np.eye(2), np.zeros(2))
NAME = "sub-001_T1w"
SLICE = 8
# Of 255: how far pixels may lie apart on average, and how many of them by more than a clear step.
MEAN, STEP, CLEARLY = 2.0, 40, 0.01


class ScreenshotTest(ViewTestCase):
    """A mirrored copy of a training scan, a part of which was replaced by another head."""

    def setUp(self):
        super().setUp()
        files = make_demo_cohort(self.folder / "heads", subjects=2)
        self.training, other = (slicer.util.loadVolume(str(p), {"name": p.name[:11], "show": False}) for p in files)
        self.node = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, self.training, "synthetic 1")
        array = slicer.util.arrayFromVolume(self.node)
        array[:] = array[:, :, ::-1].copy()
        array[:, 64:96, 16:44] = slicer.util.arrayFromVolume(other)[:, 64:96, 16:44]
        slicer.util.arrayFromVolumeModified(self.node)
        slicer.mrmlScene.RemoveNode(other)
        for node in (self.node, self.training):
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().SetAutoWindowLevel(False)
            node.GetDisplayNode().SetWindowLevelMinMax(0, 1000)
        self.slices = Slices.of(slicer.util.arrayFromVTKMatrix(worldMatrix(self.node, "v")), array.shape[::-1], "axial")
        reference = self.folder / "reference"
        reference.mkdir()
        (reference / "manifest.json").write_text("{}")
        TrainingVolumes(reference).mark({NAME: self.training})
        self.results = self.makeResult(array)
        self.overlay = Overlay(self.results)
        self.addCleanup(self.overlay.cleanup)
        self.overlay.enabled = True
        self.comparing = Compare(self.results, lambda: TrainingVolumes(reference))
        self.addCleanup(self.comparing.cleanup)

    def makeResult(self, array):
        found = Match(0, 0.97, 0.98, True, 0, np.eye(2), np.zeros(2), 0.5, 0.1)
        agreement = np.zeros(array.shape, np.uint8)
        source, rows = slicer.util.arrayFromVolume(self.training), {}
        for number in range(2, self.slices.shape[0]):
            query, training = (self.square(voxels, number) for voxels in (array, source))
            agreed = np.round(100 * agreement_map(query, training, found)).astype(np.uint8)
            spacing = [np.linalg.norm(v) for v in (self.slices.rows, self.slices.columns)]
            self.slices.image(agreement, number)[:] = on_slice(agreed, self.slices.shape[1:], spacing)
            kind, p = ("altered copy", 0.001) if number > 4 else ("novel", 0.2)
            rows[number] = {
                "match_volume": NAME, "match_subject": "sub-001", "match_slice": number, "ncc": 0.97, "mi": 9.2,
                "oni": -1.0, "p_value": p, "match_class": kind,
            }  # fmt: skip
        name, alignments = self.node.GetName(), dict.fromkeys(rows, MIRRORED)
        folder = self.folder / "result"
        return showResult(folder, {name: self.node}, {name: rows}, {name: agreement}, {name: alignments})

    def square(self, voxels, number):
        spacing = tuple(float(np.linalg.norm(v)) for v in (self.slices.rows, self.slices.columns))
        image = np.ascontiguousarray(self.slices.image(voxels, number), np.float32)
        return square_images(SliceStack([image], spacing, np.array([number]), 99, "axial"), INPUT_SIZE)[0]

    def assertLooksLike(self, name, *views):
        """The views beside each other are the picture in the documentation."""
        gap = np.full((self.picture(views[0]).shape[0], 6, 3), 255)
        parts = [part for view in views for part in (self.picture(view), gap)][:-1]
        shown = np.concatenate(parts, axis=1)[::-1].astype(np.uint8)
        path = FOLDER / f"{name}.png"
        if os.environ.get("MEMORIZATION_INDEX_SCREENSHOTS") == "write":
            Image.fromarray(shown).save(path, optimize=True)
        expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
        assert shown.shape == expected.shape
        apart = np.abs(shown - expected)
        assert apart.mean() < MEAN, name
        assert (apart.max(axis=2) > STEP).mean() < CLEARLY, name

    def atSlice(self):
        self.comparing.show(self.node, self.results.slicesOf(self.node)[SLICE - 2])

    def test_heat_map_beside_the_training_volume(self):
        self.atSlice()
        self.assertLooksLike("compare", QUERY, TRAINING)

    def test_difference(self):
        self.atSlice()
        self.comparing.mode = "difference"
        self.assertLooksLike("difference", QUERY, TRAINING)

    def test_overlay_in_an_ordinary_view(self):
        self.show(self.node)
        self.show(self.node, "Yellow")
        self.offset(self.slices.center(SLICE))
        self.assertLooksLike("overlay", "Red", "Yellow")

    def test_a_picture_that_differs_is_noticed(self):
        if os.environ.get("MEMORIZATION_INDEX_SCREENSHOTS") == "write":
            pytest.skip("pictures are being written")
        self.atSlice()
        self.offset(self.slices.center(SLICE + 1), QUERY)
        with pytest.raises(AssertionError):
            self.assertLooksLike("compare", QUERY, TRAINING)


if __name__ == "__main__":
    unittest.main()
