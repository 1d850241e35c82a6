"""Loading volumes from files without holding the application up."""

import qt
import slicer
from memorization_index.errors import MemorizationIndexError
from memorization_index.volumes import IMAGE_SUFFIXES, VOLUME_SUFFIXES, stored_shape
from slicer.i18n import tr as _

from .Loading import LOADED_ATTRIBUTE, Loading


class Pending(MemorizationIndexError):
    """What was asked for is being made, and says so; ask again when told."""


class VolumeLoader:
    """Loads one volume after another: a small one at once, a large one while the application goes on.

    ``onEnd()`` is called when a large one is there or failed; :meth:`load` then answers. ``onLoaded()`` is called soon
    after it has given a node.
    """

    #: Voxels; what has more is not loaded in one go (2 million take Slicer about 30 ms).
    LARGE = 2_000_000

    def __init__(self, onEnd, onLoaded):
        self._onEnd, self._onLoaded, self._wanted, self._loading = onEnd, onLoaded, None, None

    def load(self, path, name):
        """The node of a volume file; raises ``Pending`` while it is loaded. Asking for another one cancels that."""
        if (path, name) != self._wanted:
            self.stop()
            if not _holdsMore(path, self.LARGE):
                return self._given(loadFile(path, name))
            self._wanted, self._loading = (path, name), Loading(path, name, self._onEnd)
        if not self._loading.finished:
            raise Pending(_("{name}: loading …").format(name=name))
        node, problem = self._loading.node, self._loading.problem
        if problem:
            raise MemorizationIndexError(problem)
        self.stop()
        return self._given(node)

    def _given(self, node):
        qt.QTimer.singleShot(0, self._onLoaded)
        return node

    def stop(self):
        """Load no further, and forget what was loaded."""
        if self._loading is not None:
            self._loading.stop()
        self._wanted, self._loading = None, None


def loadFile(path, name):
    """The node of a volume file, which is not shown."""
    try:
        node = slicer.util.loadVolume(str(path), {"name": name, "show": False})
    except RuntimeError as error:
        raise MemorizationIndexError(
            _("{path}: Slicer cannot read this volume; check that the file is there, or convert it to NIfTI.").format(
                path=path
            )
        ) from error
    node.SetAttribute(LOADED_ATTRIBUTE, "true")
    return node


def _holdsMore(path, voxels):
    """Whether a file holds more voxels, by its header. A series of DICOM files counts as if it did."""
    kind = path.name.lower()
    if kind.endswith((".npy", *IMAGE_SUFFIXES)):
        return False
    if not kind.endswith(VOLUME_SUFFIXES):
        return True
    try:
        count = 1
        for side in stored_shape(path) or ():
            count *= side
    except (OSError, MemorizationIndexError):
        return False  # Slicer says what is wrong
    return count > voxels
