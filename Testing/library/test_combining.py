"""The combination of channels: it costs no more than the multiplicity, and strangers are not flagged more often."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memorization_index.combining import CommonScale
from memorization_index.neighbors import Nearest
from memorization_index.retrieval import joined, joined_null

SLICES = 2000


def nulls(seed, count, slices=SLICES, shared=0.5):
    """Similarities of strangers: correlated channels with different means, spreads and tails, from light to heavy."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=slices)
    found = {}
    for k in range(count):
        own = rng.standard_t(3 + 5 * k, size=slices) if k % 2 else rng.normal(size=slices)
        values = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
        level, spread = rng.uniform(0.2, 0.8), rng.uniform(0.02, 0.1)
        found[f"channel{k}"] = np.tanh(np.arctanh(level) + spread * values).astype(np.float32)
    return found


def as_found(similarity):
    """What each channel would have found: always the first training slice, as it is."""
    places = {c: np.zeros((len(v), 1), int) for c, v in similarity.items()}
    return {c: Nearest(v[:, None], places[c], places[c]) for c, v in similarity.items()}


def combined(similarity, scale):
    return joined(as_found(similarity), scale)


def p_values(null, values):
    """(1 + #{null ≥ s}) / (n + 1)."""
    return (1 + len(null) - np.searchsorted(np.sort(null), values, side="left")) / (len(null) + 1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 8), shared=st.floats(0, 0.99))
def test_what_one_channel_finds_at_alpha_over_k_the_combination_finds_at_alpha(seed, count, shared):
    null = nulls(seed, count, shared=shared)
    scale = CommonScale.fit(null)
    together = combined(null, scale).similarity
    for channel, values in null.items():
        tested = np.sort(values)[-SLICES // 20 :]
        queries = {c: np.full(len(tested), -1, np.float32) for c in null}  # no other channel sees anything
        queries[channel] = tested
        alone, all_of_them = p_values(values, tested), p_values(together, combined(queries, scale).similarity)
        resolved = alone >= 3 / SLICES  # above the highest knot the map rests on nothing
        # Knots are a factor √2 of tail probability apart, and a quantile lies between two values.
        assert (all_of_them[resolved] <= count * alone[resolved] * 2**0.5 + (count + 1) / SLICES).all()


def test_a_channel_with_a_heavy_tail_does_not_drown_the_others():
    rng = np.random.default_rng(1)
    null = {
        "light": (0.5 + 0.02 * rng.normal(size=SLICES)).astype(np.float32),
        "heavy": np.clip(0.5 + 0.02 * rng.standard_t(1.5, size=SLICES), -1, 0.999).astype(np.float32),
    }
    copies = {"light": np.full(200, 0.5 + 0.02 * 3.5, np.float32), "heavy": null["heavy"][:200]}

    def found(scale):
        return (p_values(combined(null, scale).similarity, combined(copies, scale).similarity) <= 0.01).mean()

    single = CommonScale(
        {c: [float(np.quantile(v, 0.95))] for c, v in null.items()}, next(iter(null))
    )  # what one would do
    assert (p_values(null["light"], copies["light"]) <= 0.005).all()
    assert found(CommonScale.fit(null)) == 1
    assert found(single) < 0.2


@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_strangers_are_flagged_as_often_as_p_says(alpha):
    rates = []
    for seed in range(20):
        everyone = nulls(seed, 7, 10 * SLICES)
        null, strangers = ({c: v[part] for c, v in everyone.items()} for part in (slice(SLICES), slice(SLICES, None)))
        together, scale = joined_null(as_found(null), np.arange(SLICES) // 4)
        p = p_values(together.similarity, combined(strangers, scale).similarity)
        rates.append((p <= alpha).mean())
    assert np.mean(rates) == pytest.approx(alpha, rel=0.15)


def test_null_slices_keep_their_order_and_one_channel_keeps_its_numbers():
    values = nulls(2, 1, 100)["channel0"]
    found, _ = joined_null(as_found({"only": values}), np.arange(100) % 7)
    np.testing.assert_array_equal(found.similarity, values)
    alone, scale = joined_null(as_found({"only": values}), np.zeros(100, int))  # one subject: there are no others
    np.testing.assert_array_equal(alone.similarity, values)
    assert list(scale.knots) == ["only"]


def test_a_map_is_monotone_and_an_exact_copy_is_one_on_every_scale():
    null = nulls(3, 3)
    scale = CommonScale.fit(null)
    line = np.linspace(-1, 1, 1001).astype(np.float32)
    for channel in null:
        mapped = scale(channel, line)
        assert (np.diff(mapped) >= 0).all()
        assert mapped[[0, -1]].tolist() == [-1, 1]
    np.testing.assert_array_equal(scale("channel0", line), line)
    np.testing.assert_array_equal(scale("without a null", line), line)
    tops = [np.quantile(scale(c, v), 0.95) for c, v in null.items()]
    np.testing.assert_allclose(tops, tops[0], rtol=0.02)


def test_few_null_slices_give_no_scale():
    few = {c: v[:1] for c, v in nulls(0, 2).items()}
    assert CommonScale.fit(few).knots == {"channel0": [], "channel1": []}
    assert CommonScale.fit({}).knots == {}
    np.testing.assert_array_equal(CommonScale.fit(few)("channel1", few["channel1"]), few["channel1"])


def test_the_deciding_channel_is_named():
    similarity = {"a": np.array([0.9, 0.1], np.float32), "b": np.array([0.2, 0.3], np.float32)}
    assert combined(similarity, CommonScale()).channel.tolist() == ["a", "b"]
