"""MRI-CORE's encoder written down literally: the baseline of the benchmark, and what the fast one is checked against.

Three channels through a convolution, windows padded with zeros before the first LayerNorm, every padding token
computed like any other, softmax and matrix products one by one. It shares no line with the package.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, EPSILON = 14, 1e-6


def literal_blocks(
    weights: Mapping[str, Tensor], images: Tensor, heads: int, wanted: Sequence[int]
) -> dict[int, Tensor]:
    """Outputs ``(n, h, w, C)`` of the wanted blocks for images ``(n, 3, H, W)``; tensors by the encoder's names."""
    patch = weights["patch_embed.proj.weight"].shape[-1]
    x = F.conv2d(images, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=patch)
    x = x.permute(0, 2, 3, 1) + weights["pos_embed"]
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    everywhere = {depth // 4 - 1, depth // 2 - 1, 3 * depth // 4 - 1, depth - 1}
    outputs = {}
    for i in range(max(wanted) + 1):
        block = {name.removeprefix(f"blocks.{i}."): v for name, v in weights.items() if name.startswith(f"blocks.{i}.")}
        x = literal_block(block, x, heads, 0 if i in everywhere else WINDOW)
        if i in wanted:
            outputs[i] = x
    return outputs


def literal_block(block: Mapping[str, Tensor], x: Tensor, heads: int, window: int) -> Tensor:
    """One block on a grid ``(n, h, w, C)``; ``window`` 0 is global attention."""
    n, h, w, c = x.shape
    skipped = x
    if window:
        rows, columns = -(-h // window), -(-w // window)
        x = F.pad(x, (0, 0, 0, columns * window - w, 0, rows * window - h))
        x = x.view(n, rows, window, columns, window, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, window, window, c)
    x = literal_attention(block, F.layer_norm(x, (c,), block["norm1.weight"], block["norm1.bias"], EPSILON), heads)
    if window:
        x = x.view(n, rows, columns, window, window, c).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(n, rows * window, columns * window, c)[:, :h, :w]
    x = skipped + x
    y = F.layer_norm(x, (c,), block["norm2.weight"], block["norm2.bias"], EPSILON)
    y = F.gelu(F.linear(y, block["mlp.lin1.weight"], block["mlp.lin1.bias"]))
    return x + F.linear(y, block["mlp.lin2.weight"], block["mlp.lin2.bias"])


def literal_attention(block: Mapping[str, Tensor], x: Tensor, heads: int) -> Tensor:
    """Attention among all tokens of each grid ``(n, h, w, C)``."""
    n, h, w, c = x.shape
    qkv = F.linear(x, block["attn.qkv.weight"], block["attn.qkv.bias"])
    q, k, v = qkv.reshape(n, h * w, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
    weights = torch.softmax((q * (c // heads) ** -0.5) @ k.transpose(-2, -1), dim=-1)
    x = (weights @ v).transpose(1, 2).reshape(n, h, w, c)
    return F.linear(x, block["attn.proj.weight"], block["attn.proj.bias"])
