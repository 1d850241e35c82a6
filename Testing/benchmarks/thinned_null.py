"""Whether a null of every k-th slice holds: ``python Testing/benchmarks/thinned_null.py SCANS --trained N``.

Some of the people (``--trained``) make a reference whose null has every slice of its volumes; it is then thinned as
``build`` thins that of deep volumes. Prints JSON: for each step the null's mean largest MI of a volume (whole, of the
slices that are left, and extrapolated from these), and how many of the others' volumes, which are no copies, have a
volume p of at most .05 and .2, with the extrapolation and without.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "MemorizationIndex")]

import numpy as np  # noqa: E402
from machine import processor  # noqa: E402
from memorization_index import Reference, nulls  # noqa: E402
from memorization_index.calibration import Null  # noqa: E402
from memorization_index.channels import EmbeddedDescriber  # noqa: E402
from memorization_index.cohort import Entry, find_volumes  # noqa: E402
from memorization_index.encoding import read_slices  # noqa: E402

STEPS = (1, 2, 3, 4, 8)
#: A query volume: similarities of its slices, and where in the training volumes their matches lie.
Query = tuple[np.ndarray, np.ndarray]


def split(entries: list[Entry], trained: int) -> tuple[list[Entry], list[Entry]]:
    """The volumes of so many people, drawn at random, and those of the others."""
    people = sorted({entry.subject for entry in entries})
    chosen = set(np.random.default_rng(0).permutation(people)[:trained])
    return [e for e in entries if e.subject in chosen], [e for e in entries if e.subject not in chosen]


def built(entries: list[Entry], folder: Path) -> Reference:
    """A reference whose null has every slice of its volumes."""
    nulls.step_between = lambda _slices: 1
    table = folder / "training.csv"
    table.write_text("".join(["path,subject\n", *(f'"{e.path.absolute()}",{e.subject}\n' for e in entries)]))
    return Reference.build(table, folder / "reference", power="none")


def examined(reference: Reference, entry: Entry) -> Query:
    _, stack = read_slices(entry, reference.plane)
    found = reference.retriever.examine(EmbeddedDescriber(), list(stack.batches()))
    rows = np.concatenate([one.rows[:, 0] for one in found])
    return np.concatenate([one.similarity for one in found]), reference.slice_position[rows]


def thinned(null: Null, step: int, first: int, said: int) -> Null:
    """Every ``step``-th slice of each volume, said to be every ``said``-th."""
    keep = np.zeros(len(null.volume), bool)
    for number, volume in enumerate(np.unique(null.volume)):
        own = np.flatnonzero(null.volume == volume)
        keep[own[(first + number) % min(step, len(own)) :: step]] = True
    return Null(null.similarity[keep], null.subject[keep], null.volume[keep], null.position[keep], said)


def share(null: Null, queries: list[Query], limits: tuple[float, ...] = (0.05, 0.2)) -> list[float]:
    p = np.array([null.volume_numbers(float(null.mi(s, place).max()), len(s)).p for s, place in queries])
    return [round(float((p <= limit).mean()), 3) for limit in limits]


def largest(null: Null) -> float:
    """Mean over the null's volumes of the largest MI of all their slices."""
    values, weights = null.volume_maxima(10**6)
    return round(float(values @ weights), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", type=Path, help="folder, or table with subjects")
    parser.add_argument("--trained", type=int, required=True, help="people that the reference is built of")
    parser.add_argument("--subjects", help="expression that takes the subject from a file's name")
    options = parser.parse_args()
    training, others = split(find_volumes([options.scans], options.subjects).entries, options.trained)
    with tempfile.TemporaryDirectory() as temporary:
        reference = built(training, Path(temporary))
        queries = [examined(reference, entry) for entry in others]
        rows: list[dict[str, Any]] = []
        for step in STEPS:
            for first in range(min(step, 2)):
                held, plain = (thinned(reference.null, step, first, said) for said in (step, 1))
                row = {"step": step, "slices": len(held.volume), "extrapolated": largest(held), "left": largest(plain)}
                if queries:
                    row |= {"p_at_most_.05_.2": share(held, queries), "without": share(plain, queries)}
                rows.append(row)
        counts = {"volumes": len(reference.volumes), "others": len(others)}
    print(json.dumps({"processor": processor(), **counts, "null": rows}, indent=2))


if __name__ == "__main__":
    main()
