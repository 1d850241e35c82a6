"""The worker's result folder, kept in the scene as one text node."""

import base64
import functools
import io
import zipfile

import slicer
from slicer.i18n import tr as _

# Compressed by those who wrote them.
_STORED = {".nrrd", ".png"}
# So many bytes are encoded before the application gets its turn; three bytes are four letters.
_PART = 3 << 20


class ResultFiles:
    """The files of a result (tables, provenance, pictures, report, agreement volumes) as a ZIP archive in base64.

    A text node is saved with the scene and opened with it on any machine; so are the report and the heat maps. The
    archive is looked into once: another text is for another object.
    """

    def __init__(self, node):
        self.node = node

    @staticmethod
    def keeping(folder, node=None):
        """Generator: put the files below ``folder`` into ``node`` or a new one, a file a step; returns the node."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                kind = zipfile.ZIP_STORED if path.suffix in _STORED else zipfile.ZIP_DEFLATED
                archive.write(path, path.relative_to(folder).as_posix(), kind)
                yield
        parts, content = [], buffer.getbuffer()
        for start in range(0, len(content), _PART):
            parts.append(base64.b64encode(content[start : start + _PART]))
            yield
        text = b"".join(parts).decode("ascii")
        yield
        if node is None:
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", _("MemorizationIndex result files"))
        node.SetText(text)
        return node

    def names(self):
        """Names of the files, relative to the result folder, with forward slashes."""
        return self._archive.namelist()

    def read(self, name):
        """The bytes of one file, or None where there is no such file."""
        archive = self._archive
        return archive.read(name) if name in archive.namelist() else None

    def extracting(self, folder):
        """Generator: write the files below ``folder``, which is made where it is not there; yields their names."""
        folder.mkdir(parents=True, exist_ok=True)
        archive = self._archive
        for name in archive.namelist():
            archive.extract(name, folder)
            yield name

    @functools.cached_property
    def _archive(self):
        text = self.node.GetText() if self.node else None
        if not text:
            return zipfile.ZipFile(io.BytesIO(b"PK\5\6" + bytes(18)))  # an empty archive
        return zipfile.ZipFile(io.BufferedReader(_Decoded(text)))


class _Decoded(io.RawIOBase):
    """A file of the bytes that a base64 text stands for; only what is read is decoded: of a large result, one file."""

    def __init__(self, text):
        super().__init__()
        self._text, self._at = text, 0
        self._size = len(text) // 4 * 3 - text[-2:].count("=")

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def readinto(self, buffer):
        end = min(self._at + len(buffer), self._size)
        count = max(end - self._at, 0)
        first = self._at // 3  # three bytes are four letters
        content = base64.b64decode(self._text[4 * first : 4 * -(-end // 3)])
        buffer[:count] = content[self._at - 3 * first :][:count]
        self._at += count
        return count
