"""Statistics, sharpness and set tables of the benchmark, against values by hand and plain re-computation."""

import numpy as np
import pytest
from memorization_index import MemorizationIndexError
from memorization_index.evaluation.duplication import BEYOND, INDEX, LEVELS, duplication_rows, spread
from memorization_index.evaluation.sampling import Chosen
from memorization_index.evaluation.sets import compare
from memorization_index.evaluation.sharpness import Changed, altered, grain, matched_auc
from memorization_index.evaluation.tables import comparison_table, spread_table
from memorization_index.slices import SliceStack
from memorization_index.statistics import auc, detection_intervals, detection_rate, roc
from scipy import ndimage


def test_detection_rate_allows_one_in_a_hundred_and_no_more():
    negative = np.arange(100.0)
    assert detection_rate(np.array([97.0, 98.0, 98.5, 99.0, 200.0]), negative) == pytest.approx(0.6)  # one above 98
    assert detection_rate(np.array([98.5, 99.0, 99.5]), negative[:99]) == pytest.approx(1.0)  # threshold 98: none above
    assert np.isnan(detection_rate(np.zeros(0), negative))


def test_roc_runs_from_nothing_to_everything_and_encloses_the_auc():
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, 1, 60), rng.normal(0, 1, 80)
    false, found = roc(positive, negative)
    assert (false[0], found[0], false[-1], found[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(found, false) == pytest.approx(auc(positive, negative))


def test_intervals_are_those_of_a_plain_bootstrap_over_subjects():
    rng = np.random.default_rng(1)
    subjects = np.repeat(np.arange(12), 5)
    positive = rng.normal(1.5, 0.5, 60) + rng.normal(0, 1, 12)[subjects]
    negative = rng.normal(0, 0.5, 60) + rng.normal(0, 1, 12)[subjects]
    areas, rates = [], []
    for _ in range(500):
        ours, theirs = (
            np.concatenate([values[subjects == s] for s in rng.integers(12, size=12)])
            for values in (positive, negative)
        )
        areas.append(auc(ours, theirs))
        rates.append(detection_rate(ours, theirs))
    area, rate = detection_intervals(positive, subjects, negative, subjects)
    np.testing.assert_allclose(area, np.quantile(areas, [0.025, 0.975]), atol=0.04)
    np.testing.assert_allclose(rate, np.quantile(rates, [0.025, 0.975]), atol=0.12)
    by_slice, _ = detection_intervals(positive, np.arange(60), negative, np.arange(60))
    assert area[1] - area[0] > 1.3 * (by_slice[1] - by_slice[0])  # slices of one subject are not independent


# Duplication ---------------------------------------------------------------------------------------------------------


def rows(subjects: int = 40, seed: int = 0) -> tuple[list[dict], np.ndarray, np.ndarray]:
    """Copies with small p and a feature at their training slice; controls with uniform p and features of their own."""
    rng = np.random.default_rng(seed)
    bank = rng.normal(size=(200, 20)).astype(np.float32)
    result, features = [], []
    for name in ("identity", "rotation_5"):
        for kind in ("copy", "control"):
            for i in range(subjects):
                is_copy = kind == "copy"
                result.append({
                    "augmentation": name, "kind": kind, "subject": f"{kind}{i}",
                    "p_value": 0.001 if is_copy else rng.random(),
                    "match_class": "copy" if is_copy else "novel", "nearest cosine": 0.5, "pixel NCC": 0.5, "SSIM": 0.5,
                    "paper-code-v1": 9.0 if is_copy else rng.normal(),
                })  # fmt: skip
                features.append(bank[i] + 0.01 if is_copy else rng.normal(size=20))
    return result, np.array(features, np.float32), bank


def test_set_measures_follow_the_share_of_copies():
    made = list(duplication_rows(*rows(), [0, 0]))
    clean = [r for r in made if r["augmentation"] == "identity"]
    index = {r["duplication"]: r for r in clean if r["measure"] == INDEX}
    assert list(index) == list(LEVELS)
    for level, row in index.items():
        share = row["copies"] / row["slices"]
        assert share == pytest.approx(level, abs=0.03)
        assert row["value"] == pytest.approx(share, abs=0.06)
        assert row["low"] <= share <= row["high"]
    assert np.all(np.diff([index[level]["value"] for level in LEVELS]) > 0)
    for measure, direction in (("C_T", -1), ("AuthPct", -1), (f"paper-code-v1: {BEYOND}", 1)):
        first, last = (
            next(r["value"] for r in clean if (r["measure"], r["duplication"]) == (measure, x)) for x in (0, 0.45)
        )
        assert direction * (last - first) > 0.1, measure


def test_spread_is_the_range_over_augmentations_of_means_over_splits():
    made = [
        {"measure": "m", "duplication": 0.05, "augmentation": a, "split": s, "value": v, "copies": s, "slices": 8}
        for a, s, v in (("a", 0, 1.0), ("a", 1, 3.0), ("b", 0, 5.0), ("b", 1, 6.0))
    ]
    (row,) = spread(made)
    assert (row["mean"], row["least"], row["most"], row["spread"]) == (3.75, 2.0, 5.5, 3.5)
    assert row["copied"] == 1 / 16, "of 8 slices 5 % are none, or one"


def test_tables_say_what_share_sets_really_have_and_name_no_worst_of_equals():
    rows = [{"measure": "m", "duplication": x, "mean": 0.5, "spread": 0.0, "copied": x / 2} for x in LEVELS]
    assert "| 15% copies (in fact 7.5%) |" in spread_table(rows)
    best = {f"{key}{end}": 1.0 for key in ("auc", "tpr") for end in ("", "_low", "_high")}
    equal = [{"measure": "m", "augmentation": name, **best} for name in ("identity", "noise", "all")]
    assert comparison_table(equal).endswith("| 1.000 | 1.000 | – |\n")
    equal[1]["auc"] = 0.9
    assert comparison_table(equal).endswith("| 0.950 | 0.900 | noise |\n")


def test_sets_are_compared_by_their_coefficient_of_variation(tmp_path):
    for name, mean in (("one", 0.1), ("two", 0.3)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "spread.csv").write_text(
            "measure,duplication,mean,least,most,spread\n"
            + "".join(f"m,{level},{mean},0,1,{mean / 10}\n" for level in LEVELS)
        )
    made = compare([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    assert [r["mean"] for r in made] == pytest.approx([0.2] * len(LEVELS))
    assert made[0]["spread"] == pytest.approx(0.02)
    assert made[0]["cv"] == pytest.approx(np.std([0.1, 0.3], ddof=1) / 0.2)
    assert "published: MI" in (tmp_path / "out" / "sets.md").read_text()
    with pytest.raises(MemorizationIndexError, match="two or more"):
        compare([tmp_path / "one"], tmp_path / "out")
    with pytest.raises(MemorizationIndexError, match="memorization-index evaluate"):
        compare([tmp_path / "one", tmp_path / "three"], tmp_path / "out")


# Sharpness -----------------------------------------------------------------------------------------------------------


def smooth() -> np.ndarray:
    image = ndimage.gaussian_filter(np.random.default_rng(0).random((96, 96)), 8)
    return ((image - image.min()) / np.ptp(image) * 0.6 + 0.2).astype(np.float32)


def test_grain_is_the_noise_and_not_the_anatomy():
    rng = np.random.default_rng(1)
    for sigma in (0.02, 0.05, 0.1):
        noisy = smooth() + rng.normal(0, sigma, (96, 96))
        assert grain(noisy.astype(np.float32)) == pytest.approx(sigma, rel=0.1)


def test_altered_images_differ_in_grain_as_they_should():
    noisy = np.clip(smooth() + np.random.default_rng(1).normal(0, 0.05, (96, 96)), 0, 1).astype(np.float32)
    one = Chosen("a", "a", SliceStack([noisy], (1.0, 1.0), np.arange(1), 1, "image"))
    blurred, grainy = (grain(altered([one], change)[0].stack.images[0]) for change in Changed)
    assert blurred < 0.2 * grain(noisy) < grain(noisy) < 0.9 * grainy


def test_at_equal_grain_a_score_that_is_only_grain_finds_nothing():
    rng = np.random.default_rng(2)
    copies = np.arange(400) < 200
    grains = np.where(copies, rng.uniform(1, 3, 400), rng.uniform(2, 4, 400))
    only_grain = -grains
    assert auc(only_grain[copies], only_grain[~copies]) > 0.8
    area, pairs = matched_auc(only_grain, grains, copies, ~copies)
    assert 0.45 < area < 0.6
    assert pairs > 1000
    assert matched_auc(copies.astype(float), grains, copies, ~copies)[0] == 1
    assert np.isnan(matched_auc(only_grain, np.where(copies, 1.0, 9.0), copies, ~copies)[0])
