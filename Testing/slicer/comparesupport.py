"""What tests of the comparison need: a training volume of texture, and copies of it. Nothing here knows of the host."""

import numpy as np
import slicer
from memorization_index.alignment import Alignment, Slices
from MemorizationIndexLib import Compare, TrainingVolumes
from MemorizationIndexLib.CompareLayout import QUERY, TRAINING
from MemorizationIndexLib.VolumeWriter import worldMatrix
from scipy.ndimage import gaussian_filter, map_coordinates
from testsupport import addVolume, rotation
from viewsupport import SAME, ViewTestCase, showResult

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
        picture = self.picture(name).max(axis=2).astype(float)
        picture[80:100, :200] = 0  # the volume's name
        picture = picture[60:-60, 40:-40]
        weights = np.where(picture > 0.8 * picture.max(), picture, 0)
        y, x = (np.average(index, weights=weights) for index in np.indices(picture.shape))
        return np.array([x, y])

    def pixelsPerVoxel(self):
        node = self.sliceNode(QUERY)
        return node.GetDimensions()[0] / node.GetFieldOfView()[0]
