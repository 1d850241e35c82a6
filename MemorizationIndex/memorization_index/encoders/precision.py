"""How precisely a network is computed: in float32, or with its matrix products in half precision.

Half precision is for devices that are built for it: processors without bfloat16 instructions emulate them and are then
several times slower, so ``auto`` times both before it decides. Sums over tokens, norms and the residual stream stay in
float32 (autocast). Features change with the precision (docs/performance.md says by how much), so that it is part of an
encoder's fingerprint, and a reference keeps the one that it was built with.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Literal

from memorization_index.encoders.base import checked

if TYPE_CHECKING:
    import torch

#: ``auto`` becomes one of the others.
Precision = Literal["float32", "bfloat16", "float16", "auto"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16", "auto")

#: How many times faster than float32 by PyTorch's BLAS bfloat16 must be on a processor before ``auto`` takes it. Where
#: oneDNN computes float32 (see :mod:`.packing`), bfloat16 is about 1.6 times as fast: too close to be decided by
#: timing, which would change from run to run.
WORTHWHILE = 1.5
#: Rows, depth and columns of the product that is timed: a batch's tokens through a layer of a ViT-B, in small.
_PRODUCT = (392, 768, 768)


def choose_precision(precision: Precision, device: torch.device) -> Precision:
    """The precision itself; for ``auto`` float16 on CUDA, and elsewhere what is worth it on this processor."""
    checked("precision", precision, PRECISIONS)
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "float16"
    return "bfloat16" if device.type == "cpu" and bfloat16_speedup() >= WORTHWHILE else "float32"


def bfloat16_speedup(rounds: int = 3) -> float:
    """How many times faster this processor multiplies matrices in bfloat16 than in float32 (tens of milliseconds)."""
    import torch

    rows, depth, columns = _PRODUCT
    left, right = torch.rand(rows, depth), torch.rand(depth, columns)
    pairs = {kind: (left.to(kind), right.to(kind)) for kind in (torch.float32, torch.bfloat16)}
    seconds: dict[torch.dtype, list[float]] = {kind: [] for kind in pairs}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for kind, (one, other) in pairs.items():
                start = time.perf_counter()
                torch.mm(one, other)
                if number:  # the first round warms up
                    seconds[kind].append(time.perf_counter() - start)
    single, half = (statistics.median(taken) for taken in seconds.values())
    return single / half


def half(precision: Precision) -> dict[str, str]:
    """What a fingerprint is told of the precision: nothing of float32."""
    return {} if precision == "float32" else {"precision": precision}


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which matrix products are computed in this precision (not ``auto``)."""
    import torch

    kind = torch.float32 if precision == "auto" else getattr(torch, precision)
    return torch.autocast(device.type, kind, enabled=precision != "float32")
