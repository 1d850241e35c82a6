"""Copies among precomputed features, and the statistics that detection is measured by."""

import numpy as np
import pytest
from memorization_index import (
    MemorizationDetector,
    MemorizationIndexError,
)
from memorization_index.statistics import auc, subject_interval


@pytest.mark.parametrize("rows", [100, 600])
def test_detector_finds_copies_and_is_calibrated_for_new_people_also_with_fewer_rows_than_features(rows):
    rng = np.random.default_rng(rows)
    people = rng.normal(size=(rows // 5 + 400, 200))
    slices = np.repeat(people, 5, axis=0) + rng.normal(size=(5 * len(people), 200))
    train, fresh = slices[:rows], slices[rows:]
    detector = MemorizationDetector().fit({"layer": train}, groups=np.arange(rows) // 5)
    copies = detector.score_samples({"layer": train[:50] + 0.1 * rng.normal(size=(50, 200))})
    others = detector.score_samples({"layer": fresh})
    assert copies["match"].tolist() == list(range(50))
    assert (copies["p_value"] <= max(0.01, 1 / (rows + 1))).all()
    assert np.isfinite(others["mi"]).all()
    people_in_null = rows // 5
    assert abs(others["mi"].mean()) < 2.5 / np.sqrt(people_in_null)  # that is how far the null's own mean may lie off
    assert 0.02 < (others["p_value"] <= 0.05).mean() < 0.09


def test_detector_gives_no_numbers_for_fewer_than_five_people_and_says_what_is_wrong():
    data = np.random.default_rng(0).normal(size=(40, 6))
    scores = MemorizationDetector().fit({"a": data}, groups=np.arange(40) // 10).score_samples({"a": data[:3]})
    assert np.isnan(scores["mi"]).all()
    assert scores["match"].tolist() == [0, 1, 2]
    with pytest.raises(MemorizationIndexError, match="NaN"):
        MemorizationDetector().fit({"a": np.full((9, 2), np.nan)})


def test_auc_counts_pairs_and_intervals_draw_whole_subjects():
    rng = np.random.default_rng(11)
    a, b = rng.integers(0, 5, 30).astype(float), rng.integers(0, 5, 40).astype(float)
    brute = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    assert auc(a, b) == pytest.approx(brute)
    values = np.repeat(rng.random(40) < 0.3, 25)
    together = subject_interval(values, np.repeat(np.arange(40), 25).astype(object))
    apart = subject_interval(values, np.arange(1000).astype(object))
    assert together[1] - together[0] > 3 * (apart[1] - apart[0])
