"""The weights of a deep encoder: a local file, checked once, remembered by the application."""

from pathlib import Path

import qt
from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _

from .PythonProcess import PythonProcess

_MODULE_FOLDER = Path(__file__).resolve().parent.parent


class Weights:
    """Which file holds the weights of an encoder (``"mri-core"``). Nothing is downloaded.

    A file is checked when it is chosen: ``memorization-index encoders --check`` reads it in a process of its own and
    says layout, size, SHA-256 and fingerprint, or why it is none. It is asked for again only when it is gone or was
    changed.
    """

    def __init__(self, encoder="mri-core", settings=None):
        self._settings = settings if settings is not None else qt.QSettings()
        self._group = f"MemorizationIndex/Weights/{encoder}/"

    @property
    def path(self):
        """The checked file, or None where none was chosen, or it is not there any more as it was checked."""
        stored = self._settings.value(self._group + "path")
        if not stored or _state(Path(stored)) != self._settings.value(self._group + "state"):
            return None
        return Path(stored)

    @property
    def description(self):
        """What the check said about the file: layout, width, depth, size, SHA-256, fingerprint."""
        return (self._settings.value(self._group + "description") or "") if self.path else ""

    def choose(self, path):
        """Check a file and remember it. Raises ``MemorizationIndexError`` (one sentence) where it cannot be used."""
        path = Path(path)
        if not path.is_file():
            raise MemorizationIndexError(_("{path}: is no file; choose the file of the weights.").format(path=path))
        lines = []
        state = _state(path)
        check = PythonProcess("memorization_index", ["encoders", "--check", path], lines.append, _MODULE_FOLDER)
        if check.run() != 0:
            reason = lines[-1] if lines else _("the check did not run")
            raise MemorizationIndexError(reason.removeprefix("memorization-index: "))
        for name, value in (("path", str(path)), ("state", state), ("description", "\n".join(lines))):
            self._settings.setValue(self._group + name, value)

    def forget(self):
        """Forget the file."""
        self._settings.remove(self._group.rstrip("/"))


def _state(path):
    """What tells whether a file was changed since it was checked: its size and the time of its last change."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"
