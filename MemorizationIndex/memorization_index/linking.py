"""Find training volumes again by fingerprints of their voxels: those of a pseudonymized reference by keyed ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorization_index.bundle import read_manifest
from memorization_index.cohort import Entry, find_volumes
from memorization_index.errors import MemorizationIndexError
from memorization_index.progress import Progress
from memorization_index.pseudonyms import Key, require_key, table_text, write_private
from memorization_index.verification import TrainingVolume, below
from memorization_index.volumes import read_volume

if TYPE_CHECKING:
    from memorization_index.reference import Reference

_COLUMNS = ("fingerprint", "state", "paths")


class Links:
    """Which files below the owner's folder hold which training volume.

    The folder is read at once; what was found is kept beside the key (``<key>.links.csv``), if there is one, and files
    that have not changed since are not read again.
    """

    def __init__(self, key: Key | None, root: Path, progress: Progress) -> None:
        self._key = key
        self._files = self._scanned(root, progress)

    def sealed(self, fingerprint: str) -> str:
        """A volume's fingerprint as the reference has it: in its keyed form where there is a key."""
        return fingerprint if self._key is None else self._key.digest("voxels", fingerprint)

    def files(self, sealed: str) -> tuple[Path, ...] | None:
        """The files of the volume with this fingerprint; None where they are not below the folder."""
        return self._files.get(sealed)

    def _scanned(self, root: Path, progress: Progress) -> dict[str, tuple[Path, ...]]:
        entries = _images_below(root)
        cache = self._key and self._key.path.with_name(f"{self._key.path.name}.links.csv")
        known, now = _read(cache) if cache else {}, dict[tuple[str, str], str]()
        progress.begin("finding the training volumes", len(entries), "volumes")
        for entry in entries:
            paths = json.dumps([str(path.absolute()) for path in entry.files])
            state = json.dumps([[path.stat().st_size, path.stat().st_mtime_ns] for path in entry.files])
            sealed = known.get((paths, state)) or self._fingerprint(entry)
            if sealed:
                now[paths, state] = sealed
            progress.advance()
        if cache:
            rows = [(sealed, state, paths) for (paths, state), sealed in sorted((known | now).items())]
            write_private(cache, table_text([_COLUMNS, *rows]))
        return {sealed: tuple(map(Path, json.loads(paths))) for (paths, _), sealed in now.items()}

    def _fingerprint(self, entry: Entry) -> str | None:
        try:
            return self.sealed(read_volume(entry.files if len(entry.files) > 1 else entry.path).fingerprint)
        except MemorizationIndexError:
            return None  # what cannot be read now could not be read when the reference was built


def _images_below(root: Path) -> list[Entry]:
    """The images below a folder: none where it has none."""
    try:
        return find_volumes([root]).entries
    except MemorizationIndexError:
        if root.is_dir():
            return []
        raise


def _read(path: Path) -> dict[tuple[str, str], str]:
    """Keyed fingerprints that are known, by files and their sizes and times."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        return {(row["paths"], row["state"]): row["fingerprint"] for row in csv.DictReader(stream)}


def links_of(reference: Reference, root: Path | None, key: Path | None, progress: Progress) -> Links | None:
    """The links below a folder; None where none are needed, or folder or key is not given.

    A reference that is not pseudonymized needs them where the folder has none of its files by name.
    Raises :class:`MemorizationIndexError` where the key is another.
    """
    if root is None:
        return None
    if "pseudonyms" in reference.manifest:
        return None if key is None else Links(_key_of(reference.manifest, key), root, progress)
    if not root.is_dir() or any(_is_below(root, volume) for volume in reference.volumes):
        return None
    return Links(None, root, progress)


def _is_below(root: Path, volume: TrainingVolume) -> bool:
    return bool(volume.files) and below(root, Path(volume.files[0])).is_file()


def _key_of(manifest: dict[str, Any], path: Path) -> Key:
    key = Key.load(path)
    require_key(manifest, key)
    return key


def linked_files(
    reference: str | Path, root: str | Path, key: str | Path | None, progress: Progress | None = None
) -> dict[str, tuple[Path, ...]]:
    """Where the volumes of a reference lie below a folder, by their voxels: ``{volume name: files}``.

    ``key``: of a pseudonymized reference, and of no other; raises :class:`MemorizationIndexError` otherwise.
    """
    folder = Path(reference)
    manifest = read_manifest(folder)
    if ("pseudonyms" in manifest) != (key is not None):
        expected = "the key with --key" if key is None else "a reference that was built with --pseudonymize"
        raise MemorizationIndexError(f"{folder}: is {'' if key is None else 'not '}pseudonymized; expected {expected}.")
    links = Links(None if key is None else _key_of(manifest, Path(key)), Path(root), progress or Progress())
    with (folder / "volumes.csv").open(encoding="utf-8", newline="") as stream:
        found = {row["volume"]: links.files(row["fingerprint"]) for row in csv.DictReader(stream)}
    return {name: files for name, files in found.items() if files is not None}
