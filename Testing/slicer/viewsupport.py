"""What tests of slice views need: results without a run, pixels, places. Nothing here knows of the host."""

import contextlib
import csv
import ctypes
import json
import os
import sys
import unittest
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from memorization_index.alignment import Alignment
from MemorizationIndexLib import MemorizationIndexLogic, Results
from testsupport import SceneTestCase
from vtk.util.numpy_support import vtk_to_numpy

SLICE = {
    "plane": "axial", "similarity": 9, "mi": 4.25, "oni": -0.75, "p_value": 0.001, "q_value": 0.01,
    "match_subject": "sub-012", "match_volume": "sub-012_T1w", "match_slice": 0, "match_class": "copy", "ncc": 0.98,
    "transform": "mirrored", "layer_agreement": 1, "flagged": 1,
}  # fmt: skip
VOLUME = {
    "path": "", "n_slices": 1, "n_flagged": 1, "mi_max": 5, "mi": 4, "oni": -0.7, "p_value": 0.01, "q_value": 0.02,
    "match_subject": "sub-012", "match_volume": "sub-012_T1w", "agreement": 1, "verdict": "copy",
}  # fmt: skip
SAME = Alignment(False, 0, np.eye(2), np.zeros(2))


def showResult(folder, nodes, slices, agreement=None, alignments=None):
    """Put a result into the scene as a run would; returns its :class:`Results`.

    ``nodes``: ``{name: node}``; ``slices``: ``{name: {number: what differs from SLICE}}``; ``agreement``: ``{name:
    uint8 array (K, J, I)}``; ``alignments``: ``{name: {number: Alignment}}``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"volume": n, "slice": k, **SLICE, **row} for n in nodes for k, row in slices[n].items()]
    _write(folder / "slices.csv", rows)
    _write(folder / "volumes.csv", [{"volume": name, **VOLUME} for name in nodes])
    matches = {(row["volume"], row["slice"]): row for row in rows}
    _write(
        folder / "alignments.csv",
        [
            _alignmentRow(name, number, found, matches[name, number])
            for name, numbers in (alignments or {}).items()
            for number, found in numbers.items()
        ],
    )
    for name, array in (agreement or {}).items():
        path = folder / "agreement" / f"{list(nodes).index(name):04d}.nrrd"
        path.parent.mkdir(exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    (folder / "run.json").write_text(json.dumps({"kind": "test"}))
    results = Results(MemorizationIndexLogic().getParameterNode())
    results.show(folder, nodes, {})
    return results


def _alignmentRow(name, number, found, row):
    numbers = dict(zip(("m00", "m01", "m10", "m11"), found.matrix.ravel(), strict=True))
    shift = {"shift_rows": found.shift[0], "shift_columns": found.shift[1]}
    match = {"match_volume": row["match_volume"], "match_slice": row["match_slice"]}
    start = {"volume": name, "slice": number, **match, "mirrored": int(found.mirrored), "quarters": found.quarters}
    return {**start, **numbers, **shift}


def _write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["volume", "slice", "match_volume", "match_slice"])
        writer.writeheader()
        writer.writerows(rows)


def peakMemory():
    """The most memory that this process has taken, in MiB."""
    try:
        import resource
    except ImportError as error:
        raise unittest.SkipTest("memory is measured as on Linux and macOS") from error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def residentMemory():
    """The memory that this process has now, in MiB, without what the C library keeps of freed memory."""
    status = Path("/proc/self/statm")
    if not status.exists():
        raise unittest.SkipTest("memory is measured as on Linux")
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class ViewTestCase(SceneTestCase):
    """Slice views in a layout of three, and what one can see in them."""

    def setUp(self):
        super().setUp()
        self.manager = slicer.app.layoutManager()
        if self.manager is None:
            raise unittest.SkipTest("there are no views without a main window")
        # Where an earlier test has opened the panel, its own overlay and comparison would be shown in the same views.
        parameter = MemorizationIndexLogic().getParameterNode()
        parameter.overlay, parameter.compare = False, "off"
        self.addCleanup(self.manager.setLayout, self.manager.layout)
        self.manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        for name, orientation in (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal")):
            self.sliceNode(name).SetOrientation(orientation)

    def logic(self, name="Red"):
        return self.manager.sliceWidget(name).sliceLogic()

    def sliceNode(self, name="Red"):
        return self.manager.sliceWidget(name).mrmlSliceNode()

    def composite(self, name="Red"):
        return self.logic(name).GetSliceCompositeNode()

    def view(self, name="Red"):
        return self.manager.sliceWidget(name).sliceView()

    def show(self, node, name="Red", along=False):
        """Show a volume in a view, which is turned along the volume's axes on request."""
        self.composite(name).SetBackgroundVolumeID(node.GetID() if node else None)
        if along:
            self.sliceNode(name).RotateToVolumePlane(node)
        self.logic(name).FitSliceToBackground()

    def offset(self, place, name="Red"):
        """Move a view through a RAS point."""
        self.sliceNode(name).JumpSliceByOffsetting(*place)

    def picture(self, name="Red"):
        """RGB pixels (row, column, 3) of a view, the lowest row first as in VTK."""
        slicer.app.processEvents()
        self.view(name).forceRender()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self.view(name).renderWindow())
        grabber.ReadFrontBufferOff()
        grabber.Update()
        image = grabber.GetOutput()
        width, height, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[..., :3].astype(int)

    def pixel(self, place, name="Red"):
        """Where (x, y) a view shows a RAS point."""
        toXY = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.sliceNode(name).GetXYToRAS(), toXY)
        x, y = toXY.MultiplyPoint([*place, 1])[:2]
        return round(x), round(y)

    def colorAt(self, place, name="Red"):
        """The color that a view shows at a RAS point."""
        x, y = self.pixel(place, name)
        return self.picture(name)[y, x]

    def props(self, name="Red"):
        """Everything of ours and Slicer's in the view's renderer."""
        found = self.view(name).renderWindow().GetRenderers().GetFirstRenderer().GetViewProps()
        return [found.GetItemAsObject(i) for i in range(found.GetNumberOfItems())]

    def texts(self, name="Red"):
        """The texts in a view, those of text actors."""
        return [prop.GetInput() for prop in self.props(name) if prop.IsA("vtkTextActor") and prop.GetVisibility()]

    def mouse(self, event, x, y, name="Red"):
        """Send a mouse event at a pixel of a view."""
        interactor = self.view(name).interactor()
        interactor.SetEventInformation(int(x), int(y), 0, 0, "\0", 0, None)
        interactor.InvokeEvent(event)
        slicer.app.processEvents()
