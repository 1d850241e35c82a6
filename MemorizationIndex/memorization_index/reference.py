"""The reference bundle: everything fitted on one training set, in a folder (ARCHITECTURE: files that last)."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.bundle import (
    beside,
    check_files,
    check_place,
    fingerprint_of,
    read_manifest,
    recover,
    replace_folder,
    write_csv,
    write_manifest,
    write_tensors,
)
from memorization_index.calibration import Null
from memorization_index.clustered import Cells, ClusteredIndex, read_cells
from memorization_index.cohort import listed_inputs
from memorization_index.combining import CommonScale
from memorization_index.durable import exclusive
from memorization_index.errors import MemorizationIndexError
from memorization_index.matching import one_blas_thread
from memorization_index.neighbors import Index
from memorization_index.progress import LoggedProgress
from memorization_index.retrieval import Retriever
from memorization_index.shards import Shards, released, row_blocks
from memorization_index.verdicts import Thresholds
from memorization_index.verification import TrainingVolume
from memorization_index.whitening import Whitening

if TYPE_CHECKING:
    from memorization_index.encoders.mri_core import LayerScale
    from memorization_index.encoders.precision import Precision
    from memorization_index.progress import Progress
    from memorization_index.scores import Scores

#: Rows of features that are worked on at a time.
_BLOCK_ROWS = 16_384
#: Small pictures of the training slices, where the bundle has them.
THUMBNAILS = "thumbnails.npy"


@dataclass(repr=False)
class Reference:
    """A fitted training set. Made by :meth:`build`, read by :meth:`open`, used by :meth:`score`.

    ``slice_volume`` and ``slice_number`` ``(N,)`` say which slice of which volume each row of ``features[channel]``
    ``(N, D)`` (float16, memory-mapped) is; ``slice_position`` is its relative position in [0, 1]. ``thumbnails`` ``(N,
    64, 64)`` are small pictures of the slices, where they were asked for. ``cells`` are what a large training set is
    searched through, by channel.
    """

    manifest: dict[str, Any]
    volumes: list[TrainingVolume]
    slice_volume: NDArray[np.int64]
    slice_number: NDArray[np.int64]
    features: dict[str, list[NDArray[np.float16]]]
    whitenings: dict[str, Whitening]
    null: Null
    null_ncc: NDArray[np.float64]
    folder: Path | None = None
    thumbnails: NDArray[np.uint8] | None = None
    cells: dict[str, Cells] = field(default_factory=dict)
    _retriever: Retriever | None = None

    @classmethod
    def build(
        cls,
        inputs: str | Path | Sequence[str | Path],
        out: str | Path | None = None,
        *,
        subjects: str | Path | None = None,
        plane: str = "native",
        encoder: str = "spectral",
        weights: str | Path | None = None,
        protocol: str = "mi-v1",
        controls: str | Path | None = None,
        novel: str | Path | None = None,
        power: str = "cheap",
        device: str = "auto",
        seed: int = 0,
        cache: str | Path | None = None,
        precision: Precision = "auto",
        layer_scale: LayerScale = "refuse",
        key: str | Path | None = None,
        thumbnails: str = "none",
        scheduler: str | None = None,
        progress: Progress | None = None,
    ) -> Reference:
        """Fit a training set, and save it to ``out`` unless that is None.

        ``inputs`` are files, folders or tables; settings are those of ``memorization-index build --help``, ``key`` the
        file of a key to pseudonymize with. After an interrupted build the same call goes on from what it had. Raises
        :class:`MemorizationIndexError` where a setting is wrong or no volume can be used.
        """
        from memorization_index.building import Settings, build

        listed, key = listed_inputs(inputs), None if key is None else Path(key)
        settings = Settings(
            subjects,
            plane,
            encoder,
            weights,
            protocol,
            controls,
            novel,
            power,
            device,
            seed,
            cache,
            precision,
            layer_scale,
            key,
            thumbnails,
            scheduler,
        )
        with one_blas_thread():
            return build(listed, out, settings, progress or LoggedProgress())

    @classmethod
    def open(cls, folder: str | Path) -> Reference:
        """Read a bundle after checking its version and the checksum of every file.

        Raises :class:`MemorizationIndexError` with one sentence where it is no bundle, too new, or was changed.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if problems := check_files(folder, manifest):
            raise MemorizationIndexError(problems[0])
        try:
            return _read(folder, manifest)
        except Exception as error:  # checksums are right, so this was written by something else than save
            raise MemorizationIndexError(
                f"{folder}: cannot be read as a reference ({error}); expected what 'memorization-index build' wrote, "
                f"so build it again."
            ) from error

    def score(
        self,
        inputs: str | Path | Sequence[str | Path],
        *,
        training_root: str | Path | None = None,
        weights: str | Path | None = None,
        device: str = "auto",
        cache: str | Path | None = None,
        key: str | Path | None = None,
        scheduler: str | None = None,
        progress: Progress | None = None,
    ) -> Scores:
        """Score volumes against this reference: files, folders or tables.

        Settings are those of ``memorization-index score --help``, ``key`` that of a pseudonymized reference. Raises
        :class:`MemorizationIndexError` where there is nothing to score or the encoder is another one.
        """
        from memorization_index.scoring import Options, score

        listed = listed_inputs(inputs)
        root, weights, key = (None if path is None else Path(path) for path in (training_root, weights, key))
        options = Options(root, weights, device, cache, key, scheduler)
        with one_blas_thread():
            return score(self, listed, options, progress or LoggedProgress())

    def extend(
        self,
        inputs: str | Path | Sequence[str | Path],
        out: str | Path | None = None,
        *,
        subjects: str | Path | None = None,
        controls: str | Path | None = None,
        novel: str | Path | None = None,
        training_root: str | Path | None = None,
        weights: str | Path | None = None,
        device: str = "auto",
        cache: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Reference:
        """This reference and new volumes, as one build of all would give it; see :mod:`.extending`."""
        from memorization_index.extending import Growth, extend
        from memorization_index.scoring import Options

        listed = listed_inputs(inputs)
        root, weights = (None if path is None else Path(path) for path in (training_root, weights))
        growth = Growth(controls, novel, Options(root, weights, device, cache))
        with one_blas_thread():
            return extend(self, listed, out, growth, subjects, progress or LoggedProgress())

    @classmethod
    def merge(
        cls,
        references: Sequence[Reference],
        out: str | Path | None = None,
        *,
        controls: str | Path | None = None,
        novel: str | Path | None = None,
        training_root: str | Path | None = None,
        weights: str | Path | None = None,
        device: str = "auto",
        cache: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Reference:
        """References of parts of one training set, joined as one build of all would give it; see :mod:`.extending`."""
        from memorization_index.extending import Growth, merge
        from memorization_index.scoring import Options

        root, weights = (None if path is None else Path(path) for path in (training_root, weights))
        growth = Growth(controls, novel, Options(root, weights, device, cache))
        with one_blas_thread():
            return merge(references, out, growth, progress or LoggedProgress())

    def __repr__(self) -> str:
        counts = self.manifest["counts"]
        return f"<Reference of {counts['subjects']} subjects, {counts['volumes']} volumes, {counts['slices']} slices>"

    @property
    def plane(self) -> str:
        """The plane that volumes are sliced in, or ``image`` for a cohort of 2-D images."""
        return str(self.manifest["plane"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the manifest (without its date), which has every file's: names this reference in results."""
        return fingerprint_of(self.manifest)

    @property
    def retriever(self) -> Retriever:
        """Whitening and index of every channel (made at first use)."""
        if self._retriever is None:
            banks = {c: self.bank(c, whitening) for c, whitening in self.whitenings.items()}
            calibration = self.manifest["calibration"]
            scale = CommonScale(calibration["knots"], calibration["common_channel"])
            self._retriever = Retriever(self.whitenings, banks, scale)
        return self._retriever

    def bank(self, channel: str, whitening: Whitening) -> Index | ClusteredIndex:
        """All training slices of a channel, to be searched as this whitening shows them."""
        shards = self.features[channel]
        if channel in self.cells:
            return ClusteredIndex(self.cells[channel], shards, whitening)
        return Index(whitened(shards, whitening))

    @property
    def slice_position(self) -> NDArray[np.float64]:
        """Relative position of each slice in its volume, in [0, 1]."""
        totals = np.array([max(v.total - 1, 1) for v in self.volumes])
        single = np.array([v.total == 1 for v in self.volumes])
        return np.where(single[self.slice_volume], 0.5, self.slice_number / totals[self.slice_volume])

    @property
    def thresholds(self) -> Thresholds:
        """From where on a match is what (see :mod:`.verdicts`)."""
        return Thresholds(**self.manifest["calibration"]["thresholds"])

    def mi(self, similarity: NDArray[np.float64], nearest: NDArray[np.int64]) -> NDArray[np.float64]:
        """MI of slices ``(m,)`` whose nearest training slices are the rows ``nearest``; see :meth:`Null.mi`."""
        return self.null.mi(similarity, self.slice_position[nearest])

    @property
    def subject_labels(self) -> NDArray[np.int64]:
        """An integer label for each volume's subject, ``(volumes,)``."""
        return np.unique([v.subject for v in self.volumes], return_inverse=True)[1].astype(np.int64)

    def save(self, folder: Path) -> None:
        """Write the bundle beside its place and move it there, replacing an older one."""
        folder = folder.resolve()
        with exclusive(folder, wait=True):
            recover(folder)
            check_place(folder)
            new = beside(folder)
            try:
                self._write(new)
                write_manifest(new, self.manifest)
                replace_folder(new, folder)
            finally:
                shutil.rmtree(new, ignore_errors=True)
        self.folder = folder

    def _write(self, folder: Path) -> None:
        counts = np.bincount(self.slice_volume, minlength=len(self.volumes)).tolist()
        rows = [
            [v.name, v.subject, v.files[0] if v.files else "", v.fingerprint, v.total, count]
            for v, count in zip(self.volumes, counts, strict=True)
        ]
        write_csv(folder / "volumes.csv", ["volume", "subject", "path", "fingerprint", "total", "slices"], rows)
        files = [[i, path] for i, v in enumerate(self.volumes) for path in v.files]
        write_csv(folder / "files.csv", ["volume_row", "path"], files)
        positions = self.slice_position
        slices = (
            [int(v), int(n), f"{p:.6f}"]
            for v, n, p in zip(self.slice_volume, self.slice_number, positions, strict=True)
        )
        write_csv(folder / "slices.csv", ["volume_row", "slice", "position"], slices)
        for channel, shards in self.features.items():
            for i, shard in enumerate(shards):
                np.save(folder / f"features-{channel}-{i:05d}.npy", shard, allow_pickle=False)
            released(shards)
        for channel, cells in self.cells.items():
            write_tensors(folder / f"cells-{channel}.safetensors", cells.tensors)
        if self.thumbnails is not None:
            np.save(folder / THUMBNAILS, self.thumbnails, allow_pickle=False)
        tensors = {}
        for channel, whitening in self.whitenings.items():
            tensors[f"{channel}.mean"], tensors[f"{channel}.matrix"] = whitening.mean, whitening.matrix
        write_tensors(folder / "whitening.safetensors", tensors)
        null = self.null
        write_tensors(
            folder / "null.safetensors",
            {
                "similarity": null.similarity,
                "subject": null.subject,
                "volume": null.volume,
                "position": null.position,
                "ncc": self.null_ncc,
            },
        )


def blocks(shards: Shards, chosen: NDArray[np.bool_] | None = None) -> Iterator[NDArray[np.float16]]:
    """Stored features in order, some rows at a time; only rows that are ``chosen`` ``(N,)``, if given."""
    return row_blocks(shards, _BLOCK_ROWS, chosen)


def whitened(shards: Sequence[NDArray[np.float16]], whitening: Whitening) -> NDArray[np.float32]:
    """Whitened unit vectors ``(N, D)`` of stored features; no more than these and a block of rows is held."""
    result = np.empty((sum(map(len, shards)), shards[0].shape[1]), np.float32)
    start = 0
    for block in blocks(shards):
        result[start : start + len(block)] = whitening(block)
        start += len(block)
    return result


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _read(folder: Path, manifest: dict[str, Any]) -> Reference:
    from safetensors.numpy import load_file

    rows = _rows(folder / "volumes.csv")
    files: list[list[str]] = [[] for _ in rows]
    for row in _rows(folder / "files.csv"):
        files[int(row["volume_row"])].append(row["path"])
    volumes = [
        TrainingVolume(row["volume"], row["subject"], tuple(paths), row["fingerprint"], int(row["total"]))
        for row, paths in zip(rows, files, strict=True)
    ]
    table = np.loadtxt(folder / "slices.csv", delimiter=",", skiprows=1, usecols=(0, 1), dtype=np.int64, ndmin=2)
    features: dict[str, list[NDArray[np.float16]]] = {}
    for channel in manifest["encoder"]["channels"]:
        shards = sorted(n for n in manifest["files"] if n.startswith(f"features-{channel}-"))
        features[channel] = [np.load(folder / n, mmap_mode="r", allow_pickle=False) for n in shards]
        shape = (sum(map(len, features[channel])), *{part.shape[1:] for part in features[channel]})
        if shape != (len(table), (manifest["encoder"]["channels"][channel],)):
            raise ValueError(f"channel {channel} has features of shape {shape} for {len(table)} slices")
    if len(table) == 0 or not 0 <= table[:, 0].min() <= table[:, 0].max() < len(volumes):
        raise ValueError("slices.csv names volumes that volumes.csv does not have")
    cells = {}
    for channel in features:
        if f"cells-{channel}.safetensors" in manifest["files"]:
            cells[channel] = read_cells(folder / f"cells-{channel}.safetensors")
            if not np.array_equal(np.sort(cells[channel].rows), np.arange(len(table))):
                raise ValueError(f"the cells of channel {channel} do not hold {len(table)} slices once each")
    thumbnails = None
    if THUMBNAILS in manifest["files"]:
        thumbnails = np.load(folder / THUMBNAILS, mmap_mode="r", allow_pickle=False)
        if thumbnails.shape[0] != len(table) or thumbnails.dtype != np.uint8:
            raise ValueError(f"{THUMBNAILS} has {thumbnails.shape[0]} pictures for {len(table)} slices")
    tensors = load_file(folder / "whitening.safetensors")
    null = load_file(folder / "null.safetensors")
    known = null["similarity"], null["position"]
    if not all(np.isfinite(x).all() for x in known) or not ((null["position"] >= 0) & (null["position"] <= 1)).all():
        raise ValueError("the null has values that are no similarities or positions")
    if not ((table[:, 1] >= 0) & (table[:, 1] < np.array([v.total for v in volumes], np.int64)[table[:, 0]])).all():
        raise ValueError("slices.csv has slices that its volumes do not have")
    return Reference(
        manifest,
        volumes,
        table[:, 0],
        table[:, 1],
        features,
        {c: Whitening(tensors[f"{c}.mean"], tensors[f"{c}.matrix"]) for c in features},
        Null(
            null["similarity"],
            null["subject"],
            null["volume"],
            null["position"],
            int(manifest["calibration"].get("null_step", 1)),
        ),
        null["ncc"],
        folder,
        thumbnails,
        cells,
    )
