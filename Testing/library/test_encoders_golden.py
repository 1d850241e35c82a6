"""The MRI-CORE encoder meets numbers that were made with the published code, and nothing that is merely near them."""

import golden
import numpy as np
import pytest
import torch
from memorization_index.encoders import load_encoder
from memorization_index.encoders.checkpoints import read_checkpoint
from memorization_index.encoders.mri_core import _resized_positions
from memorization_index.encoders.preprocessing import preprocess

pytestmark = golden.needs_golden

BLOCK, POOLED, PREPARED = 1e-3, 1e-4, 1e-5
LAYERS = ("block3", "block7", "block11")
#: The five published layouts and the plain file, with what each needs said.
FILES = {
    "tiny_teacher.pth": "refuse",
    "tiny_teacher_chunk4_extras.pth": "ignore",
    "tiny_student.pth": "refuse",
    "tiny_model_mae.pth": "refuse",
    "tiny_sam_vit.pth": "refuse",
    "tiny_encoder.safetensors": "refuse",
}


def load(name="tiny_sam_vit.pth", **settings):
    settings.setdefault("layer_scale", FILES[name])
    return load_encoder("mri-core", golden.FOLDER / name, device="cpu", **settings)


def error(found, expected):
    return float(np.abs(found - expected).max())


@pytest.mark.parametrize("method", ["volume", "spine"])
def test_preprocessing(method):
    prepared = preprocess(golden.slices(), 240, method)
    assert prepared.shape == (4, 3, 240, 240)
    for channel in range(3):
        assert error(prepared[:, channel].numpy(), golden.encoder_arrays()[f"pre_{method}"]) < PREPARED


@pytest.mark.parametrize("positions", ["trained", "zeros"])
@pytest.mark.parametrize("method", ["volume", "spine"])
@pytest.mark.parametrize("name", FILES)
def test_every_layout_gives_the_published_features(name, method, positions):
    arrays, short = golden.encoder_arrays(), {"trained": "pos", "zeros": "nopos"}
    encoder = load(name, preprocessing=method, positions=positions)
    assert encoder.layers == LAYERS
    grids, means = encoder.encode(golden.slices(), "none"), encoder.encode(golden.slices())
    for layer in LAYERS:
        assert grids[layer].shape == (4, 15, 15, 32)
        assert grids[layer].dtype == means[layer].dtype == np.float32
        assert error(grids[layer], arrays[f"out_{method}_{short[positions]}_{layer}"]) < BLOCK
        assert error(means[layer], arrays[f"pooled_{method}_{short[positions]}_{layer}"]) < POOLED


@pytest.mark.parametrize("layer", LAYERS)
def test_it_is_not_upstream_sam_nor_the_other_positions(layer):
    arrays, means = golden.encoder_arrays(), load().encode(golden.slices())[layer]
    assert error(means, arrays[f"upstream_norm_order_pooled_volume_pos_{layer}"]) > 1
    assert error(means, arrays[f"pooled_volume_nopos_{layer}"]) > 1


def test_three_different_channels():
    arrays = golden.encoder_arrays()
    grids = load().token_grids(torch.from_numpy(arrays["rgb_input"]))
    for layer in LAYERS:
        assert error(grids[layer].mean((1, 2)).numpy(), arrays[f"rgb_pooled_pos_{layer}"]) < POOLED


@pytest.mark.parametrize("name", FILES)
def test_positions_are_resized_to_the_reference_grid(name):
    expected = read_checkpoint(golden.FOLDER / "tiny_encoder.safetensors").positions
    checkpoint = read_checkpoint(golden.FOLDER / name)
    assert checkpoint.class_token == ("sam" not in name and "encoder" not in name)
    assert error(_resized_positions(checkpoint.positions, 15).numpy(), expected.numpy()) < 1e-6


def test_the_same_weights_have_one_fingerprint_in_every_layout():
    on_the_same_grid = ["tiny_student.pth", "tiny_model_mae.pth", "tiny_sam_vit.pth", "tiny_encoder.safetensors"]
    assert len({load(name).fingerprint for name in on_the_same_grid}) == 1


def test_every_setting_that_changes_features_changes_the_fingerprint():
    settings = [{}, {"positions": "zeros"}, {"preprocessing": "spine"}, {"image_size": 224}, {"heads": 4}]
    encoders = [load(**setting) for setting in settings]
    features = [encoder.encode(golden.slices())["block11"] for encoder in encoders]
    assert len({encoder.fingerprint for encoder in encoders}) == len(settings)
    assert all(error(features[0], other) > 0.01 for other in features[1:])
    assert load(batch_size=1).fingerprint == encoders[0].fingerprint


def test_layer_scale_is_applied_when_asked_for(tmp_path):
    name = "tiny_teacher_chunk4_extras.pth"
    applied, ignored = (load(name, layer_scale=choice) for choice in ("apply", "ignore"))
    assert applied.fingerprint != ignored.fingerprint
    assert error(applied.encode(golden.slices())["block3"], ignored.encode(golden.slices())["block3"]) > 0.1
    # Scaling a branch is scaling the last linear map of it, so plain weights can do what LayerScale does.
    content = torch.load(golden.FOLDER / name, weights_only=True)["teacher"]
    for key in [key for key in content if key.endswith("gamma")]:
        gamma = content.pop(key)
        last = key.replace("ls1.gamma", "attn.proj").replace("ls2.gamma", "mlp.fc2")
        content[f"{last}.weight"] = content[f"{last}.weight"] * gamma[:, None]
        content[f"{last}.bias"] = content[f"{last}.bias"] * gamma
    torch.save({"teacher": content}, tmp_path / "folded.pth")
    folded = load_encoder("mri-core", tmp_path / "folded.pth", device="cpu")
    for layer in LAYERS:
        assert error(applied.encode(golden.slices())[layer], folded.encode(golden.slices())[layer]) < POOLED
