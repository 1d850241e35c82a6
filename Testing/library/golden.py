"""Where the golden numbers lie: beside the checkout, in no repository. Tests that need them skip without them."""

import functools
import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("MEMORIZATION_INDEX_SHARED", ROOT.parent / "shared")) / "golden"

_MISSING = not (FOLDER / "encoder.npz").exists()
if _MISSING and os.environ.get("CI"):
    raise FileNotFoundError(f"{FOLDER}: the golden numbers are missing; CI must compare with them.")

LAYERS = ("block3", "block7", "block11")
needs_golden = pytest.mark.skipif(_MISSING, reason=f"the golden numbers are not there ({FOLDER})")


@functools.cache
def encoder_arrays() -> dict[str, np.ndarray]:
    """Arrays of ``encoder.npz`` by name."""
    with np.load(FOLDER / "encoder.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def slices() -> list[np.ndarray]:
    """The four raw slices, of four sizes."""
    return [encoder_arrays()[f"slice_{i}"] for i in range(4)]


def golden_arrays(name: str) -> dict[str, np.ndarray]:
    """All arrays of a file; skips the test where the files are missing, except on CI, where they must be there."""
    path = FOLDER / name
    if not path.is_file():
        reason = f"{path} is missing: set MEMORIZATION_INDEX_SHARED to the folder that holds golden/."
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def by_layer(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """``{layer: arrays[prefix_layer]}``."""
    return {layer: arrays[f"{prefix}_{layer}"] for layer in LAYERS}
