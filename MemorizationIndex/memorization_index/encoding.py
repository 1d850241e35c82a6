"""Encode the volumes of a training set, resumably: finished units of work survive a stopped or killed build."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index._version import __version__
from memorization_index.bundle import write_tensors
from memorization_index.channels import Describer
from memorization_index.cohort import Cohort, Entry, Skipped
from memorization_index.durable import beside_file, sync
from memorization_index.errors import MemorizationIndexError
from memorization_index.matching import in_threads
from memorization_index.progress import Progress
from memorization_index.slices import SliceStack, to_slices
from memorization_index.verification import TrainingVolume
from memorization_index.volumes import (
    IMAGE_PLANE,
    Volume,
    acquired_plane,
    check_header,
    looks_flat,
    read_volume,
    stored_spacing,
)

#: Volumes that are encoded together and written as one unit.
_UNIT_FILES = 32
#: Features are stored in files of about so many slices, fewer where a channel is so long that bytes say stop first.
_SHARD_ROWS, _SHARD_BYTES = 65_536, 2**27
_PLAN = "plan.json"


@dataclass(frozen=True)
class EncodedVolume:
    """One training volume, its slice numbers ``(n,)`` and the empty slices that were left out."""

    volume: TrainingVolume
    numbers: NDArray[np.int64]
    empty: int


@dataclass(frozen=True)
class Encoded:
    """All volumes of a training set and their features ``{channel: [(rows, D) float16, …]}``, in volume order.

    Features lie on disk and are mapped into memory, so that a training set may be larger than that.
    """

    volumes: list[EncodedVolume]
    features: dict[str, list[NDArray[np.float16]]]
    skipped: list[Skipped]


def read_slices(entry: Entry, plane: str, building: bool = False) -> tuple[Volume, SliceStack]:
    """Read a volume and cut it in the reference's plane; ``building`` only changes what errors advise.

    Raises :class:`MemorizationIndexError` where it is of the other kind (2-D or 3-D), was acquired in another plane, or
    has no slice that shows anything.
    """
    volume = read_volume(entry.files if len(entry.files) > 1 else entry.path)
    check_kind(entry, volume.is_image, plane, building)
    if not volume.is_image:
        check_plane(str(entry.path), volume.spacing, plane, building)
    stack = to_slices(volume, plane)
    if not stack.images:
        raise MemorizationIndexError(
            f"{entry.path}: every slice is constant or empty; expected an image that shows anatomy, so check the file."
        )
    return volume, stack


def check_plane(name: str, spacing: Sequence[float], plane: str, building: bool) -> None:
    """Refuse a volume, by its spacing along z, y, x, that was acquired in another plane."""
    own = acquired_plane(spacing)
    if own in (None, plane):
        return
    remedy = f"build another reference of such volumes with --plane {own}"
    if not building:
        remedy = f"use a reference built with --plane {own}"
    raise MemorizationIndexError(
        f"{name}: was acquired in {own} slices (voxels {' × '.join(f'{s:.2f}' for s in spacing)} mm "
        f"along S, A, R); expected {plane} slices, so {remedy}."
    )


def check_kind(entry: Entry, is_image: bool, plane: str, building: bool) -> None:
    """Refuse a 2-D image where the plane is one of volumes, and the other way round; as :func:`read_slices` does."""
    if is_image == (plane == IMAGE_PLANE):
        return
    expected, remedy = f"3-D volumes (plane {plane})", "examine it in a run of its own"
    found = f"a 2-D image among {expected}"
    if not is_image:  # volumes are cut in the reference's plane, so that it is the reference which has none
        found = "a 3-D volume among 2-D images" if building else "a 3-D volume, this reference was built on 2-D images"
        expected, remedy = "2-D images", "use a reference built on volumes"
    if building:
        remedy = "build another reference of such files"
    raise MemorizationIndexError(f"{entry.path}: is {found}; expected {expected}, so {remedy}.")


def encode(entries: Sequence[Entry], plane: str, describer: Describer, workspace: Path, progress: Progress) -> Encoded:
    """Encode the volumes in units that are written to ``workspace`` and taken from there when they exist already."""
    prepare(workspace, entries, plane, describer, _UNIT_FILES)
    units = [entries[i : i + _UNIT_FILES] for i in range(0, len(entries), _UNIT_FILES)]
    progress.begin("reading and describing", len(entries), "volumes")
    encoded = Encoded([], {}, [])
    paths = [workspace / f"unit-{number:06d}.safetensors" for number in range(len(units))]
    there = [is_whole(path) for path in paths]
    if kept := sum(len(unit) for unit, whole in zip(units, there, strict=True) if whole):
        progress.warning(f"{kept} of {len(entries)} volumes were read by an interrupted build and are used again.")
    for path, unit, whole in zip(paths, units, there, strict=True):
        if whole:
            progress.advance(len(unit))
        else:
            encode_unit(unit, plane, describer, path, progress)
        collect(path, encoded, progress)
    for channel in describer.dimensions if encoded.volumes else ():
        encoded.features[channel] = written_shards(workspace, channel, parts_of(paths, channel))
    return encoded


def is_whole(path: Path) -> bool:
    """Whether a finished unit is there; one that a crash of the machine cut short does not count."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return False
    try:
        with safe_open(path, framework="numpy"):
            return True
    except SafetensorError:
        return False


def prepare(workspace: Path, entries: Sequence[Entry], plane: str, describer: Describer, unit_files: int) -> Path:
    """Keep the workspace of an interrupted build of the same files and settings; empty any other. Returns the plan."""
    files = [(e.name, e.subject, [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in e.files]) for e in entries]
    what = [__version__, plane, describer.fingerprint, unit_files, files]
    plan = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    path = workspace / _PLAN
    if path.exists() and path.read_text(encoding="utf-8") == plan:
        return path
    shutil.rmtree(workspace, ignore_errors=True)
    workspace.mkdir(parents=True)
    path.write_text(plan, encoding="utf-8")
    return path


def encode_unit(unit: Sequence[Entry], plane: str, describer: Describer, path: Path, progress: Progress) -> None:
    """Read and describe some volumes, and write what came of it to ``path`` in one step."""

    def encode_one(entry: Entry) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        try:
            volume, stack = read_slices(entry, plane, building=True)
        except MemorizationIndexError as error:
            progress.advance()
            return {"skipped": str(error), "path": str(entry.path)}, {}
        files = tuple(str(f.absolute()) for f in entry.files)
        record = TrainingVolume(entry.name, entry.subject, files, volume.fingerprint, stack.total)
        features = describer.describe(stack)
        progress.advance()
        return {"volume": asdict(record)}, {"numbers": stack.numbers, **features}

    results = in_threads(encode_one, unit)
    tensors = {f"{i}.{name}": array for i, (_, arrays) in enumerate(results) for name, array in arrays.items()}
    beside = beside_file(path)
    write_tensors(beside, tensors or {"none": np.zeros(1)}, {"records": json.dumps([record for record, _ in results])})
    sync(beside)
    os.replace(beside, path)


def collect(path: Path, encoded: Encoded, progress: Progress) -> None:
    """Add the volumes of a finished unit, without their features."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as unit:
        for i, record in enumerate(json.loads(unit.metadata()["records"])):
            if "skipped" in record:
                encoded.skipped.append(Skipped(record["path"], record["skipped"]))
                progress.skipped(record["path"], record["skipped"])
                continue
            volume = TrainingVolume(**{**record["volume"], "files": tuple(record["volume"]["files"])})
            numbers = unit.get_tensor(f"{i}.numbers")
            encoded.volumes.append(EncodedVolume(volume, numbers, volume.total - len(numbers)))


def parts_of(paths: Sequence[Path], channel: str) -> Iterator[NDArray[np.float16]]:
    """Features of one channel, volume by volume, of finished units."""
    from safetensors import safe_open

    for path in paths:
        with safe_open(path, framework="numpy") as unit:
            for i, record in enumerate(json.loads(unit.metadata()["records"])):
                if "volume" in record:
                    yield unit.get_tensor(f"{i}.{channel}")


def shard_path(folder: Path, channel: str, number: int) -> Path:
    """The file of one shard of a channel's features."""
    return folder / f"features-{channel}-{number:05d}.npy"


def written_shards(folder: Path, channel: str, parts: Iterable[NDArray[np.float16]]) -> list[NDArray[np.float16]]:
    """Write parts ``(n_i, D)`` to files of a folder, one after the other, and map these into memory."""
    paths = []
    for number, shard in enumerate(shards(parts)):
        paths.append(shard_path(folder, channel, number))
        np.save(paths[-1], shard, allow_pickle=False)
    return [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]


def leave_out_unreadable(cohort: Cohort) -> None:
    """Move the entries whose (first) file cannot be read, by its header alone, to those that are skipped."""
    _leave_out(cohort, lambda entry: check_header(entry.path))


def leave_out_other_kinds(cohort: Cohort, plane: str) -> None:
    """The same of 2-D images where the plane is one of volumes, and the other way round."""
    _leave_out(cohort, lambda entry: check_kind(entry, looks_flat(entry.files), plane, building=True))


def leave_out_other_planes(cohort: Cohort, plane: str) -> None:
    """The same of volumes that were acquired in another plane."""

    def check(entry: Entry) -> None:
        spacing = stored_spacing(entry.files)
        if spacing is not None:
            check_plane(str(entry.path), spacing, plane, building=True)

    _leave_out(cohort, check)


def _leave_out(cohort: Cohort, check: Callable[[Entry], None]) -> None:
    kept = []
    for entry in cohort.entries:
        try:
            check(entry)
            kept.append(entry)
        except MemorizationIndexError as error:
            cohort.skipped.append(Skipped(str(entry.path), str(error)))
    cohort.entries = kept


def chosen_plane(entries: Sequence[Entry], plane: str) -> str:
    """The plane of a cohort: 2-D images have none of their own; ``native`` is the plane most volumes were acquired in.

    Up to 15 volumes are looked at. Near-isotropic volumes count as axial.
    """
    step = max(1, len(entries) // 15)
    planes = [p for p in map(_acquisition_plane, entries[::step]) if p is not None]
    if not planes:
        planes = [p for p in map(_acquisition_plane, entries) if p is not None]
    if planes and planes.count(IMAGE_PLANE) * 2 > len(planes):
        return IMAGE_PLANE
    if plane != "native":
        return plane
    votes = [p for p in planes if p != IMAGE_PLANE]
    return max(("axial", "sagittal", "coronal"), key=votes.count)


def _acquisition_plane(entry: Entry) -> str | None:
    try:
        volume = read_volume(entry.files if len(entry.files) > 1 else entry.path)
    except MemorizationIndexError:
        return None
    return volume.acquisition_plane or "axial"


def shard_ends(lengths: Sequence[int], row_bytes: int) -> list[int]:
    """How parts of these lengths are joined to shards: where each shard ends, as a number of parts."""
    ends, rows = [], 0
    for number, length in enumerate(lengths, 1):
        rows += length
        if _fills(rows, row_bytes) or number == len(lengths):
            ends.append(number)
            rows = 0
    return ends


def _fills(rows: int, row_bytes: int) -> bool:
    return rows >= _SHARD_ROWS or rows * row_bytes >= _SHARD_BYTES


def shards(parts: Iterable[NDArray[np.float16]]) -> Iterator[NDArray[np.float16]]:
    """Join parts ``(n_i, D)`` into arrays of about 65,536 rows."""
    held: list[NDArray[np.float16]] = []
    rows = 0
    for part in parts:
        held.append(part)
        rows += len(part)
        if _fills(rows, part.shape[1] * part.itemsize):
            yield np.concatenate(held)
            held, rows = [], 0
    if held:
        yield np.concatenate(held)
