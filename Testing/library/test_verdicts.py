"""Classes of matches, thresholds, and verdicts on volumes."""

import numpy as np
import pytest
from memorization_index.matching import Match
from memorization_index.verdicts import MatchClass, Thresholds, Verdict, classify, is_flagged, verdict
from memorization_index.verification import Pair


def test_verdicts_follow_classes_and_the_volume_p():
    novel, copy, altered, unknown = MatchClass.NOVEL, MatchClass.COPY, MatchClass.ALTERED, MatchClass.UNVERIFIED
    nan = float("nan")
    assert verdict([novel, copy], 1.0, True) == Verdict.COPY
    assert verdict([novel, altered], 0.04, True) == Verdict.COPY
    assert verdict([novel, altered], 0.4, True) == Verdict.SUSPICIOUS
    assert verdict([novel], 0.04, True) == Verdict.SUSPICIOUS
    assert verdict([novel, novel], 0.04, True, traced=0.5) == Verdict.COPY
    assert verdict([novel, novel], 0.04, True, traced=0.4) == Verdict.SUSPICIOUS
    unknown = MatchClass.UNVERIFIED  # no training image is there
    assert verdict([unknown, unknown], 0.04, True, traced=0.5) == Verdict.COPY
    assert verdict([unknown, unknown], 0.04, True, traced=0.4) == Verdict.SUSPICIOUS
    assert verdict([unknown, unknown], 0.4, True, traced=1.0) == Verdict.UNCALIBRATED
    assert verdict([novel, novel], 0.4, True, traced=1.0) == Verdict.NO_EVIDENCE
    assert verdict([novel, MatchClass.SAME_ANATOMY], 0.04, True, traced=1.0) == Verdict.SUSPICIOUS
    assert verdict([novel], 0.4, True) == Verdict.NO_EVIDENCE
    assert verdict([novel], nan, False) == Verdict.UNCALIBRATED
    assert verdict([unknown], 0.4, True) == Verdict.UNCALIBRATED
    assert is_flagged(altered, 1.0)
    assert is_flagged(novel, 0.01)
    assert not is_flagged(novel, nan)


def a_match(**changed) -> Match:
    """A match without any change of geometry."""
    plain = {"candidate": 0, "ncc": 0.5, "part": 0.7, "mirrored": False, "quarters": 0, "matrix": np.eye(2)}
    return Match(**{**plain, "shift": np.zeros(2), "pixel_correlation": 0.5, "in_place": 0.1, **changed})


def matches(ncc) -> list[Match]:
    return [a_match(ncc=float(one), part=float(one)) for one in ncc]


def turn(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"ncc": 1.0, "pixel_correlation": 0.9999}, MatchClass.EXACT),
        ({"ncc": 0.999, "in_place": 0.95}, MatchClass.COPY),
        ({"ncc": 0.96, "in_place": 0.95}, MatchClass.ALTERED),  # noise of the first scan is still there
        ({"ncc": 0.96}, MatchClass.ALTERED),  # it lies where the training slice lies, to a fraction of a pixel
        ({"ncc": 0.96, "matrix": turn(1)}, MatchClass.SAME_ANATOMY),
        ({"ncc": 0.975, "shift": np.array([0.02, 0.0])}, MatchClass.SAME_ANATOMY),
        ({"ncc": 0.96, "mirrored": True}, MatchClass.ALTERED),  # nobody is scanned mirrored
        ({"ncc": 0.96, "matrix": turn(8)}, MatchClass.ALTERED),
        ({"ncc": 0.96, "matrix": 1.1 * np.eye(2)}, MatchClass.ALTERED),
        ({"ncc": 0.6, "part": 0.999}, MatchClass.ALTERED),  # a part was copied
        ({"ncc": 0.6, "part": 0.9}, MatchClass.NOVEL),
    ],
)
def test_classes(changed, expected):
    thresholds = Thresholds(0.97, "", 0.9, 0.98, "", rescan_ncc=0.98, rescan_in_place=0.8)
    assert classify(Pair(0, a_match(**changed)), thresholds) == expected


def test_thresholds_rise_where_different_people_agree_by_chance():
    assert Thresholds.from_null(matches(np.full(10, 0.5))) == Thresholds()
    ordinary = Thresholds.from_null(matches(np.random.default_rng(8).normal(0.5, 0.1, 500)))
    assert ordinary.copy_ncc == 0.97
    assert 0.6 < ordinary.altered_ncc < 0.97
    smooth = Thresholds.from_null(matches(np.tanh(np.random.default_rng(9).normal(1.5, 0.3, 500))))
    assert 0.97 < smooth.copy_ncc <= 0.995
