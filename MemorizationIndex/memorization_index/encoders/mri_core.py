"""``mri-core``: the settings of MRI-CORE's encoder, its fingerprint, and raw slices to features.

The network itself is :mod:`~memorization_index.encoders.transformer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from memorization_index.encoders import packing
from memorization_index.encoders.base import (
    Features,
    Pool,
    checked,
    choose_device,
    default_blocks,
    digest_settings,
    digest_tensors,
    encode_in_batches,
    staged,
)
from memorization_index.encoders.checkpoints import Checkpoint, default_heads, read_checkpoint
from memorization_index.encoders.precision import Precision, autocast, choose_precision, half
from memorization_index.encoders.preprocessing import PREPROCESSINGS, Preprocessing, preprocess
from memorization_index.encoders.transformer import VisionTransformer
from memorization_index.errors import MemorizationIndexError

Positions = Literal["trained", "zeros"]
LayerScale = Literal["refuse", "apply", "ignore"]


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

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: Settings,
        device: str = "auto",
        batch_size: int = 16,
        precision: Precision = "float32",
    ) -> None:
        check_settings(checkpoint, settings)
        shape, self._settings = checkpoint.shape, settings
        self.blocks = default_blocks(shape.depth)
        self.layers = tuple(f"block{i}" for i in self.blocks)
        self._batch_size = batch_size
        self._device = choose_device(device)
        self.precision = choose_precision(precision, self._device)
        self.fingerprint = fingerprint(checkpoint, settings, self.precision)
        self._grid = settings.image_size // shape.patch
        self._width = shape.width
        self._model = _build(checkpoint, settings, self._grid).to(self._device)
        if self.precision == "float32" and self._device.type == "cpu" and packing.is_worthwhile():
            packing.pack(self._model)

    def encode(self, slices: Sequence[NDArray[Any]], pool: Pool = "mean") -> Features:
        """Features of raw 2-D arrays of any size, by layer (see :meth:`base.Encoder.encode`)."""
        shapes = dict.fromkeys(self.layers, (self._grid, self._grid, self._width))
        return encode_in_batches(slices, pool, self._batch_size, shapes, self._prepare, self.token_grids)

    def _prepare(self, slices: Sequence[NDArray[Any]]) -> Tensor:
        images = preprocess(slices, self._settings.image_size, self._settings.preprocessing)
        return staged(images[:, :1], self._device)  # the three channels are equal

    def token_grids(self, images: Tensor) -> dict[str, Tensor]:
        """Token grids ``(n, h, w, C)`` of images in [0, 1], by layer, without a gradient.

        Images are ``(n, 3, size, size)``, or ``(n, 1, size, size)`` for three equal channels.
        """
        with torch.inference_mode(), autocast(self.precision, self._device):
            outputs = self._model(images.to(self._device, non_blocking=True), self.blocks)
        return {f"block{i}": grid for i, grid in outputs.items()}


def load_mri_core(
    weights: str | Path,
    settings: Settings,
    device: str = "auto",
    batch_size: int = 16,
    precision: Precision = "float32",
) -> MriCoreEncoder:
    """Read a checkpoint and make its encoder."""
    return MriCoreEncoder(read_checkpoint(weights), settings, device, batch_size, precision)


def fingerprint(checkpoint: Checkpoint, settings: Settings, precision: Precision = "float32") -> str:
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
            **half(precision),
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
