"""Ways to find the nearest training slice, side by side: processor seconds a query, and recall.

``python Testing/benchmarks/search.py [--slices N] [--dimension D] [--layers K] [--queries Q]`` prints JSON. Vectors are
made: unit vectors whose variance falls off over the dimensions as that of whitened descriptors does. Half of the
queries are disturbed copies (cosine about .8), half are novel; recall is that of the nearest row for copies whose exact
similarity exceeds the 99th percentile of the novel ones. *literal loop* is the idea of the published code, written
here: one query after the other, norms computed again for each. Times are processor time of one thread, so that other
work on the machine changes them little.
"""

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import faiss
import numpy as np
from machine import processor
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def made(slices: int, queries: int, dimension: int) -> tuple[Vectors, Vectors]:
    """A bank and queries, the first half of them disturbed copies."""
    random = np.random.default_rng(0)
    spread = np.exp(-np.arange(dimension) / 64).astype(np.float32)
    bank = unit(random.standard_normal((slices, dimension), np.float32) * spread)
    novel = unit(random.standard_normal((queries, dimension), np.float32) * spread)
    copied = random.integers(slices, size=queries // 2)
    return bank, np.concatenate([unit(0.8 * bank[copied] + 0.6 * novel[: queries // 2]), novel[queries // 2 :]])


def literal_loop(bank: Vectors, queries: Vectors) -> NDArray[np.int64]:
    """The nearest row of each query, one query at a time."""
    found = []
    for query in queries:
        similarity = bank @ query / (np.linalg.norm(bank, axis=1) * np.linalg.norm(query))
        found.append(int(similarity.argmax()))
    return np.array(found)


def batched(bank: Vectors, queries: Vectors) -> NDArray[np.int64]:
    """The nearest row of each query by matrix products of 64 queries."""
    return np.concatenate([(queries[i : i + 64] @ bank.T).argmax(axis=1) for i in range(0, len(queries), 64)])


def again(bank: Vectors, queries: Vectors, candidates: NDArray[np.int64]) -> NDArray[np.int64]:
    """The best of each query's candidates by their exact similarity."""
    exact = np.einsum("qkd,qd->qk", bank[candidates], queries)
    return np.take_along_axis(candidates, exact.argmax(axis=1)[:, None], 1)[:, 0]


def ways(bank: Vectors) -> dict[str, tuple[Callable[[Vectors], NDArray[np.int64]], float]]:
    """Every way, with the processor seconds that making its index took."""
    made_ways: dict[str, tuple[Callable[[Vectors], NDArray[np.int64]], float]] = {}
    started = time.process_time()
    flat = faiss.IndexFlatIP(bank.shape[1])
    flat.add(bank)
    made_ways["FAISS flat"] = (lambda q: flat.search(q, 1)[1][:, 0], time.process_time() - started)
    started = time.process_time()
    cells = int(2 * np.sqrt(len(bank)))
    clustered = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(bank.shape[1]),
        bank.shape[1],
        cells,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    clustered.train(bank[: 40 * cells])
    clustered.add(bank)
    clustered.nprobe = max(1, cells // 16)
    seconds = time.process_time() - started
    made_ways["IVF, SQ8, 1/16 of the cells"] = (lambda q: again(bank, q, clustered.search(q, 16)[1]), seconds)
    started = time.process_time()
    reduction = faiss.PCAMatrix(bank.shape[1], 96)
    reduction.train(bank[:20_000])
    reduced = reduction.apply(bank)
    seconds = time.process_time() - started

    def by_reduced(queries: Vectors) -> NDArray[np.int64]:
        parts = []
        for i in range(0, len(queries), 64):
            rough = reduction.apply(np.ascontiguousarray(queries[i : i + 64])) @ reduced.T
            parts.append(again(bank, queries[i : i + 64], np.argpartition(-rough, 16, axis=1)[:, :16]))
        return np.concatenate(parts)

    made_ways["batched, 96 principal components, 16 again"] = (by_reduced, seconds)
    started = time.process_time()
    graph = faiss.IndexHNSWFlat(96, 16, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = 60, 32
    graph.add(reduced)
    made_ways["HNSW, 96 principal components, 16 again"] = (
        lambda q: again(bank, q, graph.search(reduction.apply(np.ascontiguousarray(q)), 16)[1]),
        seconds + time.process_time() - started,
    )
    return made_ways


def main() -> None:
    """Make vectors, time every way, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--literal", type=int, default=20, help="queries of the literal loop")
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    bank, queries = made(options.slices, options.queries, options.dimension)
    exact = batched(bank, queries)
    similarity = np.einsum("qd,qd->q", queries, bank[exact])
    counted = np.arange(len(queries)) < len(queries) // 2
    counted &= similarity > np.quantile(similarity[~counted], 0.99)

    def measured(way: Callable[[Vectors], NDArray[np.int64]], asked: Vectors) -> tuple[float, NDArray[np.int64]]:
        started = time.process_time()
        found = way(asked)
        return (time.process_time() - started) / len(asked) * options.layers, found

    literal, _ = measured(lambda q: literal_loop(bank, q), queries[: options.literal])
    rows = {"literal loop": {"ms_a_query": round(literal * 1e3, 3), "times_literal": 1.0, "recall": 1.0}}
    for name, (way, seconds) in {"batched": (lambda q: batched(bank, q), 0.0), **ways(bank)}.items():
        spent, found = measured(way, queries)
        rows[name] = {
            "ms_a_query": round(spent * 1e3, 3),
            "times_literal": round(literal / spent, 1),
            "recall": round(float((found == exact)[counted].mean()), 4),
            "index_seconds": round(seconds * options.layers, 1),
        }
    print(
        json.dumps({**vars(options), "counted": int(counted.sum()), "processor": processor(), "ways": rows}, indent=2)
    )


if __name__ == "__main__":
    main()
