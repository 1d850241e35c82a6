"""The vision transformer of MRI-CORE: the image encoder of Segment Anything, as MRI-CORE's fork of it computes it.

A square grid of 16-pixel patches: absolute positions, attention in windows of 14 × 14 tokens except in four evenly
spaced blocks that attend globally. Two things differ from SAM: there are no relative positions, and windows are cut,
and padded with zeros, *before* the first LayerNorm of a block, so that padding enters attention as the LayerNorm's
bias. With 224 pixels the grid is 14 × 14 and nothing is padded.

Padding is not computed here. Every padding token of a window is the same, what comes out of it is cut off, and m equal
keys weigh in a softmax as one key whose logit is greater by log m. So a window attends to its own tokens and to one
such key, which gives the same numbers up to rounding: at 240 pixels from 225 tokens a block instead of 784.

Dong et al., *MRI-CORE*, arXiv 2506.12186; Kirillov et al., *Segment Anything*, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memorization_index.encoders.checkpoints import Shape

_WINDOW = 14
_EPSILON = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention on a grid of tokens, over all of it or within windows."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, window: int, padding: Tensor) -> Tensor:
        """Attend on a grid ``(n, h, w, C)``, and keep the shape.

        ``window``: tokens a side, or 0 for one window of any size; ``padding``: the token ``(C,)`` with which windows
        that reach over the edge are filled.
        """
        n, h, w, c = x.shape
        size = window or max(h, w)
        qkv = self.qkv(x)
        if h == w == size:  # one window, which is the whole grid: nothing to cut, to fill or to put together
            return cast(Tensor, self.proj(self._attend(qkv.reshape(n, h * w, 3 * c), None, 0).reshape(n, h, w, c)))
        extra = self.qkv(padding)
        attended = x.new_empty(n, h, w, c)
        for rows, height in spans(h, size):
            for columns, width in spans(w, size):
                windows = cut(qkv[:, rows, columns], height, width)
                filling = size * size - height * width if window else 0
                result = self._attend(windows, extra, filling)
                part = attended[:, rows, columns]
                part.copy_(join(result, part.shape[1], part.shape[2], height, width))
        return cast(Tensor, self.proj(attended))

    def _attend(self, qkv: Tensor, extra: Tensor | None, count: int) -> Tensor:
        """Attend among tokens ``(n, t, 3C)`` and to ``count`` copies of one more, ``(3C,)``; result ``(n, t, C)``."""
        n, t, width = qkv.shape
        bias = None
        if extra is not None and count:
            qkv = torch.cat((qkv, extra.expand(n, 1, width)), 1)
            bias = qkv.new_zeros(1, 1, 1, t + 1)
            bias[..., t] = math.log(count)
        q, k, v = qkv.reshape(n, qkv.shape[1], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q[:, :, :t], k, v, bias).transpose(1, 2).flatten(2)


def spans(length: int, size: int) -> list[tuple[slice, int]]:
    """The whole windows of a side, and what is left over: where they are, and how many tokens each window has."""
    whole = length // size * size
    found = [(slice(0, whole), size), (slice(whole, length), length - whole)]
    return [(where, tokens) for where, tokens in found if where.stop > where.start]


def cut(x: Tensor, height: int, width: int) -> Tensor:
    """A grid ``(n, h, w, C)`` of whole windows to windows ``(n·windows, height·width, C)``."""
    n, h, w, c = x.shape
    return x.reshape(n, h // height, height, w // width, width, c).transpose(2, 3).reshape(-1, height * width, c)


def join(windows: Tensor, h: int, w: int, height: int, width: int) -> Tensor:
    """The inverse of :func:`cut`."""
    split = windows.reshape(-1, h // height, w // width, height, width, windows.shape[-1])
    return split.transpose(2, 3).reshape(-1, h, w, windows.shape[-1])


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
        # The first LayerNorm makes its bias of a padding token, which is all zeros.
        x = x + self.ls1(self.attn(self.norm1(x), self.window, self.norm1.bias))
        return cast(Tensor, x + self.ls2(self.mlp(self.norm2(x))))


class PatchEmbedding(nn.Module):
    """A linear map of each patch.

    Written as a matrix product, not as a convolution, which CUDA would compute with 10 bits of mantissa by default.
    """

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(n, 3, H, W)``, or ``(n, 1, H, W)`` for three equal channels, to ``(n, H/patch, W/patch, C)``."""
        n, channels, height, width = images.shape
        weight = self.proj.weight if channels == 3 else self.proj.weight.sum(1, keepdim=True)
        patch = self.proj.kernel_size[0]
        h, w = height // patch, width // patch
        patches = images.reshape(n, channels, h, patch, w, patch).permute(0, 2, 4, 1, 3, 5).reshape(n, h, w, -1)
        return F.linear(patches, weight.flatten(1), self.proj.bias)


class VisionTransformer(nn.Module):
    """The encoder without SAM's neck: images to the token grids of some blocks."""

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
