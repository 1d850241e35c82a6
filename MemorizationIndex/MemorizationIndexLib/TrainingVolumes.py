"""The training volumes of a reference: those in the scene, and those still in files."""

import csv
import hashlib
import re
from pathlib import Path, PurePath

import slicer
from memorization_index.errors import MemorizationIndexError
from memorization_index.linking import linked_files
from memorization_index.verification import below
from slicer.i18n import tr as _

from .Fingerprint import fingerprinting
from .VolumeLoader import loadFile

_NAME, _REFERENCE = "MemorizationIndex.TrainingVolume", "MemorizationIndex.TrainingReference"
# What Slicer adds to a name that another node has already.
_COUNTED = re.compile(r"_\d+$")


class TrainingVolumes:
    """Knows which nodes of the scene a reference was built from, and loads those that are not there.

    A node is marked with the name that the volume has in the reference and the reference's fingerprint (SHA-256 of its
    manifest), so that it is used for that reference and no other; one that was loaded anew is recognized by its voxels.
    ``keyFile`` is the key of a pseudonymized reference,
    if it is not the file beside the reference that ``build --pseudonymize`` writes; ``locate(reference, folder, key)``
    finds files by their voxels (``key`` None: of a reference that has names), ``load(path, name)`` gives a file's node.
    """

    def __init__(self, referenceFolder, keyFile=None, locate=linked_files, load=loadFile):
        self.folder = Path(referenceFolder)
        self._keyFile, self._locate, self._load = keyFile, locate, load

    @property
    def key(self):
        """The file of the reference's key, which need not be there."""
        return Path(self._keyFile) if self._keyFile else self.folder.with_name(self.folder.name + ".key")

    def mark(self, nodes):
        """Mark ``nodes`` (``{name in the reference: node}``) as the training volumes of this reference."""
        fingerprint = self._fingerprint()
        for name, node in nodes.items():
            node.SetAttribute(_NAME, name)
            node.SetAttribute(_REFERENCE, fingerprint)

    def inScene(self):
        """``{name in the reference: node}`` of the training volumes that are in the scene."""
        fingerprint = self._fingerprint()
        nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        return {node.GetAttribute(_NAME): node for node in nodes if node.GetAttribute(_REFERENCE) == fingerprint}

    def recognizing(self):
        """Generator: mark nodes that hold a training volume and are called like one, in steps of milliseconds.

        Others are not looked at: of a scene with hundreds of volumes every voxel would have to be read.
        """
        known = {row.get("fingerprint"): row["volume"] for row in self._rows().values()}
        names = {name for volume in known.values() for name in (volume, PurePath(volume).name.partition(".")[0])}
        there = self.inScene().values()
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
            if node not in there and _COUNTED.sub("", node.GetName() or "") in names:
                name = known.get((yield from _fingerprinting(node)))
                if name and slicer.mrmlScene.IsNodePresent(node):
                    self.mark({name: node})

    def withoutFiles(self):
        """The training volumes of the scene whose files are not where they were when the reference was built."""
        rows = self._rows()
        nodes = self.inScene().items()
        return {name: node for name, node in nodes if name not in rows or not Path(rows[name]["path"]).is_file()}

    def load(self, name, trainingFolder=None):
        """The node of a training volume; loaded from its file where it is not in the scene yet.

        ``trainingFolder`` is where the training files are now, if not where they were when the reference was built.
        """
        node = self.inScene().get(name)
        if node is None:
            node = self._load(self._path(name, trainingFolder), name)
            self.mark({name: node})
        return node

    def _fingerprint(self):
        path = self.folder / "manifest.json"
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise MemorizationIndexError(
                _("{folder}: is not a reference; choose the folder that Build made.").format(folder=self.folder)
            ) from error

    def _rows(self):
        with (self.folder / "volumes.csv").open(encoding="utf-8", newline="") as file:
            return {row["volume"]: row for row in csv.DictReader(file)}

    def _path(self, name, trainingFolder):
        rows = self._rows()
        if name not in rows:
            raise MemorizationIndexError(
                _(
                    "{name}: the reference in {folder} has no such training volume, so it is not the one that the "
                    "result was made with; press Apply again."
                ).format(name=name, folder=self.folder)
            )
        if not rows[name]["path"]:
            return self._unsealed(name, trainingFolder)
        stored = Path(rows[name]["path"])
        path = below(Path(trainingFolder), stored) if trainingFolder else stored
        if path.is_file():
            return path
        if trainingFolder:
            return self._linked(name, trainingFolder, None)
        raise MemorizationIndexError(
            _(
                "{name}: this training volume is neither in the scene nor where it was when the reference was built "
                "({path}); load it, or name the folder that has it under Advanced › Training files."
            ).format(name=name, path=path)
        )

    def _unsealed(self, name, trainingFolder):
        """The file of a pseudonymized reference's volume: found by its voxels, which takes the owner's key."""
        if not trainingFolder:
            raise MemorizationIndexError(
                _(
                    "{name}: the reference is pseudonymized; name the folder that has it under "
                    "Advanced › Training files."
                ).format(name=name)
            )
        if not self.key.is_file():
            raise MemorizationIndexError(
                _(
                    "{name}: the reference is pseudonymized; name its key, which stays with the owner of the training "
                    "files, under Advanced › Key file (there is none at {key})."
                ).format(name=name, key=self.key)
            )
        return self._linked(name, trainingFolder, self.key)

    def _linked(self, name, trainingFolder, key):
        """The file below a folder that has the voxels."""
        files = self._locate(self.folder, trainingFolder, key).get(name)
        if not files:
            raise MemorizationIndexError(
                _(
                    "{name}: no file in {folder} holds this training volume; name the folder that has it under "
                    "Advanced › Training files."
                ).format(name=name, folder=trainingFolder)
            )
        return Path(files[0])


def _fingerprinting(node):
    """Generator: the fingerprint of a node, None where it holds no volume that a file could."""
    try:
        return (yield from fingerprinting(node))
    except (MemorizationIndexError, ValueError, AttributeError):
        return None
