"""The files of a reference bundle: checksums, version, and moving into place. Imports nothing heavy."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from memorization_index.durable import exclusive, finish, sync, sync_names
from memorization_index.errors import MemorizationIndexError

#: Version of the bundle's layout; a bundle with a higher one is refused.
SCHEMA = 1
MANIFEST, MANIFEST_SUM = "manifest.json", "manifest.json.sha256"
#: What a manifest must have, with its type, to be read at all.
_REQUIRED: dict[str, type] = {
    "schema": int, "protocol": str, "plane": str, "encoder": dict, "counts": dict, "calibration": dict, "files": dict,
}  # fmt: skip
#: A signature, which is written after everything else (see ``signing``).
SIGNATURE = "signature.json"
#: Files that operating systems leave in folders that were looked at; they are never read.
LEFT_BY_SYSTEMS = (".DS_Store", "Thumbs.db", "desktop.ini")


def is_reference(folder: Path) -> bool:
    """Whether a folder holds a bundle, intact or not."""
    return (folder / MANIFEST_SUM).is_file() and (folder / MANIFEST).is_file()


def check_place(folder: Path) -> None:
    """Refuse to replace anything but an older bundle or an empty folder."""
    _check_no_file(folder)
    if folder.is_dir() and any(folder.iterdir()) and not is_reference(folder):
        raise MemorizationIndexError(
            f"{folder}: holds files but is not a reference; expected a new or empty folder or an older reference, so "
            f"choose another --out."
        )


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
        if aside := sorted(folder.parent.glob(f".{_literal(folder.name)}.old-*")):
            raise MemorizationIndexError(
                f"{folder}: was being replaced when its build was killed, and lies in {aside[-1].name} beside it; run "
                f"the same command again, which brings it back, or rename that folder."
            ) from error
        raise MemorizationIndexError(
            f"{folder}: is not a reference ({MANIFEST} or its checksum is not there); expected the folder that "
            f"'memorization-index build' wrote, so check the path."
        ) from error
    if recorded != f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode():
        raise MemorizationIndexError(
            f"{folder / MANIFEST}: was changed after the build (its checksum differs from {MANIFEST_SUM}); restore the "
            f"reference from a backup or build it again."
        )
    manifest = _parsed(text)
    if manifest is None or manifest.get("kind") != "memorization-index reference":
        raise MemorizationIndexError(
            f"{folder / MANIFEST}: is not the manifest of a reference; expected the folder that 'memorization-index "
            f"build' wrote, so check the path."
        )
    if isinstance(manifest.get("schema"), int) and manifest["schema"] > SCHEMA:
        raise MemorizationIndexError(
            f"{folder}: was written by a newer version (schema {manifest['schema']}, expected at most {SCHEMA}); "
            f"update memorization-index or build the reference with this version."
        )
    for key, kind in _REQUIRED.items():
        if not isinstance(manifest.get(key), kind):
            raise MemorizationIndexError(
                f"{folder / MANIFEST}: has no valid '{key}'; expected what 'memorization-index build' wrote, so build "
                f"the reference again."
            )
    return manifest


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


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
        if path.name not in (*manifest["files"], MANIFEST, MANIFEST_SUM, SIGNATURE, *LEFT_BY_SYSTEMS):
            problems.append(f"{path}: does not belong to the reference (the manifest does not list it); remove it.")
    return problems


def fingerprint_of(manifest: dict[str, Any]) -> str:
    """SHA-256 over all that a manifest says, the checksums of all files included, but for when it was built."""
    core = {key: value for key, value in manifest.items() if key != "created"}
    return hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()


def _check_no_file(folder: Path) -> None:
    """Refuse a place that is a file or lies below one."""
    nearest = next((place for place in (folder, *folder.absolute().parents) if place.exists()), folder)
    if nearest.is_file():
        raise MemorizationIndexError(f"{nearest}: is a file; expected a folder to write to, so choose another --out.")


def check_result_place(folder: Path, queries: Iterable[str | Path] = ()) -> None:
    """Refuse, before the work, a folder for results that cannot be written, or holds the queries or other files."""
    if any(Path(query).resolve() == folder.resolve() for query in queries):
        raise MemorizationIndexError(
            f"{folder}: is the folder that is examined; expected another one for results, so choose another --out."
        )
    make_writable(folder)
    finish(folder)
    check_for_result(folder)


def make_writable(folder: Path) -> None:
    """Make a folder; refuse one that cannot be written to."""
    _check_no_file(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise MemorizationIndexError(
            f"{folder}: cannot be written to; expected a writable folder, so choose another --out or change its "
            f"permissions."
        )


def check_for_result(folder: Path) -> None:
    """Refuse a folder that holds anything but an older result."""
    if is_reference(folder):
        raise MemorizationIndexError(
            f"{folder}: is a reference; expected a folder for results, so choose another --out."
        )
    if not is_result(folder):
        check_own(folder, "a result", ())


def check_own(folder: Path, what: str, marks: Sequence[str]) -> None:
    """Refuse a folder with files in it, unless one has a name that ``marks`` it as an older one of ours (patterns)."""
    _check_no_file(folder)
    held = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    foreign = sorted(name for name in held if not name.startswith(".") and name not in LEFT_BY_SYSTEMS)
    if foreign and not any(fnmatch(name, mark) for name in held for mark in marks):
        raise MemorizationIndexError(
            f"{folder}: holds files ({foreign[0]}) but is not {what}; expected a new or empty folder or an older one, "
            f"so choose another --out."
        )


def is_result(folder: Path) -> bool:
    """Whether a folder holds the result of a run."""
    try:
        run = _parsed((folder / "run.json").read_bytes())
    except OSError:
        return False
    return run is not None and run.get("kind") == "memorization-index result"


def bring_back(place: Path) -> None:
    """Tidy up as :func:`recover` does, where a killed command left anything and no other command is at work."""
    place = place.resolve()
    left = [f".{_literal(place.name)}.{kind}-*" for kind in ("old", "new")]
    if any(True for pattern in left for _ in place.parent.glob(pattern)):
        with exclusive(place, wait=True):
            recover(place)


def recover(place: Path) -> None:
    """Tidy up after builds that were killed while they wrote: an older bundle moved aside comes back."""
    for old in sorted(place.parent.glob(f".{_literal(place.name)}.old-*")):
        if place.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, place)
    for new in place.parent.glob(f".{_literal(place.name)}.new-*"):
        shutil.rmtree(new, ignore_errors=True)


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def beside(place: Path) -> Path:
    """A new, empty folder beside a place, to write what will be moved there."""
    folder = place.with_name(f".{place.name}.new-{os.getpid()}")
    folder.mkdir(parents=True)
    return folder


def replace_folder(new: Path, place: Path) -> None:
    """Move a finished folder into place; an older one is kept until the new one stands on the disk."""
    sync(new)
    old = place.with_name(f".{place.name}.old-{os.getpid()}")
    if place.exists():
        os.replace(place, old)
    try:
        os.replace(new, place)
    except OSError:
        if old.exists():
            os.replace(old, place)
        raise
    sync_names(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with UTF-8 text and LF line ends."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_tensors(path: Path, tensors: dict[str, Any], notes: dict[str, str] | None = None) -> None:
    """Write a safetensors file as other files are written.

    (``save_file`` makes files that only their owner can read, and has an exception of its own for a full disk.)
    """
    from safetensors.numpy import save

    path.write_bytes(save(tensors, notes))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
