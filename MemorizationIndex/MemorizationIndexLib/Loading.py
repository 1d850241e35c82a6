"""One large volume on its way from a file into the scene."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from .Job import Job
from .Run import workerCommand
from .Steps import Steps

#: Attribute of a volume that was loaded to be looked at: it is not offered to be examined, or built from.
LOADED_ATTRIBUTE = "MemorizationIndex.LoadedToLookAt"
# So many bytes are taken before the application gets its turn.
_PART = 1 << 22


class Loading:
    """A worker decodes the file, then the voxels are taken in steps; ``onEnd()`` when that is done or failed.

    (Slicer's own reading of 512 × 512 × 300 voxels takes a second in one go, half of it to find a window.)
    """

    def __init__(self, path, name, onEnd):
        self._name, self._onEnd, self._stopped = name, onEnd, False
        self._folder = Path(tempfile.mkdtemp(prefix="MemorizationIndex-", dir=slicer.app.temporaryPath))
        self._voxels, self._told, self._steps = self._folder / "voxels", None, None
        #: Whether it is done or failed; then the node, or why there is none.
        self.finished, self.node, self.problem = False, None, ""
        self._job = Job(self._onEvent, self._onWritten)
        self._job.start(*workerCommand(["unpack", path, "--out", self._voxels]), self._folder)

    def stop(self):
        """Cancel it."""
        self._stopped = True
        self._job.stop()
        if self._steps is not None:
            self._steps.stop()
        self._remove()

    def _onEvent(self, event):
        if event["event"] == "done":
            self._told = event

    def _onWritten(self, outcome, message):
        if self._stopped:
            self._remove()  # what the worker still wrote
        elif outcome == "done":
            self._steps = Steps(self._taking(), self._onTaken)
            self._steps.start()
        else:
            self._end(None, message)

    def _onTaken(self, image, error):
        node = None
        if error is None:
            node = self._add(image)
        self._end(node, "" if error is None else str(error))

    def _end(self, node, problem):
        self._remove()
        self.finished, self.node, self.problem = True, node, problem
        self._onEnd()

    def _taking(self):
        """Generator: read the voxels and return them as an image; the file goes as it is read."""
        told = self._told
        image = vtk.vtkImageData()
        image.SetDimensions(*told["size"])
        image.AllocateScalars(get_vtk_array_type(told["type"]), 1)
        view = memoryview(vtk_to_numpy(image.GetPointData().GetScalars())).cast("B")
        with self._voxels.open("r+b") as file:
            for start in reversed(range(0, len(view), _PART)):
                file.seek(start)
                if file.readinto(view[start : start + _PART]) != len(view[start : start + _PART]):
                    raise OSError(f"{self._voxels}: is too short")
                file.truncate(start)  # all of it is not gone at once
                yield
        return image

    def _add(self, image):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", self._name)
        node.SetAttribute(LOADED_ATTRIBUTE, "true")
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.array(self._told["ijk_to_ras"])))
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetAutoWindowLevel(False)  # before there are voxels, of which it would look at every one
        display.SetWindowLevelMinMax(*self._told["window"])
        node.SetAndObserveImageData(image)
        return node

    def _remove(self):
        shutil.rmtree(self._folder, ignore_errors=True)
