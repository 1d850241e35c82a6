"""The stages of mi-v1, each against what it claims: invariances, exact formulas, brute force, uniform p-values."""

import itertools

import numpy as np
import pytest
from memorization_index import (
    MemorizationDetector,
    MemorizationIndexError,
    Reference,
    layout,
    rescans,
    roots,
    spectral,
)
from memorization_index.calibration import Null, oni, q_values
from memorization_index.channels import all_projected, pooled, projected, viewed
from memorization_index.generator import compared
from memorization_index.matching import Match, agreement_map, match
from memorization_index.neighbors import Index
from memorization_index.spectral import View
from memorization_index.statistics import auc, subject_interval
from memorization_index.trajectory import Trajectory, fitted
from memorization_index.verdicts import MatchClass, Thresholds, Verdict, classify, is_flagged, verdict
from memorization_index.verification import Pair
from memorization_index.whitening import Moments, Whitening, merged, spectrum_of
from scipy import ndimage


def picture(seed: int) -> np.ndarray:
    """A smooth random image ``(128, 128)`` in [0, 1] inside a disk, with structure at many scales."""
    rng = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(rng.normal(size=(128, 128)), sigma) * sigma for sigma in (2, 4, 8)]
    image = sum(layers)
    image = (image - image.min()) / np.ptp(image)
    y, x = np.mgrid[:128, :128] - 63.5
    return (image * (np.hypot(x, y) < 48)).astype(np.float32)


# Descriptor ----------------------------------------------------------------------------------------------------------


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
    image = picture(0)
    of_view = spectral.describe_views(image[None])[0][spectral.views().index(view)]
    for half_turns in (0, 2):
        again = spectral.describe(np.rot90(turned(image), half_turns)[None].copy())[0]
        np.testing.assert_allclose(of_view, again, atol=1e-5)


def test_views_are_distinct_and_begin_with_the_identity():
    views = spectral.views()
    assert len(set(views)) == len(views) == 140
    assert views[0] == View()


def test_a_shift_inside_the_background_hardly_changes_the_descriptor():
    image = picture(1)
    shifted = ndimage.shift(image, (4, -6), order=0)
    others = [float(spectral.describe(picture(s)[None])[0] @ spectral.describe(image[None])[0]) for s in range(2, 8)]
    same = float(spectral.describe(shifted[None])[0] @ spectral.describe(image[None])[0])
    assert same - max(others) > 0.5 * (1 - max(others))


@pytest.mark.parametrize("view", [View(rotation=8.0, scale=1.08), View(True, 1, -4.0, 0.92), View(False, 1, 0.0, 1.17)])
def test_the_network_sees_the_same_view_as_the_spectral_descriptor(view):
    image = picture(2)
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
    image = picture(3)
    again = layout.describe(turned(image)[None].copy())
    np.testing.assert_allclose(layout.describe(image[None], view), again, atol=1e-5)


def test_the_border_of_a_smaller_picture_resembles_nothing():
    # Two strangers, both cut off at the bottom: one is, the other only looks so under a view that makes it smaller.
    # What lies outside of a picture is unknown, and gets the mean of the training set.
    smaller = View(scale=0.85)
    seen = layout.describe(picture(3)[None], smaller).reshape(40, 40)
    assert np.isnan(seen[[0, -1]]).all()
    assert np.isnan(seen[:, [0, -1]]).all()
    assert np.isfinite(seen[6:-6, 6:-6]).all()
    assert np.isfinite(layout.describe(picture(3)[None])).all()
    whitening = Whitening.fit(Moments.of(np.concatenate([layout.describe(picture(s)[None]) for s in range(6, 46)])))
    filled = np.where(np.isnan(seen.reshape(1, -1)), whitening.mean, seen.reshape(1, -1))
    np.testing.assert_allclose(whitening(seen.reshape(1, -1)), whitening(filled), atol=1e-6)


def test_parts_agree_where_a_part_was_copied():
    strangers = np.concatenate([layout.describe(picture(seed)[None]) for seed in range(6, 46)])
    whitening = Whitening.fit(Moments.of(strangers[20:]))  # what all pictures share (their outline) says nothing
    copied, other = (layout.describe(picture(seed)[None]).reshape(40, 40) for seed in (4, 5))
    mixed = whitening(np.where(np.arange(40)[:, None] < 25, copied, other).reshape(1, -1))
    bank = whitening(np.concatenate([copied.reshape(1, -1), strangers[:20]]))
    parts = layout.part_similarity(mixed, np.zeros(21, np.int64), bank)
    whole = bank @ mixed[0]
    assert parts[0] > 0.85
    assert parts[1:].max() < 0.6
    assert parts[0] > whole[0] + 0.1


# Whitening and search ------------------------------------------------------------------------------------------------


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


# Calibration ---------------------------------------------------------------------------------------------------------


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


# Matching and verdicts -----------------------------------------------------------------------------------------------


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
    candidate = picture(10)
    query = np.ascontiguousarray(change(candidate), np.float32)
    found = match(query, [(picture(11), View()), (candidate, view)])
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
    query, candidate = picture(12), picture(13)
    assert match(query, [(candidate, View())]).ncc < 0.8
    pasted = query.copy()
    pasted[:, 64:] = candidate[:, 64:]
    found = match(pasted, [(candidate, View())])
    local = agreement_map(pasted, candidate, found)
    assert local[24:40, 40:52].mean() > 0.9
    assert local[24:40, 12:24].mean() < 0.6


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


def test_a_simulated_rescan_is_the_same_anatomy_and_a_noisy_copy_is_not():
    images = [picture(seed) for seed in range(60)]
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


def test_thresholds_rise_where_different_people_agree_by_chance():
    assert Thresholds.from_null(matches(np.full(10, 0.5))) == Thresholds()
    ordinary = Thresholds.from_null(matches(np.random.default_rng(8).normal(0.5, 0.1, 500)))
    assert ordinary.copy_ncc == 0.97
    assert 0.6 < ordinary.altered_ncc < 0.97
    smooth = Thresholds.from_null(matches(np.tanh(np.random.default_rng(9).normal(1.5, 0.3, 500))))
    assert 0.97 < smooth.copy_ncc <= 0.995


# Precomputed features and statistics ---------------------------------------------------------------------------------


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
