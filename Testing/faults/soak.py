"""Score thousands of small volumes in one run: memory and file handles stay flat.

``python Testing/faults/soak.py --out FOLDER [--volumes 10000]`` writes ``soak.json``: private memory (what is not
backed by files) and open files, at even steps of each stage. Linux only (/proc).
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "MemorizationIndex"), str(ROOT / "Testing" / "library")]

import phantoms  # noqa: E402
from memorization_index import Reference  # noqa: E402
from memorization_index.progress import Progress  # noqa: E402

SHAPE = (2, 24, 20)
#: A result keeps rows and a small picture of each slice; beyond that nothing may grow.
BYTES_A_VOLUME = 4096


class Meter(Progress):
    """Notes memory and handles fifty times a stage."""

    def __init__(self) -> None:
        super().__init__()
        self.readings: dict[str, list[tuple[int, int, int]]] = {}

    def show(self) -> None:
        """Called after every step."""
        if self.total and self.done % max(1, self.total // 50) == 0:
            reading = (self.done, private_bytes(), len(os.listdir("/proc/self/fd")))
            self.readings.setdefault(self.stage, []).append(reading)


def private_bytes() -> int:
    """Resident memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to work in and for soak.json")
    parser.add_argument("--volumes", type=int, default=10_000, help="how many (default 10,000)")
    options = parser.parse_args()
    for number in range(options.volumes):
        path = options.out / "generated" / f"{number:05d}.nii"
        if not path.exists():
            phantoms.write(path, phantoms.anatomy(1000 + number, SHAPE))
    for subject in range(6):
        phantoms.write(options.out / "training" / f"sub-{subject}.nii", phantoms.anatomy(subject, SHAPE))
    reference, meter = Reference.build(options.out / "training"), Meter()
    started = time.monotonic()
    scores = reference.score(options.out / "generated", progress=meter)
    seconds = time.monotonic() - started
    stages = {stage: judged(readings) for stage, readings in meter.readings.items()}
    record = {
        "command": "python Testing/faults/soak.py " + " ".join(sys.argv[1:]),
        "volumes": len(scores.volumes["volume"]), "slices": len(scores.slices["slice"]),
        "skipped": scores.run["counts"]["skipped"], "seconds": round(seconds, 1), "stages": stages,
    }  # fmt: skip
    (options.out / "soak.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    flat = all(stage["flat"] for stage in stages.values())
    return 0 if flat and len(scores.volumes["volume"]) + record["skipped"] == options.volumes else 1


def judged(readings: list[tuple[int, int, int]]) -> dict:
    """What a stage used from its first tenth (when everything is loaded) to its end."""
    steady = readings[len(readings) // 10 + 1 :] or readings[-1:]
    grown = steady[-1][1] - steady[0][1]
    handles = [reading[2] for reading in steady]
    allowed = (8 << 20) + BYTES_A_VOLUME * (steady[-1][0] - steady[0][0])
    return {
        "steps": readings[-1][0], "private_mib_first": round(steady[0][1] / 2**20, 1),
        "private_mib_last": round(steady[-1][1] / 2**20, 1),
        "private_mib_most": round(max(r[1] for r in steady) / 2**20, 1),
        "open_files": [min(handles), max(handles)], "flat": grown < allowed and max(handles) - min(handles) <= 4,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
