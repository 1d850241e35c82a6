"""``build`` and ``score`` as whole processes at any size: ``python Testing/benchmarks/end_to_end.py --slices N``.

Makes volumes of people that nobody is (64×64 pixels, ``--depth`` slices), builds a reference of them and scores copies
of some (turned by 5°, with noise) and new people. Prints JSON: for each command seconds (of the clock, and of the
processors) and peak memory of every stage, and what became of the copies and of the others. ``--work`` needs 20 kB a
slice for a time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import SimpleITK as sitk
from machine import processor

ROOT = Path(__file__).resolve().parents[2]
SIDE = 64
#: Grids of the random fields that a person is made of, slice by slice through 64 mm, and how much each shows.
FIELDS = ((5, 0.6), (9, 1.0), (17, 1.0))
TICKS = os.sysconf("SC_CLK_TCK")


def anatomy(person: int, depth: int) -> np.ndarray:
    """A body of irregular outline with structures of its own ``(depth, 64, 64)``, from 0 to 200."""
    random = np.random.default_rng([7, person])
    inner = sum(weight * field(random, number, depth) for number, weight in FIELDS)
    angle, radius = polar()
    waves = sum(random.normal(0, 0.05) * np.cos(n * angle + np.float32(random.uniform(0, 6))) for n in (1, 2, 3))
    height = np.linspace(-0.8, 0.8, depth, dtype=np.float32)[:, None, None]
    inside = np.clip((0.8 * np.sqrt(1 - height**2) + 0.1 + (waves - radius)) / 0.08, 0, 1)
    return np.asarray(inside * np.clip(100 + 35 * inner, 20, 200), np.float32)


def field(random: np.random.Generator, number: int, depth: int) -> np.ndarray:
    """A smooth random field ``(depth, 64, 64)`` that is drawn on ``number`` points along each axis."""
    grid = random.standard_normal((number, number**2), np.float32)
    planes = (between(number, depth) @ grid).reshape(depth, number, number)
    return between(number, SIDE) @ planes @ between(number, SIDE).T


@lru_cache
def between(number: int, length: int) -> np.ndarray:
    """Matrix ``(length, number)`` of linear interpolation."""
    place = np.linspace(0, number - 1, length)
    return np.clip(1 - np.abs(place[:, None] - np.arange(number)), 0, 1).astype(np.float32)


@lru_cache
def polar() -> tuple[np.ndarray, np.ndarray]:
    """Angle and radius of every pixel."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, SIDE, dtype=np.float32)] * 2, indexing="ij")
    return np.arctan2(y, x), np.hypot(y, x)


@lru_cache
def noise(depth: int) -> np.ndarray:
    """Twice as many slices of noise as a volume has; each volume takes others of them."""
    return np.abs(np.random.default_rng(0).normal(0, 1.5, (2 * depth, SIDE, SIDE))).astype(np.float32)


def write(path: Path, voxels: np.ndarray, depth: int) -> None:
    """As uncompressed NIfTI with square pixels of 2 mm, and slices that together are 128 mm high, 3 mm at the least."""
    first = zlib.crc32(path.name.encode()) % depth
    image = sitk.GetImageFromArray(np.clip(voxels + noise(depth)[first : first + depth], 0, 255).astype(np.uint8))
    image.SetSpacing((2.0, 2.0, max(3.0, 128 / depth)))
    sitk.WriteImage(image, str(path))


def make(folder: Path, people: int, depth: int, queries: int) -> tuple[Path, Path]:
    """Folders of training volumes, and of copies of some and new people."""
    training, asked = folder / "training", folder / "queries"
    training.mkdir(), asked.mkdir()
    for person in range(people):
        write(training / f"sub-{person:06d}.nii", anatomy(person, depth), depth)
    for number in range(queries):
        voxels = anatomy(number * (people // queries), depth)
        turned = scipy.ndimage.rotate(voxels, 5, (1, 2), reshape=False, order=1)
        write(
            asked / f"copy-{number:02d}.nii", turned + np.random.default_rng(number).normal(0, 4, voxels.shape), depth
        )
        write(asked / f"new-{number:02d}.nii", anatomy(people + number, depth), depth)
    return training, asked


class Watched:
    """A command whose stages are timed from outside, by the lines that it prints with ``--json``."""

    def __init__(self, *words: object) -> None:
        command = [sys.executable, "-m", "memorization_index", *map(str, words), "--json"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "MemorizationIndex")}
        self.stages: dict[str, dict[str, float]] = {}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self._proc = Path(f"/proc/{self._process.pid}")
        self._stage, self._since = "start", self._times()
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == "progress":
                if event["stage"] != self._stage:
                    self._next(event["stage"])
                elif event["done"] == event["total"]:  # what follows it may be work without a name
                    self._next(f"after {self._stage}")
        self._next("")
        if self._process.wait():
            raise SystemExit(self._process.returncode)

    def _times(self) -> tuple[float, float]:
        fields = (self._proc / "stat").read_text().rsplit(")", 1)[1].split()
        return time.perf_counter(), (int(fields[11]) + int(fields[12])) / TICKS

    def _next(self, stage: str) -> None:
        """Close a stage: its times, and its own peak of memory (which the kernel is asked to count anew)."""
        try:
            now, status = self._times(), (self._proc / "status").read_text()
            peak = int(status.split("VmHWM:")[1].split()[0])
            (self._proc / "clear_refs").write_text("5")
        except (OSError, IndexError):  # it has just ended
            now, peak = (time.perf_counter(), self._since[1]), 0
        one = self.stages.setdefault(self._stage, {"seconds": 0, "processor_seconds": 0, "peak_mb": 0})
        one["seconds"] = round(one["seconds"] + now[0] - self._since[0], 1)
        one["processor_seconds"] = round(one["processor_seconds"] + now[1] - self._since[1], 1)
        one["peak_mb"] = max(one["peak_mb"], round(peak / 1024))
        print(f"{self._stage}: {one}", file=sys.stderr, flush=True)
        self._stage, self._since = stage, now

    @property
    def figures(self) -> dict[str, Any]:
        """The whole command and its stages."""
        stages = self.stages.values()
        return {
            "seconds": round(sum(one["seconds"] for one in stages), 1),
            "processor_seconds": round(sum(one["processor_seconds"] for one in stages), 1),
            "peak_mb": max(one["peak_mb"] for one in stages),
            "stages": self.stages,
        }


def verdicts(result: Path) -> dict[str, dict[str, int]]:
    """How many copies, and how many of the others, have which verdict."""
    import csv

    with (result / "volumes.csv").open(newline="", encoding="utf-8") as stream:
        rows = [(row["volume"].split("-")[0], row["verdict"]) for row in csv.DictReader(stream)]
    return {kind: dict(Counter(v for k, v in rows if k == kind)) for kind in ("copy", "new")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=10_000)
    parser.add_argument("--depth", type=int, default=20, help="slices of a volume (default 20)")
    parser.add_argument("--queries", type=int, default=10, help="copies that are scored, and as many new people")
    parser.add_argument("--work", type=Path, help="folder for everything; else temporary")
    options = parser.parse_args()
    result: dict[str, Any] = {"processor": processor(), "depth": options.depth}
    with tempfile.TemporaryDirectory(dir=options.work) as temporary:
        folder = Path(temporary)
        training, asked = make(folder, options.slices // options.depth, options.depth, options.queries)
        build = Watched("build", training, "--out", folder / "reference")
        manifest = json.loads((folder / "reference" / "manifest.json").read_text(encoding="utf-8"))
        result |= {"slices": manifest["counts"]["slices"], "null_slices": manifest["calibration"]["null_slices"]}
        result["build"] = build.figures
        result["score"] = Watched("score", folder / "reference", asked, "--out", folder / "result").figures
        result["reference_mb"] = round(sum(f.stat().st_size for f in (folder / "reference").rglob("*")) / 1e6, 1)
        result["verdicts"] = verdicts(folder / "result")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
