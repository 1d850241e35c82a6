"""Headers of NRRD files (.nrrd, .nhdr): https://teem.sourceforge.net/nrrd/format.html."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import numpy as np

from memorization_index.limits import NOT_THE_FORMAT, TRUNCATED, unreadable
from memorization_index.rasters import Raster, data_file, header_lines, numbers, whole_numbers

_TYPES: dict[str, str] = {
    name: kind
    for kind, names in {
        "i1": "signed char,int8,int8_t",
        "u1": "uchar,unsigned char,uint8,uint8_t",
        "i2": "short,short int,signed short,signed short int,int16,int16_t",
        "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
        "i4": "int,signed int,int32,int32_t",
        "u4": "uint,unsigned int,uint32,uint32_t",
        "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
        "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split(",")
}
_ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
#: Kinds of axes that run through space; all others hold the values of one voxel.
_DOMAINS = ("domain", "space", "???", "none")
#: World axes that point the other way than ITK's (left, posterior, superior).
_TURNED = {
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1), "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
_VECTOR = re.compile(r"\(([^()]*)\)|none")


def nrrd_header(path: Path) -> Raster:
    """What the header of a NRRD file says.

    Raises :class:`MemorizationIndexError` where it is none, or has a feature that no scan needs (text encodings, lists
    of data files).
    """
    text, end = _text(path)
    fields = _fields(path, text)
    dimension = whole_numbers(path, fields.get("dimension", ""), 1)[0]
    size = whole_numbers(path, fields.get("sizes", ""), dimension)
    kind = _TYPES.get(fields.get("type", "").lower())
    if kind is None or not 1 <= dimension <= 16:
        raise unreadable(path, f"{NOT_THE_FORMAT} (type {fields.get('type', '')[:40]!r} in {dimension} dimensions)")
    order = ">" if fields.get("endian", sys.byteorder).lower() == "big" else "<"
    encoding = _ENCODINGS.get(fields.get("encoding", "").lower())
    if encoding is None or fields.get("line skip", "0") != "0":
        raise unreadable(path, f"has voxels in the encoding {fields.get('encoding', '')[:40]!r} or lines to skip")
    named = fields.get("data file")
    if named is None and end is None:
        raise unreadable(path, TRUNCATED)
    skip = whole_numbers(path, fields.get("byte skip", "0"), 1)[0]
    if skip < -1 or (skip == -1 and encoding != "raw"):
        raise unreadable(path, f"{NOT_THE_FORMAT} ({skip} bytes to skip)")
    spatial, directions = _axes(path, fields, dimension)
    spacing, origin, direction = _geometry(path, fields, spatial, directions)
    return Raster(
        path,
        tuple(size[axis] for axis in spatial),
        np.dtype(order + kind),
        spacing,
        origin,
        direction,
        encoding,
        path if named is None else data_file(path, named),
        -1 if skip < 0 else skip + (0 if named is not None else end or 0),
        math.prod(size[axis] for axis in range(dimension) if axis not in spatial),
    )


def _text(path: Path) -> tuple[str, int | None]:
    """The header, and where it ends (an empty line); None where it fills the file."""
    head = header_lines(path)
    if not re.match(rb"NRRD000[1-6]\r?\n", head):
        raise unreadable(path, NOT_THE_FORMAT)
    found = re.search(rb"\r?\n\r?\n", head)
    body = head if found is None else head[: found.start()]
    return body.decode("utf-8", "replace"), None if found is None else found.end()


def _fields(path: Path, text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        name, separator, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):  # a comment, or a note of the writer's own
            continue
        name = name.strip().lower()
        name = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip"}.get(name, name)
        if not separator or name in fields:
            raise unreadable(path, f"{NOT_THE_FORMAT} (the line {line[:60]!r})")
        fields[name] = value.strip()
    return fields


def _axes(path: Path, fields: dict[str, str], dimension: int) -> tuple[list[int], list[str] | None]:
    """Axes that run through space, and their direction vectors where there are any."""
    kinds = fields["kinds"].lower().split() if "kinds" in fields else ["domain"] * dimension
    directions: list[str] | None = None
    if "space directions" in fields:
        directions = [found[0] for found in _VECTOR.finditer(fields["space directions"])]
    if len(kinds) != dimension or (directions is not None and len(directions) != dimension):
        raise unreadable(path, f"{NOT_THE_FORMAT} (kinds or directions of {dimension} axes)")
    if directions is None:
        return [axis for axis in range(dimension) if kinds[axis] in _DOMAINS], None
    spatial = [axis for axis in range(dimension) if directions[axis] != "none"]
    return spatial, [directions[axis].strip("()") for axis in spatial]


def _geometry(
    path: Path, fields: dict[str, str], spatial: list[int], directions: list[str] | None
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Spacing, origin and direction, x first, in LPS."""
    count = len(spatial)
    if directions is None:
        spacing = np.ones(count)
        if "spacings" in fields:
            words = fields["spacings"].split()
            given = [words[axis] if axis < len(words) else "" for axis in spatial]
            spacing = np.array(numbers(path, " ".join("1" if w.lower() == "nan" else w for w in given), count))
        return tuple(np.abs(spacing)), (0.0,) * count, tuple(np.eye(count).ravel())
    turned = np.ones(count)
    turned[:3] = _TURNED.get(fields.get("space", "").lower().removesuffix("-time"), (1, 1, 1))[:count]
    vectors = np.array([numbers(path, vector.replace(",", " "), count) for vector in directions])
    origin = np.zeros(count)
    if "space origin" in fields:
        origin = np.array(numbers(path, fields["space origin"].strip("()").replace(",", " "), count))
    spacing = np.array([math.hypot(*vector) for vector in vectors])
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise unreadable(path, f"{NOT_THE_FORMAT} (the space directions {fields['space directions'][:80]!r})")
    direction = (vectors / spacing[:, None]).T * turned[:, None]
    return tuple(spacing), tuple(origin * turned), tuple(direction.ravel())
