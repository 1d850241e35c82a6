"""The command ``build``, and what is told of a reference that was made."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorization_index.commands.options import DONE, KEY, PLANES, add_common, add_scheduler, key_of, note_device
from memorization_index.progress import JsonProgress, Progress
from memorization_index.words import counted

if TYPE_CHECKING:
    from memorization_index.reference import Reference


def add_build(commands: Any) -> None:
    """Define ``build``."""
    build = commands.add_parser("build", help="fit a reference on training images")
    build.add_argument("training", metavar="TRAIN", nargs="+", help="files, folders, or CSV/TSV tables")
    build.add_argument("--out", metavar="REF", required=True, help="folder to write the reference to")
    build.add_argument(
        "--subjects",
        metavar="TABLE|PATTERN",
        help="a table (path or file, subject), or a regular expression with a group 'subject' to search in paths",
    )
    build.add_argument(
        "--plane",
        choices=PLANES,
        default="native",
        help="plane to slice volumes in; native: the one most were acquired in, axial where voxels are about as long "
        "as wide (default)",
    )
    build.add_argument("--encoder", default="spectral", metavar="NAME", help="see 'encoders' (default: spectral)")
    build.add_argument("--weights", metavar="FILE", help="weights of the encoder")
    build.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="of a deep encoder; auto: float16 on CUDA, bfloat16 on processors that are faster with it (default)",
    )
    build.add_argument(
        "--layer-scale",
        choices=("apply", "ignore"),
        default="refuse",
        help="of a checkpoint of mri-core that has LayerScale: compute it, or drop it as the published loader does",
    )
    build.add_argument("--protocol", default="mi-v1", metavar="NAME", help="mi-v1 (default)")
    build.add_argument("--controls", metavar="PATH", help="real scans that were never trained on, to check the null")
    build.add_argument(
        "--novel", metavar="PATH", help="samples of a model that never saw this training set; they replace the null"
    )
    build.add_argument(
        "--power",
        default="cheap",
        choices=("cheap", "full", "none"),
        help="measure how many planted, altered copies would be found (the report's power card); cheap: ten common "
        "alterations, three with a deep encoder (default); full: all that need no second picture; none: nothing",
    )
    build.add_argument("--pseudonymize", action="store_true", help="keep names, paths and fingerprints out of REF")
    build.add_argument(
        "--key", metavar="FILE", help="pseudonymize with the key in FILE, which stays home (default: REF.key)"
    )
    build.add_argument(
        "--thumbnails",
        choices=("none", "blurred", "full"),
        default="none",
        help="pictures of slices in REF (default none)",
    )
    add_scheduler(build)
    build.add_argument("--seed", type=int, default=0, help="seed of folds and sampling (default 0)")
    add_common(build)
    build.set_defaults(run=_build)


def _build(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.reference import Reference

    started, key = time.monotonic(), key_of(options)
    note_device(options.device, options.encoder, progress)
    reference = Reference.build(
        options.training,
        options.out,
        subjects=options.subjects,
        plane=options.plane,
        encoder=options.encoder,
        weights=options.weights,
        protocol=options.protocol,
        controls=options.controls,
        novel=options.novel,
        power=options.power,
        device=options.device,
        seed=options.seed,
        cache=options.cache,
        precision=options.precision,
        layer_scale=options.layer_scale,
        key=key,
        thumbnails=options.thumbnails,
        scheduler=options.scheduler,
        progress=progress,
    )
    tell_reference(reference, options.out, "build", started, progress)
    if key is not None and not isinstance(progress, JsonProgress):
        print(KEY.format(key.absolute(), key.name))
    return DONE


def tell_reference(reference: Reference, out: str | Path, command: str, started: float, progress: Progress) -> int:
    """Say what a reference holds and where it lies; the exit code."""
    progress.close()
    counts, out = reference.manifest["counts"], Path(out).absolute()
    if isinstance(progress, JsonProgress):
        seconds = round(time.monotonic() - started, 1)
        progress.event("done", command=command, out=str(out), counts=counts, seconds=seconds)
    else:
        print(
            f"Reference of {counted(counts['subjects'], 'subject')}, {counted(counts['volumes'], 'volume')}, "
            f"{counted(counts['slices'], 'slice')} ({reference.plane}; left out: "
            f"{counted(counts['empty_slices'], 'empty slice')}, {counted(counts['skipped'], 'file')}): {out}"
        )
    return DONE
