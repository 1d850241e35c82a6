"""What of a build runs on a cluster: reading, describing, shards of features, moments, folds of the null, verification.

The workspace is on the file system that client and workers share. Units, shards and what every fold needs are files in
it; only moments and what is found for slices of the null travel.
"""

from __future__ import annotations

import functools
import itertools
import json
import operator
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memorization_index import encoding
from memorization_index.bundle import write_tensors
from memorization_index.calibration import Null
from memorization_index.channels import Describer, make_describer
from memorization_index.cluster import Cluster, seen
from memorization_index.clustered import read_cells
from memorization_index.cohort import Entry
from memorization_index.durable import beside_file
from memorization_index.encoding import Encoded
from memorization_index.errors import MemorizationIndexError
from memorization_index.nulls import FoldWork, NullBuilder, NullPart
from memorization_index.power import PowerCard
from memorization_index.progress import Progress
from memorization_index.reference import Reference, blocks
from memorization_index.verification import Candidates, Pair, TrainingImages, TrainingVolume, verify
from memorization_index.whitening import Moments, merged

if TYPE_CHECKING:
    from memorization_index.encoders.mri_core import LayerScale
    from memorization_index.encoders.precision import Precision

_FITTING, _SLICES, _MOMENTS = "fitting.json", "slices.npy", "moments.npz"
#: Slices of the null that are verified as one unit.
_VERIFIED = 64


@dataclass(frozen=True)
class Recipe:
    """How a worker makes the describer: the settings of ``make_describer``, and the fingerprint it must have."""

    encoder: str
    weights: str | None
    device: str
    cache: str | None
    precision: Precision
    layer_scale: LayerScale
    fingerprint: str


def recipe_of(
    describer: Describer, weights: str | Path | None, device: str, cache: str | Path | None, layer_scale: LayerScale
) -> Recipe:
    """The recipe of a describer that was made here."""
    if weights is None and describer.name.startswith("hf:"):
        weights = describer.name.removeprefix("hf:")
    weights = None if weights is None else str(Path(weights).absolute())
    cache = cache if cache is None or str(cache) == "off" else Path(cache).absolute()
    place = None if cache is None else str(cache)
    precision = describer.precision or "auto"
    return Recipe(describer.name, weights, device, place, precision, layer_scale, describer.fingerprint)


@functools.lru_cache(maxsize=1)
def made(recipe: Recipe) -> Describer:
    """On a worker: the describer, kept for the next task."""
    describer = make_describer(
        recipe.encoder, recipe.weights, recipe.device, recipe.cache, recipe.precision, recipe.layer_scale
    )
    if describer.fingerprint != recipe.fingerprint:
        raise MemorizationIndexError(
            f"--weights {recipe.weights}: is another encoder for a worker ({describer.fingerprint}) than here "
            f"({recipe.fingerprint}); expected the same file everywhere, so keep it where all workers see it."
        )
    return describer


def encode_there(
    entries: Sequence[Entry], plane: str, recipe: Recipe, describer: Describer, workspace: Path, cluster: Cluster,
    progress: Progress,
) -> Encoded:  # fmt: skip
    """The same as ``encode``, on a cluster: each unit is a file that one worker writes, and so is each shard."""
    entries = list(map(_absolute, entries))
    size = cluster.unit_size(len(entries), encoding._UNIT_FILES)
    plan = encoding.prepare(workspace, entries, plane, describer, size)
    cluster.share(plan)
    # Named by the plan too: what a worker that nobody waits for any more finishes late is not taken for a unit of this.
    mark = plan.read_text(encoding="utf-8")[:12]
    units = [entries[i : i + size] for i in range(0, len(entries), size)]
    paths = [workspace / f"unit-{number:06d}-{mark}.safetensors" for number in range(len(units))]
    progress.begin("reading and describing", len(entries), "volumes")
    missing = []
    for number, path in enumerate(paths):
        if encoding.is_whole(path):
            progress.advance(len(units[number]))
        else:
            missing.append(number)
    for done, _ in cluster.each(_encode, [(units[n], plane, recipe, paths[n]) for n in missing]):
        progress.advance(len(units[missing[done]]))
    encoded = Encoded([], {}, [])
    unit_of: list[int] = []
    for number, path in enumerate(paths):
        encoding.collect(path, encoded, progress)
        unit_of += [number] * (len(encoded.volumes) - len(unit_of))
    if encoded.volumes:
        _write_shards(paths, unit_of, encoded, describer, workspace, cluster)
    return encoded


def _absolute(entry: Entry) -> Entry:
    return replace(entry, files=tuple(file.absolute() for file in entry.files))


def _encode(unit: Sequence[Entry], plane: str, recipe: Recipe, path: Path) -> None:
    if not encoding.is_whole(path):  # another worker may have done it before the client was lost
        seen([file for entry in unit for file in entry.files])
        encoding.encode_unit(unit, plane, made(recipe), path, Progress())


def _write_shards(
    paths: Sequence[Path], unit_of: Sequence[int], encoded: Encoded, describer: Describer, workspace: Path,
    cluster: Cluster,
) -> None:  # fmt: skip
    """Write the features of all units as shards, with the same borders as on one machine, and map them."""
    lengths = [len(volume.numbers) for volume in encoded.volumes]
    tasks, targets = [], dict[str, list[Path]]()
    for channel, dimension in describer.dimensions.items():
        ends = encoding.shard_ends(lengths, 2 * dimension)
        for number, (start, end) in enumerate(itertools.pairwise([0, *ends])):
            first = unit_of[start]
            target = encoding.shard_path(workspace, channel, number)
            skip = start - unit_of.index(first)
            tasks.append((paths[first : unit_of[end - 1] + 1], channel, skip, end - start, target))
            targets.setdefault(channel, []).append(target)
    cluster.all(_write_shard, tasks)
    for channel, files in targets.items():
        encoded.features[channel] = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]


def _write_shard(paths: Sequence[Path], channel: str, skip: int, count: int, target: Path) -> None:
    parts = itertools.islice(encoding.parts_of(paths, channel), skip, skip + count)
    beside = beside_file(target)
    with beside.open("wb") as stream:
        np.save(stream, np.concatenate(list(parts)), allow_pickle=False)
    os.replace(beside, target)


class ClusterNullBuilder(NullBuilder):
    """The null with its moments, folds and verification on a cluster."""

    def __init__(
        self, reference: Reference, describer: Describer, recipe: Recipe, seed: int, power: str, workspace: Path,
        cluster: Cluster, progress: Progress,
    ) -> None:  # fmt: skip
        super().__init__(reference, describer, seed, progress)
        self._cluster, self._workspace, self._common = cluster, workspace, (workspace, recipe, power)
        what = {
            "plane": reference.plane,
            "seed": seed,
            "volumes": [asdict(volume) for volume in reference.volumes],
            "features": {c: [file.name for file in files] for c, files in self._files().items()},
        }
        np.save(workspace / _SLICES, np.stack([reference.slice_volume, reference.slice_number]), allow_pickle=False)
        fitting = workspace / _FITTING
        fitting.write_text(json.dumps(what), encoding="utf-8")
        cluster.share(fitting)

    def moments(self) -> dict[str, Moments]:
        """Moments of all features by channel: of each shard by a worker, merged in pairs."""
        moments = {
            channel: self._cluster.merged(_shard_moments, [(file,) for file in files], operator.add)
            for channel, files in self._files().items()
        }
        values = {f"{c}.{n}": getattr(m, n) for c, m in moments.items() for n in ("count", "mean", "second")}
        np.savez(self._workspace / _MOMENTS, **values)
        return moments

    def _files(self) -> dict[str, list[Path]]:
        """The shards of each channel, which are mapped from the workspace."""
        number_of = {channel: len(shards) for channel, shards in self.reference.features.items()}
        return {c: [encoding.shard_path(self._workspace, c, n) for n in range(count)] for c, count in number_of.items()}

    def _parts(self, work: Iterable[FoldWork], moments: dict[str, Moments], card: PowerCard) -> list[NullPart]:
        for channel, cells in self.reference.cells.items():
            write_tensors(_cells_path(self._workspace, channel), cells.tensors)
        tasks = [(*self._common, replace(one, chosen=[(v, _absolute(e)) for v, e in one.chosen])) for one in work]
        found: dict[int, list[NullPart]] = {}
        for number, parts in self._cluster.each(_fold, tasks):
            found[number] = parts
            self.progress.advance(len(parts))
        return [part for number in range(len(tasks)) for part in found[number]]

    def _verified(self, images: NDArray[np.float16], candidates: Candidates) -> list[Pair | None]:
        starts = range(0, len(images), _VERIFIED)
        parts = [slice(start, start + _VERIFIED) for start in starts]
        self.progress.begin("verifying", len(images), "slices")
        found: dict[int, list[Pair | None]] = {}
        tasks = [(*self._common, images[p], candidates.rows[p], candidates.views[p]) for p in parts]
        for number, pairs in self._cluster.each(_verify, tasks):
            found[number] = pairs
            self.progress.advance(len(pairs))
        return [pair for number in range(len(parts)) for pair in found[number]]


def _cells_path(workspace: Path, channel: str) -> Path:
    return workspace / f"cells-{channel}.safetensors"


def _shard_moments(file: Path) -> Moments:
    return merged(map(Moments.of, blocks([np.load(file, mmap_mode="r", allow_pickle=False)])))


def _opened(workspace: Path, recipe: Recipe) -> NullBuilder:
    """On a worker: the reference that is being fitted, with its features mapped."""
    fitting = workspace / _FITTING
    return _opened_once(workspace, recipe, fitting.stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _opened_once(workspace: Path, recipe: Recipe, _changed: int) -> NullBuilder:
    what = json.loads((workspace / _FITTING).read_text(encoding="utf-8"))
    volumes = [TrainingVolume(**{**one, "files": tuple(one["files"])}) for one in what["volumes"]]
    slice_volume, slice_number = np.load(workspace / _SLICES, allow_pickle=False)
    features: dict[str, list[NDArray[np.float16]]] = {
        channel: [np.load(workspace / name, mmap_mode="r", allow_pickle=False) for name in names]
        for channel, names in what["features"].items()
    }
    manifest = {"plane": what["plane"]}
    reference = Reference(
        manifest, volumes, slice_volume, slice_number, features, {}, Null.empty(), np.zeros(0)
    )  # fmt: skip
    return NullBuilder(reference, made(recipe), what["seed"], Progress())


def _fold(workspace: Path, recipe: Recipe, power: str, work: FoldWork) -> list[NullPart]:
    builder = _opened(workspace, recipe)
    seen([file for _, entry in work.chosen for file in entry.files])
    card = PowerCard.named(power, builder.describer, builder.seed)
    with np.load(workspace / _MOMENTS, allow_pickle=False) as stored:
        moments = {
            c: Moments(int(stored[f"{c}.count"]), stored[f"{c}.mean"], stored[f"{c}.second"])
            for c in builder.reference.features
        }
    if not builder.reference.cells:
        stored_cells = {c: _cells_path(workspace, c) for c in builder.reference.features}
        builder.reference.cells = {c: read_cells(path) for c, path in stored_cells.items() if path.exists()}
    return builder.fold_parts(work, moments, card)


def _verify(
    workspace: Path, recipe: Recipe, _power: str, images: NDArray[np.float16], rows: NDArray[np.int64],
    views: NDArray[np.int64],
) -> list[Pair | None]:  # fmt: skip
    builder = _opened(workspace, recipe)
    training = TrainingImages(builder.volumes, builder.reference.plane, None, Progress())
    for volume in np.unique(builder.slice_volume[rows[rows >= 0]]):
        seen([Path(file) for file in builder.volumes[volume].files])
    return verify(images, Candidates(rows, views, builder.describer.views()), builder.reference, training, Progress())
