"""Pictures are compared after their intensities and their places are matched."""

import numpy as np
from memorization_index.alignment import Alignment, Slices, query_to_training
from memorization_index.comparison import IntensityMap, aligned_slice, checkerboard
from scipy.ndimage import gaussian_filter


def volume(seed=0, shape=(9, 30, 40)):
    values = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return np.clip(600 + 2500 * values, 0, None)


def test_a_tone_curve_is_undone():
    training = volume()
    query = 40 + 900 * (training / training.max()) ** 0.7
    found = IntensityMap.between(training, query)
    middle = np.quantile(training, [0.1, 0.5, 0.9])
    expected = 40 + 900 * (middle / training.max()) ** 0.7
    np.testing.assert_allclose(found.to_query(middle), expected, rtol=0.02)
    np.testing.assert_allclose(found.to_training(expected), middle, rtol=0.05)


def test_the_map_rises_everywhere_and_has_an_inverse():
    found = IntensityMap.between(volume(1), 3 * volume(2) - 200)
    values = np.linspace(-5000, 8000, 300)
    assert (np.diff(found.to_query(values)) > 0).all()
    np.testing.assert_allclose(found.to_training(found.to_query(values)), values, atol=1e-6)


def test_without_anything_to_match_it_is_the_identity():
    found = IntensityMap.between(np.zeros((3, 3)), volume())
    np.testing.assert_allclose(found.to_query(np.array([-1.0, 5.0])), [-1, 5])


def test_a_mirrored_copy_is_sampled_where_it_came_from():
    voxels = volume(3)
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    slices = Slices.of(affine, voxels.shape[::-1], "axial")
    mirrored = Alignment(True, 0, np.eye(2), np.zeros(2))
    matrix = query_to_training(mirrored, slices.square(4), slices.square(6))
    found = aligned_slice(slices, 4, matrix, voxels, affine)
    np.testing.assert_allclose(found, slices.image(voxels, 6)[:, ::-1], atol=1e-6)


def test_beyond_the_training_volume_there_is_nothing():
    voxels = volume(3)
    affine = np.eye(4)
    slices = Slices.of(affine, voxels.shape[::-1], "axial")
    away = np.eye(4)
    away[0, 3] = 1000
    assert np.isnan(aligned_slice(slices, 4, away, voxels, affine)).all()


def test_the_checkerboard_alternates():
    board = checkerboard(np.zeros((40, 80)), np.ones((40, 80)))
    assert board[5, 5] == 0
    assert board[5, 15] == board[15, 5] == 1
    assert board[15, 15] == 0
    assert board.mean() == 0.5
