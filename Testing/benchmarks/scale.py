"""Search and memory at 10,000 to a million slices: ``python Testing/benchmarks/scale.py --slices N [--work DIR]``.

Prints JSON: peak memory of every stage, processor seconds of building the index, processor milliseconds of a query's
search (of ``layout`` with the comparison in parts), and recall. Each stage runs in a process of its own, so that its
peak is its own.

What is searched are *generated features*, not pictures: 16 of those of computed heads are mixed at random, which keeps
their mean and covariance, and written as a build writes them. A query has as many views as a slice has in ``spectral``
(140; ``layout``: 10). All views of a *novel* query are new mixtures; one view of a *copy* is a stored row, disturbed so
that its similarity falls to the range that decides, and in ``spectral`` the views that are turned by 4° more and less
keep .8 of it, as those of real slices do in the median. Recall is that of the exact nearest slice, for copies whose
exact similarity exceeds the 99th percentile of the novel queries'. As the exact search takes long, more copies are
counted by their own row: of those that it is more similar to than the 99th percentile of what the novel queries *found*
(which is lower), how many find it.
"""

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "MemorizationIndex")]

import numpy as np  # noqa: E402
from machine import processor  # noqa: E402
from memorization_index import spectral  # noqa: E402
from memorization_index.channels import EmbeddedDescriber  # noqa: E402
from memorization_index.clustered import Cells, ClusteredIndex  # noqa: E402
from memorization_index.cohort import find_volumes  # noqa: E402
from memorization_index.encoding import read_slices, written_shards  # noqa: E402
from memorization_index.evaluation.cohorts import make_demo_cohort  # noqa: E402
from memorization_index.layout import part_similarity  # noqa: E402
from memorization_index.neighbors import Index  # noqa: E402
from memorization_index.nulls import FOLDS  # noqa: E402
from memorization_index.reference import blocks  # noqa: E402
from memorization_index.retrieval import CANDIDATES, PART_CANDIDATES, probing_of  # noqa: E402
from memorization_index.shards import gathered  # noqa: E402
from memorization_index.whitening import Moments, Whitening, merged  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

VIEWS = {"spectral": 140, "layout": 10}
COUNT = {"spectral": CANDIDATES, "layout": PART_CANDIDATES}
#: What a view of ``spectral`` keeps of the similarity of one that is turned by 4° more or less.
TURNED = np.float32(0.8)
#: What candidates are compared by besides: ``layout.part``.
MEASURE = {"spectral": None, "layout": part_similarity}
SUBJECT_SLICES = 40
#: Heads' slices that are mixed into one row.
MIXED = 16
#: Further copies that are made at a time.
BATCH = 100


def base(work: Path, subjects: int) -> None:
    """Features of computed heads, by channel."""
    make_demo_cohort(work / "heads", subjects=subjects)
    entries = find_volumes([work / "heads"]).entries
    found = [EmbeddedDescriber().describe(read_slices(e, "axial")[1]) for e in entries]
    save_file({c: np.concatenate([f[c] for f in found]) for c in VIEWS}, work / "base.safetensors")


def mixtures(features: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Mixed rows ``(count, D)``: their mean and covariance are those of the features."""
    mean = features.mean(axis=0, dtype=np.float32)
    weights = random.standard_normal((MIXED, count, 1), np.float32)
    weights /= np.linalg.norm(weights, axis=0)
    chosen = random.integers(len(features), size=(MIXED, count))
    result = np.repeat(mean[None], count, axis=0)
    for of_one, weight in zip(chosen, weights, strict=True):
        result += weight * (features[of_one] - mean)
    return result


def generate(work: Path, channel: str, slices: int) -> None:
    """Write shards as a build does."""
    features = load_file(work / "base.safetensors")[channel].astype(np.float32)
    random = np.random.default_rng(1)
    parts = (mixtures(features, min(4096, slices - i), random).astype(np.float16) for i in range(0, slices, 4096))
    written_shards(work, channel, parts)


def shards(work: Path, channel: str) -> list[np.ndarray]:
    return [np.load(p, mmap_mode="r") for p in sorted(work.glob(f"features-{channel}-*.npy"))]


def moments(work: Path, channel: str) -> None:
    """The whitening of all, and that of a fold of the null, from one pass."""
    total = merged(Moments.of(block) for block in blocks(shards(work, channel)))
    parts = shards(work, channel)
    fold = np.arange(sum(map(len, parts))) // SUBJECT_SLICES % FOLDS == 0
    left = total - merged(Moments.of(block) for block in blocks(parts, fold))
    for name, found in (("all", Whitening.fit(total)), ("fold", Whitening.fit(left))):
        save_file({"mean": found.mean, "matrix": found.matrix}, work / f"{channel}-{name}.safetensors")


def whitening(work: Path, channel: str, name: str) -> Whitening:
    return Whitening(**load_file(work / f"{channel}-{name}.safetensors"))


def index(work: Path, channel: str) -> None:
    save_file(Cells.of(shards(work, channel), whitening(work, channel, "all")).tensors, work / f"{channel}-cells")


def queries(work: Path, channel: str, white: Whitening, number: int, copies: int, seed: int) -> tuple[np.ndarray, ...]:
    """Whitened views ``(number, V, D)``, the first so many of them of copies, and the rows that those are of."""
    features, random = load_file(work / "base.safetensors")[channel].astype(np.float32), np.random.default_rng(seed)
    views = white(mixtures(features, number * VIEWS[channel], random)).reshape(number, VIEWS[channel], -1)
    parts = shards(work, channel)
    rows = random.integers(sum(map(len, parts)), size=copies)
    kept = random.uniform(0.45, 0.95, (copies, 1)).astype(np.float32)
    place = random.integers(VIEWS[channel], size=copies)
    stored = white(gathered(parts, rows))
    if channel == "spectral":
        for i, near in enumerate(map(turned, place)):
            less = TURNED * kept[i]
            views[i, near] = less * stored[i] + np.sqrt(1 - less**2) * views[i, near]
    views[np.arange(copies), place] = kept * stored + np.sqrt(1 - kept**2) * views[:copies, 0]
    return views / np.linalg.norm(views, axis=2, keepdims=True), rows


@functools.cache
def turned(place: int) -> list[int]:
    """Places of the views of ``spectral`` that are turned by 4° more or less than one."""
    views = spectral.views()
    near = [replace(views[place], rotation=views[place].rotation + angle) for angle in (-4, 4)]
    return [views.index(view) for view in near if view in views]


def search(work: Path, channel: str, number: int, name: str, exact: bool) -> dict[str, float]:
    """Time of a query's search; recall beside the exact search, block by block (``name``: under which whitening)."""
    parts, white = shards(work, channel), whitening(work, channel, name)
    asked, _ = queries(work, channel, white, number, number // 2, 2)
    searched = ClusteredIndex(Cells(**load_file(work / f"{channel}-cells")), parts, white)
    started = time.process_time()
    found = searched.search(asked, COUNT[channel], measure=MEASURE[channel], probing=probing_of(channel))
    spent = (time.process_time() - started) / number
    novel = np.arange(number) >= number // 2
    result = {"ms_a_query": round(spent * 1e3, 2), "limit": float(np.quantile(found.similarity[novel, 0], 0.99))}
    if exact:
        best, row = np.full(number, -1, np.float32), np.zeros(number, np.int64)
        start, spent = 0, 0.0
        for block in blocks(parts):
            vectors = white(block)
            began = time.process_time()
            one = Index(vectors).search(asked, 1)
            spent += time.process_time() - began
            better = one.similarity[:, 0] > best
            best[better], row[better] = one.similarity[better, 0], one.row[better, 0] + start
            start += len(block)
        counted = ~novel & (best > np.quantile(best[novel], 0.99))
        result |= {
            "exact_ms_a_query": round(spent / number * 1e3, 2),
            "counted": int(counted.sum()),
            "recall": round(float((found.row[:, 0] == row)[counted].mean()), 4),
            "recall_of_novel": round(float((found.row[:, 0] == row)[novel].mean()), 4),
        }
    return result


def own_rows(work: Path, channel: str, number: int, limit: float) -> dict[str, int]:
    """How many of further copies, whose row is more similar than ``limit``, find that row or a more similar one."""
    parts, white = shards(work, channel), whitening(work, channel, "all")
    searched = ClusteredIndex(Cells(**load_file(work / f"{channel}-cells")), parts, white)
    counted = found = 0
    for batch in range(number // BATCH):
        asked, rows = queries(work, channel, white, BATCH, BATCH, 3 + batch)
        own = np.einsum("nvd,nd->nv", asked, white(gathered(parts, rows))).max(axis=1)
        similarity = searched.search(asked, COUNT[channel], probing=probing_of(channel)).similarity[:, 0]
        counted += int((own > limit).sum())
        found += int(((own > limit) & (similarity > own - 1e-5)).sum())
    return {"copies_counted": counted, "copies_found": found}


def main() -> None:
    """Run every stage in a process of its own and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--copies", type=int, default=1000, help="further copies, counted by their own row")
    parser.add_argument("--subjects", type=int, default=150, help="computed heads that features are mixed from")
    parser.add_argument("--work", type=Path, help="folder for features (2.9 GB for a million slices); else temporary")
    parser.add_argument("--no-exact", action="store_true", help="leave out the exact search that recall is taken from")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--channel", help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        work, channel, started = options.work, options.channel, time.process_time()
        result: dict[str, float] = {}
        if options.stage in ("search", "null search"):
            name = "all" if options.stage == "search" else "fold"
            result = search(work, channel, options.queries, name, not options.no_exact)
        elif options.stage == "copies":
            result = own_rows(work, channel, options.copies, options.limit)
        else:
            {"generate": lambda: generate(work, channel, options.slices), "moments": lambda: moments(work, channel),
             "index": lambda: index(work, channel)}[options.stage]()  # fmt: skip
        result["processor_seconds"] = round(time.process_time() - started, 1)
        result["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        print(json.dumps(result))
        return
    result = {"slices": options.slices, "processor": processor(), "channels": {}}
    with tempfile.TemporaryDirectory(dir=options.work) as temporary:
        work = Path(temporary)
        base(work, options.subjects)
        for channel in VIEWS:
            rows = result["channels"][channel] = {}
            for stage in ("generate", "moments", "index", "search", "null search", "copies"):
                words = ["--stage", stage, "--channel", channel, "--work", work, "--slices", options.slices]
                words += ["--copies", options.copies, "--limit", rows.get("search", {}).get("limit", 0)]
                words += ["--queries", options.queries] + ["--no-exact"] * (options.no_exact or stage == "null search")
                command = [sys.executable, __file__, *map(str, words)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                rows[stage] = json.loads(output.splitlines()[-1])
                print(channel, stage, rows[stage], file=sys.stderr, flush=True)
            rows["index_mb"] = round((work / f"{channel}-cells").stat().st_size / 1e6, 1)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
