"""The commands ``extend`` and ``merge``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from memorization_index.commands.building import tell_reference
from memorization_index.commands.options import add_common
from memorization_index.progress import Progress


def add_extend(commands: Any) -> None:
    """Define ``extend``."""
    extend = commands.add_parser("extend", help="add training images to a reference; no old one is encoded again")
    extend.add_argument("reference", metavar="REF", type=Path, help="folder of the reference, which 'build' wrote")
    extend.add_argument("training", metavar="NEW", nargs="+", help="as TRAIN in build; old files are passed over")
    extend.add_argument("--out", metavar="REF2", type=Path, help="folder to write to (default: REF itself is replaced)")
    extend.add_argument("--subjects", metavar="TABLE|PATTERN", help="as in build, for the new images")
    _add_fitting(extend)
    add_common(extend)
    extend.set_defaults(run=_extend)


def add_merge(commands: Any) -> None:
    """Define ``merge``, like ``extend``."""
    merge = commands.add_parser("merge", help="join references that were built on parts of one training set")
    merge.add_argument("references", metavar="REF", nargs="+", type=Path, help="their folders, which 'build' wrote")
    merge.add_argument("--out", metavar="REF", required=True, type=Path, help="folder to write the reference to")
    _add_fitting(merge)
    add_common(merge)
    merge.set_defaults(run=_merge)


def _add_fitting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--controls", metavar="PATH", help="as in build")
    parser.add_argument("--novel", metavar="PATH", help="as in build")
    parser.add_argument("--training-root", metavar="DIR", help="where the training volumes are now, if they were moved")
    parser.add_argument("--weights", metavar="FILE", help="weights of the reference's encoder, if they were moved")


def _extend(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.bundle import bring_back
    from memorization_index.reference import Reference

    started = time.monotonic()
    out = options.out or options.reference
    bring_back(out)
    reference = Reference.open(options.reference).extend(
        options.training, out, subjects=options.subjects, **_fitting(options), progress=progress
    )
    return tell_reference(reference, out, "extend", started, progress)


def _merge(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.reference import Reference

    started = time.monotonic()
    references = [Reference.open(path) for path in options.references]
    reference = Reference.merge(references, options.out, **_fitting(options), progress=progress)
    return tell_reference(reference, options.out, "merge", started, progress)


def _fitting(options: argparse.Namespace) -> dict[str, Any]:
    names = ("controls", "novel", "training_root", "weights", "device", "cache")
    return {name: getattr(options, name) for name in names}
