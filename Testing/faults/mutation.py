"""Damage to files, made from a random generator alone, so that each case can be made again from its number."""

import gzip
import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

_INTEGERS = (
    0, 1, 2, 3, 4, 7, 8, 16, 127, 128, 255, 256, 348, 540, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31,
    2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1, -1, -2, -128, -32768, -(2**31), -(2**63),
)  # fmt: skip
_FLOATS = (0.0, -0.0, 1e-45, 1e-308, 1e38, 1e308, -1.0, float("nan"), float("inf"), float("-inf"))
_NUMBERS = (
    b"0", b"-1", b"1", b"2", b"65536", b"2147483647", b"4294967296", b"99999999999999999999", b"1e308", b"-1e400",
    b"nan", b"inf", b"0.0000000001", b"1" * 400, b"0x10", b"", b" ", b"1.5", b"abc",
)  # fmt: skip
#: What attackers write where a path or text is expected.
_TEXTS = (
    b"../../../../etc/passwd", b"/etc/passwd", b"/dev/zero", b"/proc/self/mem", b"..\\..\\x", b"file:///etc/passwd",
    b"%s%n%d", b"A" * 5000, b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b"\"", b"'", b",", b";", b"\t", b":=",
    b"<script>alert(1)</script>", b"=cmd|' /C calc'!A0", "頭部 🧠".encode(), b"{}", b"[]", b"null", b"[" * 3000,
    b'{"a":' * 1500, b"LIST", b"LOCAL", b"gzip", b"bzip2", b"raw", b"hex", b"text", b"block", b"True", b"False",
)  # fmt: skip
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Layer:
    """How the bytes under a compressed or checksummed shell are got at, and the shell put around them again."""

    unpack: Callable[[bytes], bytes]
    pack: Callable[[bytes], bytes]


def _png_with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks' checksums are right, as far as its chunks can be followed."""
    result, at = bytearray(data[:8]), 8
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunk = data[at + 4 : at + 8 + size]
        result += data[at : at + 8 + size] + struct.pack(">I", zlib.crc32(chunk))
        at += 12 + size
        if size > len(data):
            break
    return bytes(result + data[at:])


GZIP = Layer(gzip.decompress, lambda data: gzip.compress(data, 1, mtime=0))
PNG = Layer(bytes, _png_with_checksums)


def zipped(data: bytes, random: Random, tokens: tuple[bytes, ...]) -> bytes:
    """A zip archive with one of its members damaged, and right checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    chosen = random.randrange(len(members))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for i, (name, content) in enumerate(members):
            archive.writestr(zipfile.ZipInfo(name), damaged(content, random, tokens) if i == chosen else content)
    return target.getvalue()


def damaged(data: bytes, random: Random, tokens: tuple[bytes, ...] = (), head: int = 600) -> bytes:
    """One to five kinds of damage; half of them in the first ``head`` bytes, where headers are."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5))):
        random.choice(_DAMAGES)(changed, random, tokens, min(head, len(changed)) if random.random() < 0.5 else None)
    return bytes(changed)


def _place(data: bytearray, random: Random, end: int | None) -> int:
    return random.randrange(max(1, len(data) if end is None else end))


def _flip_bit(data: bytearray, random: Random, tokens: tuple[bytes, ...], end: int | None) -> None:
    if data:
        data[min(_place(data, random, end), len(data) - 1)] ^= 1 << random.randrange(8)


def _set_integer(data: bytearray, random: Random, tokens: tuple[bytes, ...], end: int | None) -> None:
    size, order = random.choice((1, 2, 2, 4, 4, 8)), random.choice(("little", "big"))
    value = random.choice(_INTEGERS) if random.random() < 0.8 else random.getrandbits(64)
    at = _place(data, random, end)
    data[at : at + size] = (value % 2 ** (8 * size)).to_bytes(size, order)


def _set_float(data: bytearray, random: Random, tokens: tuple[bytes, ...], end: int | None) -> None:
    at, kind = _place(data, random, end) // 4 * 4, random.choice(("<f", ">f", "<d"))
    value = random.choice(_FLOATS)
    if kind != "<d" and abs(value) > 1e38 and math.isfinite(value):
        value = 3e38
    data[at : at + struct.calcsize(kind)] = struct.pack(kind, value)


def _cut(data: bytearray, random: Random, tokens: tuple[bytes, ...], end: int | None) -> None:
    del data[_place(data, random, end) :]


def _remove(data: bytearray, random: Random, tokens: tuple[bytes, ...], end: int | None) -> None:
    at = _place(data, random, end)
    del data[at : at + random.choice((1, 2, 4, 8, 64, 300))]


def _repeat(data: bytearray, random: Random, tokens: tuple[bytes, ...], end: int | None) -> None:
    at, size = _place(data, random, end), random.choice((1, 4, 16, 100))
    data[at:at] = data[at : at + size] * random.choice((1, 2, 20))


def _insert(data: bytearray, random: Random, tokens: tuple[bytes, ...], end: int | None) -> None:
    at = _place(data, random, end)
    text = random.choice(tokens) if tokens and random.random() < 0.6 else random.choice(_TEXTS)
    over = random.choice((0, 0, len(text)))
    data[at : at + over] = text


def _set_number(data: bytearray, random: Random, tokens: tuple[bytes, ...], end: int | None) -> None:
    """Replace a number that is written as text."""
    found = list(_NUMBER.finditer(bytes(data[: 4000 if end is None else end])))
    if found:
        hit = random.choice(found)
        data[hit.start() : hit.end()] = random.choice(_NUMBERS)


def _change_line(data: bytearray, random: Random, tokens: tuple[bytes, ...], end: int | None) -> None:
    """Replace, double, remove or exchange a line, or what is said after its separator."""
    lines = bytes(data).split(b"\n")
    at = random.randrange(min(len(lines), 40))
    kind = random.randrange(5)
    if kind == 0 and tokens:
        lines[at] = random.choice(tokens)
    elif kind == 1:
        lines.insert(at, lines[random.randrange(min(len(lines), 40))])
    elif kind == 2:
        del lines[at]
    elif kind == 3:
        other = random.randrange(min(len(lines), 40))
        if other < len(lines):
            lines[at], lines[other] = lines[other], lines[at]
    else:
        head, separator, _ = lines[at].partition(random.choice((b":", b"=", b",")))
        lines[at] = head + separator + random.choice(_TEXTS + _NUMBERS)
    data[:] = b"\n".join(lines)


_DAMAGES = (
    _flip_bit, _flip_bit, _set_integer, _set_integer, _set_integer, _set_float, _cut, _remove, _repeat, _insert,
    _set_number, _set_number, _change_line,
)  # fmt: skip
