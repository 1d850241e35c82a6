"""Search everything that leaves for texts that must not: names and contents, packed or hashed."""

import base64
import gzip
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

#: In data URIs, or as what a zip, gzip or PNG file begins with (a Slicer scene keeps files in attributes).
_BASE64 = re.compile(rb"(?:base64,|(?=UEsDB|H4sI|iVBOR))([A-Za-z0-9+/=]{8,})")
_STREAM = re.compile(rb"stream\r?\n(.*?)\r?\nendstream", re.S)
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")


def forms(text: str) -> dict[bytes, str]:
    """How a text can stand in a file: encoded in several ways, or as an unsalted hash (hex, raw, base64)."""
    found = {text.encode(code): f"{text} ({code})" for code in ("utf-8", "utf-16-le", "utf-16-be")}
    found[base64.b64encode(text.encode())] = f"{text} (base64)"
    for name in ("md5", "sha1", "sha256"):
        digest = hashlib.new(name, text.encode()).digest()
        for form in (digest, digest.hex().encode(), digest.hex().upper().encode(), base64.b64encode(digest)):
            found[form] = f"{name} of {text}"
    return found


def leaks(places: Iterable[Path], texts: Iterable[str]) -> list[str]:
    """One sentence for every text found in a file, or folder of files, or in their names."""
    needles = {form: what for text in texts for form, what in forms(text).items()}
    found = []
    for place in places:
        for path in sorted([place, *place.rglob("*")]):
            name = path.relative_to(place.parent).as_posix()
            found += _hits(name.encode(), needles, f"the name {name}")
            if path.is_file():
                for where, content in unpacked(path.read_bytes(), name):
                    found += _hits(content, needles, where)
    return sorted(set(found))


def _hits(content: bytes, needles: dict[bytes, str], where: str) -> list[str]:
    lowered = content.lower()
    return [f"{where}: {what}" for form, what in needles.items() if form in content or form.lower() in lowered]


def unpacked(content: bytes, where: str, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """The content and, in turn, what is packed in it: gzip, zip (also npz, mrb), PNG, PDF, NRRD, data URIs."""
    yield where, content
    if depth > 5:
        return
    for name, part in _parts(content):
        yield from unpacked(part, f"{where} › {name}", depth + 1)


def _parts(content: bytes) -> Iterator[tuple[str, bytes]]:
    if content.startswith(b"\x1f\x8b"):
        yield "gzip", _inflated(content, 31)
    elif content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                yield "a name in it", member.filename.encode()
                yield member.filename, archive.read(member)
    elif content.startswith(b"\x89PNG"):
        yield from _png_parts(content)
    elif content.startswith(b"NRRD"):
        yield "data", content.partition(b"\n\n")[2]
    elif content.startswith(b"%PDF"):
        for i, part in enumerate(_STREAM.findall(content)):
            yield f"stream {i}", _inflated(part, 15)
    for i, part in enumerate(_BASE64.findall(content)):
        yield f"base64 {i}", base64.b64decode(part[: len(part) - len(part) % 4])


def _png_parts(content: bytes) -> Iterator[tuple[str, bytes]]:
    position, pixels = 8, b""
    while position + 8 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        kind, data = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        position += 12 + length
        if kind == b"IDAT":
            pixels += data
        elif kind in (b"zTXt", b"iTXt", b"iCCP"):
            for start in (match.start() for match in _ZLIB.finditer(data)):
                yield kind.decode(), _inflated(data[start:], 15)
    yield "IDAT", _inflated(pixels, 15)


def _inflated(content: bytes, wbits: int) -> bytes:
    """What was compressed, as far as it can be read."""
    try:
        if wbits == 31:
            return gzip.decompress(content)
        return zlib.decompressobj(wbits).decompress(content)
    except (OSError, zlib.error, EOFError):
        return b""
