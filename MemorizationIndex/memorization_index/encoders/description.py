"""What a checkpoint holds, in words: ``memorization-index encoders --check FILE``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memorization_index.encoders.base import require
from memorization_index.encoders.checkpoints import Checkpoint, Shape, default_heads, read_checkpoint
from memorization_index.errors import MemorizationIndexError

#: Image sizes that fingerprints are given for, and where they are used.
_SIZES = {224: "in references of mi-v1", 240: "as published"}


@dataclass(frozen=True)
class Description:
    """A checkpoint's contents and the fingerprints of its encoder.

    ``grid``: rows and columns of the position table; ``fingerprints``: by the settings that matter here (image size,
    and LayerScale where there is one), with every other setting at its default; ``problem``: why the encoder cannot be
    made, or empty.
    """

    path: Path
    size: int
    sha256: str
    layout: str
    shape: Shape
    heads: int | None
    grid: tuple[int, int]
    class_token: bool
    layer_scale: bool
    relative_positions: bool
    other: tuple[str, ...]
    fingerprints: Mapping[str, str]
    problem: str

    def __str__(self) -> str:
        shape, (rows, columns) = self.shape, self.grid
        heads = f"{self.heads} heads (by rule)" if self.heads else "heads unknown (give heads=…)"
        scale = "yes: choose layer_scale='apply' or 'ignore'" if self.layer_scale else "no"
        lines = [
            ("layout", self.layout),
            ("width", f"{shape.width} ({heads}, MLP {shape.hidden}, patches of {shape.patch} pixels)"),
            ("depth", f"{shape.depth} blocks"),
            ("positions", f"{rows} × {columns}{', class token left out' if self.class_token else ''}"),
            ("LayerScale", scale),
            ("relative positions", "yes" if self.relative_positions else "no"),
            ("not of the encoder", ", ".join(self.other) or "nothing"),
            ("size", f"{self.size} bytes"),
            ("SHA-256", self.sha256),
        ]
        for setting, fingerprint in self.fingerprints.items():
            lines.append(("fingerprint", f"{fingerprint} ({setting})"))
        table = "\n".join(f"  {name:<20}{value}" for name, value in lines)
        return f"{self.path}\n{table}" + (f"\nNot usable: {self.problem}" if self.problem else "")


def describe_checkpoint(path: str | Path) -> Description:
    """Read a checkpoint and say what it holds.

    Raises :class:`MemorizationIndexError` where it is no checkpoint of a SAM-shaped vision transformer.
    """
    path = Path(path)
    require("torch", str(path))
    checkpoint = read_checkpoint(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    fingerprints, problem = _fingerprints(checkpoint)
    rows, columns = checkpoint.positions.shape[1:3]
    return Description(
        path,
        path.stat().st_size,
        sha256,
        checkpoint.layout,
        checkpoint.shape,
        default_heads(checkpoint.shape.width),
        (rows, columns),
        checkpoint.class_token,
        checkpoint.layer_scale,
        checkpoint.relative_positions,
        checkpoint.other,
        fingerprints,
        problem,
    )


def _fingerprints(checkpoint: Checkpoint) -> tuple[dict[str, str], str]:
    from memorization_index.encoders.mri_core import LayerScale, Settings, check_settings, fingerprint

    choices: tuple[LayerScale, ...] = ("apply", "ignore") if checkpoint.layer_scale else ("refuse",)
    found: dict[str, str] = {}
    try:
        for size, used in _SIZES.items():
            for choice in choices:
                settings = Settings(image_size=size, layer_scale=choice)
                check_settings(checkpoint, settings)
                scale = f", layer_scale={choice!r}" if checkpoint.layer_scale else ""
                found[f"image_size={size}, {used}{scale}"] = fingerprint(checkpoint, settings)
    except MemorizationIndexError as error:
        return {}, str(error)
    return found, ""
