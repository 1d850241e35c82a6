"""The MRI-CORE encoder on random weights: shapes, pooling, sizes, settings, batches."""

import subprocess
import sys

import memorization_index
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memorization_index.encoders import load_encoder
from memorization_index.encoders.base import default_blocks
from memorization_index.encoders.checkpoints import default_heads
from memorization_index.encoders.preprocessing import preprocess
from memorization_index.encoders.transformer import global_blocks
from memorization_index.errors import MemorizationIndexError
from vit_weights import random_weights

SIZES = [(181, 217), (64, 64), (300, 20), (1, 7), (240, 240)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save({"model": random_weights(depth=12)}, path)
    return path


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.normal(500, 200, size).astype(np.float32) for size in SIZES]


def test_the_package_imports_no_torch():
    code = "import sys, memorization_index.encoders, memorization_index.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert memorization_index.load_encoder is load_encoder


@pytest.mark.parametrize(("size", "grid"), [(240, 15), (224, 14)])
def test_shapes_and_pooling(path, images, size, grid):
    encoder = load_encoder("mri-core", path, image_size=size, device="cpu", batch_size=2)
    assert encoder.layers == ("block3", "block7", "block11")
    grids, means, quarters = (encoder.encode(images, pool) for pool in ("none", "mean", "grid4"))
    for layer in encoder.layers:
        assert grids[layer].shape == (5, grid, grid, 32)
        np.testing.assert_allclose(means[layer], grids[layer].mean((1, 2)), atol=1e-5)
        assert quarters[layer].shape == (5, 16 * 32)
        # Channel-major; adaptive averaging spans rows floor(i·g/4) to ceil((i+1)·g/4).
        for channel, i, j in ((0, 0, 0), (31, 3, 3), (7, 1, 2)):
            rows, columns = (slice(k * grid // 4, -(-(k + 1) * grid // 4)) for k in (i, j))
            expected = grids[layer][:, rows, columns, channel].mean((1, 2))
            np.testing.assert_allclose(quarters[layer][:, channel * 16 + i * 4 + j], expected, atol=1e-5)


def test_batches_do_not_matter(path, images):
    one, many = (load_encoder("mri-core", path, device="cpu", batch_size=size).encode(images) for size in (1, 64))
    for layer, features in one.items():
        np.testing.assert_allclose(features, many[layer], atol=1e-5)


@pytest.mark.parametrize(("pool", "shape"), [("mean", (0, 32)), ("grid4", (0, 512)), ("none", (0, 15, 15, 32))])
def test_no_slices(path, pool, shape):
    features = load_encoder("mri-core", path, device="cpu").encode([], pool)
    assert {array.shape for array in features.values()} == {shape}


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.float64, bool])
def test_any_kind_of_number_and_any_scale(path, kind):
    image = np.random.default_rng(1).integers(0, 2, (50, 60))
    encoder = load_encoder("mri-core", path, device="cpu")
    expected = encoder.encode([image.astype(np.float32)])["block11"]
    np.testing.assert_array_equal(encoder.encode([image.astype(kind)])["block11"], expected)
    for scale in (1e-30, 1e30):
        np.testing.assert_allclose(encoder.encode([image * scale - 3 * scale])["block11"], expected, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["volume", "spine"]), st.integers(0, 99))
def test_preprocessing_stays_in_range(height, width, method, seed):
    image = np.random.default_rng(seed).normal(size=(height, width)) * 10.0 ** (seed % 9)
    prepared = preprocess([image], 48, method)
    assert prepared.shape == (1, 3, 48, 48)
    assert float(prepared.min()) >= 0
    assert float(prepared.max()) <= 1 + 1e-6


def test_a_constant_slice_is_black():
    for method in ("volume", "spine"):
        assert not preprocess([np.full((9, 5), 7)], 32, method).any()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((3, 4, 5)), "shape (3, 4, 5)"),
        (np.zeros((0, 5)), "shape (0, 5)"),
        (np.zeros(5), "shape (5,)"),
        (np.array([["a", "b"]]), "type <U1"),
        (np.array([[1 + 2j]]), "complex128"),
        (np.array([[None, 1]]), "object"),
        (np.array([[1, np.nan]]), "not finite"),
        (np.array([[1, -np.inf]]), "not finite"),
        (np.array([[1e308, -1e308]]), "not finite"),
    ],
)
def test_what_is_no_slice(path, image, said):
    encoder = load_encoder("mri-core", path, device="cpu")
    with pytest.raises(MemorizationIndexError) as caught:
        encoder.encode([np.eye(4), image])
    assert said in str(caught.value)
    assert "Slice 1" in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 250},
        {"image_size": 0},
        {"image_size": 240.0},
        {"positions": "random"},
        {"preprocessing": "png"},
        {"layer_scale": "maybe"},
        {"heads": 5},
        {"heads": 0},
        {"device": "cuda:99"},
        {"device": "toaster"},
        {"batch_size": 0},
        {"weights": None},
    ],
)
def test_settings_that_are_not_known_are_named(path, wrong):
    arguments = {"weights": path, "device": "cpu"} | wrong
    name = next(iter(wrong))
    with pytest.raises(MemorizationIndexError, match=rf"{name}.*expected"):
        load_encoder("mri-core", **arguments)


def test_an_unknown_encoder_and_an_unknown_pool(path):
    with pytest.raises(MemorizationIndexError, match="'mri-core' or 'hf:DIR'"):
        load_encoder("mri_core", path)
    with pytest.raises(MemorizationIndexError, match="pool='max'"):
        load_encoder("mri-core", path, device="cpu").encode([np.eye(4)], "max")


def test_a_depth_that_has_no_quarters(tmp_path):
    torch.save(random_weights(depth=6), tmp_path / "six.pth")
    with pytest.raises(MemorizationIndexError, match="multiple of 4"):
        load_encoder("mri-core", tmp_path / "six.pth", device="cpu")


def test_rules_that_tensors_do_not_tell():
    assert [default_heads(width) for width in (768, 1024, 1280, 384, 32, 100, 33)] == [12, 16, 16, 6, 2, None, None]
    assert [default_blocks(depth) for depth in (12, 24, 32, 3, 1)] == [
        (3, 7, 11),
        (7, 15, 23),
        (10, 20, 31),
        (0, 1, 2),
        (0,),
    ]
    assert [global_blocks(depth) for depth in (12, 24, 32)] == [(2, 5, 8, 11), (5, 11, 17, 23), (7, 15, 23, 31)]


def test_other_widths_depths_and_patches(tmp_path, images):
    torch.save(random_weights(width=48, depth=8, hidden=96, patch=8, grid=7), tmp_path / "other.pth")
    encoder = load_encoder("mri-core", tmp_path / "other.pth", image_size=120, heads=3, device="cpu")
    assert encoder.layers == ("block2", "block4", "block7")
    assert encoder.encode(images[:1], "none")["block7"].shape == (1, 15, 15, 48)


def test_half_precision_weights_are_computed_in_single(tmp_path, images):
    weights = random_weights()
    torch.save({name: values.half() for name, values in weights.items()}, tmp_path / "half.pth")
    torch.save({name: values.half().float() for name, values in weights.items()}, tmp_path / "single.pth")
    half, single = (load_encoder("mri-core", tmp_path / f"{name}.pth", device="cpu") for name in ("half", "single"))
    assert half.fingerprint == single.fingerprint
    np.testing.assert_array_equal(half.encode(images)["block3"], single.encode(images)["block3"])


@pytest.mark.slow
def test_vit_b_in_batches_without_a_gradient(tmp_path):
    torch.save({"model": random_weights(width=768, depth=12, hidden=3072, grid=14)}, tmp_path / "vit-b.pth")
    encoder = load_encoder("mri-core", tmp_path / "vit-b.pth", device="cpu", batch_size=2)
    rng = np.random.default_rng(0)
    features = encoder.encode([rng.random((256, 200)) for _ in range(3)])
    assert {layer: array.shape for layer, array in features.items()} == dict.fromkeys(encoder.layers, (3, 768))
    assert all(np.isfinite(array).all() and np.ptp(array, axis=0).max() > 0 for array in features.values())
    grids = encoder.token_grids(torch.zeros(1, 3, 240, 240))
    assert all(grid.is_inference() and not grid.requires_grad for grid in grids.values())
