"""What would be made of volumes of the scene, before anything is done with them."""

import numpy as np
import slicer
from memorization_index.encoding import check_plane
from memorization_index.errors import MemorizationIndexError
from memorization_index.volumes import acquired_plane

from .PanelWords import inPanelWords
from .ScoredVolume import worldSlices
from .VolumeWriter import VolumeWriter, uniqueNames


class ScenePreview:
    """Of volume nodes: ``volumes`` (how many can be used), ``subjects`` (``{name: number of volumes}``), ``skipped``.

    The last is ``{volume name: reason}``; ``plane`` is the one that they are cut in. No voxel is read or written.
    """

    def __init__(self, nodes, plane):
        named = dict(zip(uniqueNames(nodes := list(nodes)), nodes, strict=True))
        self.skipped, self.subjects, self.volumes = {}, {}, 0
        refused = {name: VolumeWriter.reasonAgainst(node, name) for name, node in named.items()}
        spacings = {name: _spacing(node) for name, node in named.items() if not refused[name]}
        self.plane = _chosen(spacings.values()) if plane == "native" else plane
        for name, node in named.items():
            reason = refused[name] or _otherPlane(name, spacings[name], self.plane)
            if reason:
                self.skipped[name] = reason
            else:
                subject = patientOf(node) or name
                self.subjects[subject] = self.subjects.get(subject, 0) + 1
                self.volumes += 1


def patientOf(node):
    """The patient that the subject hierarchy puts a volume under, or None."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node)
    patient = hierarchy.GetItemAncestorAtLevel(item, "Patient") if item else 0
    return hierarchy.GetItemName(patient) if patient else None


def _spacing(node):
    """Voxel size along z, y, x in mm, None of a single slice."""
    axial = worldSlices(node, "axial")
    return None if 1 in axial.shape else [np.linalg.norm(v) for v in (axial.step, axial.rows, axial.columns)]


def _chosen(spacings):
    """The plane that most were acquired in, as the library chooses it."""
    votes = [acquired_plane(spacing) or "axial" for spacing in spacings if spacing is not None]
    return max(("axial", "sagittal", "coronal"), key=votes.count)


def _otherPlane(name, spacing, plane):
    try:
        if spacing is not None:
            check_plane(name, spacing, plane, building=True)
    except MemorizationIndexError as error:
        return inPanelWords(str(error))
    return ""
