"""The commands of the benchmark: ``evaluate``, ``evaluate-generator`` and ``compare-evaluations``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from memorization_index.commands.options import PLANES, add_common
from memorization_index.errors import MemorizationIndexError
from memorization_index.progress import JsonProgress, Progress


def add_evaluate(commands: Any) -> None:
    """Define ``evaluate``."""
    evaluate = commands.add_parser("evaluate", help="measure detection and false alarms on a cohort of your own")
    evaluate.add_argument("cohort", metavar="COHORT", nargs="+", help="real scans: files, folders, or CSV/TSV tables")
    evaluate.add_argument("--out", metavar="DIR", required=True, help="folder to write tables to")
    evaluate.add_argument("--subjects", metavar="TABLE|PATTERN", help="as in build")
    evaluate.add_argument("--plane", choices=PLANES, default="native", help="as in build")
    evaluate.add_argument("--quick", action="store_true", help="one split of 30 training subjects, 8 volumes a side")
    evaluate.add_argument("--splits", type=_count, help="random splits by subject, pooled (default 1)")
    evaluate.add_argument("--training-subjects", type=_count, metavar="N", help="subjects to train on (default 2 of 3)")
    evaluate.add_argument("--volumes", type=_count, help="copies and controls an augmentation (default 30)")
    evaluate.add_argument("--slices", type=_count, help="slices of each, evenly spaced (default 12)")
    evaluate.add_argument("--augmentations", metavar="NAMES", help="published (default), all, or names with commas")
    evaluate.add_argument(
        "--subjects-sweep", type=_counts, metavar="N,N", help="evaluate with each of these numbers of training subjects"
    )
    evaluate.add_argument("--encoder", default="spectral", metavar="NAME", help="as in build")
    evaluate.add_argument("--weights", metavar="FILE", help="as in build")
    evaluate.add_argument(
        "--published-weights", metavar="FILE", help="weights for paper-v1 and paper-code-v1, measured beside mi-v1"
    )
    evaluate.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16", "float16"), default="auto", help="as in build"
    )
    evaluate.add_argument("--layer-scale", choices=("apply", "ignore"), default="refuse", help="as in build")
    evaluate.add_argument("--seed", type=int, default=0, help="seed of splits and augmentations (default 0)")
    add_common(evaluate)
    evaluate.set_defaults(run=_evaluate)


def add_generator(commands: Any) -> None:
    """Define ``evaluate-generator``."""
    generator = commands.add_parser(
        "evaluate-generator", help="measure detection on samples of a generator, against the truth about them"
    )
    generator.add_argument(
        "samples", metavar="DIR", help="folder with train.csv, controls.csv, truth.csv and a folder of samples a stage"
    )
    generator.add_argument("--images", metavar="DIR", required=True, help="folder that the tables' file names are in")
    generator.add_argument("--out", metavar="DIR", required=True, help="folder to write tables to")
    generator.add_argument("--every", type=_count, default=2, metavar="N", help="score every Nth control (default 2)")
    generator.add_argument("--encoder", default="spectral", metavar="NAME", help="as in build")
    generator.add_argument("--weights", metavar="FILE", help="as in build")
    generator.add_argument("--published-weights", metavar="FILE", help="as in evaluate")
    add_common(generator)
    generator.set_defaults(run=_generator)


def _generator(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.evaluation.charts import tables_and
    from memorization_index.evaluation.generator import Settings, evaluate_generator, markdown

    names = ("encoder", "weights", "published_weights", "device", "cache", "every")
    settings = Settings(**{name: getattr(options, name) for name in names})
    out = Path(options.out).absolute()
    result = evaluate_generator(options.samples, options.images, out, settings, progress)
    closing = (
        f"Reference of {result['training_images']} training images; nothing was fitted to the samples. "
        f"{tables_and('Tables and figure', 'Tables')}: {out}"
    )
    return _tell(progress, "evaluate-generator", f"{markdown(result)}\n{closing}", out=str(out), note=closing)


def _compare(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.evaluation.sets import compare, markdown

    rows = compare(options.evaluations, options.out)
    return _tell(progress, "compare-evaluations", markdown(rows), out=str(Path(options.out).absolute()), sets=rows)


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return number


def _counts(text: str) -> list[int]:
    return [_count(part) for part in text.split(",")]


def add_compare(commands: Any) -> None:
    """Define ``compare-evaluations``."""
    compare = commands.add_parser("compare-evaluations", help="stability of set measures over sets and augmentations")
    compare.add_argument("evaluations", metavar="DIR", nargs="+", help="folders that 'evaluate' wrote, one a set")
    compare.add_argument("--out", metavar="DIR", required=True, help="folder to write the table to")
    compare.set_defaults(run=_compare)


def _evaluate(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.augmentations import named
    from memorization_index.evaluation.benchmark import QUICK, Plan, closing_sentence, evaluate, markdown
    from memorization_index.evaluation.sweep import markdown as sweep_markdown
    from memorization_index.evaluation.sweep import sweep

    given: dict[str, Any] = dict(QUICK) if options.quick else {}
    for name in ("splits", "training_subjects", "volumes", "slices"):
        if getattr(options, name) is not None:
            given[name] = getattr(options, name)
    if options.augmentations is not None:
        given["augmentations"] = named(options.augmentations)
    same = (
        "plane", "encoder", "weights", "published_weights", "device", "cache", "precision", "layer_scale", "seed",
    )  # fmt: skip
    plan = Plan(**given, **{name: getattr(options, name) for name in same})
    out = Path(options.out).absolute()
    if options.subjects_sweep:
        if options.training_subjects is not None:
            raise MemorizationIndexError("--subjects-sweep: sets the training subjects; leave out --training-subjects.")
        rows = sweep(options.cohort, out, plan, options.subjects_sweep, options.subjects, progress)
        return _tell(progress, "evaluate", f"{sweep_markdown(rows)}\n{out}", out=str(out), sweep=rows)
    result = evaluate(options.cohort, out, plan, options.subjects, progress)
    closing = closing_sentence(result, out)
    return _tell(progress, "evaluate", f"{markdown(result)}\n{closing}", out=str(out), all=result["all"], note=closing)


def _tell(progress: Progress, command: str, text: str, **values: Any) -> int:
    """Print the result, or give it to the program that asked for JSON."""
    from memorization_index.evaluation.tables import without_nan

    progress.close()
    if isinstance(progress, JsonProgress):
        progress.event("done", command=command, **without_nan(values))
    else:
        print(text)
    return 0
