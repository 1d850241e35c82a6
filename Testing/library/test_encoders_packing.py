"""Linear maps by oneDNN: the same numbers as by PyTorch's BLAS, and taken only where they are faster."""

import numpy as np
import pytest
import torch
from memorization_index.encoders import load_encoder, packing
from torch import nn
from vit_weights import random_weights


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save({"model": random_weights(width=128, depth=4, hidden=256)}, path)
    return path


@pytest.mark.parametrize("shape", [(48,), (1, 48), (2, 5, 3, 48)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_map_computes_what_the_map_computes(shape, bias):
    linear, x = nn.Linear(48, 80, bias=bias).requires_grad_(False), torch.randn(shape)
    torch.testing.assert_close(packing.PackedLinear(linear)(x), linear(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [224, 240])
def test_features_are_the_same_either_way(path, size, monkeypatch):
    images = [np.random.default_rng(i).normal(500, 200, (60, 80)).astype(np.float32) for i in range(3)]
    found = []
    for packs in (False, True):
        monkeypatch.setattr(packing, "is_worthwhile", lambda packs=packs: packs)
        encoder = load_encoder("mri-core", path, image_size=size, device="cpu")
        maps = [module for module in encoder._model.modules() if isinstance(module, nn.Linear)]
        assert bool(maps) != packs
        found.append((encoder.fingerprint, encoder.encode(images)))
    (one, plain), (other, packed) = found
    assert one == other
    for layer, values in plain.items():
        np.testing.assert_allclose(packed[layer], values, rtol=1e-5, atol=1e-5)


def test_only_what_is_faster_is_taken(monkeypatch):
    assert set(packing.linear_seconds(1)) == {"BLAS", "oneDNN"}
    for times, chosen in (((2.0, 1.0), True), ((1.1, 1.0), False)):
        monkeypatch.setattr(
            packing, "linear_seconds", lambda times=times: dict(zip(("BLAS", "oneDNN"), times, strict=True))
        )
        packing.is_worthwhile.cache_clear()
        assert packing.is_worthwhile() is chosen

    def missing():
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    monkeypatch.setattr(packing, "linear_seconds", missing)
    packing.is_worthwhile.cache_clear()
    assert packing.is_worthwhile() is False
    packing.is_worthwhile.cache_clear()


def test_half_precision_is_not_packed(path, monkeypatch):
    monkeypatch.setattr(packing, "is_worthwhile", lambda: True)
    encoder = load_encoder("mri-core", path, device="cpu", precision="bfloat16")
    assert any(isinstance(module, nn.Linear) for module in encoder._model.modules())
