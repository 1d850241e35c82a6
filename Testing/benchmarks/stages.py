"""Processor seconds of each stage of ``build`` and ``score``: ``python Testing/benchmarks/stages.py [SCANS]``.

On one core, so that two that are free take half as long; without scans (a folder or a table) on computed heads. The
scans are the training set, and every tenth of them is scored. Prints JSON: for each stage, as it is shown to users,
processor seconds and slices (for ``verifying``: pairs of a slice and a candidate) a second on *two* cores; and the
median of five starts of ``--help`` and of ``verify``, in seconds of processor time. A stage lasts until the next one
begins: *reading and describing* takes in features, moments and whitening, the last stage of ``build`` saving.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "MemorizationIndex")]

from machine import processor  # noqa: E402
from memorization_index import Reference, verification  # noqa: E402
from memorization_index.cohort import find_volumes  # noqa: E402
from memorization_index.evaluation.cohorts import make_demo_cohort  # noqa: E402
from memorization_index.matching import use_cores  # noqa: E402
from memorization_index.progress import Progress  # noqa: E402

CORES = 2


class Stages(Progress):
    """Processor seconds of each stage; the pairs that were verified in it."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}
        self.pairs: dict[str, int] = {}
        self._since = time.process_time()

    def begin(self, stage: str, total: int, unit: str) -> None:
        self.end()
        super().begin(stage, total, unit)

    def end(self) -> None:
        now, stage = time.process_time(), self.stage or "finding files"
        self.seconds[stage] = self.seconds.get(stage, 0) + now - self._since
        self._since = now

    def count(self, pairs: int) -> None:
        self.pairs[self.stage] = self.pairs.get(self.stage, 0) + pairs

    def figures(self, slices: int) -> dict[str, Any]:
        """Seconds and rate of every stage."""
        self.end()
        done = {stage: self.pairs.get(stage, slices) for stage in self.seconds}
        return {
            stage: {"processor_seconds": round(taken, 2), "a_second_on_2_cores": round(CORES * done[stage] / taken)}
            for stage, taken in self.seconds.items()
        }


def counting(stages: Stages) -> None:
    """Have pairs counted where they are matched."""
    match = verification.match

    def counted(query: Any, candidates: Any) -> Any:
        stages.count(len(candidates))
        return match(query, candidates)

    verification.match = counted


def start(*words: object) -> float:
    """Processor seconds of a whole process, median of five."""
    taken = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "MemorizationIndex")}
        command = [sys.executable, "-m", "memorization_index", *map(str, words)]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return round(statistics.median(taken), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", type=Path, nargs="*")
    parser.add_argument("--subjects", type=int, default=40, help="computed heads, where no scans are given")
    options = parser.parse_args()
    use_cores(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if not options.scans:
            make_demo_cohort(folder / "heads", subjects=options.subjects)
        scans = options.scans or [folder / "heads"]
        stages = Stages()
        counting(stages)
        reference = Reference.build(scans, folder / "reference", progress=stages)
        slices = len(reference.slice_number)
        result = {"processor": processor(), "slices": slices, "null_slices": len(reference.null.similarity)}
        result["build"] = stages.figures(slices)
        files = [file for entry in find_volumes(scans).entries[::10] for file in entry.files]
        stages = Stages()
        counting(stages)
        scores = Reference.open(folder / "reference").score(files, progress=stages)
        result["scored"] = len(scores.slices["slice"])
        result["score"] = stages.figures(result["scored"])
        result["start"] = {"--help": start("--help"), "verify": start("verify", folder / "reference")}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
