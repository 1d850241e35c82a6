"""What a slice costs on a cluster: ``python Testing/benchmarks/cluster_cost.py [--volumes 6] [--slices 12]``.

Runs the tasks that workers run, one after the other in this process, and prints processor seconds a slice and the bytes
that stay on disk and that travel. Volumes are made; their pictures are about as large as those of brain scans.
"""

import argparse
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "MemorizationIndex"), str(ROOT / "Testing/library")]

import phantoms  # noqa: E402
from machine import processor  # noqa: E402
from memorization_index import Reference, cluster_scoring  # noqa: E402
from memorization_index.cluster import Shared  # noqa: E402
from memorization_index.matching import use_cores  # noqa: E402
from memorization_index.whitening import Moments  # noqa: E402


class Here:
    """Stands where a cluster does: runs each task at once, and keeps its time and the size of its result."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.bytes: dict[str, int] = {}

    def share(self, file: Path) -> None:
        assert Shared(file, file.read_bytes()).content

    def unit_size(self, volumes: int, at_most: int) -> int:
        return 1

    def each(self, work: Callable[..., Any], tasks: list[tuple[Any, ...]]) -> Any:
        name = work.__name__
        for number, task in enumerate(tasks):
            start = time.process_time()
            result = work(*task)
            self.seconds[name] = self.seconds.get(name, 0) + time.process_time() - start
            self.bytes[name] = self.bytes.get(name, 0) + len(pickle.dumps(result)) + len(pickle.dumps(task))
            yield number, result

    def all(self, work: Callable[..., Any], tasks: list[tuple[Any, ...]]) -> list[Any]:
        return [result for _, result in self.each(work, tasks)]

    def merged(self, work: Callable[..., Any], tasks: list[tuple[Any, ...]], join: Callable[[Any, Any], Any]) -> Any:
        first, *others = self.all(work, tasks)
        for other in others:
            first = join(first, other)
        return first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=int, default=6)
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    use_cores(1)
    here = Here()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in range(options.volumes):
            voxels = phantoms.anatomy(number, (options.slices, options.side, options.side))
            phantoms.write(folder / "training" / f"sub-{number:02d}.nii.gz", voxels, (4.0, 0.9, 0.9))
        from memorization_index import building, scoring

        building.connected = scoring_connected = lambda *_: _Entered(here)  # type: ignore[assignment]
        cluster_scoring.connected = scoring_connected  # type: ignore[assignment]
        settings = building.Settings(power="none", scheduler="here")
        reference = building.build([folder / "training"], folder / "reference", settings)
        reference = Reference.open(folder / "reference")
        scores = scoring.score(reference, [folder / "training"], scoring.Options(scheduler="here"))
        slices = len(scores.slices["slice"])
        stored = sum(part.nbytes for shards in reference.features.values() for part in shards)
        moments = sum(len(pickle.dumps(Moments.of(shards[0][:8]))) for shards in reference.features.values())
        found = {
            "slices": slices,
            "processor_seconds_a_slice": {name: round(taken / slices, 5) for name, taken in here.seconds.items()},
            "network_bytes_a_slice": {name: round(size / slices) for name, size in here.bytes.items()},
            "feature_bytes_a_slice": round(stored / slices),
            "bytes_of_moments_a_shard": moments,
        }
    print(json.dumps({"processor": processor(), **found}, indent=1))


class _Entered:
    def __init__(self, here: Here) -> None:
        self._here = here

    def __enter__(self) -> Here:
        return self._here

    def __exit__(self, *_: object) -> None:
        return None


if __name__ == "__main__":
    main()
