"""How precisely and on what encoders compute; CUDA itself is not needed: autocast works on the processor too."""

import threading

import numpy as np
import pytest
import torch
from memorization_index.encoders import load_encoder
from memorization_index.encoders.base import choose_device, encode_in_batches, staged
from memorization_index.encoders.precision import WORTHWHILE, autocast, bfloat16_speedup, choose_precision
from memorization_index.errors import MemorizationIndexError
from vit_weights import random_weights


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save({"model": random_weights(depth=12)}, path)
    return path


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.normal(500, 200, (90, 70)) for _ in range(5)]


@pytest.mark.parametrize("size", [224, 240])
@pytest.mark.parametrize(("precision", "digits"), [("bfloat16", 2e-2), ("float16", 3e-3)])
def test_half_precision_is_near_single_and_another_encoder(path, images, precision, digits, size):
    settings = {"image_size": size, "device": "cpu", "batch_size": 2}
    single, half = (
        load_encoder("mri-core", path, **settings),
        load_encoder("mri-core", path, **settings, precision=precision),
    )
    assert (single.precision, half.precision) == ("float32", precision)
    assert half.fingerprint != single.fingerprint
    exact, rough = single.encode(images), half.encode(images)
    for layer, features in exact.items():
        assert rough[layer].dtype == np.float32
        error = np.linalg.norm(rough[layer] - features, axis=1) / np.linalg.norm(features, axis=1)
        assert 1e-6 < error.max() < digits  # it is computed otherwise, and about as well as its digits allow


def test_products_are_halved_and_sums_are_not(path):
    encoder = load_encoder("mri-core", path, device="cpu", precision="bfloat16")
    kinds = {}
    for name, module in encoder._model.named_modules():
        if name in ("blocks.0.mlp.lin1", "blocks.0.norm2", "blocks.0"):
            module.register_forward_hook(lambda _m, _i, out, name=name: kinds.update({name: out.dtype}))
    encoder.encode([np.eye(9)])
    assert kinds["blocks.0.mlp.lin1"] == torch.bfloat16
    assert kinds["blocks.0"] == torch.float32  # the residual stream


def test_single_precision_is_left_alone(path, images):
    cpu = torch.device("cpu")
    with autocast("float32", cpu):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32
    with autocast("float16", cpu):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float16


def test_auto_is_half_on_cuda_and_what_is_faster_here(monkeypatch):
    assert choose_precision("auto", torch.device("cuda")) == "float16"
    assert choose_precision("auto", torch.device("mps")) == "float32"
    assert bfloat16_speedup() > 0
    # What is measured differs from moment to moment on a busy machine; what follows from it does not.
    for speedup, chosen in ((0.9 * WORTHWHILE, "float32"), (1.1 * WORTHWHILE, "bfloat16")):
        monkeypatch.setattr("memorization_index.encoders.precision.bfloat16_speedup", lambda s=speedup: s)
        assert choose_precision("auto", torch.device("cpu")) == chosen
    with pytest.raises(MemorizationIndexError, match=r"precision='double'.*'float32'"):
        choose_precision("double", torch.device("cpu"))


@pytest.mark.parametrize("there", [True, False])
def test_auto_takes_cuda_where_it_is(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device("auto").type == ("cuda" if there else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_a_device_that_is_not_there_is_refused(path):
    with pytest.raises(MemorizationIndexError, match=r"device='cuda'.*expected 'auto', 'cpu'"):
        load_encoder("mri-core", path, device="cuda")


def test_a_batch_is_prepared_while_the_one_before_is_computed():
    prepared = [threading.Event() for _ in range(3)]

    def prepare(batch):
        prepared[batch[0]].set()
        return torch.full((len(batch), 1, 1, 1), float(batch[0]))

    def grids(images):
        number = int(images[0, 0, 0, 0])
        if number < 2:  # would wait for ever were the next batch prepared only after this one
            assert prepared[number + 1].wait(20)
        return {"layer": images}

    found = encode_in_batches([0, 1, 2], "mean", 1, {"layer": (1, 1, 1)}, prepare, grids)
    assert found["layer"].ravel().tolist() == [0, 1, 2]


def test_batches_for_a_gpu_are_pinned_in_the_thread_that_prepares_them(path, images, monkeypatch):
    pinned, threads = torch.ones(1), []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda _batch: pinned)
    batch = torch.zeros(2)
    assert staged(batch, torch.device("cuda")) is pinned
    assert staged(batch, torch.device("cpu")) is batch

    def watched(batch, device):
        threads.append(threading.current_thread())
        return staged(batch, device)

    monkeypatch.setattr("memorization_index.encoders.mri_core.staged", watched)
    load_encoder("mri-core", path, device="cpu", batch_size=2).encode(images)
    assert len(threads) == 3
    assert threading.current_thread() not in threads


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is not here")
def test_a_gpu_gives_what_the_processor_gives(path, images):
    there, here = (
        load_encoder("mri-core", path, device=device, precision="float32").encode(images) for device in ("cuda", "cpu")
    )
    for layer, features in here.items():
        np.testing.assert_allclose(there[layer], features, rtol=1e-3, atol=1e-4 * np.abs(features).max())


def test_what_fails_while_it_is_prepared_is_told(path):
    with pytest.raises(MemorizationIndexError, match="Slice 0"):
        load_encoder("mri-core", path, device="cpu", batch_size=1).encode([np.eye(9), np.zeros(3)])
