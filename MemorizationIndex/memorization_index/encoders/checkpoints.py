"""Checkpoints of SAM-shaped vision transformers: five published layouts and ``.safetensors``, under one set of names.

Every tensor of the backbone is accounted for. What the encoder cannot do right (relative positions) or does only when
told how (LayerScale) is refused instead of dropped: the published loader drops both, and the trained positions too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorization_index.encoders.weightfiles import read_weights
from memorization_index.errors import MemorizationIndexError

if TYPE_CHECKING:
    import torch

#: Top-level keys that wrap the tensors, in the order in which they are looked for (both teacher and student: teacher).
_WRAPPERS = ("model", "state_dict", "teacher", "student")
_BACKBONES = ("image_encoder.", "backbone.", "")
_PATCH = "patch_embed.proj.weight"
_BLOCK = re.compile(r"blocks\.(?:\d+\.)?(\d+)\.(.+)")
#: Backbone tensors without influence on the output of any block: class and mask token, last norm, SAM's neck.
_WITHOUT_INFLUENCE = re.compile(r"cls_token|mask_token|norm\.(weight|bias)|neck\.\d+\.(weight|bias)")
_LAYER_SCALE = re.compile(r"blocks\.\d+\.ls[12]\.gamma")
_RELATIVE = re.compile(r"blocks\.\d+\.attn\.rel_pos_[hw]")
#: Heads of the published ViT-B, -L and -H; the shapes of tensors do not tell them.
_PUBLISHED_HEADS = {768: 12, 1024: 16, 1280: 16}


@dataclass(frozen=True)
class Shape:
    """Sizes of a SAM-shaped transformer, as its tensors have them."""

    width: int
    depth: int
    hidden: int
    patch: int


@dataclass(frozen=True)
class Checkpoint:
    """The backbone of a checkpoint under the encoder's names.

    ``tensors``: float32, without positions; ``positions``: ``(1, h, w, C)``, class token dropped; ``other``: groups of
    tensors that belong to no backbone (heads, decoders).
    """

    path: Path
    layout: str
    shape: Shape
    tensors: Mapping[str, torch.Tensor]
    positions: torch.Tensor
    class_token: bool
    layer_scale: bool
    relative_positions: bool
    other: tuple[str, ...]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the backbone of a checkpoint.

    Raises :class:`MemorizationIndexError` where the file is no such checkpoint, or backbone tensors are missing,
    unexpected, of a wrong shape, or not finite; the sentence names them.
    """
    path = Path(path)
    content, wrapper = _unwrap(read_weights(path))
    found = {str(name).removeprefix("module."): value for name, value in content.items()}
    prefix = _backbone_prefix(path, found)
    own, other = _split(found, prefix)
    named, chunked = _rename(path, own)
    _check_tensors(path, named)
    shape = _shape(path, named)
    layer_scale = any(_LAYER_SCALE.fullmatch(name) for name in named)
    relative = any(_RELATIVE.fullmatch(name) for name in named)
    _check_names(path, named, shape, layer_scale)
    positions, class_token = _positions(path, named, shape.width)
    kept = expected_shapes(shape, layer_scale)
    return Checkpoint(
        path,
        _layout(wrapper, prefix, chunked, "mlp.fc" if any(".mlp.fc1." in name for name in own) else "mlp.lin"),
        shape,
        {name: named[name].float() for name in kept},
        positions,
        class_token,
        layer_scale,
        relative,
        other,
    )


def expected_shapes(shape: Shape, layer_scale: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all backbone tensors except the positions."""
    c, hidden = shape.width, shape.hidden
    block: dict[str, tuple[int, ...]] = {
        "norm1.weight": (c,),
        "norm1.bias": (c,),
        "attn.qkv.weight": (3 * c, c),
        "attn.qkv.bias": (3 * c,),
        "attn.proj.weight": (c, c),
        "attn.proj.bias": (c,),
        "norm2.weight": (c,),
        "norm2.bias": (c,),
        "mlp.lin1.weight": (hidden, c),
        "mlp.lin1.bias": (hidden,),
        "mlp.lin2.weight": (c, hidden),
        "mlp.lin2.bias": (c,),
    }
    if layer_scale:
        block |= {"ls1.gamma": (c,), "ls2.gamma": (c,)}
    patch: dict[str, tuple[int, ...]] = {_PATCH: (c, 3, shape.patch, shape.patch), "patch_embed.proj.bias": (c,)}
    return patch | {f"blocks.{i}.{name}": size for i in range(shape.depth) for name, size in block.items()}


def default_heads(width: int) -> int | None:
    """Attention heads of a width, which no tensor's shape tells.

    768: 12, 1024 and 1280: 16, as published; otherwise one for each 64 channels, and 2 below 64. None where neither
    rule gives a whole number.
    """
    if width in _PUBLISHED_HEADS:
        return _PUBLISHED_HEADS[width]
    heads, rest = (2, width % 2) if width < 64 else divmod(width, 64)
    return None if rest else heads


def _unwrap(content: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    wrapper: tuple[str, ...] = ()
    for key in _WRAPPERS:
        if isinstance(content.get(key), dict):
            content, wrapper = content[key], (*wrapper, key)
    return content, wrapper


def _backbone_prefix(path: Path, found: Mapping[str, Any]) -> str:
    prefixes = [prefix for prefix in _BACKBONES if prefix + _PATCH in found]
    if len(prefixes) == 1:
        return prefixes[0]
    if prefixes:
        raise MemorizationIndexError(
            f"{path}: holds more than one backbone ({', '.join(p + _PATCH for p in prefixes)}); expected one, so save "
            "the wanted one to a file of its own."
        )
    raise MemorizationIndexError(
        f"{path}: looks like {_other_model(found)}; expected a SAM-shaped vision transformer such as MRI-CORE "
        f"(a tensor '{_PATCH}' alone or under 'backbone.' or 'image_encoder.')."
    )


def _other_model(found: Mapping[str, Any]) -> str:
    """What a checkpoint without the wanted backbone seems to be, from the names in it."""
    names = " ".join(found)
    for part, what in (
        ("embeddings.patch_embeddings", "a Hugging Face vision transformer (give its folder as hf:DIR)"),
        ("vision_model.", "a Hugging Face CLIP model (give its folder as hf:DIR)"),
        ("vision_encoder.", "a Hugging Face SAM model (give its folder as hf:DIR)"),
        ("patch_embed.seq.", "a TinyViT, as in MobileSAM and LiteMedSAM"),
        ("layer1.0.conv1", "a ResNet"),
        ("relative_position_bias_table", "a Swin transformer"),
    ):
        if part in names:
            return what
    shown = ", ".join(list(found)[:3]) or "nothing"
    return f"another model or no model ({len(found)} entries: {shown[:200]})"


def _split(found: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Tensors of the backbone, prefix removed, and the groups that are none of it."""
    own, other = {}, set()
    for name, value in found.items():
        if name.startswith(prefix) and (prefix or not name.startswith("decoder")):
            own[name.removeprefix(prefix)] = value
        else:
            other.add(name.split(".")[0])
    return own, tuple(sorted(other))


def _rename(path: Path, own: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Give tensors the encoder's names: no chunk number (the inner number counts all blocks), ``lin`` for ``fc``."""
    named: dict[str, Any] = {}
    chunked = False
    for name, value in own.items():
        new = name
        if block := _BLOCK.fullmatch(name):
            new = f"blocks.{int(block[1])}.{block[2].replace('mlp.fc', 'mlp.lin')}"
            chunked |= name.count(".") > new.count(".")
        if new in named:
            raise MemorizationIndexError(
                f"{path}: has two tensors for '{new}' ('{name}' is one); expected blocks that are numbered through."
            )
        named[new] = value
    return named, chunked


def _check_tensors(path: Path, named: Mapping[str, Any]) -> None:
    """Refuse what is not a plain array of finite numbers, stored in full (a hostile file can claim any size)."""
    import torch

    for name, value in named.items():
        if (
            not isinstance(value, torch.Tensor)
            or value.layout is not torch.strided
            or value.device.type != "cpu"
            or not value.is_floating_point()
            or value.is_quantized
            or value.numel() * value.element_size() > value.untyped_storage().nbytes()
        ):
            raise MemorizationIndexError(
                f"{path}: '{name}' is not a plain array of floating-point numbers; expected one."
            )
        if not bool(torch.isfinite(value).all()):
            raise MemorizationIndexError(
                f"{path}: '{name}' has values that are not finite; expected finite weights, so download it again."
            )


def _shape(path: Path, named: Mapping[str, torch.Tensor]) -> Shape:
    patch = tuple(named[_PATCH].shape)
    blocks = {int(found[1]) for name in named if (found := re.match(r"blocks\.(\d+)\.", name))}
    if len(patch) != 4 or patch[1] != 3 or patch[2] != patch[3] or 0 in patch:
        raise MemorizationIndexError(
            f"{path}: '{_PATCH}' has shape {patch}; expected (width, 3, patch, patch), a 2-D encoder of 3 channels."
        )
    if not blocks:
        raise MemorizationIndexError(f"{path}: has no blocks ('blocks.0.norm1.weight', …); expected a whole encoder.")
    # A damaged name may claim a great number; more blocks than tensors cannot be there.
    depth = min(max(blocks) + 1, len(named))
    hidden = [len(value) for name, value in named.items() if name.endswith("mlp.lin1.bias") and value.ndim]
    return Shape(patch[0], depth, hidden[0] if hidden else 4 * patch[0], patch[2])


def _check_names(path: Path, named: Mapping[str, torch.Tensor], shape: Shape, layer_scale: bool) -> None:
    expected = expected_shapes(shape, layer_scale)
    missing = [name for name in (*expected, "pos_embed") if name not in named]
    unexpected = [
        name
        for name in named
        if name not in expected
        and name != "pos_embed"
        and not _WITHOUT_INFLUENCE.fullmatch(name)
        and not _RELATIVE.fullmatch(name)
    ]
    wrong = [
        f"{name} {tuple(named[name].shape)} instead of {size}"
        for name, size in expected.items()
        if name in named and tuple(named[name].shape) != size
    ]
    problems = (("lacks", missing), ("has unexpected", unexpected), ("has of a wrong shape", wrong))
    said = "; ".join(f"{verb} {_listed(names)}" for verb, names in problems if names)
    if said:
        raise MemorizationIndexError(
            f"{path}: {said}; expected the {len(expected) + 1} backbone tensors of a SAM-shaped vision transformer of "
            f"width {shape.width} and depth {shape.depth}."
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def _positions(path: Path, named: Mapping[str, torch.Tensor], width: int) -> tuple[torch.Tensor, bool]:
    """The position table as a grid ``(1, h, w, C)``, and whether a class token's position was dropped from it."""
    table = named["pos_embed"].float()
    size = tuple(table.shape)
    if len(size) == 4 and size[0] == 1 and size[3] == width and 0 not in size:
        return table, False
    if len(size) == 3 and size[0] == 1 and size[2] == width:
        class_token = "cls_token" in named or math.isqrt(size[1]) ** 2 != size[1]
        count = size[1] - class_token
        side = math.isqrt(max(count, 0))
        if side and side * side == count:
            return table[:, int(class_token) :].reshape(1, side, side, width), class_token
    raise MemorizationIndexError(
        f"{path}: 'pos_embed' has shape {size}; expected (1, h, w, {width}) or a square grid of tokens, with or "
        f"without a class token, (1, n, {width})."
    )


def _layout(wrapper: tuple[str, ...], prefix: str, chunked: bool, mlp: str) -> str:
    place = " → ".join((*wrapper, f"{prefix}blocks.{'<chunk>.' if chunked else ''}<i>"))
    return f"{place}, {mlp}"
