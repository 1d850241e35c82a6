"""Volumes of the scene → files for the worker."""

import csv
import hashlib
import sys
import unicodedata

import numpy as np
import slicer
import vtk
from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _

# So many bytes are written before the application gets its turn.
_PART = 1 << 22
_TYPES = {
    "int8": "int8", "uint8": "uint8", "int16": "int16", "uint16": "uint16", "int32": "int32", "uint32": "uint32",
    "int64": "int64", "uint64": "uint64", "float32": "float", "float64": "double",
}  # fmt: skip
# Directions this far from perpendicular (cosine) are numerical noise of a transform, not a shear.
_PERPENDICULAR = 1e-4


class VolumeWriter:
    """Writes volume nodes into ``folder`` as NRRD with their geometry, and a table that names them.

    Linear parent transforms are applied to the geometry (voxels stay as they are); what a file with perpendicular axes
    cannot hold is refused in one sentence. ``written`` maps each volume's unique name to its node, ``skipped`` the
    names of those left out to the reason. Voxels and geometry are those of the moment when writing begins, whatever
    happens to the nodes until it ends.
    """

    def __init__(self, folder):
        self.folder = folder
        self.written, self.skipped = {}, {}

    @property
    def table(self):
        """The table of the written volumes: path, volume, subject."""
        return self.folder / "volumes.csv"

    def write(self, nodes, subjects=None):
        """Write ``nodes`` and return the path of their table. ``subjects``: one a node, or None where not known."""
        for _done in self.writing(nodes, subjects):
            pass
        return self.table

    def writing(self, nodes, subjects=None):
        """Take up ``nodes`` at once and return a generator that writes them, yielding how many volumes are done."""
        nodes = list(nodes)
        names = uniqueNames(nodes)
        known = dict(zip(names, subjects or [None] * len(nodes), strict=True))
        return self.writingNamed(dict(zip(names, nodes, strict=True)), known)

    def writingNamed(self, nodes, subjects=None):
        """The same for ``{volume name: node}``; ``subjects``: ``{volume name: subject}`` of those that are known."""
        taken = [(name, node, taken) for name, node in nodes.items() if (taken := self._take(name, node))]
        return self._thenTable(self._files(taken), subjects or {})

    def skip(self, path, reason):
        """Note that the worker left out the file at ``path``; the reason then names the volume instead of the file."""
        name = next((name for name in self.written if fileName(name) == path.name), None)
        self.skipped[name or str(path)] = self.named(reason)

    def named(self, text):
        """A text of the worker's that names volumes instead of the files that were written."""
        for name in self.written:
            path = self.folder / fileName(name)
            for place in (path, path.resolve()):
                text = text.replace(str(place), name)
        return text

    @staticmethod
    def reasonAgainst(node, name):
        """Why a node, called ``name``, would be refused; empty where it would not."""
        try:
            _taken(node, name)
        except MemorizationIndexError as error:
            return str(error)
        return ""

    def _take(self, name, node):
        """The voxels (a view) and the NRRD header of a node, or None where it is refused."""
        reason = self.reasonAgainst(node, name)
        if reason:
            self.skipped[name] = reason
            return None
        return _taken(node, name)

    def _files(self, taken):
        self.folder.mkdir(parents=True, exist_ok=True)
        for done, (name, node, (voxels, header)) in enumerate(taken):
            yield done
            path = self.folder / fileName(name)
            try:
                for _part in _writing(path, header, voxels):
                    yield done
            except OSError as error:
                self.skipped[name] = _(
                    "{name}: cannot be written to {path} ({reason}); make room or choose another temporary folder."
                ).format(name=name, path=path, reason=error.strerror or error)
            else:
                self.written[name] = node

    def _thenTable(self, steps, subjects):
        yield from steps
        rows = [(fileName(name), name, subjects.get(name) or name) for name in self.written]
        with self.table.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("path", "volume", "subject"), *rows])


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


def _taken(node, name):
    """The voxels (a view) and the NRRD header of a node."""
    _refuse(node, name)
    voxels = slicer.util.arrayFromVolume(node)
    return voxels, _header(voxels, worldMatrix(node, name))


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
    """IJK to RAS of the node, called ``name``, with its parent transform; refused where a file cannot hold it."""
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
    if not np.abs(directions.T @ directions - np.eye(3)).max() <= _PERPENDICULAR:
        raise MemorizationIndexError(
            _(
                "{name}: its axes are not perpendicular (a transform shears it); resample it to a regular grid first."
            ).format(name=name)
        )
    return ijkToRAS


def _header(voxels, ijkToRAS):
    """The header of a NRRD file of voxels (K, J, I); places are written left–posterior–superior."""
    toLPS = np.diag([-1.0, -1.0, 1.0]) @ slicer.util.arrayFromVTKMatrix(ijkToRAS)[:3]
    vectors = [f"({','.join(repr(float(value)) for value in toLPS[:, axis])})" for axis in range(4)]
    lines = [
        "NRRD0004",
        f"type: {_TYPES[voxels.dtype.name]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(size) for size in reversed(voxels.shape))}",
        f"space directions: {' '.join(vectors[:3])}",
        "kinds: domain domain domain",
        f"endian: {sys.byteorder}",
        "encoding: raw",
        f"space origin: {vectors[3]}",
    ]
    return ("\n".join(lines) + "\n\n").encode()


def _writing(path, header, voxels):
    """Generator: write a file in parts. (Slicer's own writer takes seconds for a large volume, in one go.)"""
    content = memoryview(voxels).cast("B")
    with path.open("wb") as file:
        file.write(header)
        for start in range(0, len(content), _PART):
            file.write(content[start : start + _PART])
            yield
