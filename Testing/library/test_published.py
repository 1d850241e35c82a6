"""paper-code-v1 against arrays that the published code computed, its NaN included."""

import golden
import numpy as np
import pytest
from memorization_index import MemorizationIndexError
from memorization_index.evaluation.published import PublishedProtocol, PublishedWhitening, published_pooling
from numpy.testing import assert_allclose, assert_array_equal

#: Absolute tolerances: similarities, null and whitening (whose mean is float32); MI and ONI.
CLOSE, CLOSE_MI = 1e-9, 1e-8


@pytest.fixture(scope="module")
def arrays():
    return golden.golden_arrays("metric.npz")


def fitted(arrays, prefix=""):
    """The protocol fitted on a golden training set with its splits, and its scores of the queries."""
    splits = list(zip(arrays[f"{prefix}null_idx_a"], arrays[f"{prefix}null_idx_b"], strict=True))
    protocol = PublishedProtocol(splits).fit(golden.by_layer(arrays, f"{prefix}train"))
    return protocol, protocol.score_samples(golden.by_layer(arrays, f"{prefix}query"))


def near(actual, expected, tolerance=CLOSE):
    assert_allclose(np.ravel(actual), np.ravel(expected), rtol=0, atol=tolerance)


def test_whitening_neighbors_and_null_are_the_published_ones(arrays):
    protocol, scores = fitted(arrays)
    for layer in golden.LAYERS:
        whitening = protocol.whitenings_[layer]
        assert whitening.mean.dtype == np.float32
        near(whitening.mean, arrays[f"official_mu_{layer}"], 1e-6)
        near(whitening.matrix, arrays[f"official_W_{layer}"])
        near(scores[f"similarity_{layer}"], arrays[f"official_sim_{layer}"])
        near(scores[f"margin_{layer}"], arrays[f"official_margin_{layer}"])
        assert_array_equal(scores[f"nearest_{layer}"], arrays[f"official_top1_{layer}"])
        near(protocol.null_similarities_[layer], arrays[f"official_null_{layer}"])
    near(protocol.null_samples_, arrays["official_null_samples"])
    near(protocol.null_mean_, arrays["official_mu_null"])
    near(protocol.null_deviation_, arrays["official_sigma_null"])


def test_scores_are_the_published_ones(arrays):
    _, scores = fitted(arrays)
    near(scores["similarity"], arrays["official_similarity"])
    near(scores["distance"], arrays["official_distance"])
    near(scores["mi"], arrays["official_mi"], CLOSE_MI)
    near(scores["oni"], arrays["official_oni"], CLOSE_MI)
    assert_array_equal(scores["consensus"], arrays["official_consensus"])
    assert_array_equal(scores["match"], arrays["official_top1_block3"])


def test_scores_are_not_the_papers(arrays):
    """The arrays tell code and paper apart, so that the tests above cannot pass with the paper's constants."""
    _, scores = fitted(arrays)
    assert np.abs(scores["mi"] - arrays["paper_mi_global"]).max() > 1e-4


def test_default_splits_are_those_of_the_first_call(arrays):
    protocol = PublishedProtocol().fit(golden.by_layer(arrays, "train"))
    near(protocol.null_samples_, arrays["official_null_samples"])


def test_fewer_rows_than_features_give_nan_for_exact_copies_too(arrays):
    protocol, scores = fitted(arrays, "nltd_")
    for layer in golden.LAYERS:
        # Any two whitened training rows are −1/(N − 1) apart, whatever they show.
        near(protocol.null_similarities_[layer], np.full(300, -1 / 59), 2e-6)
        near(protocol.null_similarities_[layer], arrays[f"nltd_official_null_{layer}"], 2e-6)
    assert np.isnan(protocol.null_samples_).all()
    assert np.isnan([protocol.null_mean_, protocol.null_deviation_]).all()
    for name in ("mi", "oni"):
        assert np.isnan(arrays[f"nltd_official_{name}"]).all()
        assert np.isnan(scores[name]).all()
    copies = arrays["nltd_query_kind"] == 0
    near(scores["similarity"][copies], np.ones(5), 1e-6)
    assert_array_equal(scores["match"][copies], arrays["nltd_query_src"][copies])
    # Of the other similarities rounding decides the last digits, but not the sign, which decides what is NaN.
    assert np.isnan(scores["similarity"]).sum() == 8
    assert_allclose(scores["similarity"], arrays["nltd_official_similarity"], rtol=0, atol=1e-6)


def test_pooling_is_the_published_one():
    arrays = golden.golden_arrays("encoder.npz")
    names = [name.removeprefix("out_") for name in arrays if name.startswith("out_")]
    assert len(names) == 12
    for name in names:
        pooled = published_pooling(arrays[f"out_{name}"])
        assert pooled.shape == (4, 15)
        assert pooled.dtype == np.float32
        near(pooled, arrays[f"official_pooled_{name}"], 2e-5)


def test_pooling_keeps_rows():
    tokens = np.zeros((2, 3, 4, 5))
    tokens[1, 2, 0, 0] = 20
    assert_array_equal(published_pooling(tokens), [[0, 0, 0], [0, 0, 1]])
    with pytest.raises(MemorizationIndexError, match=r"shape \(3, 4\); expected \(slices, rows, columns, channels\)"):
        published_pooling(np.zeros((3, 4)))


def test_constants_without_golden_arrays():
    """One layer of two features by hand: variances 4/3 and 0, so that the second is raised to the floor."""
    train = np.array([[1, 1], [-1, 1], [1, 1], [-1, 1]], np.float32)
    whitening = PublishedWhitening.fit(train)
    near(whitening.matrix, np.diag([np.sqrt(3 / 4), 1e4]), 1e-7)
    near(whitening.mean, [0, 1])
    root = np.sqrt(3 / 4)  # in units of 1e-12, which is what is added to the norm
    near(whitening(np.array([[0, 1], [1e-12, 1]], np.float32)), [[0, 0], [root / (root + 1), 0]], 1e-6)
    protocol = PublishedProtocol([([0], [1, 2]), ([1], [0, 3])]).fit({"a": train})
    near(protocol.null_samples_, [1 + 1e-8] * 2, 1e-11)
    near(protocol.null_deviation_, 1e-8, 1e-11)
    scores = protocol.score_samples({"a": np.array([[1, 1]])})
    near(scores["distance"], [-1e-8], 1e-11)
    assert scores["consensus"].tolist() == [1]


def test_wrong_use_is_refused():
    with pytest.raises(MemorizationIndexError, match="got 3 training rows; expected at least 4"):
        PublishedProtocol().fit({"a": np.eye(3)})
    with pytest.raises(MemorizationIndexError, match="is not fitted"):
        PublishedProtocol().score_samples({"a": np.eye(3)})
    with pytest.raises(MemorizationIndexError, match="has 3 features; expected 4"):
        PublishedProtocol().fit({"a": np.eye(4)}).score_samples({"a": np.eye(3)})
