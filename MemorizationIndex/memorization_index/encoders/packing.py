"""Linear maps in float32 on a processor, by whichever of PyTorch's two libraries multiplies faster there.

PyTorch gives them to its BLAS (MKL), which on AMD's processors with AVX-512 is less than half as fast as oneDNN. That
comes with PyTorch too, and keeps the weights in the order that it reads them in. Sums are the same but for their order:
features differ as they do between two processors.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn

#: How many times faster oneDNN must be.
WORTHWHILE = 1.15
#: Tokens, and numbers of a token before and after the map that is timed.
_PRODUCT = (196, 768, 3072)


class PackedLinear(nn.Module):
    """What ``linear`` computes, by oneDNN. It has no weights of its own to be read: they are in oneDNN's order."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., D)`` to ``(..., E)``."""
        flat = x.reshape(-1, x.shape[-1])
        mapped = torch.ops.mkldnn._linear_pointwise(flat, self._weight, self._bias, "none", [], "")
        return cast(Tensor, mapped.reshape(*x.shape[:-1], -1))


def pack(module: nn.Module) -> None:
    """Have oneDNN compute all linear maps of a module."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, PackedLinear(child))
        else:
            pack(child)


@lru_cache(maxsize=1)
def is_worthwhile() -> bool:
    """Whether this processor is faster by oneDNN (tens of milliseconds, once)."""
    try:
        taken = linear_seconds()
    except (AttributeError, RuntimeError, TypeError):  # operators that PyTorch's compiler uses, not promised to anybody
        return False
    return taken["BLAS"] >= WORTHWHILE * taken["oneDNN"]


def linear_seconds(rounds: int = 5) -> dict[str, float]:
    """Seconds that a linear map takes by each of the two; one thread as well as another number."""
    tokens, before, after = _PRODUCT
    linear, x = nn.Linear(before, after).requires_grad_(False), torch.rand(tokens, before)
    packed = PackedLinear(linear)
    works: dict[str, Callable[[], object]] = {"BLAS": lambda: linear(x), "oneDNN": lambda: packed(x)}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, work in works.items():
                start = time.perf_counter()
                work()
                if number:  # the first round warms up
                    seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}
