"""Slices per second of ``build`` and ``score``, as whole processes on computed heads.

``python Testing/benchmarks/throughput.py [--subjects N] [--runs K]`` prints JSON: the processor, and for each command
the seconds of every run (start of Python included) and slices per second at the median.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import processor
from memorization_index.evaluation.cohorts import make_demo_cohort


def timed(*words: object) -> float:
    """Seconds that one whole process takes; its output is thrown away."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "memorization_index", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Make heads, time the two commands, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=30)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    result = {"processor": processor()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_demo_cohort(folder / "training", subjects=options.subjects)
        make_demo_cohort(folder / "queries", subjects=options.subjects, first=options.subjects + 1)
        slices = 0
        for command in ("build", "score"):
            seconds = []
            for run in range(options.runs):
                reference = folder / f"reference-{run if command == 'build' else 0}"
                if command == "build":
                    seconds.append(timed("build", folder / "training", "--out", reference))
                else:
                    seconds.append(timed("score", reference, folder / "queries", "--out", folder / f"result-{run}"))
            slices = json.loads((folder / "reference-0" / "manifest.json").read_text())["counts"]["slices"]
            rate = round(slices / statistics.median(seconds), 1)
            result[command] = {"slices": slices, "seconds": seconds, "slices_per_second": rate}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
