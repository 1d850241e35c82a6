"""Checks of features that somebody else computed, ``{layer: (n, D)}``, and of what comes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from memorization_index.errors import MemorizationIndexError

#: What detectors take: an array of shape (slices, features) for each layer.
LayerFeatures = Mapping[str, NDArray[np.floating]]
_Real = TypeVar("_Real", np.float32, np.float64)


def checked_features(features: LayerFeatures, dtype: type[_Real]) -> dict[str, NDArray[_Real]]:
    """Features ``(n, D)`` by layer in the type asked for.

    Raises :class:`MemorizationIndexError` where a layer is no table of finite real numbers, or layers differ in ``n``.
    """
    if not isinstance(features, Mapping):
        raise MemorizationIndexError(
            f"The features are of type {type(features).__name__}; expected a dictionary {{layer: array}}."
        )
    arrays = {str(layer): _checked_layer(str(layer), values, dtype) for layer, values in features.items()}
    if len({len(a) for a in arrays.values()}) != 1:
        sizes = ", ".join(f"{layer}: {len(a)}" for layer, a in arrays.items()) or "none"
        raise MemorizationIndexError(f"Layers differ in their number of rows ({sizes}); expected the same for all.")
    return arrays


def checked_groups(groups: Sequence[Any] | NDArray[Any] | None, count: int) -> list[str]:
    """The subject of each of ``count`` rows as text; without groups each row is a subject of its own."""
    subjects = [str(g) for g in (range(count) if groups is None else groups)]
    if len(subjects) != count:
        raise MemorizationIndexError(f"groups: has {len(subjects)} entries; expected one for each of {count} rows.")
    return subjects


def check_same_layers(arrays: Mapping[str, NDArray[Any]], dimensions: Mapping[str, int]) -> None:
    """Insist that samples have the layers that were fitted, each with as many features as then."""
    if set(arrays) != set(dimensions):
        raise MemorizationIndexError(
            f"The samples have layers {', '.join(arrays)}; expected {', '.join(dimensions)}, as in fit."
        )
    for layer, values in arrays.items():
        if values.shape[1] != dimensions[layer]:
            raise MemorizationIndexError(
                f"Layer {layer} of the samples has {values.shape[1]} features; expected {dimensions[layer]}, as in fit."
            )


def _checked_layer(layer: str, values: Any, dtype: type[_Real]) -> NDArray[_Real]:
    try:
        array = np.asarray(values)
    except ValueError:
        raise MemorizationIndexError(
            f"Layer {layer} has rows of different lengths; expected numbers of shape (slices, features)."
        ) from None
    if array.ndim != 2 or array.dtype.kind not in "iuf" or 0 in array.shape:
        raise MemorizationIndexError(
            f"Layer {layer} has shape {array.shape} and type {array.dtype}; expected numbers of shape "
            "(slices, features)."
        )
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite; its square would overflow float64
        finite = np.isfinite(array.astype(np.float32)).all()
    if not finite:
        raise MemorizationIndexError(
            f"Layer {layer} contains values that are NaN, infinite or beyond float32; expected finite features."
        )
    return array.astype(dtype)
