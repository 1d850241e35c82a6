"""Files that are no weights: nothing in them runs, and one sentence says what each looks like."""

import hashlib
import io
import json
import os
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest
import torch
from memorization_index.channels import make_describer
from memorization_index.cli import main
from memorization_index.encoders import describe_checkpoint, load_encoder
from memorization_index.encoders.checkpoints import read_checkpoint
from memorization_index.errors import MemorizationIndexError
from safetensors.torch import save_file
from vit_weights import random_weights


def refusal(path):
    """The one sentence with which a file is refused; it names the file and what was expected."""
    with pytest.raises(MemorizationIndexError) as caught:
        load_encoder("mri-core", path, device="cpu")
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "expected" in sentence
    assert "\n" not in sentence
    assert len(sentence) < 900
    return sentence


def written(path, content):
    path.write_bytes(content)
    return path


def saved(path, content):
    torch.save(content, path)
    return path


class Payload:
    """Unpickling it creates a folder."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("form", ["pickle", "torch zip", "torch legacy", "beside weights"])
def test_a_malicious_pickle_is_refused_and_nothing_of_it_runs(tmp_path, form):
    mark, path = tmp_path / "it-ran", tmp_path / "weights.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Payload(mark)))
    elif form == "beside weights":
        torch.save({"model": random_weights(), "extra": Payload(mark)}, path)
    else:
        torch.save({"model": Payload(mark)}, path, _use_new_zipfile_serialization=form == "torch zip")
    sentence = refusal(path)
    assert ("Python pickle" if form == "pickle" else "mkdir'") in sentence
    assert "nothing in it was run" in sentence
    assert not mark.exists()
    assert main(["encoders", "--check", str(path)]) == 2
    assert not mark.exists()
    # The payload is a real one: reading the file without care does create the folder.
    if form == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"", "is empty"),
        (b"\n <!DOCTYPE html><html><title>Google Drive - Virus scan warning</title></html>", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"),
        (b'{"error": "not found"}', "text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "HDF5"),
        (b"\x1f\x8b\x08" + bytes(600), "gzip"),
        (bytes(range(100, 256)) * 9, "no known format"),
        (b"\x80\x02}q\x00X", "Python pickle"),
        (pickle.dumps([1, 2]), "Python pickle"),
    ],
)
def test_what_is_no_checkpoint(tmp_path, content, looks):
    assert re.search(looks, refusal(written(tmp_path / "weights.pth", content)))


def test_a_folder_and_a_missing_file(tmp_path):
    assert "is a folder" in refusal(tmp_path)
    assert "hf:" in refusal(tmp_path)
    assert "is not there" in refusal(tmp_path / "none.pth")


@pytest.mark.parametrize("kept", [0.001, 0.3, 0.9, 0.999])
def test_a_truncated_download(tmp_path, kept):
    whole = saved(tmp_path / "whole.pth", {"model": random_weights()}).read_bytes()
    assert "cut short" in refusal(written(tmp_path / "part.pth", whole[: int(len(whole) * kept)]))


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_a_truncated_safetensors_file(tmp_path, kept):
    save_file(random_weights(), tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    assert "cut short" in refusal(written(tmp_path / "part.safetensors", whole[: int(len(whole) * kept)]))


def test_a_legacy_file_is_read_and_its_half_is_not(tmp_path):
    path = tmp_path / "legacy.pth"
    torch.save({"model": random_weights()}, path, _use_new_zipfile_serialization=False)
    assert read_checkpoint(path).shape.depth == 4
    assert "cut short" in refusal(written(tmp_path / "half.pth", path.read_bytes()[: path.stat().st_size // 2]))


def test_a_pytorch_file_without_names(tmp_path):
    assert "holds a list" in refusal(saved(tmp_path / "list.pth", [torch.ones(2)]))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_other_archives(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("slides/one.txt", "x")
    assert "zip archive of other files (slides/one.txt)" in refusal(written(tmp_path / "a.pth", archive.getvalue()))
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "program.pth"))
    assert "TorchScript" in refusal(tmp_path / "program.pth")


@pytest.mark.parametrize(
    ("names", "looks"),
    [
        (["conv1.weight", "layer1.0.conv1.weight"], "a ResNet"),
        (["embeddings.patch_embeddings.projection.weight"], "hf:DIR"),
        (["image_encoder.patch_embed.seq.0.c.weight"], "TinyViT"),
        (["encoder.0.weight", "encoder.0.bias"], "encoder.0.weight"),
        ([], "nothing"),
    ],
)
def test_other_models(tmp_path, names, looks):
    sentence = refusal(saved(tmp_path / "other.pth", {name: torch.ones(2, 2) for name in names}))
    assert looks in sentence
    assert "SAM-shaped" in sentence


def test_missing_and_unexpected_tensors_are_named(tmp_path):
    weights = random_weights()
    del weights["blocks.2.attn.qkv.bias"], weights["pos_embed"]
    weights["blocks.1.attn.q_norm.weight"] = torch.ones(32)
    weights["blocks.3.norm2.bias"] = torch.ones(31)
    weights["register_tokens"] = torch.ones(1, 4, 32)
    sentence = refusal(saved(tmp_path / "odd.pth", weights))
    for name in ("lacks blocks.2.attn.qkv.bias, pos_embed", "blocks.1.attn.q_norm.weight", "register_tokens", "(31,)"):
        assert name in sentence


def test_a_missing_block_is_missed(tmp_path):
    weights = {name: values for name, values in random_weights().items() if not name.startswith("blocks.1.")}
    assert "blocks.1.norm1.weight" in refusal(saved(tmp_path / "gap.pth", weights))


def test_a_huge_block_number_does_not_exhaust_memory(tmp_path):
    weights = random_weights() | {"blocks.999999999999.norm1.weight": torch.ones(32)}
    assert "999999999999" in refusal(saved(tmp_path / "deep.pth", weights))


def test_a_tensor_that_claims_more_than_is_stored(tmp_path):
    weights = random_weights() | {"norm.weight": torch.ones(1).expand(10**6, 10**6)}
    assert "'norm.weight' is not a plain array" in refusal(saved(tmp_path / "bomb.pth", weights))


def test_values_that_are_not_finite(tmp_path):
    weights = random_weights()
    weights["blocks.0.norm1.bias"][3] = torch.nan
    assert "'blocks.0.norm1.bias' has values that are not finite" in refusal(saved(tmp_path / "nan.pth", weights))


def test_two_backbones_and_blocks_that_are_numbered_by_chunk(tmp_path):
    weights = random_weights()
    both = {f"{prefix}.{name}": values for prefix in ("backbone", "image_encoder") for name, values in weights.items()}
    assert "more than one backbone" in refusal(saved(tmp_path / "both.pth", both))
    chunks = weights | {name.replace("blocks.1.", "blocks.1.0."): values for name, values in weights.items()}
    assert "two tensors for 'blocks.0." in refusal(saved(tmp_path / "chunks.pth", chunks))


@pytest.mark.parametrize("size", [(1, 14, 32), (1, 200, 32), (1, 15, 15, 31), (225, 32), (1, 0, 32)])
def test_a_position_table_that_is_no_grid(tmp_path, size):
    weights = random_weights() | {"pos_embed": torch.zeros(size)}
    assert f"'pos_embed' has shape {size}" in refusal(saved(tmp_path / "table.pth", weights))


def test_relative_positions_are_refused_with_the_reason(tmp_path):
    weights = random_weights() | {
        f"blocks.{i}.attn.rel_pos_{axis}": torch.ones(27, 16) for i in range(4) for axis in "hw"
    }
    path = saved(tmp_path / "sam.pth", weights)
    assert "relative positions" in refusal(path)
    assert "does not use" in refusal(path)
    description = describe_checkpoint(path)
    assert description.relative_positions
    assert "relative positions" in description.problem
    assert not description.fingerprints
    assert main(["encoders", "--check", str(path)]) == 2


def test_layer_scale_is_refused_until_it_is_decided(tmp_path):
    path = saved(tmp_path / "scaled.pth", random_weights(layer_scale=True))
    sentence = refusal(path)
    assert 'layer_scale="apply"' in sentence
    assert 'layer_scale="ignore"' in sentence
    found = describe_checkpoint(path).fingerprints
    assert found == {
        f"image_size={size}, {used}, layer_scale='{choice}'": load_encoder(
            "mri-core", path, image_size=size, layer_scale=choice
        ).fingerprint
        for size, used in ((224, "in references of mi-v1"), (240, "as published"))
        for choice in ("apply", "ignore")
    }


def test_a_description_says_what_is_there(tmp_path, capsys):
    weights = {f"backbone.{name}": values for name, values in random_weights(grid=14).items()}
    weights["backbone.pos_embed"] = torch.zeros(1, 197, 32)
    path = saved(tmp_path / "weights.pth", {"teacher": weights | {"dino_head.weight": torch.ones(2)}})
    description = describe_checkpoint(path)
    assert description.layout == "teacher → backbone.blocks.<i>, mlp.lin"
    assert (description.shape.width, description.shape.depth, description.shape.hidden) == (32, 4, 64)
    assert (description.grid, description.heads, description.class_token) == ((14, 14), 2, True)
    assert description.other == ("dino_head",)
    built, published = (load_encoder("mri-core", path, image_size=size).fingerprint for size in (224, 240))
    assert list(description.fingerprints.values()) == [built, published]
    assert make_describer("mri-core", path, "cpu", precision="float32").fingerprint.endswith(built)
    assert description.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert main(["encoders", "--check", str(path)]) == 0
    printed = capsys.readouterr().out
    assert f"{built} (image_size=224, in references of mi-v1)" in printed
    assert f"{published} (image_size=240, as published)" in printed
    for part in (description.sha256, *description.fingerprints.values(), "14 × 14", "dino_head"):
        assert part in printed


def test_hostile_safetensors_headers(tmp_path):
    for header in (
        b"{",
        b"{}" * 9,
        json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}).encode(),
    ):
        content = struct.pack("<Q", len(header)) + header + np.zeros(1, np.float32).tobytes()
        assert "safetensors" in refusal(written(tmp_path / "x.safetensors", content))


@pytest.mark.parametrize(
    "builder", [b"cbuiltins\nbytearray\n", b"ctorch\nTensor\n", b"ctorch.storage\nUntypedStorage\n"]
)
@pytest.mark.parametrize("legacy", [False, True])
def test_what_allocates_as_much_as_the_file_says_is_not_built(tmp_path, builder, legacy):
    """PyTorch's weights_only lets these through: 400 bytes of file would take a gigabyte."""
    path = tmp_path / "weights.pth"
    program = b"\x80\x02" + builder + b"J" + (10**9).to_bytes(4, "little") + b"\x85R."
    torch.save({"model": {}}, path, _use_new_zipfile_serialization=not legacy)
    if legacy:
        data = path.read_bytes()
        at = data.index(b"}q\x00X\x05\x00\x00\x00model") - 2
        path.write_bytes(data[:at] + program + data[at:])
    else:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), program if name.endswith("data.pkl") else content)
    assert f"asks to run or build '{builder[1:-1].decode().replace(chr(10), '.')}'" in refusal(path)


def test_compressed_members_are_not_decompressed(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": random_weights()}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "an archive that PyTorch did not write" in refusal(path)


def test_a_legacy_file_that_claims_more_than_it_holds(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": {"a": torch.zeros(70_000)}}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    claimed = b"J" + (70_000).to_bytes(4, "little")
    assert claimed in data
    path.write_bytes(data.replace(claimed, b"J" + (2_000_000_000).to_bytes(4, "little")))
    assert "claims 2000000000 values" in refusal(path)
