"""Names that only the holder of a key can trace: HMAC-SHA256 of subjects, volumes and fingerprints.

The key is a file that stays home. Beside it, and as private, lie ``<key>.names.csv`` (which name has which pseudonym)
and ``<key>.links.csv`` (which file holds which training volume); neither is ever written into a reference or a result.
"""

from __future__ import annotations

import csv
import hmac
import io
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorization_index.cohort import Cohort
from memorization_index.errors import MemorizationIndexError

if TYPE_CHECKING:
    from memorization_index.progress import Progress
    from memorization_index.reference import Reference

_BYTES = 32
#: Hexadecimal digits of a pseudonym: 64 bits, so that a million names collide with a probability of 3e-8.
_DIGITS = 16


@dataclass(frozen=True)
class Key:
    """A secret of 32 bytes, and the file that it is kept in."""

    path: Path
    secret: bytes

    @classmethod
    def load(cls, path: Path) -> Key:
        """Read a key.

        Raises :class:`MemorizationIndexError` where there is none, or others on this machine may read it.
        """
        try:
            mode, text = path.stat().st_mode, path.read_bytes()
        except OSError as error:
            raise MemorizationIndexError(
                f"--key {path}: cannot be read ({error.strerror}); expected the file that 'build --pseudonymize' made."
            ) from error
        if os.name == "posix" and mode & 0o077:
            raise MemorizationIndexError(
                f"--key {path}: can be read by others; expected a file for its owner alone, so run: chmod 600 {path}"
            )
        try:
            secret = bytes.fromhex(text.decode("ascii"))
        except ValueError:
            secret = b""
        if len(secret) != _BYTES:
            raise MemorizationIndexError(
                f"--key {path}: holds no key; expected the file that 'build --pseudonymize' made ({2 * _BYTES} "
                f"hexadecimal digits)."
            )
        return cls(path, secret)

    @classmethod
    def load_or_make(cls, path: Path) -> Key:
        """Read a key, or make one where there is no file yet, but a folder for it."""
        if not path.exists():
            if not path.parent.is_dir():
                raise MemorizationIndexError(
                    f"--key {path}: does not exist, nor does its folder; expected a key, or an existing folder for a "
                    f"new one, so check the path."
                )
            write_private(path, f"{secrets.token_hex(_BYTES)}\n")
        return cls.load(path)

    def digest(self, kind: str, text: str) -> str:
        """HMAC-SHA256, hexadecimal, of a text of some kind (the same text of another kind gives another)."""
        return hmac.new(self.secret, f"{kind}\0{text}".encode(), "sha256").hexdigest()

    def pseudonym(self, kind: str, name: str) -> str:
        """The pseudonym of a name, such as ``subject-0123456789abcdef``."""
        return f"{kind}-{self.digest(kind, name)[:_DIGITS]}"

    @property
    def check(self) -> str:
        """Tells this key from others without giving it away."""
        return self.digest("check", "")[:_DIGITS]

    def remember(self, names: Mapping[str, str]) -> None:
        """Add pseudonyms and the names that they stand for to ``<key>.names.csv``."""
        path = self.path.with_name(f"{self.path.name}.names.csv")
        known = dict(_rows(path)) | dict(names)
        write_private(path, table_text([("pseudonym", "name"), *sorted(known.items())]))


def _rows(path: Path) -> list[tuple[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [(row["pseudonym"], row["name"]) for row in csv.DictReader(stream)]


def table_text(rows: Iterable[Iterable[str]]) -> str:
    """Rows as CSV."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, beside its place, and move it there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    with open(
        os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline=""
    ) as stream:
        stream.write(text)
    os.replace(beside, path)


def home_key(path: Path, progress: Progress) -> Key:
    """The key in a file, made where there is none, which is told."""
    is_new = not path.exists()
    key = Key.load_or_make(path)
    if is_new:
        progress.warning(f"New key written to {path.absolute()}.")
    return key


def check_home(key: Path, out: Path) -> None:
    """Refuse a key that would lie in the folder that is to leave."""
    if key.resolve().is_relative_to(out.resolve()):
        raise MemorizationIndexError(
            f"--key {key}: lies in {out}, which may be given away; expected a file elsewhere, so choose another place."
        )


def pseudonymized(cohort: Cohort, key: Key) -> Cohort:
    """The cohort under pseudonyms, which folds, order and everything later then rest on; files stay readable."""
    names: dict[str, str] = {}
    entries = []
    for entry in cohort.entries:
        subject, volume = key.pseudonym("subject", entry.subject), key.pseudonym("volume", entry.name)
        names |= {subject: entry.subject, volume: entry.name}
        entries.append(replace(entry, name=volume, subject=subject))
    key.remember(names)
    return Cohort(entries, cohort.skipped)


def seal(reference: Reference, key: Key) -> None:
    """Take out of a built reference what still names files or could be recognized without the key.

    Fingerprints of voxels are keyed: without the key nobody can test whether a scan that they have is in the set.
    """
    reference.volumes = [
        replace(volume, files=(), fingerprint=key.digest("voxels", volume.fingerprint)) for volume in reference.volumes
    ]
    encoder = reference.manifest["encoder"]
    name = "hf:" if encoder["name"].startswith("hf:") else encoder["name"]
    reference.manifest |= {
        "encoder": {**encoder, "name": name},
        "skipped": [],  # their number stays in the counts
        "pseudonyms": {"method": "HMAC-SHA256", "check": key.check},
    }


def require_key(manifest: dict[str, Any], key: Key) -> None:
    """Refuse a key that is not the one a reference was pseudonymized with."""
    if manifest["pseudonyms"]["check"] != key.check:
        raise MemorizationIndexError(
            f"--key {key.path}: is not the key that the reference was pseudonymized with; expected that one."
        )
