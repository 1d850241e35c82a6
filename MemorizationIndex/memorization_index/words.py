"""Words of sentences that are told. Imports nothing."""

from __future__ import annotations

from collections.abc import Sequence


def plural(noun: str, count: int) -> str:
    """The noun, with an s unless there is one."""
    return noun if count == 1 else f"{noun}s"


def counted(count: int, noun: str) -> str:
    """The number and its noun."""
    return f"{count} {plural(noun, count)}"


def shortened(said: Sequence[str], most: int) -> str:
    """The first of a list, and how many more there are."""
    rest = f" and {len(said) - most} more" if len(said) > most else ""
    return ", ".join(said[:most]) + rest
