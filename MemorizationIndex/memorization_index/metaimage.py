"""Headers of MetaImage files (.mha, .mhd): https://itk.org/Wiki/ITK/MetaIO/Documentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memorization_index.limits import NOT_THE_FORMAT, TRUNCATED, unreadable
from memorization_index.rasters import Raster, data_file, header_lines, numbers, whole_numbers

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip


def metaimage_header(path: Path) -> Raster:
    """What the header of a MetaImage file says.

    Raises :class:`MemorizationIndexError` where it is none, or has a feature that no scan needs (voxels as text, lists
    of data files).
    """
    fields, end = _fields(path)
    dimension = whole_numbers(path, fields.get("ndims", ""), 1)[0]
    kind = _TYPES.get(fields.get("elementtype", ""))
    if fields.get("objecttype", "Image") != "Image" or kind is None or not 1 <= dimension <= 10:
        what = f"{fields.get('elementtype', '')[:40]!r} in {dimension} dimensions"
        raise unreadable(path, f"{NOT_THE_FORMAT} (element type {what})")
    named = fields.get("elementdatafile")
    if named is None:
        raise unreadable(path, TRUNCATED)
    if named.upper().startswith("LIST") or "%" in named or not _flag(fields, "binarydata", True):
        raise unreadable(path, "has its voxels as text or in several files")
    local = named.upper() == "LOCAL"
    skip = whole_numbers(path, fields.get("headersize", "0"), 1)[0]
    compressed = _flag(fields, "compresseddata")
    if skip < -1 or (skip == -1 and compressed):
        raise unreadable(path, f"{NOT_THE_FORMAT} (a header of {skip} bytes)")
    big = _flag(fields, "binarydatabyteordermsb") or _flag(fields, "elementbyteordermsb")
    matrix = _first(fields, "transformmatrix", "rotation", "orientation")
    axes = np.eye(dimension) if matrix is None else np.array(numbers(path, matrix, dimension**2))
    spacing = _first(fields, "elementspacing", "elementsize")
    origin = _first(fields, "offset", "position", "origin")
    return Raster(
        path,
        whole_numbers(path, fields.get("dimsize", ""), dimension),
        np.dtype((">" if big else "<") + kind),
        (1.0,) * dimension if spacing is None else numbers(path, spacing, dimension),
        (0.0,) * dimension if origin is None else numbers(path, origin, dimension),
        tuple(axes.reshape(dimension, dimension).T.ravel()),
        "zlib" if compressed else "raw",
        path if local else data_file(path, named),
        -1 if skip < 0 else skip or (end if local else 0),
        whole_numbers(path, fields.get("elementnumberofchannels", "1"), 1)[0],
    )


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields by lower-case name, and where the voxels begin: after the line ``ElementDataFile``, which is the last."""
    head, at = header_lines(path), 0
    fields: dict[str, str] = {}
    while at < len(head) and "elementdatafile" not in fields:
        stop = head.find(b"\n", at)
        stop = len(head) if stop < 0 else stop
        line = head[at:stop].decode("utf-8", "replace").strip()
        name, separator, value = line.partition("=")
        if line and not (separator and name.strip().isidentifier()):
            raise unreadable(path, NOT_THE_FORMAT)
        fields[name.strip().lower()] = value.strip()
        at = stop + 1
    return fields, at


def _flag(fields: dict[str, str], name: str, default: bool = False) -> bool:
    return fields[name][:1] in ("T", "t", "1") if fields.get(name) else default


def _first(fields: dict[str, str], *names: str) -> str | None:
    return next((fields[name] for name in names if name in fields), None)
