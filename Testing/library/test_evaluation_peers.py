"""Peer measures against values computed by hand, by brute force, or by a maintained package."""

import numpy as np
import pytest
from memorization_index.evaluation.peers import (
    authentic_share,
    data_copying_score,
    frechet_distance,
    kernel_distance,
    mann_whitney_z,
    nearest_cosine,
    nearest_pixels,
    structural_similarity,
    vendi_score,
)
from scipy import linalg, stats


def normal(seed: int, n: int = 200, d: int = 4, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


def test_fid_of_one_number_is_the_formula_by_hand():
    first, second = np.array([[0.0], [2.0]]), np.array([[5.0], [9.0]])  # means 1 and 7, variances 2 and 8
    assert frechet_distance(first, second) == pytest.approx(36 + 2 + 8 - 2 * np.sqrt(16))


def test_fid_equals_the_matrix_square_root_and_is_zero_for_the_same_set():
    first, second = normal(0), normal(1) @ np.diag([1, 2, 3, 0.5]) + 1
    cov = [np.cov(x, rowvar=False) for x in (first, second)]
    step = first.mean(0) - second.mean(0)
    expected = step @ step + np.trace(cov[0] + cov[1] - 2 * np.real(linalg.sqrtm(cov[0] @ cov[1])))
    assert frechet_distance(first, second) == pytest.approx(expected)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_kid_is_the_unbiased_sum_over_pairs():
    first, second = normal(0, 5, 3), normal(1, 4, 3, 1.0)
    kernel = lambda a, b: (a @ b / 3 + 1) ** 3  # noqa: E731
    within = [
        np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]) for x in (first, second)
    ]
    across = np.mean([kernel(a, b) for a in first for b in second])
    assert kernel_distance(first, second) == pytest.approx(within[0] + within[1] - 2 * across)


def test_vendi_counts_distinct_directions():
    assert vendi_score(np.tile([[0.6, 0.8]], (7, 1))) == pytest.approx(1)
    assert vendi_score(np.eye(5)) == pytest.approx(5)
    # Two samples with cosine c: eigenvalues (1 ± c)/2.
    c = 0.6
    values = np.array([(1 + c) / 2, (1 - c) / 2])
    assert vendi_score(np.array([[1, 0], [0.6, 0.8]])) == pytest.approx(np.exp(-(values * np.log(values)).sum()))


def test_authentic_share_by_hand():
    training = np.array([[0.0], [1.0], [10.0]])  # nearest others: 1, 1, 9
    generated = np.array([[0.4], [2.5], [13.0], [30.0]])  # .4 < 1 copied; 1.5 ≥ 1 authentic; 3 < 9 copied; 20 ≥ 9
    assert authentic_share(generated, training) == pytest.approx(0.5)


def test_mann_whitney_z_is_scipys():
    first, second = normal(0, 30, 1)[:, 0], normal(1, 40, 1, 0.4)[:, 0]
    z = mann_whitney_z(first, second)
    p = stats.mannwhitneyu(first, second, alternative="less", use_continuity=False, method="asymptotic").pvalue
    assert stats.norm.cdf(z) == pytest.approx(p)


def test_data_copying_score_of_one_cell_is_the_test_itself_and_falls_for_copies():
    training, held_out, fresh = normal(0), normal(1), normal(2)
    copies = training[:100] + 0.01
    near = lambda x: np.linalg.norm(x[:, None] - training[None], axis=2).min(axis=1)  # noqa: E731
    one = data_copying_score(fresh, training, held_out, cells=1)
    assert one == pytest.approx(mann_whitney_z(near(fresh), near(held_out)))
    assert abs(data_copying_score(fresh, training, held_out)) < 2
    assert data_copying_score(copies, training, held_out) < -4


def test_cells_without_enough_samples_are_left_out():
    training = np.array([[0.0], [0.1], [100.0], [100.1]])
    held_out, generated = np.array([[0.3]] * 5 + [[100.3]] * 5), np.array([[0.35]] * 10)
    score = data_copying_score(generated, training, held_out, cells=2)
    assert score == pytest.approx(mann_whitney_z(np.full(10, 0.25), np.full(5, 0.2)))
    assert np.isnan(data_copying_score(generated, training, held_out[5:], cells=2))


def test_ssim_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    image = rng.random((40, 48)).astype(np.float32)
    others = np.stack([image, 0.5 * image + 0.5 * rng.random((40, 48)), rng.random((40, 48))]).astype(np.float32)
    expected = [metrics.structural_similarity(image, other, data_range=1.0) for other in others]
    np.testing.assert_allclose(structural_similarity(image, others), expected, atol=1e-4)


def test_nearest_cosine_and_pixels_find_the_copy():
    rng = np.random.default_rng(0)
    training = rng.random((30, 32, 32)).astype(np.float32)
    images = np.stack([training[7] * 0.8 + 0.1, rng.random((32, 32)).astype(np.float32)])
    ncc, ssim = nearest_pixels(images, training)
    assert ncc[0] == pytest.approx(1)
    assert ncc[1] < 0.3
    assert ssim[0] > 0.9
    assert ssim[1] < 0.3
    flat = training.reshape(30, -1)
    np.testing.assert_allclose(nearest_cosine(3 * flat[:2], flat), 1, rtol=1e-6)
