"""Large references: what is found through cells, beside the exact search, and what a bundle keeps of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import phantoms
import pytest
from memorization_index import MemorizationIndexError, Reference, building, clustered, spectral
from memorization_index.clustered import Cells, ClusteredIndex
from memorization_index.neighbors import Index, Probing
from memorization_index.shards import gathered, row_blocks
from memorization_index.whitening import Moments, Whitening

DIMENSION, SLICES, VIEWS = 128, 3000, 12


@pytest.fixture(scope="module")
def shards() -> list[np.ndarray]:
    """Features whose variance falls off over the dimensions, as that of descriptors does, in two arrays."""
    random = np.random.default_rng(0)
    features = random.standard_normal((SLICES, DIMENSION)) * np.exp(-np.arange(DIMENSION) / 40)
    return np.split(features.astype(np.float16), [1700])


@pytest.fixture(scope="module")
def whitening(shards) -> Whitening:
    return Whitening.fit(Moments.of(np.concatenate(shards)))


@pytest.fixture(scope="module")
def exact(shards, whitening) -> Index:
    return Index(whitening(np.concatenate(shards)))


@pytest.fixture(scope="module")
def queries(exact) -> np.ndarray:
    """Views ``(n, V, D)``: the first 100 have one that is a stored vector, disturbed to a cosine of .8."""
    random = np.random.default_rng(1)
    views = random.standard_normal((200, VIEWS, DIMENSION), np.float32) * np.exp(-np.arange(DIMENSION) / 40)
    views = (views / np.linalg.norm(views, axis=2, keepdims=True)).astype(np.float32)
    views[np.arange(100), random.integers(VIEWS, size=100)] = 0.8 * exact.vectors[:100] + 0.6 * views[:100, 0]
    return views / np.linalg.norm(views, axis=2, keepdims=True)


#: Nearly all pairs of a view and a cell: all, but found cell by cell.
NEARLY = 1 - 1e-9


@pytest.mark.parametrize(("share", "together"), [(1, 64), (NEARLY, 64), (NEARLY, 1)])
def test_where_every_cell_is_looked_into_the_exact_search_comes_out(
    share: float, together: int, shards, whitening, exact, queries, monkeypatch
) -> None:
    monkeypatch.setattr(Probing, "share_among", lambda _probing, _slices: share)
    monkeypatch.setattr(clustered, "_PAIRS_SAMPLED", 10**9)
    monkeypatch.setattr(clustered, "_TOGETHER", together)  # many slices at a time, and one
    monkeypatch.setattr(clustered, "_CELLS_AT_ONCE", 100)
    monkeypatch.setattr(clustered, "_AGAIN", SLICES)
    searched = ClusteredIndex(Cells.of(shards, whitening), shards, whitening)
    excluded = np.arange(SLICES) % 7 == 0
    for left_out in (None, excluded):
        found, known = searched.search(queries, 3, left_out), exact.search(queries, 3, left_out)
        np.testing.assert_array_equal(found.row, known.row)
        np.testing.assert_array_equal(found.view, known.view)
        np.testing.assert_allclose(found.similarity, known.similarity, atol=1e-5)


def test_candidates_are_measured_anew_as_the_exact_search_does(shards, whitening, exact, queries, monkeypatch) -> None:
    monkeypatch.setattr(Probing, "share_among", lambda _probing, _slices: NEARLY)
    monkeypatch.setattr(clustered, "_PAIRS_SAMPLED", 10**9)
    monkeypatch.setattr(clustered, "_AGAIN", SLICES)

    def first_half(views: np.ndarray, found_by: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        return (views[found_by, : DIMENSION // 2] * vectors[:, : DIMENSION // 2]).sum(axis=1)

    found = ClusteredIndex(Cells.of(shards, whitening), shards, whitening).search(queries, 20, measure=first_half)
    known = exact.search(queries, 20, measure=first_half)
    halves = exact.vectors[known.row, : DIMENSION // 2]
    own = np.take_along_axis(queries, known.view[..., None], axis=1)[..., : DIMENSION // 2]
    np.testing.assert_allclose(known.measured, (halves * own).sum(axis=2), atol=1e-5)
    np.testing.assert_allclose(found.measured, known.measured, atol=1e-5)


def test_a_row_that_is_known_is_compared_though_codes_do_not_tell_of_it(shards, whitening, exact) -> None:
    cells = Cells.of(shards, whitening)
    # What the codes of some rows leave out is all that the queries show.
    vectors = exact.vectors[::100]
    views = vectors - vectors @ cells.basis @ cells.basis.T
    views = (views / np.linalg.norm(views, axis=1, keepdims=True))[:, None]
    searched, nearest = ClusteredIndex(cells, shards, whitening), exact.search(views, 1)
    assert (searched.search(views, 1).row != nearest.row).mean() > 0.5
    known = np.pad(nearest.row, ((0, 0), (1, 0)), constant_values=-1)
    found = searched.search(views, 1, known=known)
    np.testing.assert_array_equal(found.row, nearest.row)
    np.testing.assert_allclose(found.similarity, nearest.similarity, atol=1e-5)


@pytest.mark.parametrize("share", [1, 1 / 4])
def test_what_is_more_similar_than_strangers_are_is_found(
    share: float, shards, whitening, exact, queries, monkeypatch
) -> None:
    monkeypatch.setattr(Probing, "share_among", lambda _probing, _slices: share)
    found = ClusteredIndex(Cells.of(shards, whitening), shards, whitening).search(queries, 3)
    known = exact.search(queries, 3)
    counted = known.similarity[:100, 0] > np.quantile(found.similarity[100:, 0], 0.99)
    assert counted.sum() >= 50
    np.testing.assert_array_equal(found.row[:100, 0][counted], known.row[:100, 0][counted])
    np.testing.assert_allclose(found.similarity[:100, 0][counted], known.similarity[:100, 0][counted], atol=1e-5)
    # It does not look at everything: of strangers not all nearest slices are found, and none is overrated.
    assert (found.similarity[:, 0] <= known.similarity[:, 0] + 1e-5).all()


@pytest.mark.parametrize("share", [1, 1 / 4])
def test_what_only_a_view_between_those_that_look_shows_is_found_by_its_neighbors(
    share: float, shards, whitening, exact, queries, monkeypatch
) -> None:
    monkeypatch.setattr(Probing, "share_among", lambda _probing, _slices: share)
    searched = ClusteredIndex(Cells.of(shards, whitening), shards, whitening)
    views = queries.copy()
    views[:100, 5] = exact.vectors[:100]  # the fifth view is the stored vector, …
    kept = np.float32(0.8)
    for neighbor in (4, 6):  # … of which its neighbors keep as much as a slice that is turned by 4° does
        views[:100, neighbor] = kept * exact.vectors[:100] + np.sqrt(1 - kept**2) * queries[100:, neighbor]
    views /= np.linalg.norm(views, axis=2, keepdims=True)
    found = searched.search(views[:100], 3, probing=Probing(between=np.arange(1, VIEWS, 2)))
    np.testing.assert_array_equal(found.row[:, 0], np.arange(100))
    np.testing.assert_array_equal(found.view[:, 0], 5)
    np.testing.assert_allclose(found.similarity[:, 0], 1, atol=1e-5)


def test_views_that_look_for_candidates_leave_none_more_than_four_degrees_from_one() -> None:
    views = spectral.views()
    chosen = [view for place, view in enumerate(views) if place not in spectral.between_views()]
    assert len(chosen) < len(views) / 2
    for view in views:
        assert min(abs(view.rotation - c.rotation) for c in chosen if replace(c, rotation=view.rotation) == view) <= 4


def test_the_same_features_give_the_same_cells_however_they_are_stored(shards, whitening) -> None:
    one, other = Cells.of(shards, whitening), Cells.of([np.concatenate(shards)], whitening)
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.codes, other.codes)


def test_rows_are_gathered_and_read_in_blocks_across_arrays(shards) -> None:
    whole = np.concatenate(shards)
    rows = np.array([2999, 0, 1700, 1699, 1700])
    np.testing.assert_array_equal(gathered(shards, rows), whole[rows])
    chosen = np.arange(SLICES) % 3 == 1
    np.testing.assert_array_equal(np.concatenate(list(row_blocks(shards, 64, chosen))), whole[chosen])


@pytest.fixture
def small(monkeypatch) -> None:
    """Every reference counts as a large one."""
    monkeypatch.setattr(building, "CLUSTERED_FROM", 10)


def _training(folder: Path, people: range) -> Path:
    for number in people:
        phantoms.write(folder / f"sub-{number:02d}.nii.gz", phantoms.anatomy(number)[3:9])
    return folder


@pytest.mark.usefixtures("small")
def test_a_bundle_keeps_its_cells_and_one_that_was_changed_is_refused(tmp_path: Path) -> None:
    built = Reference.build(_training(tmp_path / "training", range(8)), tmp_path / "reference", power="none")
    opened = Reference.open(tmp_path / "reference")
    assert set(opened.cells) == {"spectral", "layout"}
    for channel, cells in built.cells.items():
        for name, values in cells.tensors.items():
            np.testing.assert_array_equal(opened.cells[channel].tensors[name], values)
    phantoms.write(tmp_path / "copy.nii.gz", phantoms.anatomy(3)[4:7])
    scores = opened.score(tmp_path / "copy.nii.gz")
    assert scores.volumes["match_volume"].tolist() == ["sub-03.nii.gz"]
    assert scores.slices["similarity"] == pytest.approx([1, 1, 1], abs=1e-4)
    path = tmp_path / "reference" / "cells-layout.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(MemorizationIndexError, match=r"cells-layout\.safetensors: was changed after the build"):
        Reference.open(tmp_path / "reference")


@pytest.mark.usefixtures("small")
def test_an_extended_large_reference_is_the_one_that_a_build_of_all_gives(tmp_path: Path) -> None:
    folder = _training(tmp_path / "training", range(7))
    Reference.build(folder, tmp_path / "reference", power="none")
    _training(folder, range(7, 9))
    Reference.open(tmp_path / "reference").extend(folder, tmp_path / "extended")
    rebuilt = Reference.build(folder, tmp_path / "rebuilt", power="none")
    extended = Reference.open(tmp_path / "extended")
    np.testing.assert_allclose(extended.null.similarity, rebuilt.null.similarity, atol=1e-6)
    for name in rebuilt.manifest["files"]:
        if name.startswith("cells-"):
            assert extended.manifest["files"][name] == rebuilt.manifest["files"][name]
