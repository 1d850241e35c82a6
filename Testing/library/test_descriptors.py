"""What describes a slice: invariances of the embedded descriptors, and pooling of a network's features."""

import numpy as np
import phantoms
import pytest
from memorization_index import (
    layout,
    spectral,
)
from memorization_index.channels import all_projected, pooled, projected, viewed
from memorization_index.spectral import View
from memorization_index.whitening import Moments, Whitening
from scipy import ndimage


@pytest.mark.parametrize(
    ("view", "turned"),
    [
        (View(), lambda x: x),
        (View(mirrored=True), lambda x: x[:, ::-1]),
        (View(quarter=1), np.rot90),
        (View(quarter=1, mirrored=True), lambda x: np.rot90(x)[:, ::-1]),
    ],
)
def test_flips_and_quarter_turns_are_permutations_of_the_spectrum(view, turned):
    image = phantoms.picture(0)
    of_view = spectral.describe_views(image[None])[0][spectral.views().index(view)]
    for half_turns in (0, 2):
        again = spectral.describe(np.rot90(turned(image), half_turns)[None].copy())[0]
        np.testing.assert_allclose(of_view, again, atol=1e-5)


def test_views_are_distinct_and_begin_with_the_identity():
    views = spectral.views()
    assert len(set(views)) == len(views) == 140
    assert views[0] == View()


def test_a_shift_inside_the_background_hardly_changes_the_descriptor():
    image = phantoms.picture(1)
    shifted = ndimage.shift(image, (4, -6), order=0)
    others = [
        float(spectral.describe(phantoms.picture(s)[None])[0] @ spectral.describe(image[None])[0]) for s in range(2, 8)
    ]
    same = float(spectral.describe(shifted[None])[0] @ spectral.describe(image[None])[0])
    assert same - max(others) > 0.5 * (1 - max(others))


@pytest.mark.parametrize("view", [View(rotation=8.0, scale=1.08), View(True, 1, -4.0, 0.92), View(False, 1, 0.0, 1.17)])
def test_the_network_sees_the_same_view_as_the_spectral_descriptor(view):
    image = phantoms.picture(2)
    by_spectral = spectral.describe_views(image[None])[0][spectral.views().index(view)]
    by_warp = spectral.describe(viewed(image, view)[None])[0]
    assert float(by_spectral @ by_warp) > 0.99


@pytest.mark.parametrize(
    ("view", "turned"),
    [
        (View(mirrored=True), lambda x: x[:, ::-1]),
        (View(quarter=1), np.rot90),
        (View(quarter=2), lambda x: np.rot90(x, 2)),
        (View(mirrored=True, quarter=3), lambda x: np.rot90(x, 3)[:, ::-1]),
    ],
)
def test_layout_sees_flips_and_turns_exactly(view, turned):
    image = phantoms.picture(3)
    again = layout.describe(turned(image)[None].copy())
    np.testing.assert_allclose(layout.describe(image[None], view), again, atol=1e-5)


def test_the_border_of_a_smaller_picture_resembles_nothing():
    # Two strangers, both cut off at the bottom: one is, the other only looks so under a view that makes it smaller.
    # What lies outside of a picture is unknown, and gets the mean of the training set.
    smaller = View(scale=0.85)
    seen = layout.describe(phantoms.picture(3)[None], smaller).reshape(40, 40)
    assert np.isnan(seen[[0, -1]]).all()
    assert np.isnan(seen[:, [0, -1]]).all()
    assert np.isfinite(seen[6:-6, 6:-6]).all()
    assert np.isfinite(layout.describe(phantoms.picture(3)[None])).all()
    whitening = Whitening.fit(
        Moments.of(np.concatenate([layout.describe(phantoms.picture(s)[None]) for s in range(6, 46)]))
    )
    filled = np.where(np.isnan(seen.reshape(1, -1)), whitening.mean, seen.reshape(1, -1))
    np.testing.assert_allclose(whitening(seen.reshape(1, -1)), whitening(filled), atol=1e-6)


def test_parts_agree_where_a_part_was_copied():
    strangers = np.concatenate([layout.describe(phantoms.picture(seed)[None]) for seed in range(6, 46)])
    whitening = Whitening.fit(Moments.of(strangers[20:]))  # what all pictures share (their outline) says nothing
    copied, other = (layout.describe(phantoms.picture(seed)[None]).reshape(40, 40) for seed in (4, 5))
    mixed = whitening(np.where(np.arange(40)[:, None] < 25, copied, other).reshape(1, -1))
    bank = whitening(np.concatenate([copied.reshape(1, -1), strangers[:20]]))
    parts = layout.part_similarity(mixed, np.zeros(21, np.int64), bank)
    whole = bank @ mixed[0]
    assert parts[0] > 0.85
    assert parts[1:].max() < 0.6
    assert parts[0] > whole[0] + 0.1


def test_projection_keeps_short_features_and_the_angles_of_long_ones():
    rng = np.random.default_rng(5)
    short, long = rng.normal(size=(3, 1024)).astype(np.float32), rng.normal(size=(40, 12288)).astype(np.float32)
    long[20:] = long[:20] + 0.5 * long[20:]
    assert projected(short) is short
    found = projected(long)
    assert found.shape == (40, 1024)

    def cosines(x):
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        return unit @ unit.T

    difference = cosines(found) - cosines(long)
    assert np.abs(difference).max() < 5 / 32  # five standard deviations
    assert np.sqrt(np.mean(np.square(difference))) < 1.1 / 32
    # The same on every machine: these are bits of SHAKE-256.
    assert projected(np.eye(2048, dtype=np.float32)[:1])[0, :8].tolist() == [
        v / 32 for v in (-1, 1, 1, 1, -1, -1, 1, -1)
    ]


def test_layers_of_any_length_are_projected_each_as_by_itself():
    rng = np.random.default_rng(5)
    sizes = {"first": 2000, "second": 100, "third": 2000}
    layers = {layer: rng.normal(size=(3, size)).astype(np.float32) for layer, size in sizes.items()}
    for layer, found in all_projected(layers).items():
        np.testing.assert_allclose(found, projected(layers[layer]), atol=1e-5)


def test_pooling_over_cells_keeps_the_layout():
    grid = np.arange(2 * 14 * 14 * 3, dtype=np.float32).reshape(2, 14, 14, 3)
    cells = pooled(grid, 4).reshape(2, 4, 4, 3)
    np.testing.assert_allclose(cells[1, 0, 0], grid[1, :4, :4].mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(cells[1, 1, 3], grid[1, 3:7, 10:].mean(axis=(0, 1)), rtol=1e-5)
