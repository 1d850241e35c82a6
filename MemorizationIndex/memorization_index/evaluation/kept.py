"""What an evaluation keeps of finished parts, and when that counts no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from memorization_index.progress import Progress

#: Names that mark a folder as an evaluation's, complete or not (the second: of a sweep).
MARKS = ("plan.json", "subjects-*")


def states(path: Path) -> tuple[str, int, int]:
    """A file's path, size and time: another file under the same name is another cohort."""
    found = path.stat()
    return str(path.absolute()), found.st_size, found.st_mtime_ns


def begin(out: Path, parts: str, plan: str, progress: Progress) -> None:
    """Keep the finished ``parts`` (a pattern) in ``out`` where they were made by the same plan; else remove them."""
    path = out / "plan.json"
    if path.exists() and path.read_text(encoding="utf-8") == plan:
        return
    old = list(out.glob(parts))
    if old:
        progress.warning(f"{out}: holds parts of another evaluation (other settings or files); they are made again.")
    for part in old:
        part.unlink()
    path.write_text(plan, encoding="utf-8")


def store(path: Path, part: dict[str, Any]) -> None:
    """Write a finished part whole or not at all."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(part), encoding="utf-8")
    beside.replace(path)
