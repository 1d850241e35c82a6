"""Find the training volumes of a pseudonymized reference again: by keyed fingerprints of their voxels."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from memorization_index.bundle import read_manifest
from memorization_index.cohort import Entry, find_volumes
from memorization_index.errors import MemorizationIndexError
from memorization_index.progress import Progress
from memorization_index.pseudonyms import Key, require_key, table_text, write_private
from memorization_index.volumes import read_volume

_COLUMNS = ("fingerprint", "state", "paths")


class Links:
    """Which files below the owner's folder hold which training volume.

    The folder is read at once; what was found is kept beside the key (``<key>.links.csv``), and files that have not
    changed since are not read again.
    """

    def __init__(self, key: Key, root: Path, progress: Progress) -> None:
        self._key = key
        self._files = self._scanned(root, progress)

    def sealed(self, fingerprint: str) -> str:
        """The keyed form of a volume's fingerprint, as the reference has it."""
        return self._key.digest("voxels", fingerprint)

    def files(self, sealed: str) -> tuple[Path, ...] | None:
        """The files of the volume with this keyed fingerprint; None where they are not below the folder."""
        return self._files.get(sealed)

    def _scanned(self, root: Path, progress: Progress) -> dict[str, tuple[Path, ...]]:
        entries = find_volumes([root]).entries
        cache = self._key.path.with_name(f"{self._key.path.name}.links.csv")
        known, now = _read(cache), dict[tuple[str, str], str]()
        progress.begin("finding the training volumes", len(entries), "volumes")
        for entry in entries:
            paths = json.dumps([str(path.absolute()) for path in entry.files])
            state = json.dumps([[path.stat().st_size, path.stat().st_mtime_ns] for path in entry.files])
            sealed = known.get((paths, state)) or self._fingerprint(entry)
            if sealed:
                now[paths, state] = sealed
            progress.advance()
        rows = [(sealed, state, paths) for (paths, state), sealed in sorted((known | now).items())]
        write_private(cache, table_text([_COLUMNS, *rows]))
        return {sealed: tuple(map(Path, json.loads(paths))) for (paths, _), sealed in now.items()}

    def _fingerprint(self, entry: Entry) -> str | None:
        try:
            return self.sealed(read_volume(entry.files if len(entry.files) > 1 else entry.path).fingerprint)
        except MemorizationIndexError:
            return None  # what cannot be read now could not be read when the reference was built


def _read(path: Path) -> dict[tuple[str, str], str]:
    """Keyed fingerprints that are known, by files and their sizes and times."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        return {(row["paths"], row["state"]): row["fingerprint"] for row in csv.DictReader(stream)}


def links_of(manifest: dict[str, Any], root: Path | None, key: Path | None, progress: Progress) -> Links | None:
    """The links of a pseudonymized reference; None for another, or where folder or key is not given.

    Raises :class:`MemorizationIndexError` where the key is another.
    """
    if "pseudonyms" not in manifest or root is None or key is None:
        return None
    loaded = Key.load(key)
    require_key(manifest, loaded)
    return Links(loaded, root, progress)


def linked_files(
    reference: str | Path, root: str | Path, key: str | Path, progress: Progress | None = None
) -> dict[str, tuple[Path, ...]]:
    """Where the volumes of a pseudonymized reference lie below the owner's folder: ``{volume name: files}``.

    Raises :class:`MemorizationIndexError` where the reference is not pseudonymized, or with another key.
    """
    folder = Path(reference)
    links = links_of(read_manifest(folder), Path(root), Path(key), progress or Progress())
    if links is None:
        raise MemorizationIndexError(
            f"{folder}: is not pseudonymized; expected a reference that was built with --pseudonymize."
        )
    with (folder / "volumes.csv").open(encoding="utf-8", newline="") as stream:
        found = {row["volume"]: links.files(row["fingerprint"]) for row in csv.DictReader(stream)}
    return {name: files for name, files in found.items() if files is not None}
