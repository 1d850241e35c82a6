"""From similarities to MI, p and q: exact formulas, and p-values that are uniform for new people."""

import itertools

import numpy as np
import pytest
from memorization_index.calibration import Null, oni, q_values
from memorization_index.generator import compared
from scipy import ndimage


def null_of(similarity, subject, volume=None, step=1):
    subject = np.asarray(subject)
    return Null(
        np.asarray(similarity, float),
        subject,
        subject if volume is None else np.asarray(volume),
        np.full(len(subject), 0.5),
        step,
    )


def test_p_counts_the_null_from_above_and_mi_uses_its_mean_and_deviation():
    null = null_of([0.1, 0.2, 0.3, 0.4, 0.5], range(5))
    mi = null.mi(np.array([0.05, 0.3, 0.6]), np.full(3, 0.5))
    assert null.slice_p(mi).tolist() == pytest.approx([1, 4 / 6, 1 / 6])
    mi = null.mi(np.array([0.3, 0.5]), np.full(2, 0.5))
    assert mi.tolist() == pytest.approx([0, 0.2 / np.sqrt(0.02 + 1e-8)])
    assert oni(mi).tolist() == pytest.approx([0, -np.tanh(mi[1])])


def test_a_volume_is_compared_with_maxima_over_as_many_slices():
    rng = np.random.default_rng(5)
    similarity, subject = rng.random(60), np.repeat(np.arange(6), 10)
    values, weights = null_of(similarity, subject).volume_maxima(3)
    assert weights.sum() == pytest.approx(1)
    mi = null_of(similarity, subject).null_mi
    brute = [max(chosen) for person in range(6) for chosen in itertools.combinations(mi[subject == person], 3)]
    assert float(weights @ values) == pytest.approx(np.mean(brute))
    p = null_of(similarity, subject).volume_numbers(1.2, 3).p
    assert p == pytest.approx((1 + 6 * np.mean(np.array(brute) >= 1.2)) / 7)


@pytest.mark.parametrize("reach", [0.0, 2.0])  # slices that have nothing to do with each other, and neighbors alike
def test_volume_p_holds_where_the_null_has_every_third_slice(reach):
    rng = np.random.default_rng(8)
    held, plain = [], []
    for _ in range(150):
        slices = rng.normal(size=(40, 90))
        if reach:
            slices = ndimage.gaussian_filter1d(slices, reach, axis=1)
        similarity = rng.normal(size=(40, 1)) + slices / slices.std()  # slices of one person are alike
        null, known = similarity[:39, 1::3].ravel(), np.repeat(np.arange(39), 30)
        for step, p in ((3, held), (1, plain)):
            one = null_of(null, known, step=step)
            p.append(one.volume_numbers(one.mi(similarity[39], np.full(90, 0.5)).max(), 90).p)
    assert np.mean(np.array(held) <= 0.1) <= 0.14  # at most what it says, but for chance
    assert np.mean(np.array(plain) <= 0.1) > np.mean(np.array(held) <= 0.1)
    assert np.mean(np.array(held) <= 0.3) > 0.1  # and not much less


def test_volume_p_is_uniform_for_new_people():
    rng = np.random.default_rng(6)
    p = []
    for _ in range(300):
        person = rng.normal(size=40)  # slices of one person are alike
        similarity = np.repeat(person, 12) + 0.5 * rng.normal(size=480)
        null = null_of(similarity[:468], np.repeat(np.arange(39), 12))
        p.append(null.volume_numbers(null.mi(similarity[468:], np.full(12, 0.5)).max(), 12).p)
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.05)
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


def test_slices_where_strangers_look_alike_are_compared_with_such_slices():
    """Toward its top a head holds less and less: similarity is higher there, and varies more."""
    rng = np.random.default_rng(1)
    position = np.tile(np.linspace(0, 1, 16), 240)
    subject = np.repeat(np.arange(240), 16)
    similarity = rng.normal(np.repeat(rng.normal(0.4, 0.01, 240), 16), 0.02)
    less = np.maximum(position - 0.6, 0) / 0.4
    similarity += less * (0.08 + rng.normal(0, 0.02, len(less)))
    end = position > 0.85
    old, new = subject < 40, subject >= 40
    null = Null(similarity[old], subject[old], subject[old], position[old])
    mi = null.mi(similarity[new], position[new])
    p = null.slice_p(mi)
    for where in (end[new], ~end[new]):
        assert np.mean(p[where] <= 0.05) == pytest.approx(0.05, abs=0.03)
        assert mi[where].mean() == pytest.approx(0, abs=0.4)
        assert mi[where].std() == pytest.approx(1, abs=0.25)
    # Against the whole null a quarter of them would be at p ≤ .05.
    assert np.mean(similarity[new][end[new]] > np.quantile(null.similarity, 0.95)) > 0.2


def test_single_images_are_compared_with_the_whole_null():
    null = null_of(np.random.default_rng(8).random(300), np.arange(300) % 50)
    np.testing.assert_allclose(null.null_mi, (null.similarity - null.mean) / null.deviation, atol=1e-9)
    assert null.smallest_deviation == pytest.approx(null.deviation)


def test_a_few_people_do_not_pull_the_null_to_themselves():
    """Slices of one person are alike; with ten people in the null a new one is unusual no more often than is said."""
    rng, rates = np.random.default_rng(9), []
    position, subject = np.tile(np.linspace(0, 1, 20), 10), np.repeat(np.arange(10), 20)
    for _ in range(200):
        similarity = np.repeat(rng.normal(size=11), 20) + rng.normal(size=220)
        null = Null(similarity[:200], subject, subject, position)
        rates.append(np.mean(null.slice_p(null.mi(similarity[200:], position[:20])) <= 0.05))
    assert 0.03 < np.mean(rates) < 0.07


def test_q_values_are_benjamini_hochberg_and_ignore_missing_ones():
    q = q_values(np.array([0.01, np.nan, 0.04, 0.03, 0.5]))
    assert q[[0, 2, 3, 4]].tolist() == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert np.isnan(q[1])


def test_a_generator_closer_to_the_training_set_than_new_people_is_noticed():
    rng = np.random.default_rng(2)
    null = null_of(rng.normal(0.4, 0.05, 600), np.repeat(np.arange(60), 10))
    names = [f"v{i // 10}" for i in range(200)]
    typical = compared(null, rng.normal(0, 1, 200), names)
    assert typical["p_calibrated"] is True
    assert abs(typical["shift"]) < 0.4
    closer = compared(null, rng.normal(1.6, 1, 200), names)
    assert closer["p_calibrated"] is False
    assert closer["ks_p"] < 0.001
    assert compared(null, rng.normal(2, 1, 9), names[:9])["p_calibrated"] is None
