"""The command line: build, score, report, preview, encoders, demo; the others are where what they do is."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorization_index._version import __version__
from memorization_index.checking_commands import add_sign, add_verify
from memorization_index.errors import MemorizationIndexError
from memorization_index.evaluation.commands import add_commands
from memorization_index.growing_commands import add_extend, add_merge, tell_reference
from memorization_index.progress import (
    JsonProgress,
    PlainProgress,
    Progress,
    RichProgress,
    Stopped,
    stop_when_stdin_closes,
)
from memorization_index.words import counted

if TYPE_CHECKING:
    from memorization_index.gate import Gate
    from memorization_index.pseudonyms import Key
    from memorization_index.reference import Reference

DONE, WRONG_USE, CONDITION_MET, STOPPED = 0, 2, 3, 130

#: So many volumes that meet a condition are named, and so many subjects of a preview; --json has all.
_NAMED, _LISTED = 5, 20
#: Commands that keep what was finished when they are stopped.
_RESUMED = ("build", "evaluate")
_PLANES = ("axial", "coronal", "sagittal", "native")
_KEY = "Key: {}; {}.names.csv beside it says which pseudonym is whose. Both stay home."
_EPILOG = """exit codes:
  0  done
  2  wrong use, or a reference or input that cannot be read
  3  a condition of --fail-on is met
  4  verify: a result cannot be had again, or a signature is not the one expected
  130  stopped"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # Before NumPy is imported. Slices are worked on in threads of our own; BLAS threads beside those spin and make a
    # build up to four times slower on two cores. (PyTorch has threads of its own.)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    options = _parser().parse_args(arguments)
    progress = _progress(options)
    if getattr(options, "watch_stdin", False):
        stop_when_stdin_closes(progress, STOPPED)
    if isinstance(progress, JsonProgress):
        progress.event("start", command=options.command, version=__version__, pid=os.getpid())
    command: Callable[[argparse.Namespace, Progress], int] = options.run
    try:
        return command(options, progress)
    except MemorizationIndexError as error:
        progress.close()
        _tell_error(progress, str(error))
        return WRONG_USE
    except BrokenPipeError:  # whoever read the output is gone; nothing can be told any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STOPPED
    except OSError as error:
        progress.close()
        where = f"{error.filename}: " if error.filename else ""
        _tell_error(progress, f"{where}{error.strerror or error}; expected a readable and writable place.")
        return WRONG_USE
    except (Stopped, KeyboardInterrupt):
        progress.close()
        resumes = options.command in _RESUMED
        rest = "the same command goes on from what was finished" if resumes else "nothing was written"
        _tell_error(progress, f"Stopped; {rest}.")
        return STOPPED
    finally:
        progress.close()


def _tell_error(progress: Progress, message: str) -> None:
    if isinstance(progress, JsonProgress):
        progress.event("error", message=message)
    else:
        print(f"memorization-index: {message}", file=sys.stderr)


def _progress(options: argparse.Namespace) -> Progress:
    if getattr(options, "json", False):
        return JsonProgress()
    if sys.stderr.isatty() and hasattr(options, "json"):
        try:
            return RichProgress()
        except ImportError:  # rich is not among what Slicer brings
            return PlainProgress()
    return PlainProgress()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="memorization-index",
        description="Find copies of training scans in the output of generative MRI models.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"memorization-index {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_build(commands)
    add_extend(commands, _add_common)
    add_merge(commands, _add_common)
    _add_score(commands)
    add_commands(commands, _add_common)
    add_verify(commands)
    add_sign(commands)
    _add_report(commands)
    _add_preview(commands)
    encoders = commands.add_parser("encoders", help="list the encoders, or check a file of weights")
    encoders.add_argument("--check", metavar="FILE", help="say what a checkpoint holds and whether mri-core can use it")
    encoders.set_defaults(run=_encoders)
    demo = commands.add_parser("demo", help="make scans, plant copies, build, score, and count what is found")
    demo.add_argument("--out", metavar="DIR", default="memorization-index-demo", help="folder to write everything to")
    demo.add_argument("--seed", type=int, default=0, help="seed of the made scans and the planting (default 0)")
    _add_common(demo)
    demo.set_defaults(run=_demo)
    return parser


def _add_build(commands: Any) -> None:
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
        choices=_PLANES,
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
        "--power", default="cheap", choices=("cheap", "full", "none"), help="how thoroughly to measure what is found"
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
    _add_scheduler(build)
    build.add_argument("--seed", type=int, default=0, help="seed of folds and sampling (default 0)")
    _add_common(build)
    build.set_defaults(run=_build)


def _add_score(commands: Any) -> None:
    score = commands.add_parser("score", help="score synthetic images against a reference")
    score.add_argument("reference", metavar="REF")
    score.add_argument("queries", metavar="QUERY", nargs="+", help="files, folders, or CSV/TSV tables")
    score.add_argument("--out", metavar="DIR", required=True, help="folder to write the result to")
    score.add_argument("--training-root", metavar="DIR", help="where the training volumes are now, if they were moved")
    score.add_argument("--key", metavar="FILE", help="key of a pseudonymized reference, to find its volumes again")
    score.add_argument(
        "--pseudonymize",
        action="store_true",
        help="keep the images' names out of the result too (key default: DIR.key)",
    )
    score.add_argument("--weights", metavar="FILE", help="weights of the reference's encoder, if they were moved")
    score.add_argument(
        "--fail-on",
        metavar="CONDITION",
        action="append",
        default=[],
        help="exit with 3 when a volume meets it: exact, copy, 'altered copy', 'same anatomy', suspicious, "
        "p:0.05, q:0.1",
    )
    _add_scheduler(score)
    score.add_argument(
        "--keep-paths", action="store_true", help="write where files lie into the result (default: their names alone)"
    )
    _add_common(score)
    score.set_defaults(run=_score)


def _add_preview(commands: Any) -> None:
    preview = commands.add_parser(
        "preview", help="say what build or score would read: volumes, subjects, what is skipped"
    )
    preview.add_argument("images", metavar="PATH", nargs="+", help="files, folders, or CSV/TSV tables")
    preview.add_argument("--subjects", metavar="TABLE|PATTERN", help="as in build")
    preview.add_argument("--plane", choices=_PLANES, default="native", help="as in build")
    _add_for_programs(preview)
    preview.set_defaults(run=_preview)
    locate = commands.add_parser("locate", help="find the training files of a pseudonymized reference by their voxels")
    locate.add_argument("reference", metavar="REF", type=Path)
    locate.add_argument("folder", metavar="DIR", type=Path, help="the owner's training files")
    locate.add_argument("--key", metavar="FILE", type=Path, required=True, help="the key of the reference")
    _add_for_programs(locate)
    locate.set_defaults(run=_locate)
    unpack = commands.add_parser("unpack", help="write a volume's voxels, uncompressed, for another program")
    unpack.add_argument("volume", metavar="FILE", type=Path)
    unpack.add_argument("--out", metavar="FILE", type=Path, required=True, help="a new file for the voxels")
    _add_for_programs(unpack)
    unpack.set_defaults(run=_unpack)
    devices = commands.add_parser("devices", help="list the devices that a deep encoder can use here")
    _add_for_programs(devices)
    devices.set_defaults(run=_devices)


def _add_report(commands: Any) -> None:
    report = commands.add_parser("report", help="write the report of a result again, with the reader's decisions")
    report.add_argument("result", metavar="DIR", type=Path)
    report.add_argument(
        "--decisions", metavar="FILE", type=Path, help="the reader's decisions (default: decisions.csv in DIR, if any)"
    )
    report.add_argument("--pdf", action="store_true", help="write report.pdf as well (needs the extra 'pdf')")
    report.add_argument("--dicom-sr", metavar="OUT", type=Path, help="write DICOM Structured Reports (extra 'dicom')")
    report.add_argument(
        "--queries",
        metavar="PATH",
        nargs="+",
        default=[],
        help="the images, whose studies --dicom-sr reports belong to",
    )
    report.add_argument("--key", metavar="FILE", type=Path, help="key of a result under pseudonyms, with --queries")
    _add_for_programs(report)
    report.set_defaults(run=_report)


def _add_scheduler(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="work on the Dask cluster with this scheduler, such as tcp://host:8786 or its scheduler file "
        "(needs the extra 'cluster'; see docs/scale.md)",
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="device of a deep encoder: auto, cpu, cuda (default auto)")
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="where a deep encoder's features are kept, so that none is made twice (default: this user's cache; off: "
        "nowhere)",
    )
    _add_for_programs(parser)


def _add_for_programs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON lines on standard output, for programs")
    parser.add_argument("--watch-stdin", action="store_true", help="end when standard input closes, for programs")


def _build(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.reference import Reference

    started, key = time.monotonic(), _key_of(options)
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
        print(_KEY.format(key.absolute(), key.name))
    return DONE


def _key_of(options: argparse.Namespace) -> Path | None:
    """The key's file, where one is named or needed."""
    if options.key is not None:
        return Path(options.key)
    out = Path(options.out)
    return out.with_name(f"{out.name}.key") if options.pseudonymize else None


def _score(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.bundle import check_result_place, is_result
    from memorization_index.durable import exclusive
    from memorization_index.gate import Gate
    from memorization_index.reference import Reference

    gates = [Gate.parse(text) for text in options.fail_on]
    reference = Reference.open(options.reference)
    for gate in gates:
        gate.check(reference.manifest["calibration"])
    out = Path(options.out)
    made = not out.exists()
    check_result_place(out, options.queries)
    if is_result(out):
        progress.warning(f"{out}: holds a result already; it is replaced when this one is complete.")
    try:
        with exclusive(out / "run"):
            return _score_into(options, reference, gates, progress)
    finally:
        if made:
            with contextlib.suppress(OSError):  # which is not empty where something was written
                out.rmdir()


def _score_into(options: argparse.Namespace, reference: Reference, gates: list[Gate], progress: Progress) -> int:
    from memorization_index.fraction import FEWEST_VOLUMES, Fraction

    started = time.monotonic()
    key = _loaded_key(options, progress) if options.pseudonymize else None
    scores = reference.score(
        options.queries,
        training_root=options.training_root,
        weights=options.weights,
        device=options.device,
        cache=options.cache,
        key=options.key,
        scheduler=options.scheduler,
        progress=progress,
    )
    scores.write(options.out, keep_paths=options.keep_paths, key=key)
    progress.close()
    met = {gate.text: names for gate in gates if (names := gate.meets(scores))}
    out, verdicts = Path(options.out).absolute(), scores.run["verdicts"]
    if isinstance(progress, JsonProgress):
        said = {key: scores.run[key] for key in ("counts", "verdicts", "copied_fraction")}
        progress.event("done", command="score", out=str(out), **said, fail_on=met, seconds=_since(started))
    else:
        summary = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items() if count)
        print(f"{counted(scores.run['counts']['volumes'], 'volume')}: {summary}. Report: {out / 'report.html'}")
        if key is not None:
            print(_KEY.format(key.path.absolute(), key.path.name))
        if scores.run["copied_fraction"]["units"] >= FEWEST_VOLUMES:
            print(f"Estimated share of copied slices: {Fraction(**scores.run['copied_fraction'])} (95 % interval)")
        for text, names in met.items():
            more = f", … and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            print(f"--fail-on {text}: met by {counted(len(names), 'volume')} ({', '.join(names[:_NAMED])}{more})")
    return CONDITION_MET if met else DONE


def _loaded_key(options: argparse.Namespace, progress: Progress) -> Key:
    from memorization_index.pseudonyms import check_home, home_key

    path = _key_of(options) or Path()
    check_home(path, Path(options.out))
    return home_key(path, progress)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def _report(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.report import FILE, read_decisions, write_pdf, write_report
    from memorization_index.scores import Scores

    scores = Scores.read(options.result)
    if options.decisions is not None and not options.decisions.is_file():
        raise MemorizationIndexError(f"{options.decisions}: does not exist; expected the reader's decisions as CSV.")
    decisions = read_decisions(options.decisions or options.result / FILE)
    written = [options.result / "report.html"]
    try:
        write_report(scores, written[0], decisions)
        if options.pdf:
            written.append(options.result / "report.pdf")
            write_pdf(scores, written[1], decisions)
    except MemorizationIndexError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # written by something else than score
        raise MemorizationIndexError(
            f"{options.result}: is not a complete result ({type(error).__name__}: {str(error)[:100]!r}); expected the "
            f"folder that 'memorization-index score' wrote, so score again."
        ) from error
    if isinstance(progress, JsonProgress):
        progress.event("done", command="report", written=[str(path.absolute()) for path in written])
    else:
        print("\n".join(str(path.absolute()) for path in written))
    if options.dicom_sr is not None:
        from memorization_index.recognition import recognized
        from memorization_index.structured_report import write_structured_reports

        files = recognized(scores, options.queries, options.key, progress) if options.queries else {}
        own, made_up = write_structured_reports(scores, options.dicom_sr, files)
        print(f"{options.dicom_sr.absolute()}: {own} reports in the study of their image, {made_up} in made-up studies")
    return DONE


def _preview(options: argparse.Namespace, progress: Progress) -> int:
    from collections import Counter

    from memorization_index.cohort import find_volumes
    from memorization_index.encoding import chosen_plane

    cohort = find_volumes(options.images, options.subjects)
    subjects = Counter(entry.subject for entry in cohort.entries)
    for skipped in cohort.skipped:
        progress.skipped(skipped.path, skipped.reason)
    if cohort.subjects_note:
        progress.warning(cohort.subjects_note)
    plane = chosen_plane(cohort.entries, options.plane) if cohort.entries else options.plane
    progress.close()
    if isinstance(progress, JsonProgress):
        counts = {"volumes": len(cohort.entries), "subjects": len(subjects), "skipped": len(cohort.skipped)}
        said = {"counts": counts, "plane": plane, "sources": cohort.subject_sources}
        progress.event("done", command="preview", **said, subjects=dict(sorted(subjects.items())))
        return DONE
    sources = ", ".join(f"{source} ({count})" for source, count in cohort.subject_sources.items()) or "nothing"
    print(
        f"{counted(len(cohort.entries), 'volume')} of {counted(len(subjects), 'subject')}, taken from {sources}; "
        f"plane: {plane}; skipped: {counted(len(cohort.skipped), 'file')}"
    )
    for subject, count in sorted(subjects.items())[:_LISTED]:
        print(f"{subject}: {counted(count, 'volume')}")
    if len(subjects) > _LISTED:
        print(f"… and {len(subjects) - _LISTED} more (all with --json)")
    return DONE


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


def _demo(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.demo import run_demo, table

    result = run_demo(options.out, options.seed, device=options.device, progress=progress)
    progress.close()
    out = Path(options.out).absolute()
    if isinstance(progress, JsonProgress):
        progress.event("done", command="demo", out=str(out), counts=result["total"], seconds=result["seconds"])
    else:
        print(f"{table(result)}\n{result['seconds']:.0f} s. Report: {out / 'report.html'}")
    return DONE
