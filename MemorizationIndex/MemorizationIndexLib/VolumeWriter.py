"""Volumes of the scene → files for the worker."""

import csv
import hashlib
import unicodedata

import numpy as np
import slicer
import vtk
from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _

# Directions this far from perpendicular (cosine) are numerical noise of a transform, not a shear.
_PERPENDICULAR = 1e-4


class VolumeWriter:
    """Writes volume nodes into ``folder`` as NRRD with their geometry, and a table that names them.

    Linear parent transforms are applied to the geometry (voxels stay as they are); what a file with perpendicular axes
    cannot hold is refused in one sentence. ``written`` maps each volume's unique name to its node, ``skipped`` the
    names of those left out to the reason.
    """

    def __init__(self, folder):
        self.folder = folder
        self.written, self.skipped = {}, {}

    def write(self, nodes, subjects=None):
        """Write ``nodes`` and return the path of their table. ``subjects``: one a node, or None where not known."""
        nodes = list(nodes)
        names = uniqueNames(nodes)
        self.writeNamed(dict(zip(names, nodes, strict=True)))
        known = dict(zip(names, subjects or [None] * len(nodes), strict=True))
        rows = [(fileName(name), name, known[name] or name) for name in self.written]
        table = self.folder / "volumes.csv"
        with table.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("path", "volume", "subject"), *rows])
        return table

    def writeNamed(self, nodes):
        """Write the nodes of ``{volume name: node}``; the same name gives the same file name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, node in nodes.items():
            try:
                self._writeNode(node, name, self.folder / fileName(name))
            except MemorizationIndexError as error:
                self.skipped[name] = str(error)
            else:
                self.written[name] = node

    def skip(self, path, reason):
        """Note that the worker left out the file at ``path``; the reason then names the volume instead of the file."""
        name = next(name for name in self.written if fileName(name) == path.name)
        self.skipped[name] = reason.replace(str(path), name)

    def _writeNode(self, node, name, path):
        _refuse(node, name)
        # A node of its own: the user's keeps its storage node, its transform and its modified time.
        copy = slicer.vtkMRMLScalarVolumeNode()
        copy.SetAndObserveImageData(node.GetImageData())
        copy.SetIJKToRASMatrix(worldMatrix(node, name))
        storage = slicer.vtkMRMLNRRDStorageNode()
        storage.SetUseCompression(0)
        storage.SetFileName(str(path))
        if not storage.WriteData(copy):
            raise MemorizationIndexError(
                _("{name}: cannot be written to {path}; make room there or choose another temporary folder.").format(
                    name=name, path=path
                )
            )


def uniqueNames(nodes):
    """The nodes' names on one line each, made unique as Slicer does: ``brain``, ``brain_1``."""
    taken, names = set(), []
    for node in nodes:
        printable = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in node.GetName() or "")
        base = " ".join(printable.split()) or node.GetID()
        name, number = base, 0
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        names.append(name)
    return names


def fileName(volumeName):
    """The same for the same name, whatever characters it has: training files are found again by it."""
    return hashlib.sha256(volumeName.encode()).hexdigest()[:16] + ".nrrd"


def _refuse(node, name):
    if node.GetClassName() != "vtkMRMLScalarVolumeNode":
        raise MemorizationIndexError(
            _("{name}: is a {kind}, but only scalar volumes can be examined; convert it first.").format(
                name=name, kind=node.GetNodeTagName()
            )
        )
    image = node.GetImageData()
    if image is None or not image.GetNumberOfPoints():
        raise MemorizationIndexError(_("{name}: has no voxels; load or fill it first.").format(name=name))
    components = image.GetNumberOfScalarComponents()
    if components != 1:
        raise MemorizationIndexError(
            _("{name}: has {count} values a voxel, but one is expected; extract one component first.").format(
                name=name, count=components
            )
        )


def worldMatrix(node, name):
    """IJK to RAS of the node with its parent transform."""
    toWorld, ijkToRAS = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(ijkToRAS)
    transform = node.GetParentTransformNode()
    if transform is not None:
        if not transform.IsTransformToWorldLinear():
            raise MemorizationIndexError(
                _(
                    "{name}: is under the non-linear transform {transform}; harden it or move the volume out of it."
                ).format(name=name, transform=transform.GetName())
            )
        transform.GetMatrixTransformToWorld(toWorld)
    vtk.vtkMatrix4x4.Multiply4x4(toWorld, ijkToRAS, ijkToRAS)
    axes = slicer.util.arrayFromVTKMatrix(ijkToRAS)[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    directions = axes / np.where(lengths, lengths, 1)
    if not np.allclose(directions.T @ directions, np.eye(3), atol=_PERPENDICULAR):
        raise MemorizationIndexError(
            _(
                "{name}: its axes are not perpendicular (a transform shears it); resample it to a regular grid first."
            ).format(name=name)
        )
    return ijkToRAS
