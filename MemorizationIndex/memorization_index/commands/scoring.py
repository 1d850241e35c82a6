"""The commands ``score`` and ``report``."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorization_index.commands.options import (
    CANNOT_TELL,
    CONDITION_MET,
    DONE,
    KEY,
    add_common,
    add_for_programs,
    add_scheduler,
    key_of,
    note_device,
)
from memorization_index.errors import MemorizationIndexError
from memorization_index.progress import JsonProgress, Progress
from memorization_index.words import counted

if TYPE_CHECKING:
    from memorization_index.cohort import Entry
    from memorization_index.gate import Gate
    from memorization_index.pseudonyms import Key
    from memorization_index.reference import Reference
    from memorization_index.report import Decision
    from memorization_index.scores import Scores

#: So many volumes or files that a condition is about are named; --json has all.
_NAMED = 5


def add_score(commands: Any) -> None:
    """Define ``score``."""
    score = commands.add_parser("score", help="score synthetic images against a reference")
    score.add_argument("reference", metavar="REF", help="folder of the reference, which 'build' wrote")
    score.add_argument("queries", metavar="QUERY", nargs="+", help="files, folders, or CSV/TSV tables")
    score.add_argument("--out", metavar="DIR", required=True, help="folder to write the result to")
    score.add_argument(
        "--training-root",
        metavar="DIR",
        help="where the training volumes are now, if they were moved; or a table (path, volume) of those that were",
    )
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
    add_scheduler(score)
    score.add_argument(
        "--keep-paths", action="store_true", help="write where files lie into the result (default: their names alone)"
    )
    add_common(score)
    score.set_defaults(run=_score)


def add_report(commands: Any) -> None:
    """Define ``report``."""
    report = commands.add_parser("report", help="write the report of a result again, with the reader's decisions")
    report.add_argument("result", metavar="DIR", type=Path, help="folder of the result, which 'score' wrote")
    report.add_argument(
        "--decisions",
        metavar="FILE",
        type=Path,
        help="the reader's decisions, kept as decisions.csv in DIR (default: those there)",
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
    add_for_programs(report)
    report.set_defaults(run=_report)


def _score(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.bundle import check_result_place, is_result
    from memorization_index.durable import exclusive
    from memorization_index.gate import Gate
    from memorization_index.pseudonyms import Key
    from memorization_index.reference import Reference

    if options.key is not None and not options.pseudonymize:
        Key.load(Path(options.key))  # also where this reference needs none: a mistyped path is told
    gates = [Gate.parse(text) for text in options.fail_on]
    reference = Reference.open(options.reference)
    note_device(options.device, reference.manifest["encoder"]["name"], progress)
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
    unclear = {gate.text: names for gate in gates if (names := gate.cannot_tell(scores))}
    not_examined = [skipped["path"] for skipped in scores.run["skipped"]]
    out, verdicts = Path(options.out).absolute(), scores.run["verdicts"]
    if isinstance(progress, JsonProgress):
        said = {key: scores.run[key] for key in ("counts", "verdicts", "copied_fraction")}
        said |= {"fail_on": met, "cannot_tell": unclear, "not_examined": not_examined}
        progress.event("done", command="score", out=str(out), **said, seconds=_since(started))
    else:
        summary = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items() if count)
        skipped = f" Skipped: {counted(len(not_examined), 'file')}." if not_examined else ""
        print(
            f"{counted(scores.run['counts']['volumes'], 'volume')}: {summary}.{skipped} Report: {out / 'report.html'}"
        )
        if key is not None:
            print(KEY.format(key.path.absolute(), key.path.name))
        if share := _share(scores):
            print(share)
        for text, names in met.items():
            print(f"--fail-on {text}: met by {_listed(names, 'volume')}")
        for text, names in unclear.items():
            told = f"--fail-on {text}: cannot be told of {_listed(names, 'volume')}"
            print(f"{told}, not compared with all their training scans")
        if gates and not_examined:
            print(f"--fail-on: cannot be told of {_listed(not_examined, 'file')} that could not be examined")
    if met:
        return CONDITION_MET
    return CANNOT_TELL if unclear or (gates and not_examined) else DONE


def _share(scores: Scores) -> str:
    """The estimated share of copied slices, and what it rests on; nothing of few volumes, or where nothing is known."""
    from memorization_index.fraction import FEWEST_VOLUMES, Fraction
    from memorization_index.verdicts import MatchClass

    share = Fraction(**scores.run["copied_fraction"])
    is_verified = bool((scores.slices["match_class"] != MatchClass.UNVERIFIED).any())
    has_p = scores.run["calibration"]["calibrated"] and scores.run["generator"]["p_calibrated"] is not False
    if share.units < FEWEST_VOLUMES or not (is_verified or has_p):
        return ""
    basis = "" if is_verified else " (by p alone; nothing was verified)"
    return f"Estimated share of copied slices: {share} (95 % interval){basis}"


def _listed(names: list[str], noun: str) -> str:
    """How many, and the first of them."""
    more = f", … and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{counted(len(names), noun)} ({', '.join(names[:_NAMED])}{more})"


def _loaded_key(options: argparse.Namespace, progress: Progress) -> Key:
    from memorization_index.pseudonyms import check_home, home_key

    path = key_of(options) or Path()
    check_home(path, Path(options.out))
    return home_key(path, progress)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def _report(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.report import FILE, read_decisions
    from memorization_index.scores import Scores

    scores = Scores.read(options.result)
    if options.decisions is not None and not options.decisions.is_file():
        raise MemorizationIndexError(f"{options.decisions}: does not exist; expected the reader's decisions as CSV.")
    decisions = read_decisions(options.decisions or options.result / FILE)
    # What --dicom-sr cannot do is told before anything is written.
    files = _files_of_studies(options, scores, progress) if options.dicom_sr is not None else {}
    written = _write_reports(options, scores, decisions)
    if options.decisions is not None:
        written += _keep_decisions(options.decisions, options.result / FILE, progress)
    if isinstance(progress, JsonProgress):
        progress.event("done", command="report", written=[str(path.absolute()) for path in written])
    else:
        print("\n".join(str(path.absolute()) for path in written))
    if options.dicom_sr is not None:
        from memorization_index.structured_report import write_structured_reports

        own, made_up = write_structured_reports(scores, options.dicom_sr, files)
        print(f"{options.dicom_sr.absolute()}: {own} reports in the study of their image, {made_up} in made-up studies")
    return DONE


def _files_of_studies(options: argparse.Namespace, scores: Scores, progress: Progress) -> dict[str, Entry]:
    """The files of the images, whose studies the Structured Reports belong to."""
    from memorization_index.recognition import recognized
    from memorization_index.structured_report import require_highdicom

    require_highdicom()
    return recognized(scores, options.queries, options.key, progress) if options.queries else {}


def _write_reports(options: argparse.Namespace, scores: Scores, decisions: Sequence[Decision]) -> list[Path]:
    """Write the report, as PDF too where that is asked for; returns the files."""
    from memorization_index.report import write_pdf, write_report

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
    return written


def _keep_decisions(given: Path, place: Path, progress: Progress) -> list[Path]:
    """Keep the decisions that the report shows beside it, where verify looks for them; returns what was written."""
    content = given.read_bytes()
    if place.exists():
        if place.read_bytes() == content:
            return []
        progress.warning(f"{place}: had other decisions; those of {given} take their place.")
    place.write_bytes(content)
    return [place]
