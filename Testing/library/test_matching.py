"""Alignment of a slice with its training slice, simulated rescans, and trajectories through a volume."""

import numpy as np
import phantoms
import pytest
from memorization_index import (
    Reference,
    rescans,
)
from memorization_index.matching import Match, agreement_map, match
from memorization_index.spectral import View
from memorization_index.statistics import auc
from memorization_index.trajectory import Trajectory, fitted
from memorization_index.verdicts import MatchClass, Thresholds, classify
from memorization_index.verification import Pair
from scipy import ndimage


@pytest.mark.parametrize(
    ("change", "view", "says"),
    [
        (lambda x: x, View(), "identity"),
        (lambda x: x[:, ::-1], View(mirrored=True), "mirrored"),
        (np.rot90, View(quarter=1), "quarter turn counterclockwise"),
        (lambda x: np.rot90(x, -1), View(quarter=1), "quarter turn clockwise"),
        (lambda x: np.rot90(x, 2), View(), "half turn"),
        (np.flipud, View(mirrored=True), "flipped top to bottom"),
        (
            lambda x: ndimage.rotate(x, 5, reshape=False, order=1),
            View(rotation=4.0),
            "° counterclockwise",
        ),
        (lambda x: ndimage.shift(x, (5, -8), order=1), View(), "shifted +3.9, -6."),
    ],
)
def test_alignment_recovers_the_transform(change, view, says):
    candidate = phantoms.picture(10)
    query = np.ascontiguousarray(change(candidate), np.float32)
    found = match(query, [(phantoms.picture(11), View()), (candidate, view)])
    assert found.candidate == 1
    assert found.ncc > 0.98
    assert says in found.describe()
    assert found.is_exact == (says == "identity")


@pytest.mark.parametrize(
    ("mirrored", "angle", "says"),
    [
        (False, 0.4, "identity"),
        (False, 0.6, "rotated by 0.6° counterclockwise"),
        (False, -11.3, "rotated by 11.3° clockwise"),
        (False, 89.3, "quarter turn counterclockwise"),
        (False, -92.0, "quarter turn clockwise; rotated by 2.0° clockwise"),
        (False, 179.2, "half turn"),
        (False, -180, "half turn"),
        (False, 177.7, "half turn; rotated by 2.3° clockwise"),
        (False, -173.4, "rotated by 173.4° clockwise"),
        (True, 0.2, "mirrored"),
        (True, 90.2, "mirrored; quarter turn counterclockwise"),
        (True, -179.4, "flipped top to bottom"),
        (True, 170.3, "mirrored; rotated by 170.3° counterclockwise"),
    ],
)
def test_turns_are_told_as_a_person_would(mirrored, angle, says):
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    matrix = np.array([[cos, sin], [-sin, cos]])
    found = Match(0, 1.0, 1.0, mirrored, 0, matrix, np.zeros(2), 0.9, 0.9)
    assert found.angle == pytest.approx(angle)
    assert found.describe() == says


def test_another_picture_does_not_match_and_agreement_shows_where_a_copy_was_pasted():
    query, candidate = phantoms.picture(12), phantoms.picture(13)
    assert match(query, [(candidate, View())]).ncc < 0.8
    pasted = query.copy()
    pasted[:, 64:] = candidate[:, 64:]
    found = match(pasted, [(candidate, View())])
    local = agreement_map(pasted, candidate, found)
    assert local[24:40, 40:52].mean() > 0.9
    assert local[24:40, 12:24].mean() < 0.6


def test_a_simulated_rescan_is_the_same_anatomy_and_a_noisy_copy_is_not():
    images = [phantoms.picture(seed) for seed in range(60)]
    again = rescans.matches([(image, None, 128) for image in images], seed=0)
    strangers = [match(images[i], [(images[i + 1], View())]) for i in range(59)]
    thresholds = Thresholds.from_null(strangers, again)
    classes = {
        classify(Pair(0, one), thresholds) for one in rescans.matches([(i, None, 128) for i in images[:20]], seed=1)
    }
    assert MatchClass.NOVEL not in classes
    noisy = (np.clip(i + 0.01 * np.random.default_rng(0).normal(size=i.shape), 0, 1) for i in images[:20])
    copies = [match(q.astype(np.float32), [(i, View())]) for q, i in zip(noisy, images[:20], strict=True)]
    assert {classify(Pair(0, one), thresholds) for one in copies} <= {MatchClass.EXACT, MatchClass.COPY}
    assert auc(np.array([m.in_place for m in copies]), np.array([m.in_place for m in again])) >= 0.98
    # A generator's copies have lost their finest structures, but lie where the training slice lies.
    smooth = [match(ndimage.gaussian_filter(i, 1.2), [(i, View())]) for i in images[:20]]
    assert all(m.lies_still for m in smooth)
    assert {classify(Pair(0, one), thresholds) for one in smooth} <= {MatchClass.COPY, MatchClass.ALTERED}
    assert sum(m.lies_still for m in again) <= 3


def test_few_slices_are_rescanned_several_times_each(reference):
    thresholds = Reference.open(reference).thresholds
    assert 50 <= int(thresholds.rescan_source.removesuffix(" simulated rescans")) <= 3 * 36, "of 36 slices"
    assert 0 < thresholds.rescan_in_place < 1


def test_noise_of_a_rescan_is_that_of_the_pixels_that_were_acquired():
    image = np.full((128, 128), 0.5, np.float32)
    noise = {side: rescans.simulated(image, None, np.random.default_rng(0), side) for side in (64, 128, 256)}
    fine = {side: float(np.diff(one[40:90, 40:90], axis=1).std()) for side, one in noise.items()}
    assert fine[256] == pytest.approx(fine[128] / 2, rel=0.05)  # four pixels made one
    assert fine[64] < 0.6 * fine[128]  # neighbors share their noise


def test_slices_on_a_line_through_one_volume_are_a_trajectory():
    slices = np.arange(20)
    matched = 3 + slices.copy()
    matched[[2, 9, 15]] = (40, 1, 33)
    found = fitted(slices, matched)
    assert (found.on_line, found.first, found.last) == (17, 3, 22)
    assert fitted(slices, matched[::-1]).on_line == 17  # an upside-down copy
    assert fitted(slices, np.full(20, 7)) == Trajectory()
    assert fitted(slices, np.random.default_rng(1).integers(0, 90, 20)).on_line < 8
    assert fitted(slices[:2], matched[:2]) == Trajectory()
