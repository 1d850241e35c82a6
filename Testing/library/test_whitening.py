"""Moments, whitening and exact search, each against what defines it."""

import itertools

import numpy as np
import pytest
from memorization_index import (
    roots,
)
from memorization_index.neighbors import Index
from memorization_index.whitening import Moments, Whitening, merged, spectrum_of


@pytest.mark.parametrize("of_fold", [0, 1, 4, 30, 57])  # none; few, by what is taken away; many, by decomposing again
@pytest.mark.parametrize("numbers", [20, 50, 200])
def test_whitening_without_a_fold_is_that_of_the_other_slices(of_fold, numbers):
    """Few slices (range), as many as numbers, and far fewer numbers than slices; variances over six decades."""
    rng = np.random.default_rng(numbers)
    features = rng.normal(3, 1, (60, numbers)) @ np.diag(np.geomspace(1, 1e-3, numbers))
    whole, fold = Moments.of(features), Moments.of(features[:of_fold])
    found = Whitening.fit(whole - fold, whole=spectrum_of(whole))
    expected = Whitening.fit(Moments.of(features[of_fold:]))
    np.testing.assert_allclose(found.matrix, expected.matrix, rtol=1e-6, atol=1e-6 * np.abs(expected.matrix).max())
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)


def test_a_fold_of_few_slices_is_taken_away_without_decomposing_again(monkeypatch):
    features = np.random.default_rng(0).normal(size=(400, 300))
    whole, fold = Moments.of(features), Moments.of(features[:5])
    spectrum = spectrum_of(whole)
    monkeypatch.setattr(np.linalg, "eigh", None)
    found = Whitening.fit(whole - fold, whole=spectrum)
    monkeypatch.undo()
    np.testing.assert_allclose(found.matrix, Whitening.fit(Moments.of(features[5:])).matrix, atol=1e-6)


def test_merged_moments_equal_those_of_all_data_in_any_order():
    data = np.random.default_rng(0).normal(3, 2, size=(90, 12))
    parts = [Moments.of(data[rows]) for rows in (slice(0, 7), slice(7, 60), slice(60, 60), slice(60, 90))]
    whole = Moments.of(data)
    for order in itertools.permutations(parts):
        together = merged(order)
        assert together.count == 90
        np.testing.assert_allclose(together.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(together.second, whole.second, rtol=1e-10)


@pytest.mark.parametrize("count", [2, 20, 60])
def test_whitening_by_few_slices_is_that_of_all_directions(count, monkeypatch):
    """The short way by the range of a covariance of low rank, against the decomposition of the whole."""
    data = np.random.default_rng(count).normal(size=(count, 300)) * np.geomspace(1, 1e-3, 300)
    moments = Moments.of(data) + Moments.of(data[:1]) - Moments.of(data[:1])  # with what rounding leaves
    short = Whitening.fit(moments)
    monkeypatch.setattr(roots, "_SPARE", 300)
    whole = Whitening.fit(moments)
    np.testing.assert_allclose(short.matrix, whole.matrix, atol=1e-6 * np.abs(whole.matrix).max())


@pytest.mark.parametrize("count", [20, 400])
def test_both_roots_of_the_covariance_give_the_same_cosines(count):
    rng = np.random.default_rng(count)
    data = rng.normal(size=(count, 50)) @ rng.normal(size=(50, 50))
    symmetric = Whitening.fit(Moments.of(data), shrinkage=0.1)
    triangular = Whitening.fit(Moments.of(data), shrinkage=0.1, symmetric=False)
    assert not np.tril(triangular.matrix, -1).any()
    np.testing.assert_allclose(symmetric.matrix, symmetric.matrix.T, atol=1e-7)
    for queries in (data[:7], rng.normal(size=(7, 50))):
        cosines = [whitening(queries) @ whitening(data).T for whitening in (symmetric, triangular)]
        np.testing.assert_allclose(cosines[1], cosines[0], atol=1e-5)


def test_subtracting_a_part_of_the_moments_gives_those_of_the_rest():
    data = np.random.default_rng(4).normal(2, 3, size=(60, 8))
    rest = Moments.of(data) - Moments.of(data[:25])
    expected = Moments.of(data[25:])
    assert rest.count == expected.count
    np.testing.assert_allclose(rest.mean, expected.mean, rtol=1e-10)
    np.testing.assert_allclose(rest.second, expected.second, rtol=1e-9)
    assert (Moments.of(data) - Moments.of(data)).count == 0


def test_whitening_without_shrinkage_gives_unit_covariance_and_unit_vectors():
    data = np.random.default_rng(1).normal(size=(400, 6)) @ np.random.default_rng(2).normal(size=(6, 6))
    whitening = Whitening.fit(Moments.of(data), shrinkage=0.0)
    flat = (data - whitening.mean) @ whitening.matrix
    np.testing.assert_allclose(np.cov(flat.T), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(whitening(data), axis=1), 1, rtol=1e-5)


def test_search_finds_distinct_rows_over_views_and_leaves_out_what_is_excluded():
    rng = np.random.default_rng(3)
    bank = rng.normal(size=(50, 8)).astype(np.float32)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    queries = np.stack([bank[[7, 9]], bank[[3, 3]]])  # two slices with two views each
    found = Index(bank).search(queries, 3)
    assert set(found.row[0, :2]) == {7, 9}
    assert found.row[1, 0] == 3
    assert all(len(set(rows)) == 3 for rows in found.row)
    np.testing.assert_allclose(found.similarity[:, 0], 1, atol=1e-6)
    assert found.view[0, list(found.row[0]).index(9)] == 1
    excluded = np.zeros(50, bool)
    excluded[[7, 3]] = True
    assert not {7, 3} & set(Index(bank).search(queries, 3, excluded).row.ravel())
