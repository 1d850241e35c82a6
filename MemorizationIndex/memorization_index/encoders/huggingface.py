"""``hf:DIR``: the vision transformer of a Hugging Face folder, offline, from safetensors, without code of its own.

Any model whose image side is one stack of equal blocks over a square grid of patches: ViT, DINOv2 (with or without
registers), CLIP's and SigLIP's vision tower, SAM's image encoder. A layer is the output of a block, before any last
norm; tokens that stand for no patch (class, registers) are left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from memorization_index.encoders.base import (
    Features,
    Pool,
    checked,
    choose_device,
    default_blocks,
    digest_settings,
    encode_in_batches,
    staged,
)
from memorization_index.encoders.precision import Precision, autocast, choose_precision, half
from memorization_index.encoders.preprocessing import PREPROCESSINGS, Preprocessing, preprocess
from memorization_index.errors import MemorizationIndexError

_EXPECTED = "expected a folder with config.json and model.safetensors of a vision transformer"
_TOWERS = ("vision_model", "vision_encoder")
#: Parameters that no block's output depends on.
_WITHOUT_INFLUENCE = re.compile(r"pooler|mask_token|head")
_OTHER_PARTS = re.compile(r"decoder|text_model|prompt_encoder")


@dataclass(frozen=True)
class Input:
    """What the network takes: image side and patch side in pixels, and the mean and deviation of each channel.

    ``trained``: the side that its positions are for, from which they are interpolated to another.
    """

    size: int
    trained: int
    patch: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


class HuggingFaceEncoder:
    """A vision transformer of a Hugging Face folder (see :class:`base.Encoder`)."""

    def __init__(
        self,
        folder: Path,
        preprocessing: Preprocessing = "volume",
        device: str = "auto",
        batch_size: int = 16,
        precision: Precision = "float32",
    ) -> None:
        checked("preprocessing", preprocessing, PREPROCESSINGS)
        _read_json(folder, "config.json")
        model, prefix = _load(folder)
        vision = getattr(model.config, "vision_config", model.config)
        # Not where it lies: names go into references and results that others may see.
        self.name = f"hf:{folder.absolute().name} ({vision.model_type})"
        self._input = _input(folder, vision)
        self._tower: nn.Module = getattr(model, prefix) if prefix else model
        self._blocks = _find_blocks(folder, self._tower, vision)
        self.blocks = default_blocks(len(self._blocks))
        self.layers = tuple(f"block{i}" for i in self.blocks)
        self._folder, self._preprocessing, self._batch_size = folder, preprocessing, batch_size
        self._device = choose_device(device)
        self.precision = choose_precision(precision, self._device)
        self.fingerprint = _fingerprint(folder, self._input, preprocessing, self.precision)
        self._tower = self._tower.float().eval().requires_grad_(False).to(self._device)
        self._grid = self._input.size // self._input.patch
        probe = self.token_grids(torch.zeros(1, 3, self._input.size, self._input.size))
        self._shapes = {layer: (grid.shape[1], grid.shape[2], grid.shape[3]) for layer, grid in probe.items()}

    @property
    def image_size(self) -> int:
        """Side of the network's input in pixels."""
        return self._input.size

    def encode(self, slices: Sequence[NDArray[Any]], pool: Pool = "mean") -> Features:
        """Features of raw 2-D arrays of any size, by layer (see :meth:`base.Encoder.encode`)."""
        return encode_in_batches(slices, pool, self._batch_size, self._shapes, self._prepare, self.token_grids)

    def _prepare(self, slices: Sequence[NDArray[Any]]) -> Tensor:
        return staged(preprocess(slices, self._input.size, self._preprocessing), self._device)

    def token_grids(self, images: Tensor) -> dict[str, Tensor]:
        """Token grids ``(n, h, w, C)`` of images ``(n, 3, size, size)`` in [0, 1], by layer, without a gradient."""
        images = images.to(self._device, non_blocking=True)
        mean, deviation = (images.new_tensor(v)[:, None, None] for v in (self._input.mean, self._input.deviation))
        outputs: dict[str, Tensor] = {}

        def keep(layer: str, output: Any) -> None:
            outputs[layer] = output[0] if isinstance(output, tuple) else output

        hooks = [
            self._blocks[i].register_forward_hook(lambda _m, _i, output, layer=layer: keep(layer, output))
            for i, layer in zip(self.blocks, self.layers, strict=True)
        ]
        options = {}
        if self._input.size != self._input.trained and _takes(self._tower, "interpolate_pos_encoding"):
            options["interpolate_pos_encoding"] = True  # DINOv2 always does it, SAM never
        try:
            with torch.inference_mode(), autocast(self.precision, self._device):
                self._tower(pixel_values=(images - mean) / deviation, **options)
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0][:160]
            raise MemorizationIndexError(
                f"{self._folder}: fails on images of {self._input.size} pixels ({reason}); {_EXPECTED}."
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        return {layer: self._as_grid(outputs[layer]) for layer in self.layers}

    def _as_grid(self, tokens: Tensor) -> Tensor:
        """Tokens ``(n, t, C)`` or a grid ``(n, h, w, C)`` to a grid; leading tokens that stand for no patch go."""
        side = self._grid
        if tokens.ndim == 4 and tokens.shape[1] == tokens.shape[2] == side:
            return tokens
        extra = tokens.shape[1] - side * side if tokens.ndim == 3 else -1
        allowed = 1 + int(getattr(self._tower.config, "num_register_tokens", 0) or 0)
        if not 0 <= extra <= allowed:
            raise MemorizationIndexError(
                f"{self._folder}: its blocks put out an array of shape {tuple(tokens.shape)}; expected {side} × {side} "
                f"patches and at most {allowed} other tokens, so this kind of network cannot be used."
            )
        return tokens[:, extra:].reshape(len(tokens), side, side, -1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' warnings and progress bars off the screen: what matters in them is checked here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MemorizationIndexError(f"{folder / name}: cannot be read ({error}); {_EXPECTED}.") from error
    if not isinstance(content, dict):
        raise MemorizationIndexError(f"{folder / name}: holds no settings by name; {_EXPECTED}.")
    return content


def _load(folder: Path) -> tuple[Any, str]:
    """The model, and the name of its vision part (empty: it has no other part)."""
    from transformers import AutoModel

    if not any(folder.glob("*.safetensors")):
        raise MemorizationIndexError(
            f"{folder}: has no .safetensors file; {_EXPECTED}: other files of weights can run code, so save the model "
            "with save_pretrained of a current transformers."
        )
    try:
        with _quiet():
            model, found = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
    except Exception as error:  # a damaged or hostile folder can end transformers in any way
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise MemorizationIndexError(f"{folder}: cannot be loaded ({lines[0][:200]}); {_EXPECTED}.") from error
    prefix = next((name for name in _TOWERS if isinstance(getattr(model, name, None), nn.Module)), "")
    _check_names(folder, found, prefix)
    return model, prefix


def _check_names(folder: Path, found: Mapping[str, Any], prefix: str) -> None:
    """Refuse a model of which a part was not in the file (transformers draws it at random) or has more blocks."""
    missing = [
        name for name in found["missing_keys"] if name.startswith(prefix) and not _WITHOUT_INFLUENCE.search(name)
    ]
    unexpected = [
        name
        for name in found["unexpected_keys"]
        if re.search(r"\b(layers?|blocks)\.\d+\.", name) and not _OTHER_PARTS.search(name)
    ]
    for verb, names in (("lacks", sorted(missing)), ("has unexpected", sorted(unexpected))):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise MemorizationIndexError(
                f"{folder}: {verb} {', '.join(names[:5])}{more}; expected the tensors that its config.json stands for."
            )


def _input(folder: Path, vision: Any) -> Input:
    trained, patch = (_side(getattr(vision, name, None)) for name in ("image_size", "patch_size"))
    if not trained or not patch or trained < patch:
        raise MemorizationIndexError(
            f"{folder}: its config.json tells no square image_size and patch_size; {_EXPECTED} of square patches."
        )
    size, mean, deviation = trained, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if (folder / "preprocessor_config.json").exists():
        settings = _read_json(folder, "preprocessor_config.json")
        if settings.get("do_normalize", True):
            mean = _three(folder, settings.get("image_mean", mean))
            deviation = _three(folder, settings.get("image_std", deviation))
        size = _prepared_side(settings) or trained
    if size < patch:
        raise MemorizationIndexError(
            f"{folder / 'preprocessor_config.json'}: asks for images of {size} pixels, less than a patch of {patch}; "
            "expected at least one patch."
        )
    return Input(size, trained, patch, mean, deviation)


def _prepared_side(settings: Mapping[str, Any]) -> int:
    """Side of the square that a preprocessor_config.json makes of an image; 0 where it tells none.

    Where it would cut out the center of a larger image, the whole slice is resized to that size: anatomy may lie at the
    edge.
    """
    if settings.get("do_center_crop", "crop_size" in settings):
        side = settings.get("crop_size")
    else:
        side = settings.get("size") if settings.get("do_resize", True) else None
    if isinstance(side, Mapping):
        values = [side[name] for name in ("height", "width", "shortest_edge", "longest_edge") if name in side]
        side = values if len(values) == 2 else (values or [None])[0]
    return _side(side)


def _takes(tower: nn.Module, option: str) -> bool:
    return option in inspect.signature(tower.forward).parameters


def _side(value: Any) -> int:
    """Side of a square given as one number or as two equal ones; 0 for anything else."""
    sides = value if isinstance(value, list | tuple) else [value, value]
    square = len(sides) == 2 and sides[0] == sides[1] and isinstance(sides[0], int) and sides[0] > 0
    return int(sides[0]) if square else 0


def _three(folder: Path, value: Any) -> tuple[float, float, float]:
    try:
        first, second, third = (float(v) for v in value)
    except (TypeError, ValueError) as error:
        raise MemorizationIndexError(
            f"{folder / 'preprocessor_config.json'}: image_mean or image_std is {value!r}; expected three numbers."
        ) from error
    return first, second, third


def _find_blocks(folder: Path, tower: nn.Module, vision: Any) -> nn.ModuleList:
    depth = getattr(vision, "num_hidden_layers", None)
    found = [part for part in tower.modules() if isinstance(part, nn.ModuleList) and len(part) == depth]
    if len(found) != 1:
        raise MemorizationIndexError(
            f"{folder}: has {len(found)} stacks of {depth} blocks; expected one, as in ViT, DINOv2, CLIP and SAM, so "
            "this kind of network cannot be used."
        )
    return found[0]


def _fingerprint(folder: Path, shape: Input, preprocessing: Preprocessing, precision: Precision) -> str:
    """SHA-256 over the files of weights, config.json and what is done to images.

    Files, not the tensors in memory, whose names differ between versions of transformers.
    """
    digest = hashlib.sha256()
    for path in (folder / "config.json", *sorted(folder.glob("*.safetensors"))):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    settings = {"encoder": "hf", "version": 1, "image_size": shape.size, "mean": shape.mean, "std": shape.deviation}
    return digest_settings(digest.hexdigest(), {**settings, "preprocessing": preprocessing, **half(precision)})
