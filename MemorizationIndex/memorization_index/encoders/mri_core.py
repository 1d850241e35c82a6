"""MRI-CORE: the image encoder of Segment Anything, as MRI-CORE's fork of it computes it.

A vision transformer on a square grid of 16-pixel patches: absolute positions, attention in windows of 14 × 14 tokens
except in four evenly spaced blocks that attend globally. Two things differ from SAM: there are no relative positions,
and windows are cut, and padded with zeros, *before* the first LayerNorm of a block, so that padding enters attention
as the LayerNorm's bias. With 224 pixels the grid is 14 × 14 and nothing is padded.

Dong et al., *MRI-CORE*, arXiv 2506.12186; Kirillov et al., *Segment Anything*, 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from memorization_index.encoders.base import (
    Features,
    Pool,
    checked,
    choose_device,
    default_blocks,
    digest_settings,
    digest_tensors,
    encode_in_batches,
)
from memorization_index.encoders.checkpoints import Checkpoint, Shape, default_heads, read_checkpoint
from memorization_index.encoders.preprocessing import PREPROCESSINGS, Preprocessing, preprocess
from memorization_index.errors import MemorizationIndexError

Positions = Literal["trained", "zeros"]
LayerScale = Literal["refuse", "apply", "ignore"]

_WINDOW = 14
_EPSILON = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention over all tokens of a grid ``(n, h, w, C)``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, and keep the shape."""
        n, h, w, c = x.shape
        q, k, v = self.qkv(x).reshape(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.proj(attended.transpose(1, 2).reshape(n, h, w, c)))


class Perceptron(nn.Module):
    """Two linear maps with an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map each token by itself."""
        return cast(Tensor, self.lin2(F.gelu(self.lin1(x))))


class Scale(nn.Module):
    """LayerScale: one factor a channel (Touvron et al., 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply each channel."""
        return x * self.gamma


class Block(nn.Module):
    """One transformer block; ``window`` tokens a side attend to each other, or all where it is 0."""

    def __init__(self, shape: Shape, heads: int, window: int, layer_scale: bool) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(shape.width, eps=_EPSILON)
        self.attn = Attention(shape.width, heads)
        self.norm2 = nn.LayerNorm(shape.width, eps=_EPSILON)
        self.mlp = Perceptron(shape.width, shape.hidden)
        self.ls1 = Scale(shape.width) if layer_scale else nn.Identity()
        self.ls2 = Scale(shape.width) if layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Both residual steps on a grid ``(n, h, w, C)``."""
        if self.window:
            attended = in_windows(x, self.window, lambda windows: self.attn(self.norm1(windows)))
        else:
            attended = self.attn(self.norm1(x))
        x = x + self.ls1(attended)
        return cast(Tensor, x + self.ls2(self.mlp(self.norm2(x))))


def in_windows(x: Tensor, size: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to windows ``(n·windows, size, size, C)`` of a grid that is padded with zeros to fit."""
    n, h, w, c = x.shape
    rows, columns = -(-h // size), -(-w // size)
    x = F.pad(x, (0, 0, 0, columns * size - w, 0, rows * size - h))
    windows = x.reshape(n, rows, size, columns, size, c).transpose(2, 3).reshape(-1, size, size, c)
    x = function(windows).reshape(n, rows, columns, size, size, c).transpose(2, 3)
    return x.reshape(n, rows * size, columns * size, c)[:, :h, :w]


class PatchEmbedding(nn.Module):
    """A linear map of each patch.

    Written as a matrix product, not as a convolution, which CUDA would compute with 10 bits of mantissa by default.
    """

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(n, 3, H, W)`` to a grid ``(n, H/patch, W/patch, C)``."""
        n, _, height, width = images.shape
        patch = self.proj.kernel_size[0]
        h, w = height // patch, width // patch
        patches = images.reshape(n, 3, h, patch, w, patch).permute(0, 2, 4, 1, 3, 5).reshape(n, h, w, -1)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class VisionTransformer(nn.Module):
    """The encoder without SAM's neck: images ``(n, 3, size, size)`` to the token grids of some blocks."""

    def __init__(self, shape: Shape, heads: int, grid: int, layer_scale: bool) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(shape.width, shape.patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, shape.width))
        everywhere = global_blocks(shape.depth)
        self.blocks = nn.ModuleList(
            Block(shape, heads, 0 if i in everywhere else _WINDOW, layer_scale) for i in range(shape.depth)
        )

    def forward(self, images: Tensor, wanted: Sequence[int]) -> dict[int, Tensor]:
        """Outputs ``(n, h, w, C)`` of the wanted blocks, after both residual additions and before any norm."""
        x = self.patch_embed(images) + self.pos_embed
        outputs = {}
        for i, block in enumerate(self.blocks[: max(wanted) + 1]):
            x = block(x)
            if i in wanted:
                outputs[i] = x
        return outputs


def global_blocks(depth: int) -> tuple[int, ...]:
    """The blocks with global attention: the last of each quarter, 2, 5, 8 and 11 of 12."""
    return tuple(quarter * depth // 4 - 1 for quarter in (1, 2, 3, 4))


@dataclass(frozen=True)
class Settings:
    """What of an encoder is chosen and not read from the weights."""

    image_size: int = 240
    positions: Positions = "trained"
    preprocessing: Preprocessing = "volume"
    layer_scale: LayerScale = "refuse"
    heads: int | None = None


class MriCoreEncoder:
    """MRI-CORE, or any encoder of its shape, with the weights of a checkpoint (see :class:`base.Encoder`)."""

    name = "mri-core"

    def __init__(self, checkpoint: Checkpoint, settings: Settings, device: str = "auto", batch_size: int = 16) -> None:
        check_settings(checkpoint, settings)
        shape, self._settings = checkpoint.shape, settings
        self.blocks = default_blocks(shape.depth)
        self.layers = tuple(f"block{i}" for i in self.blocks)
        self.fingerprint = fingerprint(checkpoint, settings)
        self._batch_size = batch_size
        self._device = choose_device(device)
        self._grid = settings.image_size // shape.patch
        self._width = shape.width
        self._model = _build(checkpoint, settings, self._grid).to(self._device)

    def encode(self, slices: Sequence[NDArray[Any]], pool: Pool = "mean") -> Features:
        """Features of raw 2-D arrays of any size, by layer (see :meth:`base.Encoder.encode`)."""
        shapes = dict.fromkeys(self.layers, (self._grid, self._grid, self._width))
        return encode_in_batches(slices, pool, self._batch_size, shapes, self._grids)

    def _grids(self, slices: Sequence[NDArray[Any]]) -> dict[str, Tensor]:
        return self.token_grids(preprocess(slices, self._settings.image_size, self._settings.preprocessing))

    def token_grids(self, images: Tensor) -> dict[str, Tensor]:
        """Token grids ``(n, h, w, C)`` of images ``(n, 3, size, size)`` in [0, 1], by layer, without a gradient."""
        with torch.inference_mode():
            outputs = self._model(images.to(self._device), self.blocks)
        return {f"block{i}": grid for i, grid in outputs.items()}


def load_mri_core(
    weights: str | Path, settings: Settings, device: str = "auto", batch_size: int = 16
) -> MriCoreEncoder:
    """Read a checkpoint and make its encoder."""
    return MriCoreEncoder(read_checkpoint(weights), settings, device, batch_size)


def fingerprint(checkpoint: Checkpoint, settings: Settings) -> str:
    """SHA-256 over the backbone's tensors and the settings that change features.

    It is the same for the same backbone in another layout, and for LayerScale settings where there is no LayerScale.
    """
    weights = digest_tensors({**checkpoint.tensors, "pos_embed": checkpoint.positions})
    return digest_settings(
        weights,
        {
            "encoder": "mri-core",
            "version": 1,
            "image_size": settings.image_size,
            "positions": settings.positions,
            "preprocessing": settings.preprocessing,
            "layer_scale": settings.layer_scale if checkpoint.layer_scale else "none",
            "heads": _heads(checkpoint, settings),
        },
    )


def _heads(checkpoint: Checkpoint, settings: Settings) -> int:
    width = checkpoint.shape.width
    heads = default_heads(width) if settings.heads is None else settings.heads
    if heads is None or heads < 1 or width % heads:
        raise MemorizationIndexError(
            f"heads={heads!r}: does not divide the width {width} of {checkpoint.path}; expected the number of "
            "attention heads it was trained with, which its tensors do not tell, so give heads=…"
        )
    return heads


def check_settings(checkpoint: Checkpoint, settings: Settings) -> None:
    """Refuse settings that are unknown or do not fit the checkpoint, and checkpoints that are computed otherwise."""
    checked("positions", settings.positions, ("trained", "zeros"))
    checked("preprocessing", settings.preprocessing, PREPROCESSINGS)
    checked("layer_scale", settings.layer_scale, ("refuse", "apply", "ignore"))
    shape, size = checkpoint.shape, settings.image_size
    if not isinstance(size, int) or size < shape.patch or size % shape.patch:
        raise MemorizationIndexError(
            f"image_size={size!r}: is not a whole number of patches of {shape.patch} pixels; expected 240 (as "
            "published) or 224 (the native grid)."
        )
    if shape.depth % 4:
        raise MemorizationIndexError(
            f"{checkpoint.path}: has {shape.depth} blocks; expected a multiple of 4, because the last block of each "
            "quarter attends globally."
        )
    if checkpoint.relative_positions:
        raise MemorizationIndexError(
            f"{checkpoint.path}: has relative positions ('attn.rel_pos_h'), which MRI-CORE's encoder does not use, so "
            "its features would be another model's; expected a checkpoint without them: give SAM itself as hf:DIR."
        )
    if checkpoint.layer_scale and settings.layer_scale == "refuse":
        raise MemorizationIndexError(
            f"{checkpoint.path}: has LayerScale ('ls1.gamma', 'ls2.gamma'), which the published MRI-CORE loader drops; "
            'expected a choice: layer_scale="apply" computes what was trained, layer_scale="ignore" what was published.'
        )
    _heads(checkpoint, settings)


def _build(checkpoint: Checkpoint, settings: Settings, grid: int) -> VisionTransformer:
    apply = checkpoint.layer_scale and settings.layer_scale == "apply"
    tensors: Mapping[str, Tensor] = checkpoint.tensors
    if not apply:
        tensors = {name: values for name, values in tensors.items() if ".ls" not in name}
    table = _resized_positions(checkpoint.positions, grid)
    if settings.positions == "zeros":
        table = torch.zeros_like(table)
    with torch.device("meta"):  # nothing is drawn at random that is replaced at once
        model = VisionTransformer(checkpoint.shape, _heads(checkpoint, settings), grid, apply)
    model.load_state_dict({**tensors, "pos_embed": table}, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def _resized_positions(table: Tensor, grid: int) -> Tensor:
    """Bilinear with half-pixel centers and without antialiasing, ``(1, h, w, C)`` to ``(1, grid, grid, C)``."""
    if tuple(table.shape[1:3]) == (grid, grid):
        return table
    resized = F.interpolate(table.permute(0, 3, 1, 2), (grid, grid), mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1).contiguous()
