"""Deep encoders: foundation models whose layers become channels beside the embedded ``spectral`` one.

Importing this package imports no torch; :func:`load_encoder` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memorization_index.encoders.base import require
from memorization_index.encoders.description import Description, describe_checkpoint
from memorization_index.errors import MemorizationIndexError

if TYPE_CHECKING:
    from memorization_index.encoders.base import Encoder
    from memorization_index.encoders.mri_core import LayerScale, Positions
    from memorization_index.encoders.precision import Precision
    from memorization_index.encoders.preprocessing import Preprocessing

__all__ = ["Description", "describe_checkpoint", "load_encoder"]


def load_encoder(
    name: str,
    weights: str | Path | None = None,
    *,
    image_size: int | None = None,
    positions: Positions = "trained",
    preprocessing: Preprocessing = "volume",
    layer_scale: LayerScale = "refuse",
    heads: int | None = None,
    device: str = "auto",
    batch_size: int = 16,
    precision: Precision = "float32",
) -> Encoder:
    """Load a deep encoder.

    ``mri-core`` takes the ``weights`` of MRI-CORE, or of any encoder of its shape. ``image_size``: 240, as published
    and the default, or 224, its native grid. ``positions``: the trained table, or zeros, which the published
    loader leaves. ``preprocessing``: see :mod:`~memorization_index.encoders.preprocessing`. ``layer_scale``: what to do
    with a checkpoint that has LayerScale (``refuse``, ``apply``, ``ignore``). ``heads``: attention heads, where the
    rule of :func:`~memorization_index.encoders.checkpoints.default_heads` is wrong. ``device``: ``auto``, ``cpu``,
    ``cuda``, …. ``batch_size``: slices a batch, which changes no feature beyond rounding. ``precision``:
    ``float32``, ``bfloat16``, ``float16`` or ``auto`` (see :mod:`~memorization_index.encoders.precision`).

    ``hf:DIR`` is a vision transformer in a local Hugging Face folder (see
    :mod:`~memorization_index.encoders.huggingface`). Its positions, heads and image size are the folder's, so of the
    settings it takes ``preprocessing``, ``device``, ``batch_size`` and ``precision`` alone; ``weights`` is the
    folder, if it is not DIR.

    Raises :class:`MemorizationIndexError` where torch is missing, the weights are not what they should be, or a setting
    is not known.
    """
    _check_place(name, weights)
    require("torch", f"Encoder {name!r}")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise MemorizationIndexError(f"batch_size={batch_size!r}: is no number of slices; expected 1 or more.")
    if name == "mri-core":
        from memorization_index.encoders.mri_core import Settings, load_mri_core

        settings = Settings(240 if image_size is None else image_size, positions, preprocessing, layer_scale, heads)
        return load_mri_core(weights or "", settings, device, batch_size, precision)
    from memorization_index.encoders.huggingface import HuggingFaceEncoder

    require("transformers", f"Encoder {name!r}")
    own = {"positions": "trained", "layer_scale": "refuse", "heads": None, "image_size": None}
    given = (positions, layer_scale, heads, image_size)
    for (setting, value), other in zip(own.items(), given, strict=True):
        if other != value:
            raise MemorizationIndexError(
                f"{setting}={other!r}: encoder {name!r} takes this from its folder; expected it to be left out."
            )
    folder = Path(weights or name.removeprefix("hf:"))
    return HuggingFaceEncoder(folder, preprocessing, device, batch_size, precision)


def _check_place(name: str, weights: str | Path | None) -> None:
    """Refuse an encoder that is not known, or whose weights are not there, before torch is asked for."""
    if name == "mri-core":
        if weights is None:
            raise MemorizationIndexError("Encoder 'mri-core': has no weights; expected a file, so give --weights FILE.")
        if not Path(weights).exists():
            raise MemorizationIndexError(f"{weights}: is not there; expected a file of weights, so check the name.")
    elif name.startswith("hf:"):
        folder = Path(weights or name.removeprefix("hf:"))
        if not folder.is_dir():
            raise MemorizationIndexError(
                f"{folder}: is not a folder; expected a vision transformer as Hugging Face saves it, so check the name "
                "after 'hf:'."
            )
    else:
        raise MemorizationIndexError(f"Encoder {name!r}: is not known; expected 'spectral', 'mri-core' or 'hf:DIR'.")
