"""Copy evidence in synthetic MRI: which slices of a synthetic set copy which training scan, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memorization_index._version import __version__
from memorization_index.errors import MemorizationIndexError

if TYPE_CHECKING:
    from memorization_index.detector import MemorizationDetector
    from memorization_index.encoders import load_encoder
    from memorization_index.reference import Reference
    from memorization_index.scores import Scores

__all__ = ["MemorizationDetector", "MemorizationIndexError", "Reference", "Scores", "__version__", "load_encoder"]

_HOMES = {
    "MemorizationDetector": "detector",
    "Reference": "reference",
    "Scores": "scores",
    "load_encoder": "encoders",
}


def __getattr__(name: str) -> Any:
    """Import the public names at first use, so that ``import memorization_index`` stays light."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"memorization_index.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'memorization_index' has no attribute '{name}'")


def __dir__() -> list[str]:
    """List the public names, imported yet or not."""
    return sorted({*globals(), *__all__})
