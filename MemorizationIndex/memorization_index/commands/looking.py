"""Commands that look and compute nothing: ``preview``, ``locate``, ``unpack``, ``devices``, ``encoders``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memorization_index.commands.options import DONE, PLANES, WRONG_USE, add_for_programs
from memorization_index.progress import JsonProgress, Progress
from memorization_index.words import counted

#: So many lines of each list of a preview are printed; --json has all.
_LISTED = 20


def add_preview(commands: Any) -> None:
    """Define ``preview``."""
    preview = commands.add_parser(
        "preview", help="say what build or score would read: volumes, subjects, what is skipped"
    )
    preview.add_argument("images", metavar="PATH", nargs="+", help="files, folders, or CSV/TSV tables")
    preview.add_argument("--subjects", metavar="TABLE|PATTERN", help="as in build")
    preview.add_argument("--plane", choices=PLANES, default="native", help="as in build")
    add_for_programs(preview)
    preview.set_defaults(run=_preview)


def add_locate(commands: Any) -> None:
    """Define ``locate``."""
    locate = commands.add_parser("locate", help="find the training files of a reference by their voxels")
    locate.add_argument("reference", metavar="REF", type=Path, help="folder of the reference, which 'build' wrote")
    locate.add_argument("folder", metavar="DIR", type=Path, help="the folder of the training files")
    locate.add_argument("--key", metavar="FILE", type=Path, help="the key of a pseudonymized reference")
    add_for_programs(locate)
    locate.set_defaults(run=_locate)


def add_unpack(commands: Any) -> None:
    """Define ``unpack``."""
    unpack = commands.add_parser("unpack", help="write a volume's voxels, uncompressed, for another program")
    unpack.add_argument("volume", metavar="FILE", type=Path, help="the volume's file")
    unpack.add_argument("--out", metavar="FILE", type=Path, required=True, help="a new file for the voxels")
    add_for_programs(unpack)
    unpack.set_defaults(run=_unpack)


def add_devices(commands: Any) -> None:
    """Define ``devices``."""
    devices = commands.add_parser("devices", help="list the devices that a deep encoder can use here")
    add_for_programs(devices)
    devices.set_defaults(run=_devices)


def add_encoders(commands: Any) -> None:
    """Define ``encoders``."""
    encoders = commands.add_parser("encoders", help="list the encoders, or check a file of weights")
    encoders.add_argument("--check", metavar="FILE", help="say what a checkpoint holds and whether mri-core can use it")
    encoders.set_defaults(run=_encoders)


def _preview(options: argparse.Namespace, progress: Progress) -> int:
    from collections import Counter

    from memorization_index.cohort import find_volumes
    from memorization_index.encoding import (
        chosen_plane,
        leave_out_other_kinds,
        leave_out_other_planes,
        leave_out_unreadable,
    )
    from memorization_index.volumes import IMAGE_PLANE

    cohort = find_volumes(options.images, options.subjects)
    leave_out_unreadable(cohort)
    plane = chosen_plane(cohort.entries, options.plane) if cohort.entries else options.plane
    leave_out_other_kinds(cohort, plane)
    if plane != IMAGE_PLANE:
        leave_out_other_planes(cohort, plane)
    subjects = Counter(entry.subject for entry in cohort.entries)
    cohort.tell(progress)
    if cohort.subjects_note:
        progress.warning(cohort.subjects_note)
    progress.close()
    if isinstance(progress, JsonProgress):
        counts = {"volumes": len(cohort.entries), "subjects": len(subjects), "skipped": len(cohort.skipped)}
        said = {"counts": counts, "plane": plane, "sources": cohort.subject_sources}
        volumes = [
            {
                "volume": e.name,
                "subject": e.subject,
                "files": list(map(str, e.files)),
                "slices": _slices(e.files, plane),
            }
            for e in cohort.entries
        ]
        progress.event("done", command="preview", **said, subjects=dict(sorted(subjects.items())), volumes=volumes)
        return DONE
    print(
        f"{counted(len(cohort.entries), 'volume')} of {counted(len(subjects), 'subject')}"
        f"{_sources(cohort.subject_sources)}; plane: {plane}; skipped: {counted(len(cohort.skipped), 'file')}"
    )
    print("By headers alone: build and score read the voxels, and may leave out more.")
    _print_some([f"{subject}: {counted(count, 'volume')}" for subject, count in sorted(subjects.items())])
    if cohort.entries and plane != IMAGE_PLANE:
        tally = Counter(_slices(entry.files, plane) for entry in cohort.entries)
        print("slices of a volume:")
        _print_some(
            [
                f"{'unknown' if count is None else count}: {counted(times, 'volume')}"
                for count, times in tally.most_common()
            ]
        )
    joined = [entry for entry in cohort.entries if len(entry.files) > 1]
    if joined:
        print(f"joined from several files: {counted(len(joined), 'volume')}")
        _print_some([f"{e.name}: {len(e.files)} files, {e.files[0].name} to {e.files[-1].name}" for e in joined])
    return DONE


def _sources(sources: dict[str, int]) -> str:
    """Where subjects were taken from."""
    from memorization_index.cohort import ALONE

    named = ", ".join(f"{source} ({count})" for source, count in sources.items() if source != ALONE)
    alone = f", each file counts as a person ({sources[ALONE]})" if ALONE in sources else ""
    return f"{f', taken from {named}' if named else ''}{alone}"


def _print_some(lines: Sequence[str]) -> None:
    """Print the first of a list, and how many more there are."""
    print(*lines[:_LISTED], sep="\n")
    if len(lines) > _LISTED:
        print(f"… and {len(lines) - _LISTED} more (all with --json)")


def _slices(files: Sequence[Path], plane: str) -> int | None:
    """How many slices a volume has; None where its header cannot tell (build says why)."""
    from memorization_index.volumes import slice_count

    try:
        return slice_count(files, plane)
    except Exception:  # whatever a reader raises: the preview of the others goes on
        return None


def _locate(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.linking import linked_files

    found = linked_files(options.reference, options.folder, options.key, progress)
    files = {name: [str(path) for path in paths] for name, paths in sorted(found.items())}
    progress.close()
    if isinstance(progress, JsonProgress):
        progress.event("done", command="locate", files=files)
    else:
        for name, paths in files.items():
            print(name, *paths, sep="\t")
    return DONE


def _unpack(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.unpacking import unpack

    found = unpack(options.volume, options.out)
    if isinstance(progress, JsonProgress):
        progress.event("done", command="unpack", **found)
    else:
        print(*(f"{name}: {value}" for name, value in found.items()), sep="\n")
    return DONE


def _devices(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.encoders.base import devices

    if isinstance(progress, JsonProgress):
        progress.event("done", command="devices", devices=devices())
    else:
        print("\n".join(devices()))
    return DONE


def _encoders(options: argparse.Namespace, progress: Progress) -> int:
    if options.check is not None:
        from memorization_index.encoders import describe_checkpoint

        description = describe_checkpoint(options.check)
        print(description)
        return WRONG_USE if description.problem else DONE
    print("spectral    embedded; no weights, no torch (435 numbers a slice)")
    print("mri-core    MRI-CORE or a network of its shape; --weights FILE, needs torch")
    print("hf:DIR      a Hugging Face vision transformer in a local folder; needs torch and transformers")
    return DONE
