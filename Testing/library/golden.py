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

needs_golden = pytest.mark.skipif(_MISSING, reason=f"the golden numbers are not there ({FOLDER})")


@functools.cache
def encoder_arrays() -> dict[str, np.ndarray]:
    """Arrays of ``encoder.npz`` by name."""
    with np.load(FOLDER / "encoder.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def slices() -> list[np.ndarray]:
    """The four raw slices, of four sizes."""
    return [encoder_arrays()[f"slice_{i}"] for i in range(4)]
