"""Reading a volume of agreement, as the worker writes it (NRRD, one byte a voxel), in steps."""

import zlib

import numpy as np
from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _

# So many bytes are decoded before the application gets its turn.
_PART = 1 << 22
_BYTE = {"unsigned char", "uchar", "uint8"}


def decoding(content, shape):
    """Generator: the voxels (K, J, I), uint8, of a NRRD file that is given as bytes; returns them.

    None where they have another ``shape``. (SimpleITK needs a file, 0.2 s in one go for 512 × 512 × 300 voxels, and
    ends the process on some damaged headers.) Raises ``MemorizationIndexError`` where it is not such a file.
    """
    head, _blank, data = content.partition(b"\n\n")
    lines = (line.split(": ", 1) for line in head.decode("ascii", "replace").splitlines() if ": " in line)
    fields = {name: value.strip() for name, value in lines}
    if fields.get("type") not in _BYTE or fields.get("encoding") not in ("raw", "gzip", "gz"):
        raise _damaged()
    if fields.get("sizes", "").split() != [str(size) for size in reversed(shape)]:
        return None
    voxels = np.zeros(shape, np.uint8)
    target, at = memoryview(voxels).cast("B"), 0
    for part in _inflating(data) if fields["encoding"] != "raw" else (data,):
        if at + len(part) > len(target):
            raise _damaged()
        target[at : at + len(part)] = part
        at += len(part)
        yield
    if at != len(target):
        raise _damaged()
    return voxels


def _inflating(data):
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)  # 16: with a gzip header
    try:
        part = stream.decompress(data, _PART)
        while part:
            yield part
            part = stream.decompress(stream.unconsumed_tail, _PART)
    except zlib.error as error:
        raise _damaged() from error


def _damaged():
    return MemorizationIndexError(_("A heat map of the result is damaged; press Apply again to make it anew."))
