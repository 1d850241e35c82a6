"""The transformer computes no padding, and gives what the literal encoder, which computes all of it, gives."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memorization_index.encoders.checkpoints import Shape
from memorization_index.encoders.transformer import Block, VisionTransformer, cut, join, spans
from vit_weights import random_weights

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from literal_encoder import literal_block, literal_blocks

SHAPE, HEADS, WINDOW = Shape(width=32, depth=4, hidden=64, patch=16), 2, 14


def filled(module, dtype=torch.float64, seed=0):
    """A module with random parameters: biases and norms too, so that padding is not zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.5
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(dtype) * scale
    return module.requires_grad_(False)


def tokens(h, w, dtype=torch.float64, n=2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, h, w, SHAPE.width))).to(dtype)


def difference(one, other):
    return float((one - other).abs().max())


@pytest.mark.parametrize("size", [(15, 15), (14, 14), (7, 7), (28, 28), (30, 17), (1, 43)])
def test_windows_attend_as_if_their_padding_were_computed(size):
    """At 15 × 15 windows have 196, 14, 14 and 1 tokens, and 0, 182, 182 and 195 of padding."""
    block, x = filled(Block(SHAPE, HEADS, WINDOW, False)), tokens(*size)
    expected = literal_block(block.state_dict(), x, HEADS, WINDOW)
    assert difference(block(x), expected) < 1e-12
    assert difference(expected, x) > 0.1


def test_in_single_precision_too():
    block, x = filled(Block(SHAPE, HEADS, WINDOW, False), torch.float32), tokens(15, 15, torch.float32)
    assert difference(block(x), literal_block(block.state_dict(), x, HEADS, WINDOW)) < 3e-6


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_any_grid_and_any_window(h, w, window, heads, seed):
    block, x = filled(Block(SHAPE, heads, window, False), seed=seed), tokens(h, w, n=1, seed=seed)
    assert difference(block(x), literal_block(block.state_dict(), x, heads, window)) < 1e-12


def test_padding_that_is_left_out_or_zero_is_noticed():
    """What is compared above depends on the padding, so that it cannot pass without it."""
    block, x = filled(Block(SHAPE, HEADS, WINDOW, False)), tokens(15, 15)
    normed, right = block.norm1(x), block.attn(block.norm1(x), WINDOW, block.norm1.bias)
    assert difference(block.attn(normed, WINDOW, torch.zeros_like(block.norm1.bias)), right) > 0.1
    assert difference(block.attn(normed, 0, block.norm1.bias), right) > 0.1


@pytest.mark.parametrize("grid", [14, 15])
def test_the_network_is_the_literal_one(grid):
    weights = {name: values.double() for name, values in random_weights(depth=8, grid=grid).items()}
    model = VisionTransformer(Shape(32, 8, 64, 16), HEADS, grid, False).double()
    model.load_state_dict(weights)
    generator, wanted = torch.Generator().manual_seed(0), (0, 3, 7)
    colored = torch.rand(2, 3, 16 * grid, 16 * grid, generator=generator, dtype=torch.float64)
    gray = colored[:, :1]
    with torch.inference_mode():
        for images, same in ((colored, colored), (gray, gray.expand(-1, 3, -1, -1))):
            found, expected = model(images, wanted), literal_blocks(weights, same, HEADS, wanted)
            assert found.keys() == expected.keys()
            assert all(difference(found[i], expected[i]) < 1e-11 for i in wanted)


def test_windows_are_cut_and_put_together():
    assert spans(15, 14) == [(slice(0, 14), 14), (slice(14, 15), 1)]
    assert spans(28, 14) == [(slice(0, 28), 14)]
    assert spans(7, 14) == [(slice(0, 7), 7)]
    grid = torch.arange(2 * 6 * 8 * 3).reshape(2, 6, 8, 3)
    windows = cut(grid, 3, 4)
    assert windows.shape == (8, 12, 3)
    assert torch.equal(windows[1], grid[0, :3, 4:].reshape(12, 3))
    assert torch.equal(windows[6], grid[1, 3:, :4].reshape(12, 3))
    assert torch.equal(join(windows, 6, 8, 3, 4), grid)


def test_the_native_grid_is_one_window_without_padding():
    windowed, everywhere = (filled(Block(SHAPE, HEADS, window, False)) for window in (WINDOW, 0))
    assert torch.equal(windowed(tokens(14, 14)), everywhere(tokens(14, 14)))
