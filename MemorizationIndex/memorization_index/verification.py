"""Verify retrieved candidates against the training images themselves, reading each training volume once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memorization_index.agreement import PERCENT
from memorization_index.errors import MemorizationIndexError
from memorization_index.matching import Match, agreement_map, in_threads, match
from memorization_index.progress import Progress
from memorization_index.slices import square_images, to_slices
from memorization_index.spectral import INPUT_SIZE, View
from memorization_index.tables import read_table
from memorization_index.volumes import read_volume

if TYPE_CHECKING:
    from memorization_index.linking import Links
    from memorization_index.reference import Reference

#: Slices verified at a time; bounds the training images held in memory (64 KiB each).
_CHUNK = 1024
#: So many training volumes that have changed are named.
_TOLD = 5
#: From this NCC on a match is certain, whatever other candidates would show (the default copy threshold).
CERTAIN_NCC = 0.97


class _NotThere(MemorizationIndexError):
    """No file of a training volume is where it is looked for."""


@dataclass(frozen=True)
class TrainingVolume:
    """A volume that the reference was built on."""

    name: str
    subject: str
    files: tuple[str, ...]
    fingerprint: str
    total: int


def check_voxels(volume: TrainingVolume, fingerprint: str, path: Path) -> None:
    """Raise :class:`MemorizationIndexError` where what was read there is not the volume."""
    if fingerprint != volume.fingerprint:
        raise MemorizationIndexError(
            f"{path}: is not the training volume {volume.name} that the reference was built on; expected the same "
            f"voxels, so restore the file or build the reference again."
        )


class TrainingImages:
    """The training images on disk, found where they were at build time or below a folder that the user names.

    ``root`` may also be a table of ``volume`` and ``path``; volumes that it does not name are where they were.
    """

    def __init__(
        self,
        volumes: Sequence[TrainingVolume],
        plane: str,
        root: Path | None,
        progress: Progress,
        links: Links | None = None,
    ) -> None:
        if root is not None and not root.exists():
            raise MemorizationIndexError(
                f"--training-root {root}: is no folder; expected the one that holds the training volumes now."
            )
        self._named = _files_named(root) if root is not None and root.is_file() else {}
        self._volumes, self._plane, self._progress = volumes, plane, progress
        self._root = None if self._named else root
        self._links = links  # where files are found by their voxels
        self._missing: set[int] = set()
        self._told_of_missing, self._told_of_changed = False, 0

    @property
    def missing(self) -> frozenset[int]:
        """Training volumes that were asked for and could not be had."""
        return frozenset(self._missing)

    def miss(self, volumes: Iterable[int]) -> None:
        """Take over what could not be had elsewhere."""
        self._missing |= set(volumes)

    def locate(self, volume: int) -> tuple[Path, ...] | None:
        """The files of a volume, or None where they are not there."""
        if self._links is not None:
            return self._links.files(self._volumes[volume].fingerprint)
        name = self._volumes[volume].name
        stored = [self._named[name]] if name in self._named else [Path(f) for f in self._volumes[volume].files]
        if self._root is not None:
            stored = [below(self._root, f) for f in stored]
        return tuple(stored) if stored and all(f.is_file() for f in stored) else None

    def is_any_there(self) -> bool:
        """Whether the files of any volume are where they are looked for; reads none."""
        return any(self.locate(volume) is not None for volume in range(len(self._volumes)))

    def load(self, volume: int, numbers: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Images ``(128, 128)`` of the slices with these numbers; empty where the volume is gone or has changed."""
        return self.load_all({volume: numbers})[volume]

    def load_all(self, wanted: Mapping[int, Sequence[int]]) -> dict[int, dict[int, NDArray[np.float32]]]:
        """The same of several volumes, read on all cores."""

        def attempt(volume: int) -> dict[int, NDArray[np.float32]] | MemorizationIndexError:
            try:
                return {} if volume in self._missing else self._load(volume, wanted[volume])
            except MemorizationIndexError as error:
                return error

        attempts = dict(zip(wanted, in_threads(attempt, list(wanted)), strict=True))
        for volume, found in attempts.items():
            if isinstance(found, MemorizationIndexError):
                self._missing.add(volume)
                self._tell(found)
        return {v: {} if isinstance(found, MemorizationIndexError) else found for v, found in attempts.items()}

    def _tell(self, error: MemorizationIndexError) -> None:
        """Tell of the first volume that is not there, as all of them are alike, and of a few that have changed."""
        if isinstance(error, _NotThere):
            if not self._told_of_missing:
                self._progress.warning(str(error))
            self._told_of_missing = True
        elif self._told_of_changed < _TOLD:
            self._progress.warning(str(error))
            self._told_of_changed += 1

    def _load(self, volume: int, numbers: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        entry = self._volumes[volume]
        files = self.locate(volume)
        if files is None:
            where = self._root or (entry.files[0] if entry.files else "Pseudonymized reference")
            raise _NotThere(
                f"{where}: the training volume {entry.name} is not there, so its matches cannot be verified; name the "
                f"folder that now holds the training volumes with --training-root"
                f"{'' if entry.files else ' and the key with --key'}."
            )
        read = read_volume(files if len(files) > 1 else files[0])
        found = read.fingerprint if self._links is None else self._links.sealed(read.fingerprint)
        check_voxels(entry, found, files[0])
        stack = to_slices(read, self._plane, numbers)  # foreground when it was built, and the voxels are the same
        return dict(zip(stack.numbers.tolist(), square_images(stack, INPUT_SIZE), strict=True))


def _files_named(table: Path) -> dict[str, Path]:
    rows, column = read_table(table)
    return {row.get("volume", ""): table.parent / row[column] for row in rows}


def below(root: Path, original: Path) -> Path:
    """Where a file lies below a new root: the longest tail of its path that exists there.

    The path may be of another system: a reference that was built on Windows has drives and backslashes in it.
    """
    windows = PureWindowsPath(str(original))
    pure = windows if windows.drive else original
    parts = pure.parts[1:] if pure.anchor else pure.parts
    # A reference of somebody else must not lead out of the folder.
    parts = tuple(part for part in parts if part != "..")
    for start in range(len(parts)):
        candidate = root.joinpath(*parts[start:])
        if candidate.is_file():
            return candidate
    return root / (parts[-1] if parts else "")


@dataclass(frozen=True)
class Pair:
    """A verified pair: which training slice (row of the reference), how it matches, and where.

    ``agreement`` is the map of local agreement ``(64, 64)`` in percent, for pairs whose map was asked for.
    """

    row: int
    match: Match
    agreement: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Candidates:
    """Candidate rows of the reference ``(n, k)`` of each query (−1: none); the views ``(n, k)`` that found them."""

    rows: NDArray[np.int64]
    views: NDArray[np.int64]
    all_views: Sequence[View]


def verify(
    images: NDArray[np.floating],
    candidates: Candidates,
    reference: Reference,
    training: TrainingImages,
    progress: Progress,
    wants_map: Callable[[int, Pair], bool] = lambda _index, _pair: False,
) -> list[Pair | None]:
    """Best match of each query image ``(n, 128, 128)`` among its candidates; with its map where that is wanted.

    None where a query's training images cannot be had: all of them, or some while the others do not match.
    """
    result: list[Pair | None] = []
    rows, views = candidates.rows, candidates.views
    progress.begin("verifying", len(images), "slices")
    for start in range(0, len(images), _CHUNK):
        stop = min(start + _CHUNK, len(images))
        loaded = _load_rows(np.unique(rows[start:stop]), reference, training)

        def verify_one(i: int, loaded: dict[int, NDArray[np.float32]] = loaded) -> Pair | None:
            present = [
                (int(r), candidates.all_views[v]) for r, v in zip(rows[i], views[i], strict=True) if int(r) in loaded
            ]
            if present:
                progress.advance()
            else:  # nothing is verified where nothing is there
                progress.check()
            if not present:
                return None
            found = match(images[i].astype(np.float32), [(loaded[r], view) for r, view in present])
            # The candidate that is not there may be the one that was copied: nothing can be said then.
            if len(present) < (rows[i] >= 0).sum() and found.ncc < CERTAIN_NCC:
                return None
            pair = Pair(present[found.candidate][0], found)
            if not wants_map(i, pair):
                return pair
            agreement = agreement_map(images[i].astype(np.float32), loaded[pair.row], found)
            return replace(pair, agreement=np.round(agreement * PERCENT).astype(np.uint8))

        result += in_threads(verify_one, range(start, stop))
    return result


def _load_rows(
    rows: NDArray[np.int64], reference: Reference, training: TrainingImages
) -> dict[int, NDArray[np.float32]]:
    rows = rows[rows >= 0]
    wanted: dict[int, dict[int, int]] = {}  # volume → number of the slice → row
    for row in rows.tolist():
        wanted.setdefault(int(reference.slice_volume[row]), {})[int(reference.slice_number[row])] = row
    loaded = training.load_all({volume: list(own) for volume, own in wanted.items()})
    return {wanted[volume][number]: image for volume, own in loaded.items() for number, image in own.items()}
