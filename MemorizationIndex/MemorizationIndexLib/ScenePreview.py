"""What would be made of volumes of the scene, before anything is done with them."""

import slicer

from .VolumeWriter import VolumeWriter, uniqueNames


class ScenePreview:
    """Of volume nodes: ``volumes`` (how many can be used), ``subjects`` (``{name: number of volumes}``), ``skipped``.

    The last is ``{volume name: reason}``. Nothing is read or written.
    """

    def __init__(self, nodes):
        nodes = list(nodes)
        self.skipped, self.subjects, self.volumes = {}, {}, 0
        for name, node in zip(uniqueNames(nodes), nodes, strict=True):
            reason = VolumeWriter.reasonAgainst(node, name)
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
