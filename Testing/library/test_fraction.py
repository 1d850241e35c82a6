"""The set-level index: unbiased for the counted share, monotone, with intervals that cover."""

import numpy as np
import pytest
from memorization_index.fraction import copied_fraction


def draw(share: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p-values of n slices: copies have p = .001, the others are uniform; one slice a volume."""
    rng = np.random.default_rng(seed)
    p = np.where(np.arange(n) < round(share * n), 0.001, rng.random(n))
    return p, np.full(n, "novel", object), np.arange(n)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.15, 0.3, 0.45, 0.7, 1.0])
def test_the_estimate_is_right_and_its_interval_covers(share):
    estimates = [copied_fraction(*draw(share, 400, seed)) for seed in range(40)]
    assert np.mean([e.value for e in estimates]) == pytest.approx(share, abs=0.01)
    assert np.mean([e.low <= share <= e.high for e in estimates]) >= 0.9
    assert all(0 <= e.low <= e.value <= e.high <= 1 for e in estimates)


def test_nothing_flagged_is_not_certainly_nothing():
    none = copied_fraction(np.full(10, 0.5), np.full(10, "novel", object), np.arange(10))
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(1 - 0.025**0.1)  # the rule of three's exact form
    every = copied_fraction(np.full(10, 0.5), np.full(10, "copy", object), np.arange(10))
    assert every.value == 1
    assert every.low == pytest.approx(0.025**0.1)


def test_volumes_are_drawn_whole():
    p = np.repeat([0.001, 0.9], 50)
    classes = np.full(100, "novel", object)
    by_slice = copied_fraction(p, classes, np.arange(100))
    by_volume = copied_fraction(p, classes, np.repeat(np.arange(4), 25))
    assert by_volume.high - by_volume.low > 2 * (by_slice.high - by_slice.low)


def test_without_calibration_it_is_the_verified_share():
    classes = np.array(["copy", "novel", "same anatomy", "exact"], object)
    assert copied_fraction(np.full(4, np.nan), classes, np.arange(4)).value == 0.5
