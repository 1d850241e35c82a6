"""The files of a reference bundle: checksums, version, and moving into place. Imports nothing heavy."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from memorization_index.errors import MemorizationIndexError

#: Version of the bundle's layout; a bundle with a higher one is refused.
SCHEMA = 1
MANIFEST, MANIFEST_SUM = "manifest.json", "manifest.json.sha256"


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Complete a manifest by the checksums of all files in the folder, and write it with its own checksum."""
    manifest["files"] = {p.name: sha256_of(p) for p in sorted(folder.iterdir())}
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / MANIFEST_SUM).write_text(f"{digest}  {MANIFEST}\n", encoding="ascii", newline="\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle, after checking its own checksum and version."""
    try:
        text = (folder / MANIFEST).read_bytes()
        recorded = (folder / MANIFEST_SUM).read_bytes()
    except OSError as error:
        raise MemorizationIndexError(
            f"{folder}: is not a reference ({MANIFEST} or its checksum is not there); expected the folder that "
            f"'memorization-index build' wrote, so check the path."
        ) from error
    if recorded != f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode():
        raise MemorizationIndexError(
            f"{folder / MANIFEST}: was changed after the build (its checksum differs from {MANIFEST_SUM}); restore the "
            f"reference from a backup or build it again."
        )
    manifest: dict[str, Any] = json.loads(text)
    if manifest.get("kind") != "memorization-index reference":
        raise MemorizationIndexError(f"{folder}: {MANIFEST} is not that of a reference; check the path.")
    if manifest["schema"] > SCHEMA:
        raise MemorizationIndexError(
            f"{folder}: was written by a newer version (schema {manifest['schema']}, expected at most {SCHEMA}); "
            f"update memorization-index or build the reference with this version."
        )
    return manifest


def check_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """One sentence for every file of a bundle that is missing, changed or not listed."""
    problems = []
    for name, expected in manifest["files"].items():
        path = folder / name
        if Path(name).name != name:
            problems.append(f"{folder}: the manifest lists '{name}', which lies outside the reference; do not use it.")
        elif not path.is_file():
            problems.append(f"{path}: is missing; restore the reference from a backup or build it again.")
        elif sha256_of(path) != expected:
            problems.append(
                f"{path}: was changed after the build (its SHA-256 differs from the manifest); restore the reference "
                f"from a backup or build it again."
            )
    for path in sorted(folder.iterdir()):
        if path.name not in manifest["files"] and path.name not in (MANIFEST, MANIFEST_SUM):
            problems.append(f"{path}: does not belong to the reference (the manifest does not list it); remove it.")
    return problems


def fingerprint_of(manifest: dict[str, Any]) -> str:
    """SHA-256 over what a manifest says of protocol and files, without dates."""
    core = {key: manifest[key] for key in ("schema", "protocol", "plane", "encoder", "files")}
    return hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()


def replace_folder(new: Path, place: Path) -> None:
    """Move a finished folder into place; an older one is kept until the new one stands."""
    old = place.with_name(f".{place.name}.old-{os.getpid()}")
    if place.exists():
        os.replace(place, old)
    try:
        os.replace(new, place)
    except OSError:
        if old.exists():
            os.replace(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with UTF-8 text and LF line ends."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
