"""What every deep encoder offers, and what they share: devices, batches, pooling, layer choice."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from memorization_index.errors import MemorizationIndexError, install

if TYPE_CHECKING:
    import torch

    from memorization_index.encoders.precision import Precision

Pool = Literal["mean", "none", "grid4"]
#: Features by layer.
Features = dict[str, NDArray[np.float32]]

_Batch = TypeVar("_Batch")
_Prepared = TypeVar("_Prepared")

_POOLS: tuple[Pool, ...] = ("mean", "none", "grid4")
_GRID = 4


class Encoder(Protocol):
    """Turns raw slices into features of some layers of a network."""

    #: What :func:`~memorization_index.encoders.load_encoder` made it from, and makes it from again.
    name: str
    #: SHA-256, in hexadecimal, over the weights and every setting that changes features.
    fingerprint: str
    layers: tuple[str, ...]
    #: How precisely it computes (see :mod:`~memorization_index.encoders.precision`).
    precision: Precision

    def encode(self, slices: Sequence[NDArray[Any]], pool: Pool = "mean") -> Features:
        """Features of raw 2-D arrays of any size and intensity range, float32 by layer.

        ``mean``: ``(n, C)``, the mean over the token grid (Eq. 1). ``grid4``: ``(n, 16·C)``, the 4 × 4 adaptive
        average, channel-major. ``none``: ``(n, h, w, C)``, the token grid itself.

        Raises :class:`MemorizationIndexError` where a slice is not a finite 2-D array.
        """
        ...


def default_blocks(depth: int) -> tuple[int, ...]:
    """The 0-based blocks at 1/3, 2/3 and all of the depth: 3, 7 and 11 of the published 12."""
    return tuple(sorted({max(round(depth * part / 3), 1) - 1 for part in (1, 2, 3)}))


def require(module: str, who: str) -> None:
    """Insist that an optional dependency is installed."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise MemorizationIndexError(
            f"{who}: needs {module}, which cannot be imported ({error}); expected it installed, {install('torch')}."
        ) from error


def checked(setting: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuse a setting that is not one of the allowed values."""
    if value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise MemorizationIndexError(f"{setting}={value!r}: is not known; expected one of {choices}.")


def devices() -> list[str]:
    """Names of the devices that a deep encoder can use on this machine: ``cpu`` always, others as PyTorch says."""
    try:
        import torch
    except ImportError:
        return ["cpu"]
    found = ["cpu"]
    if torch.cuda.is_available():
        found += ["cuda", *(f"cuda:{i}" for i in range(1, torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def choose_device(device: str) -> torch.device:
    """``auto``: the first CUDA device, or the CPU; otherwise the device that is named, which must be there."""
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise MemorizationIndexError(
            f"device={device!r}: cannot be used by this PyTorch ({torch.__version__}); expected 'auto', 'cpu', or "
            "'cuda' on a machine with an NVIDIA GPU and its driver."
        ) from error
    return chosen


def staged(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A batch in memory that a GPU fetches from while it computes (pinned); for the processor the batch itself."""
    return images.pin_memory() if device.type == "cuda" else images


def digest_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and values (as float32) of tensors, independent of their order."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(f"{name} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values, "<f4").data)
    return digest.hexdigest()


def digest_settings(weights: str, settings: Mapping[str, Any]) -> str:
    """The fingerprint of an encoder: SHA-256 over the digest of its weights and its settings."""
    text = json.dumps({"weights": weights, **settings}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def encode_in_batches(
    slices: Sequence[NDArray[Any]],
    pool: Pool,
    batch_size: int,
    shapes: Mapping[str, tuple[int, int, int]],
    prepare: Callable[[Sequence[NDArray[Any]]], torch.Tensor],
    grids: Callable[[torch.Tensor], Mapping[str, torch.Tensor]],
) -> Features:
    """Encode slices a batch at a time and pool each batch at once, so that few token grids are held together.

    ``prepare`` makes the network's input of a batch while ``grids`` computes the one before: the layers' token grids
    ``(n, h, w, C)``, whose ``(h, w, C)`` are ``shapes``.
    """
    import torch

    checked("pool", pool, _POOLS)
    parts: dict[str, list[NDArray[np.float32]]] = {
        layer: [_pooled(torch.zeros((0, *shape)), pool)] for layer, shape in shapes.items()
    }
    batches = [slices[start : start + batch_size] for start in range(0, len(slices), batch_size)]
    with torch.inference_mode():
        for images in _ahead(prepare, batches):
            for layer, grid in grids(images).items():
                parts[layer].append(_pooled(grid, pool))
    return {layer: np.concatenate(arrays) for layer, arrays in parts.items()}


def _ahead(prepare: Callable[[_Batch], _Prepared], batches: Sequence[_Batch]) -> Iterator[_Prepared]:
    """Prepare one batch ahead of the one that is worked on, in a thread (its work releases Python's lock)."""
    with ThreadPoolExecutor(1) as thread:
        waiting = [thread.submit(prepare, batch) for batch in batches[:1]]
        for batch in batches[1:]:
            waiting.append(thread.submit(prepare, batch))
            yield waiting.pop(0).result()
        for last in waiting:
            yield last.result()


def _pooled(grid: torch.Tensor, pool: Pool) -> NDArray[np.float32]:
    import torch.nn.functional as F

    grid = grid.float()
    if pool == "mean":
        grid = grid.mean((1, 2))
    elif pool == "grid4":
        n, _, _, channels = grid.shape
        grid = F.adaptive_avg_pool2d(grid.permute(0, 3, 1, 2), _GRID).reshape(n, channels * _GRID * _GRID)
    return grid.cpu().numpy()
