"""Arrays computed from the published equations and code, which lie beside the checkout and not in it."""

import os
from pathlib import Path

import numpy as np
import pytest

LAYERS = ("block3", "block7", "block11")
_BESIDE = Path(__file__).resolve().parents[2].parent / "shared"


def golden_arrays(name: str) -> dict[str, np.ndarray]:
    """All arrays of a file; skips the test where the files are missing, except on CI, where they must be there."""
    path = Path(os.environ.get("MEMORIZATION_INDEX_SHARED", _BESIDE)) / "golden" / name
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
