"""What several commands share: exit codes, and options."""

from __future__ import annotations

import argparse
from pathlib import Path

from memorization_index.progress import Progress

DONE, WRONG_USE, CONDITION_MET, DIFFERS, CANNOT_TELL, STOPPED = 0, 2, 3, 4, 5, 130

PLANES = ("axial", "coronal", "sagittal", "native")
#: What is told of the key of a reference or result under pseudonyms.
KEY = "Key: {}; {}.names.csv beside it says which pseudonym is whose. Both stay home."


def add_scheduler(parser: argparse.ArgumentParser) -> None:
    """``--scheduler``."""
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="work on the Dask cluster with this scheduler, such as tcp://host:8786 or its scheduler file "
        "(needs the extra 'cluster'; see docs/scale.md)",
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options of all commands that compute."""
    parser.add_argument("--device", default="auto", help="device of a deep encoder: auto, cpu, cuda (default auto)")
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="where a deep encoder's features are kept, so that none is made twice (default: this user's cache; off: "
        "nowhere)",
    )
    add_for_programs(parser)


def note_device(device: str, encoder: str, progress: Progress) -> None:
    """Say where a device was named that will not be used."""
    if encoder == "spectral" and device not in ("auto", "cpu"):
        progress.warning(f"The device {device} is not used: the encoder spectral computes on the processor.")


def add_for_programs(parser: argparse.ArgumentParser) -> None:
    """Options for the programs that call."""
    parser.add_argument("--json", action="store_true", help="JSON lines on standard output, for programs")
    parser.add_argument("--watch-stdin", action="store_true", help="end when standard input closes, for programs")


def key_of(options: argparse.Namespace) -> Path | None:
    """The key's file, where one is named or needed."""
    if options.key is not None:
        return Path(options.key)
    out = Path(options.out)
    return out.with_name(f"{out.name}.key") if options.pseudonymize else None
