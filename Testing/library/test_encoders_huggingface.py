"""Hugging Face folders as encoders: tiny random models of each family, saved here and loaded offline."""

import json

import numpy as np
import pytest
import torch
import transformers
from memorization_index.channels import make_describer
from memorization_index.encoders import load_encoder
from memorization_index.encoders.preprocessing import preprocess
from memorization_index.errors import MemorizationIndexError
from memorization_index.evaluation.cohorts import make_demo_cohort
from memorization_index.reference import Reference
from safetensors.torch import load_file, save_file

SMALL = {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 64}
SQUARE = {"image_size": 64, "patch_size": 16}
TEXT = {**SMALL, "vocab_size": 50, "num_hidden_layers": 2}


def vit():
    return transformers.ViTModel(transformers.ViTConfig(**SMALL, **SQUARE))


def dinov2():
    config = {**SMALL, "mlp_ratio": 2, "image_size": 56, "patch_size": 14}
    return transformers.Dinov2Model(transformers.Dinov2Config(**config))


def dinov2_registers():
    config = {**SMALL, "mlp_ratio": 2, "image_size": 56, "patch_size": 14, "num_register_tokens": 4}
    return transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**config))


def clip():
    config = transformers.CLIPConfig(text_config=TEXT, vision_config={**SMALL, **SQUARE})
    return transformers.CLIPModel(config)


def clip_vision():
    return transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**SMALL, **SQUARE))


def siglip():
    return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**SMALL, **SQUARE))


def sam():
    vision = {**SMALL, **SQUARE, "window_size": 3, "global_attn_indexes": [1, 3, 5], "output_channels": 16}
    return transformers.SamModel(transformers.SamConfig(vision_config={**vision, "mlp_dim": 64}))


#: Family → its model, and how many tokens stand before those of the patches.
FAMILIES = {
    "vit": (vit, 1),
    "dinov2": (dinov2, 1),
    "dinov2_registers": (dinov2_registers, 5),
    "clip": (clip, 1),
    "clip_vision": (clip_vision, 1),
    "siglip": (siglip, 0),
    "sam": (sam, 0),
}
MEAN, DEVIATION = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """Whatever tries to connect fails the test."""
    import socket

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("something tried to connect"))


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.normal(300, 90, size) for size in ((70, 50), (64, 64), (20, 90))]


def saved(folder, model, normalize=True):
    torch.manual_seed(0)
    for values in model.parameters():  # biases, tokens and scales are not left at 0 and 1
        values.data += 0.05 * torch.randn_like(values)
    model.save_pretrained(folder)
    if normalize:
        settings = {"image_mean": MEAN, "image_std": DEVIATION, "do_normalize": True}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return model.eval()


def load(folder, **settings):
    return load_encoder(f"hf:{folder}", device="cpu", **settings)


def hidden_states(model, images, size, mean=MEAN, deviation=DEVIATION, **options):
    """What transformers itself gives: the outputs of the embedding and of each block."""
    pixels = preprocess(images, size, "volume")
    pixels = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
    tower = next((getattr(model, name) for name in ("vision_model", "vision_encoder") if hasattr(model, name)), model)
    with torch.no_grad():
        return tower(pixel_values=pixels, output_hidden_states=True, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layers_are_the_hidden_states_of_the_patches(tmp_path, images, family):
    make, extra = FAMILIES[family]
    model = saved(tmp_path, make())
    encoder = load(tmp_path)
    assert encoder.layers == ("block1", "block3", "block5")
    kind = getattr(model.config, "vision_config", model.config).model_type
    assert encoder.name == f"hf:{tmp_path.name} ({kind})"
    grids = encoder.encode(images, "none")
    states = hidden_states(model, images, encoder.image_size).hidden_states
    for block in (1, 3):
        expected = states[block + 1]
        expected = expected if expected.ndim == 4 else expected[:, extra:].reshape(3, 4, 4, 32)
        assert grids[f"block{block}"].shape == (3, 4, 4, 32)
        assert grids[f"block{block}"].dtype == np.float32
        np.testing.assert_allclose(grids[f"block{block}"], expected.numpy(), atol=1e-4)
    means, quarters = encoder.encode(images), encoder.encode(images, "grid4")
    np.testing.assert_allclose(means["block5"], grids["block5"].mean((1, 2)), atol=1e-5)
    np.testing.assert_allclose(quarters["block5"], grids["block5"].transpose(0, 3, 1, 2).reshape(3, -1), atol=1e-5)


def test_the_last_layer_is_taken_before_the_last_norm(tmp_path, images):
    model = saved(tmp_path, vit())
    grid = load(tmp_path).encode(images, "none")["block5"]
    expected = hidden_states(model, images, 64).last_hidden_state[:, 1:].reshape(3, 4, 4, 32)
    with torch.no_grad():
        np.testing.assert_allclose(model.layernorm(torch.from_numpy(grid)), expected, atol=1e-4)
    assert np.abs(grid - expected.numpy()).max() > 0.1


def test_normalization_is_that_of_the_folder_or_none(tmp_path, images):
    model = saved(tmp_path / "with", vit())
    model.save_pretrained(tmp_path / "without")
    (tmp_path / "off").mkdir()
    model.save_pretrained(tmp_path / "off")
    (tmp_path / "off" / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False, "image_mean": MEAN}))
    expected = hidden_states(model, images, 64, (0.0,) * 3, (1.0,) * 3).hidden_states[2][:, 1:].reshape(3, 4, 4, 32)
    for name in ("without", "off"):
        np.testing.assert_allclose(load(tmp_path / name).encode(images, "none")["block1"], expected, atol=1e-4)
    assert load(tmp_path / "without").fingerprint != load(tmp_path / "with").fingerprint


PREPARED = {
    "cut": {"size": {"shortest_edge": 96}, "crop_size": {"height": 84, "width": 84}},
    "not cut": {"size": {"shortest_edge": 84}, "crop_size": 70, "do_center_crop": False},
    "square": {"size": {"height": 84, "width": 84}},
    "longest": {"size": {"longest_edge": 84}},
    "number": {"size": 84},
}


@pytest.mark.parametrize("family", ["vit", "dinov2", "dinov2_registers", "clip", "siglip"])
def test_the_image_size_is_the_preprocessors(tmp_path, images, family):
    model, patch = saved(tmp_path, FAMILIES[family][0]()), 14 if family.startswith("dinov2") else 16
    sizes = []
    for settings in PREPARED.values():
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
        encoder = load(tmp_path)
        sizes.append(encoder.image_size)
        grid = encoder.encode(images, "none")["block3"]
        assert grid.shape == (3, 84 // patch, 84 // patch, 32)
        options = {} if family.startswith("dinov2") else {"interpolate_pos_encoding": True}
        states = hidden_states(model, images, 84, (0.0,) * 3, (1.0,) * 3, **options).hidden_states
        expected = states[4][:, FAMILIES[family][1] :].reshape(grid.shape)
        np.testing.assert_allclose(grid, expected, atol=1e-4)
    assert sizes == [84] * len(PREPARED)


def test_a_preprocessor_that_tells_no_size_leaves_the_models(tmp_path):
    saved(tmp_path, vit())
    untold = [
        {},
        {"size": {}},
        {"size": {"height": 48, "width": 32}},
        {"do_resize": False, "size": 48},
        {"size": "big"},
    ]
    for settings in untold:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
        assert load(tmp_path).image_size == 64
    whole = load(tmp_path).fingerprint
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 48}))
    assert load(tmp_path).fingerprint != whole


def test_sizes_that_the_network_cannot_take(tmp_path):
    saved(tmp_path, sam())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"longest_edge": 80}}))
    assert "fails on images of 80 pixels" in refusal(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 8}))
    assert "less than a patch" in refusal(tmp_path)


def test_a_classifier_is_loaded_without_its_head(tmp_path, images):
    model = saved(tmp_path, transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL, **SQUARE)))
    expected = hidden_states(model, images, 64).hidden_states[4][:, 1:].reshape(3, 4, 4, 32)
    np.testing.assert_allclose(load(tmp_path).encode(images, "none")["block3"], expected, atol=1e-4)


def test_a_folder_describes_slices_as_channels(tmp_path):
    saved(tmp_path, vit())
    describer = make_describer(f"hf:{tmp_path}", None, "cpu")
    layers = [f"{layer}.{pool}" for layer in ("block1", "block3", "block5") for pool in ("mean", "grid4")]
    assert set(describer.dimensions) == {"spectral", "layout", *layers}
    assert (describer.dimensions["block1.mean"], describer.dimensions["block1.grid4"]) == (32, 512)


@pytest.mark.slow
def test_a_reference_finds_the_folder_again_where_it_was_or_was_moved_to(tmp_path):
    saved(tmp_path / "model", vit())
    scans = make_demo_cohort(tmp_path / "scans", subjects=6, seed=1)
    Reference.build([tmp_path / "scans"], tmp_path / "reference", encoder=f"hf:{tmp_path / 'model'}", device="cpu")
    # Where the folder lies is this user's to know; the bundle has its name, kind and fingerprint.
    bundle = b"".join(p.read_bytes() for p in (tmp_path / "reference").iterdir() if p.suffix == ".json")
    assert str(tmp_path / "model").encode() not in bundle
    assert b"hf:model (vit)" in bundle
    reference = Reference.open(tmp_path / "reference")
    assert reference.score([scans[0]], device="cpu").volumes["match_volume"][0].startswith("sub-001")
    (tmp_path / "model").rename(tmp_path / "moved")
    with pytest.raises(MemorizationIndexError, match="give --weights"):
        reference.score([scans[0]], device="cpu")
    assert reference.score([scans[0]], weights=tmp_path / "moved", device="cpu").run["verdicts"]["copy"] == 1
    assert reference.score([scans[0]], device="cpu").run["verdicts"]["copy"] == 1  # and it is remembered


def test_fingerprints(tmp_path):
    model = saved(tmp_path / "a", vit())
    model.save_pretrained(tmp_path / "b")
    (tmp_path / "b" / "preprocessor_config.json").write_text((tmp_path / "a" / "preprocessor_config.json").read_text())
    first = load(tmp_path / "a").fingerprint
    assert load(tmp_path / "b").fingerprint == first
    assert load(tmp_path / "a", preprocessing="spine").fingerprint != first
    weights = load_file(tmp_path / "b" / "model.safetensors")
    weights[next(iter(weights))] += 1e-3
    save_file(weights, tmp_path / "b" / "model.safetensors", {"format": "pt"})
    assert load(tmp_path / "b").fingerprint != first


def test_nothing_is_printed_and_transformers_speaks_as_before(tmp_path, capfd):
    saved(tmp_path, vit())
    transformers.logging.set_verbosity_info()
    capfd.readouterr()
    load(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert transformers.logging.get_verbosity() == transformers.logging.INFO
    transformers.logging.set_verbosity_warning()


def refusal(folder, **settings):
    with pytest.raises(MemorizationIndexError) as caught:
        load(folder, **settings)
    sentence = str(caught.value)
    assert "expected" in sentence
    assert "\n" not in sentence
    return sentence


def test_no_folder_and_no_model(tmp_path):
    assert "is not a folder" in refusal(tmp_path / "google/vit-base-patch16-224")
    assert "config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{ not json")
    assert "cannot be read" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert "no settings by name" in refusal(tmp_path)


def test_pickled_weights_are_not_read(tmp_path):
    model = saved(tmp_path, vit())
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert "no .safetensors file" in refusal(tmp_path)


def test_code_in_the_folder_is_not_run(tmp_path):
    saved(tmp_path, vit())
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'it-ran')!r})\nclass E: pass\n")
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.E", "AutoModel": "evil.E"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "cannot be loaded" in refusal(tmp_path)
    assert not (tmp_path / "it-ran").exists()


def test_weights_that_lack_a_part_or_do_not_fit(tmp_path):
    saved(tmp_path, vit())
    path, config = tmp_path / "model.safetensors", json.loads((tmp_path / "config.json").read_text())
    whole = path.read_bytes()
    weights = load_file(path)
    name = next(name for name in weights if "2" in name and "attention" in name)
    save_file({key: values for key, values in weights.items() if key != name}, path, {"format": "pt"})
    assert "lacks" in refusal(tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in refusal(tmp_path)
    path.write_bytes(whole)
    for change in ({"num_hidden_layers": 4}, {"intermediate_size": 65}, {"image_size": [64, 32]}, {"image_size": "x"}):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        assert str(tmp_path) in refusal(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [1, 2]}))
    assert "three numbers" in refusal(tmp_path)


def test_networks_that_are_no_such_transformer(tmp_path):
    masked = transformers.ViTMAEModel(transformers.ViTMAEConfig(**SMALL, **SQUARE))
    saved(tmp_path / "masked", masked)
    assert "cannot be used" in refusal(tmp_path / "masked")
    swin = {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2]}
    saved(tmp_path / "swin", transformers.SwinModel(transformers.SwinConfig(**swin, window_size=4)))
    assert "cannot be used" in refusal(tmp_path / "swin")
    convnext = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}
    saved(tmp_path / "convnext", transformers.ConvNextModel(transformers.ConvNextConfig(**convnext)))
    assert "cannot be used" in refusal(tmp_path / "convnext")
    text = transformers.BertModel(transformers.BertConfig(**TEXT))
    saved(tmp_path / "text", text)
    assert "image_size" in refusal(tmp_path / "text")


def test_settings_that_are_the_folders(tmp_path):
    saved(tmp_path, vit())
    for wrong in ({"layer_scale": "apply"}, {"positions": "zeros"}, {"heads": 2}, {"image_size": 224}):
        assert f"{next(iter(wrong))}=" in refusal(tmp_path, **wrong)
    assert "preprocessing='png'" in refusal(tmp_path, preprocessing="png")
