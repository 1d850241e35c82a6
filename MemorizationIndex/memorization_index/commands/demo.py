"""The command ``demo``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from memorization_index.commands.options import DONE, add_common
from memorization_index.progress import JsonProgress, Progress


def add_demo(commands: Any) -> None:
    """Define ``demo``."""
    demo = commands.add_parser("demo", help="make scans, plant copies, build, score, and count what is found")
    demo.add_argument("--out", metavar="DIR", default="memorization-index-demo", help="folder to write everything to")
    demo.add_argument("--seed", type=int, default=0, help="seed of the made scans and the planting (default 0)")
    add_common(demo)
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.demo import run_demo, table

    result = run_demo(options.out, options.seed, device=options.device, progress=progress)
    progress.close()
    out = Path(options.out).absolute()
    if isinstance(progress, JsonProgress):
        progress.event("done", command="demo", out=str(out), counts=result["total"], seconds=result["seconds"])
    else:
        print(f"{table(result)}\n{result['seconds']:.0f} s. Report: {out / 'result' / 'report.html'}")
    return DONE
