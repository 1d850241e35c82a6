"""Deep encoders from the command line, on real scans that lie beside the checkout: build, score, refuse, evaluate."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from golden import FOLDER
from memorization_index.cli import main
from memorization_index.encoders.huggingface import HuggingFaceEncoder
from memorization_index.encoders.mri_core import MriCoreEncoder
from vit_weights import random_weights

DATA = FOLDER.parent / "data" / "ixi_midsagittal" / "images"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the real scans are not there ({DATA})"),
]
TRAINED, NEW = [f"F_{i}.jpg" for i in range(20, 28)], [f"M_{i}.jpg" for i in range(40, 43)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two checkpoints of one shape, and a Hugging Face folder; all random and tiny."""
    folder = tmp_path_factory.mktemp("weights")
    for seed, name in enumerate(("first.pth", "second.pth")):
        torch.save({"model": random_weights(depth=4, grid=14, seed=seed)}, folder / name)
    config = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    transformers.ViTModel(transformers.ViTConfig(**config, image_size=64, patch_size=16)).save_pretrained(
        folder / "vit"
    )
    return folder


@pytest.fixture
def pictures(monkeypatch):
    """Fingerprints of all pictures that pass through a network, in order."""
    seen = []
    for kind in (MriCoreEncoder, HuggingFaceEncoder):

        def counted(self, images, original=kind.token_grids):
            # A folder's network is first tried on a black picture, which is no slice.
            seen.extend(hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images if image.any())
            return original(self, images)

        monkeypatch.setattr(kind, "token_grids", counted)
    return seen


def table(path, names, folder=DATA):
    path.write_text("path\n" + "".join(f"{folder / name}\n" for name in names))
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def run(*words):
    assert main([*map(str, words)]) == 0


@pytest.mark.parametrize("kind", ["mri-core", "hf"])
def test_build_and_score_encode_each_picture_once(kind, weights, pictures, tmp_path, capsys):
    encoder = ["--encoder", "mri-core", "--weights", weights / "first.pth"]
    encoder += ["--precision", "float32"]  # by itself it is timed anew in each run
    if kind == "hf":
        encoder = ["--encoder", f"hf:{weights / 'vit'}"]
    training = table(tmp_path / "training.csv", TRAINED)
    kept = ["--cache", tmp_path / "cache"]
    run("build", training, "--out", tmp_path / "reference", "--power", "none", *encoder, *kept)
    built = len(pictures)
    # Each slice as it is, and under the best view and its half turn for the null (sometimes the same picture).
    assert 2 * len(TRAINED) < built <= 3 * len(TRAINED) + 1
    assert len(set(pictures)) == built

    queries = tmp_path / "queries"
    queries.mkdir()
    shutil.copy(DATA / TRAINED[0], queries / "copy.jpg")
    for name in NEW:
        shutil.copy(DATA / name, queries)
    run("score", tmp_path / "reference", queries, "--out", tmp_path / "result", *kept)
    scored = len(pictures)
    assert scored > built
    assert len(set(pictures)) == scored
    volumes = {row["volume"]: row for row in rows(tmp_path / "result" / "volumes.csv")}
    slices = {row["volume"]: row for row in rows(tmp_path / "result" / "slices.csv")}
    copied = next(name for name in volumes if "copy" in name)
    assert volumes[copied]["verdict"] == "copy"
    assert TRAINED[0].removesuffix(".jpg") in volumes[copied]["match_volume"]
    assert [row["verdict"] for name, row in volumes.items() if name != copied] == ["no evidence"] * len(NEW)
    layers = ("block0", "block1", "block2", "block3")
    channels = {"spectral", "layout", "layout.part", *(f"{b}.{p}" for b in layers for p in ("mean", "grid4"))}
    assert {row["channel"] for row in slices.values()} <= channels

    run("build", training, "--power", "none", "--out", tmp_path / "again", *encoder, *kept)
    run("score", tmp_path / "again", queries, "--out", tmp_path / "again result", *kept)
    assert len(pictures) == scored
    first, last = (rows(tmp_path / name / "slices.csv") for name in ("result", "again result"))
    assert first == last
    assert not any(str(weights).encode() in p.read_bytes() for p in (tmp_path / "reference").iterdir())


def test_without_a_cache_too_no_picture_is_encoded_twice_in_a_run(weights, pictures, tmp_path):
    training = table(tmp_path / "training.csv", TRAINED[:6])
    encoder = ["--encoder", "mri-core", "--weights", weights / "first.pth"]
    encoder += ["--precision", "float32"]  # by itself it is timed anew, which may come out otherwise on a busy machine
    run("build", training, "--power", "none", "--out", tmp_path / "reference", *encoder, "--cache", "off")
    assert len(set(pictures)) == len(pictures) > 6
    run("build", training, "--power", "none", "--out", tmp_path / "other", *encoder, "--cache", "off")
    assert len(pictures) == 2 * len(set(pictures))  # nothing was kept
    # By default features are kept in the user's cache (in these tests a folder of their own).
    run("build", training, "--power", "none", "--out", tmp_path / "default", *encoder)
    count = len(pictures)
    run("build", training, "--power", "none", "--out", tmp_path / "once more", *encoder)
    assert len(pictures) == count


def test_another_encoder_or_other_weights_are_refused_in_one_sentence(weights, tmp_path, capsys):
    training = table(tmp_path / "training.csv", TRAINED[:4])
    first = ["--encoder", "mri-core", "--weights", weights / "first.pth"]
    run("build", training, "--power", "none", "--out", tmp_path / "reference", *first)
    run("build", training, "--power", "none", "--out", tmp_path / "spectral")
    capsys.readouterr()
    for reference, given, said in (
        ("reference", weights / "second.pth", "was built with another mri-core encoder"),
        ("reference", weights / "vit", "is a folder"),
        ("spectral", weights / "first.pth", "'spectral' has none"),
    ):
        arguments = ["score", tmp_path / reference, DATA / NEW[0], "--out", tmp_path / "no", "--weights", given]
        assert main([*map(str, arguments)]) == 2
        printed = capsys.readouterr().err.strip()
        assert said in printed
        assert len(printed.splitlines()) == 1
    assert not (tmp_path / "no").exists()
    # The right weights, moved elsewhere, are the same encoder.
    shutil.copy(weights / "first.pth", tmp_path / "moved.pth")
    arguments = ["score", tmp_path / "reference", DATA / NEW[0], "--out", tmp_path / "yes"]
    run(*arguments, "--weights", tmp_path / "moved.pth")


def test_a_checkpoint_with_layer_scale_is_used_once_it_is_said_how(weights, tmp_path, capsys):
    scaled = tmp_path / "scaled.pth"
    torch.save({"model": random_weights(depth=4, grid=14, layer_scale=True)}, scaled)
    training = table(tmp_path / "training.csv", TRAINED[:4])
    common = ["build", training, "--power", "none", "--encoder", "mri-core", "--weights", scaled, "--out"]
    assert main([*map(str, [*common, tmp_path / "no"])]) == 2
    assert "layer_scale" in capsys.readouterr().err
    manifests = {}
    for choice in ("apply", "ignore"):
        run(*common, tmp_path / choice, "--layer-scale", choice)
        # The reference remembers it: scoring is not asked again.
        run("score", tmp_path / choice, DATA / TRAINED[0], "--out", tmp_path / f"result-{choice}")
        assert rows(tmp_path / f"result-{choice}" / "slices.csv")[0]["match_class"] == "exact"
        manifests[choice] = json.loads((tmp_path / choice / "manifest.json").read_text())["encoder"]
    assert {choice: one["layer_scale"] for choice, one in manifests.items()} == {"apply": "apply", "ignore": "ignore"}
    assert manifests["apply"]["fingerprint"] != manifests["ignore"]["fingerprint"]


def test_evaluate_runs_with_random_weights(weights, pictures, tmp_path):
    cohort = table(tmp_path / "cohort.csv", TRAINED)
    run(
        "evaluate", cohort, "--out", tmp_path / "evaluation", "--encoder", "mri-core", "--weights",
        weights / "first.pth", "--augmentations", "identity,flip_horizontal", "--volumes", 3,
    )  # fmt: skip
    assert pictures
    result = json.loads((tmp_path / "evaluation" / "evaluate.json").read_text())
    assert set(result["augmentations"]) == {"identity", "flip_horizontal"}
    assert result["augmentations"]["identity"]["named"] == 1
    assert np.isfinite(result["all"]["auc"])
