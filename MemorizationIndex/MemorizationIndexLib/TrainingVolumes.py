"""The training volumes of a reference: those in the scene, and those still in files."""

import csv
import hashlib
from pathlib import Path

import slicer
from memorization_index.errors import MemorizationIndexError
from memorization_index.linking import linked_files
from memorization_index.verification import below
from slicer.i18n import tr as _

from .VolumeLoader import loadFile

_NAME, _REFERENCE = "MemorizationIndex.TrainingVolume", "MemorizationIndex.TrainingReference"


class TrainingVolumes:
    """Knows which nodes of the scene a reference was built from, and loads those that are not there.

    A node is marked with the name that the volume has in the reference and the reference's fingerprint (SHA-256 of its
    manifest), so that it is used for that reference and no other. ``keyFile`` is the key of a pseudonymized reference,
    if it is not the file beside the reference that ``build --pseudonymize`` writes; ``locate(reference, folder, key)``
    gives the files of such a reference, ``load(path, name)`` the node of a file.
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

    def _path(self, name, trainingFolder):
        with (self.folder / "volumes.csv").open(encoding="utf-8", newline="") as file:
            rows = {row["volume"]: row for row in csv.DictReader(file)}
        if name in rows and not rows[name]["path"]:
            return self._linked(name, trainingFolder)
        stored = Path(rows[name]["path"] if name in rows else name)
        path = below(Path(trainingFolder), stored) if trainingFolder else stored
        if not path.is_file():
            raise MemorizationIndexError(
                _(
                    "{name}: this training volume is neither in the scene nor at {path}; name the folder "
                    "under Advanced › Training files."
                ).format(name=name, path=path)
            )
        return path

    def _linked(self, name, trainingFolder):
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
        files = self._locate(self.folder, trainingFolder, self.key).get(name)
        if not files:
            raise MemorizationIndexError(
                _(
                    "{name}: no file in {folder} holds this training volume; name the folder that has it under "
                    "Advanced › Training files."
                ).format(name=name, folder=trainingFolder)
            )
        return Path(files[0])
