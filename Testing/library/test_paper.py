"""paper-v1 against arrays of the published equations, against a plain evaluation of them, and at its limits."""

import golden
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from memorization_index import MemorizationDetector, MemorizationIndexError, paper
from numpy.testing import assert_allclose, assert_array_equal

#: Absolute tolerances: similarities, whitening and null; MI; ONI.
CLOSE, CLOSE_MI, CLOSE_ONI = 1e-12, 1e-10, 1e-11


@pytest.fixture(scope="module")
def arrays():
    return golden.golden_arrays("metric.npz")


@pytest.fixture(scope="module", params=["global", "refitB"])
def fitted(request, arrays):
    """The null's name, a detector fitted on the golden training rows with the golden splits, and its scores."""
    splits = list(zip(arrays["null_idx_a"], arrays["null_idx_b"], strict=True))
    detector = MemorizationDetector("paper-v1", null_splits=splits, null=request.param)
    detector.fit(golden.by_layer(arrays, "train"))
    return request.param, detector, detector.score_samples(golden.by_layer(arrays, "query"))


def near(actual, expected, tolerance=CLOSE):
    assert_allclose(np.ravel(actual), np.ravel(expected), rtol=0, atol=tolerance)


@pytest.mark.parametrize("layer", golden.LAYERS)
def test_whitening_and_neighbors_are_the_papers(arrays, fitted, layer):
    _, detector, scores = fitted
    whitening = detector.paper_.whitenings_[layer]
    near(whitening.mean, arrays[f"paper_mu_{layer}"])
    near(whitening.matrix, arrays[f"paper_W_{layer}"])
    near(whitening(arrays[f"query_{layer}"].astype(float)), arrays[f"paper_white_query_{layer}"])
    near(scores[f"similarity_raw_{layer}"], arrays[f"paper_sim_raw_{layer}"])
    near(scores[f"similarity_{layer}"], arrays[f"paper_sim_{layer}"])
    near(scores[f"margin_{layer}"], arrays[f"paper_margin_{layer}"])
    assert_array_equal(scores[f"nearest_{layer}"], arrays[f"paper_top1_{layer}"])


def test_null_is_the_papers(arrays, fitted):
    null, detector, _ = fitted
    for layer in golden.LAYERS:
        near(detector.paper_.null_similarities_[layer], arrays[f"paper_null_{null}_{layer}"])
    near(detector.paper_.null_samples_, arrays[f"paper_null_{null}_samples"])
    near(detector.paper_.null_mean_, arrays[f"paper_null_{null}_mu"])
    near(detector.paper_.null_deviation_, arrays[f"paper_null_{null}_sigma"])


def test_scores_are_the_papers(arrays, fitted):
    null, _, scores = fitted
    near(scores["similarity"], arrays["paper_similarity"])
    near(scores["distance"], arrays["paper_distance"])
    near(scores["mi"], arrays[f"paper_mi_{null}"], CLOSE_MI)
    near(scores["oni"], arrays[f"paper_oni_{null}"], CLOSE_ONI)
    assert_array_equal(scores["consensus_first"], arrays["paper_consensus_first"])
    assert_array_equal(scores["consensus_mode"], arrays["paper_consensus_mode"])
    assert_array_equal(scores["layer_agreement"], arrays["paper_consensus_mode"])
    assert_array_equal(scores["flagged_paper"], arrays[f"paper_oni_{null}"] < 0.68)
    copies = arrays["query_src"] >= 0
    assert_array_equal(scores["match"][copies], arrays["query_src"][copies])


def test_default_splits_are_the_published_ones(arrays):
    splits = paper.half_splits(len(arrays["train_block3"]))
    assert_array_equal([a for a, _ in splits], arrays["null_idx_a"])
    assert_array_equal([b for _, b in splits], arrays["null_idx_b"])


def training(rows=60, columns=6, layers=3, seed=0):
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=(rows, columns))
    return {f"layer{i}": shared + generator.normal(size=(rows, columns)) for i in range(layers)}


def fit(features, **settings):
    return MemorizationDetector("paper-v1", **settings).fit(features)


@pytest.mark.parametrize("null", ["global", "refitB"])
def test_equals_a_plain_evaluation_of_the_equations(null):
    """Row by row, with another way to the inverse square root, and blocks of a few rows."""
    train, query = training(61), training(9, seed=1)
    splits = paper.half_splits(61)

    def whitened(layer, rows, values):
        covariance = np.cov(train[layer][rows], rowvar=False)
        root = np.linalg.inv(scipy.linalg.sqrtm(covariance + 1e-6 * np.eye(6)))
        return [root @ (v - train[layer][rows].mean(axis=0)) for v in values]

    def similarity(rows_fit, rows_bank, values):
        logs = 0
        for layer in train:
            bank = whitened(layer, rows_fit, train[layer][rows_bank])
            best = [
                max(v @ u / np.linalg.norm(v) / np.linalg.norm(u) for u in bank)
                for v in whitened(layer, rows_fit, values[layer])
            ]
            logs = logs + np.log(np.clip(best, 0, 1) + 1e-6) / 3
        return np.exp(logs)

    null_samples = np.concatenate([
        similarity(slice(None) if null == "global" else b, b, {layer: v[a] for layer, v in train.items()})
        for a, b in splits
    ])  # fmt: skip
    s = similarity(slice(None), slice(None), query)
    mi = (s - null_samples.mean()) / np.sqrt(null_samples.var() + 1e-8)
    scores = fit(train, null=null).score_samples(query)
    near(scores["similarity"], s)
    near(scores["mi"], mi, CLOSE_MI)
    near(scores["oni"], -np.tanh(mi), CLOSE_ONI)


def test_blocks_change_nothing(monkeypatch):
    train, query = training(), training(17, seed=1)
    whole = fit(train).score_samples(query)
    monkeypatch.setattr(paper, "_BLOCK", 60 * 4)
    parts = fit(train).score_samples(query)
    assert whole.keys() == parts.keys()
    for name, values in whole.items():
        if values.dtype == float:
            near(parts[name], values)
        else:
            assert_array_equal(parts[name], values)


@given(st.integers(0, 2**32 - 1), st.floats(1e-1, 1e3))
@settings(max_examples=20, deadline=None)
def test_rotating_and_shifting_features_changes_nothing(seed, shift):
    """Whitening and cosines depend on no choice of axes and origin."""
    turn = scipy.linalg.qr(np.random.default_rng(seed).normal(size=(6, 6)))[0]
    train, query = training(seed=seed), training(5, seed=seed + 1)
    moved = [{layer: v @ turn + shift for layer, v in features.items()} for features in (train, query)]
    expected, actual = fit(train).score_samples(query), fit(moved[0]).score_samples(moved[1])
    assert_allclose(actual["mi"], expected["mi"], atol=1e-6)
    assert_array_equal(actual["match"], expected["match"])


def test_columns_exact_copies_and_groups():
    train = training()
    people = [f"person {i // 10}" for i in range(60)]
    detector = MemorizationDetector("paper-v1").fit(train, groups=people)
    scores = detector.score_samples({layer: train[layer][[7, 33]] for layer in reversed(train)})
    near(scores["similarity"], [1 + 1e-6] * 2)
    near(scores["distance"], [-1e-6] * 2)
    assert scores["match"].tolist() == [7, 33]
    assert scores["match_group"].tolist() == ["person 0", "person 3"]
    assert scores["layer_agreement"].tolist() == [3, 3]
    assert scores["flagged_paper"].all()
    assert all(v.shape == (2,) and v.dtype in (float, int, bool, object) for v in scores.values())
    assert "verdict" not in scores


def test_match_is_the_row_that_most_layers_name():
    """Columns: all differ; the last two agree; two pairs that hold the earliest layer's, or not; all agree."""
    rows = np.array([[0, 1, 4, 0, 9], [2, 5, 6, 7, 9], [3, 5, 4, 7, 9], [8, 0, 6, 8, 9], [6, 2, 3, 8, 9]])
    match, agreement = paper.most_named(rows)
    assert match.tolist() == [0, 5, 4, 7, 9]
    assert agreement.tolist() == [1, 2, 2, 2, 5]
    assert paper.agreement_with_first(rows).tolist() == [1, 1, 2, 1, 5]


@pytest.mark.parametrize("count", [12, 13])
def test_halves_are_disjoint_complete_and_seeded(count):
    splits = paper.half_splits(count, seed=5)
    assert len(splits) == 10
    for a, b in splits:
        assert (len(a), len(b)) == (count // 2, count - count // 2)
        assert sorted([*a, *b]) == list(range(count))
    assert len({tuple(a) for a, _ in splits}) == 10
    assert_array_equal(splits[3][0], paper.half_splits(count, seed=5)[3][0])
    assert not np.array_equal(splits[3][0], paper.half_splits(count, seed=6)[3][0])


def test_seed_and_threshold_are_used():
    train, query = training(), training(40, seed=1)
    assert fit(train, seed=1).paper_.null_mean_ != fit(train).paper_.null_mean_
    assert fit(train, seed=1234).paper_.null_mean_ == fit(train).paper_.null_mean_
    scores = fit(train, threshold=-0.5).score_samples(query)
    assert_array_equal(scores["flagged_paper"], scores["oni"] < -0.5)
    assert 0 < scores["flagged_paper"].sum() < 40


def test_too_few_rows_are_refused_and_twice_the_features_are_not():
    features = training(16, 5) | {"wide": training(16, 8)["layer0"]}
    assert np.isfinite(fit(features).score_samples(features)["mi"]).all()
    fewer = {layer: values[:15] for layer, values in features.items()}
    with pytest.raises(ValueError, match=r"^Layer wide has N = 15 training rows for D = 8 .* mi-v1\.$") as error:
        fit(fewer)
    assert isinstance(error.value, MemorizationIndexError)
    with pytest.raises(MemorizationIndexError, match=r"a split leaves 8 rows to whiten layer wide with D = 8 .* mi-v1"):
        fit(features, null="refitB")


HALF, REST = np.arange(30), np.arange(30, 60)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([], "is empty"),
        ([(HALF, REST), (HALF, REST - 1)], "split 1 have rows in common"),
        ([(HALF, REST + 1)], "from 0 to 59"),
        ([(HALF - 1, REST)], "from 0 to 59"),
        ([(HALF / 2, REST)], "whole number"),
        ([(HALF, REST[:1])], "two of B"),
        ([(HALF[:0], REST)], "one row of A"),
        ([(HALF, REST, REST)], "no pair"),
        ([7], "no pair"),
        ([([[1], [2, 3]], REST)], "no pair"),
    ],
)
def test_splits_that_do_not_fit_are_refused(splits, message):
    with pytest.raises(MemorizationIndexError, match=f"null_splits.*{message}"):
        fit(training(), null_splits=splits)


def test_settings_that_do_not_exist_are_refused():
    with pytest.raises(MemorizationIndexError, match=r"null='half'.*expected 'global' or 'refitB'"):
        fit(training(), null="half")
    with pytest.raises(MemorizationIndexError, match="threshold=nan"):
        fit(training(), threshold=float("nan"))
    with pytest.raises(MemorizationIndexError, match=r"protocol='paper'.*'mi-v1' or 'paper-v1'"):
        MemorizationDetector("paper")
    for name, value in {"null_splits": [(HALF, REST)], "null": "refitB", "threshold": 0.5}.items():
        with pytest.raises(MemorizationIndexError, match="leave them out with 'mi-v1'"):
            MemorizationDetector("mi-v1", **{name: value})


@pytest.mark.parametrize("protocol", ["mi-v1", "paper-v1"])
@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((9, 2)), "expected a dictionary"),
        ({}, "Layers differ in their number of rows"),
        ({"a": np.ones((9, 2)), "b": np.ones((8, 2))}, r"a: 9, b: 8"),
        ({"a": np.ones(9)}, r"Layer a has shape \(9,\)"),
        ({"a": np.ones((0, 2))}, r"Layer a has shape \(0, 2\)"),
        ({"a": [[1, 2], [3]]}, "Layer a has rows of different lengths"),
        ({"a": np.ones((9, 2), complex)}, "type complex128"),
        ({"a": np.full((9, 2), "x")}, "type <U1"),
        ({"a": np.full((9, 2), np.nan)}, "Layer a contains values that are NaN"),
        ({"a": np.full((9, 2), 1e39)}, "beyond float32"),
    ],
)
def test_features_that_are_none_are_refused(protocol, features, message):
    with pytest.raises(MemorizationIndexError, match=message):
        MemorizationDetector(protocol).fit(features)


@pytest.mark.parametrize("protocol", ["mi-v1", "paper-v1"])
def test_samples_and_groups_that_do_not_fit_are_refused(protocol):
    train = training()
    with pytest.raises(MemorizationIndexError, match="is not fitted"):
        MemorizationDetector(protocol).score_samples(train)
    with pytest.raises(MemorizationIndexError, match="groups: has 2 entries; expected one for each of 60 rows"):
        MemorizationDetector(protocol).fit(train, groups=["a", "b"])
    detector = MemorizationDetector(protocol).fit(train)
    with pytest.raises(MemorizationIndexError, match="have layers layer0; expected layer0, layer1, layer2"):
        detector.score_samples({"layer0": train["layer0"]})
    with pytest.raises(MemorizationIndexError, match="Layer layer2 of the samples has 5 features; expected 6"):
        detector.score_samples(train | {"layer2": train["layer2"][:, :5]})


def test_a_failed_fit_leaves_the_detector_as_it_was():
    train = training()
    detector = fit(train)
    expected = detector.score_samples(train)["mi"]
    with pytest.raises(MemorizationIndexError):
        detector.fit(training(11))
    assert_array_equal(detector.score_samples(train)["mi"], expected)


def test_features_equal_to_the_mean_and_constant_features_stay_finite():
    """No direction is left to compare where a slice equals the mean, and ε whitens a constant feature."""
    train = training(layers=1)
    train["layer0"][:, 2] = 0
    detector = fit(train)
    scores = detector.score_samples({"layer0": train["layer0"].mean(axis=0)[None]})
    assert scores["similarity_layer0"].tolist() == [0]
    assert np.isfinite(scores["mi"]).all()
