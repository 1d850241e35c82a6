"""What several tests need. Nothing here knows of the host: the tests run inside Slicer too."""

import atexit
import functools
import os
import shutil
import sys
import tempfile
import time
import unittest
from pathlib import Path

import numpy as np
import slicer
import vtk
from memorization_index import Reference
from MemorizationIndexLib import VolumeWriter


class SceneTestCase(unittest.TestCase):
    """An empty scene and an empty folder for every test; afterwards no temporary file of ours is left."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)
        self.folder = Path(tempfile.mkdtemp(prefix="test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def assertNoTemporaryFiles(self):
        left = list(Path(slicer.app.temporaryPath).glob("MemorizationIndex-*"))
        self.assertEqual(left, [])


def waitUntil(condition, seconds=30):
    """Keep the application alive until ``condition()`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s")
        slicer.app.processEvents()
        time.sleep(0.01)


def isAlive(pid):
    """Whether a process runs (a zombie does not)."""
    if sys.platform == "win32":
        raise unittest.SkipTest("processes are looked up as on Linux and macOS")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def texture(seed, shape=(14, 48, 48)):
    """int16 array (K, J, I) of smooth random texture within an ellipsoid: a made-up head, another for every seed."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    volume = np.zeros(shape)
    for _wave in range(40):
        frequency, phase = random.uniform(-12, 12, 3), random.uniform(0, 6)
        volume += random.normal() * np.cos(sum(f * a for f, a in zip(frequency, axes, strict=True)) + phase)
    inside = sum(a**2 for a in axes) < random.uniform(0.6, 0.8)
    return ((volume + 20) * 20 * inside).astype(np.int16)


TRAINING = [texture(seed) for seed in range(6)]
NEW = texture(100)


@functools.cache
def sharedReference():
    """A reference built from files once a process: the folder that holds ``training`` (the files) and ``reference``."""
    folder = Path(tempfile.mkdtemp(prefix="test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    slicer.mrmlScene.Clear(0)
    nodes = [addVolume(array, f"training{i}") for i, array in enumerate(TRAINING)]
    table = VolumeWriter(folder / "training").write(nodes)
    Reference.build(table, out=folder / "reference", plane="axial", power="none")
    return folder


def addVolume(array, name, ijkToRAS=None):
    """A scalar volume node of ``array`` (K, J, I)."""
    return slicer.util.addVolumeFromArray(array.copy(), ijkToRAS=ijkToRAS, name=name)


def rotation(degrees, axis):
    """4 × 4 rotation about a RAS axis."""
    transform = vtk.vtkTransform()
    transform.RotateWXYZ(degrees, *axis)
    return slicer.util.arrayFromVTKMatrix(transform.GetMatrix())


def addTransform(matrix, name="transform"):
    """A linear transform node."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    slicer.util.updateTransformMatrixFromArray(node, np.asarray(matrix, float))
    return node


def column(table, name):
    """A table node's column as a list of texts or floats."""
    array = table.GetTable().GetColumnByName(name)
    return [array.GetValue(row) for row in range(array.GetNumberOfValues())]
