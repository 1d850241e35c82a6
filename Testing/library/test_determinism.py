"""The same numbers however the work is divided: size of batches, number of threads, order of files.

Files in any order give the same bytes (test_bundle.py). Batches and threads change the order in which a matrix product
adds, so similarities agree to 1e-5, MI to that divided by the null's deviation; classes and matches are the same.
"""

import json
import os
import subprocess
import sys
from functools import partialmethod
from pathlib import Path

import numpy as np
import phantoms
import pytest
from memorization_index import Reference, encoding, matching, neighbors, verification
from memorization_index.slices import SliceStack

TOLERANCE = 1e-5
PACKAGE = Path(sys.modules["memorization_index"].__file__).parent


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("queries")
    noise = np.random.default_rng(0).normal(0, 15, (3, *phantoms.SHAPE[1:]))
    phantoms.write(folder / "exact.nii.gz", phantoms.anatomy(2)[4:7])
    phantoms.write(folder / "noisy.nii.gz", np.clip(phantoms.anatomy(3)[4:7] * 0.7 + noise, 0, None).astype(np.int16))
    phantoms.write(folder / "new.nii.gz", phantoms.anatomy(51)[4:7])
    return folder


@pytest.fixture(scope="module")
def known(reference: Path, queries: Path):
    return Reference.open(reference).score(queries)


def assert_same(first, second, deviation: float) -> None:
    for table in ("slices", "volumes"):
        one, other = getattr(first, table), getattr(second, table)
        for name, column in one.items():
            if column.dtype.kind == "f":
                scale = 1 / deviation if name in ("mi", "mi_max", "oni") else 1.0
                np.testing.assert_allclose(other[name], column, atol=TOLERANCE * scale, rtol=0, err_msg=name)
            else:
                np.testing.assert_array_equal(other[name], column, err_msg=name)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_size_of_batches_does_not_matter(size: int, reference: Path, queries: Path, known, monkeypatch) -> None:
    monkeypatch.setattr(SliceStack, "batches", partialmethod(SliceStack.batches, size=size))
    monkeypatch.setattr(verification, "_CHUNK", size)
    monkeypatch.setattr(neighbors, "_BLOCK", 1000 * size)
    opened = Reference.open(reference)
    assert_same(opened.score(queries), known, opened.manifest["calibration"]["deviation"])


@pytest.mark.parametrize("count", [1, 5])
def test_number_of_threads_does_not_matter(count: int, reference: Path, queries: Path, known, monkeypatch) -> None:
    monkeypatch.setattr(matching.os, "cpu_count", lambda: count)
    opened = Reference.open(reference)
    assert_same(opened.score(queries), known, opened.manifest["calibration"]["deviation"])


@pytest.mark.parametrize("files", [1, 3])
def test_size_of_units_does_not_matter(
    files: int, training: Path, reference: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(encoding, "_UNIT_FILES", files)
    Reference.build(training, tmp_path / "reference")
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (reference, tmp_path / "reference")]
    assert manifests[0]["files"] == manifests[1]["files"]


_SCORE = """
import sys
from memorization_index import Reference
Reference.open(sys.argv[1]).score(sys.argv[2]).write(sys.argv[3])
"""


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_of_linear_algebra_do_not_matter(
    threads: int, reference: Path, queries: Path, known, tmp_path: Path
) -> None:
    """BLAS reads its number of threads when it is loaded: in a process of its own."""
    from memorization_index import Scores

    counts = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))
    environment = {**os.environ, **counts, "PYTHONPATH": str(PACKAGE.parent)}
    subprocess.run([sys.executable, "-c", _SCORE, reference, queries, tmp_path], check=True, env=environment)
    deviation = Reference.open(reference).manifest["calibration"]["deviation"]
    found = Scores.read(tmp_path)
    for name in ("similarity", "mi", "p_value", "ncc"):
        scale = 1 / deviation if name == "mi" else 1.0
        np.testing.assert_allclose(found.slices[name], known.slices[name], atol=TOLERANCE * scale, rtol=0)
    for name in ("match_volume", "match_slice", "match_class", "flagged"):
        np.testing.assert_array_equal(found.slices[name], known.slices[name])


def test_blas_has_one_thread_in_each_of_ours():
    """A program that uses this package has BLAS threads of its own; in ours they would stand in each other's way."""
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def blas(_item):
        return {p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"}

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        assert blas(None) == {2}
        assert matching.in_threads(blas, [1, 2]) == [{1}, {1}]
        assert [found for _item, found in matching.in_order(blas, [1, 2, 3])] == [{1}] * 3
        assert blas(None) == {2}, "what the program had is given back"
