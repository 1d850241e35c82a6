"""``memorization-index evaluate``: how well copies are found, and how often controls are not left alone.

A cohort is split by subject. Volumes of training subjects, augmented, are the copies; volumes of held-out subjects,
*equally* augmented, are the controls. Both are scored as any query is, against a reference built on the training
subjects alone. Every figure pools the slices of all splits; intervals draw whole subjects.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memorization_index._version import __version__
from memorization_index.augmentations import ADJACENT, AUGMENTATIONS, PUBLISHED
from memorization_index.bundle import check_own, write_csv
from memorization_index.cohort import Entry, find_volumes
from memorization_index.errors import MemorizationIndexError
from memorization_index.evaluation import again, tables
from memorization_index.evaluation.duplication import COLUMNS as SET_COLUMNS
from memorization_index.evaluation.duplication import duplication_rows, spread
from memorization_index.evaluation.kept import MARKS, begin, states, store
from memorization_index.evaluation.rivals import Rivals, recording
from memorization_index.evaluation.sampling import Chosen, augmented, choose
from memorization_index.progress import Progress
from memorization_index.reference import Reference
from memorization_index.scores import Scores
from memorization_index.scoring import Options, Query, score_queries
from memorization_index.verdicts import FLAG_P, VOLUME_P
from memorization_index.volumes import looks_flat

if TYPE_CHECKING:
    from memorization_index.encoders.mri_core import LayerScale
    from memorization_index.encoders.precision import Precision

#: With fewer held-out subjects than this, intervals that draw subjects are said to mean little.
_FEW_SUBJECTS = 20


#: What a split's file holds a row each of.
_ROWS = ("slices", "volumes", "sets", "again_slices", "again_volumes")


@dataclass(frozen=True)
class Plan:
    """What is evaluated: how the cohort is split, and what is drawn from each side."""

    splits: int = 1
    training_subjects: int | None = None
    volumes: int = 30
    slices: int = 12
    augmentations: tuple[str, ...] = PUBLISHED
    plane: str = "native"
    encoder: str = "spectral"
    weights: str | None = None
    published_weights: str | None = None
    device: str = "auto"
    cache: str | None = None
    precision: Precision = "auto"
    layer_scale: LayerScale = "refuse"
    seed: int = 0


#: What ``--quick`` sets: one split and few volumes, about two minutes on two cores.
QUICK = {"splits": 1, "training_subjects": 30, "volumes": 8, "slices": 4, "augmentations": PUBLISHED}


def evaluate(
    inputs: Sequence[str | Path],
    out: str | Path,
    plan: Plan,
    subjects: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run all splits (finished ones are kept) and write tables as CSV, ``evaluate.json``, ``evaluate.md`` and figures.

    Raises :class:`MemorizationIndexError` where the cohort has fewer than 4 subjects.
    """
    progress, out = progress or Progress(), Path(out)
    check_own(out, "an evaluation", MARKS)
    out.mkdir(parents=True, exist_ok=True)
    cohort = find_volumes(inputs, subjects)
    names = sorted({entry.subject for entry in cohort.entries})
    if len(names) < 4:
        raise MemorizationIndexError(
            f"The cohort has {len(names)} subjects; expected at least 4, half of them to train on, so give more."
        )
    if plan.training_subjects is not None and plan.training_subjects > len(names) - 2:
        count = len(names) * 2 // 3
        progress.warning(
            f"The cohort has {len(names)} subjects, too few to train on {plan.training_subjects} and hold some out: "
            f"{count} are trained on."
        )
        plan = replace(plan, training_subjects=count)
    if ADJACENT in plan.augmentations and all(looks_flat(entry.files) for entry in cohort.entries):
        if plan.augmentations != tuple(AUGMENTATIONS):
            raise MemorizationIndexError(
                f"--augmentations {ADJACENT}: the cohort has single images, without a slice beside them; expected "
                f"volumes, so leave it out."
            )
        plan = replace(plan, augmentations=tuple(a for a in plan.augmentations if a != ADJACENT))
        progress.warning(f"{ADJACENT} is left out: the cohort has single images, without a slice beside them.")
    files = [(e.name, e.subject, [states(path) for path in e.files]) for e in cohort.entries]
    begin(out, "split-*.json", json.dumps([__version__, asdict(plan), files]), progress)
    splits = [_split(cohort.entries, names, plan, number, out, progress) for number in range(plan.splits)]
    rows = {key: [row for split in splits for row in split[key]] for key in _ROWS}
    result = {
        "version": __version__,
        "plan": asdict(plan),
        "subjects": len(names),
        "training": [split["training"] for split in splits],
        "held_out_subjects": [split["held_out_subjects"] for split in splits],
        "seconds": sum(split["seconds"] for split in splits),
        "notes": splits[0]["notes"],
        "augmentations": {name: tables.summary(rows["slices"], rows["volumes"], [name]) for name in plan.augmentations},
        "all": tables.summary(rows["slices"], rows["volumes"], plan.augmentations),
        "comparison": tables.comparison(rows["slices"]),
        "calibration": tables.calibration(rows["slices"]),
        "sets": spread(rows["sets"]),
        "again": again.summary(
            rows["again_slices"], rows["again_volumes"], [r for r in rows["slices"] if r["kind"] == "copy"]
        ),
    }
    _write(out, result, rows)
    return result


def _write(out: Path, result: dict[str, Any], rows: dict[str, list[dict[str, Any]]]) -> None:
    from memorization_index.evaluation.charts import draw_evaluation

    for name in ("slices", "volumes", "again_slices", "again_volumes"):
        write_csv(out / f"{name}.csv", list(rows[name][0]), [list(row.values()) for row in rows[name]])
    write_csv(out / "sets.csv", SET_COLUMNS, [[row[c] for c in SET_COLUMNS] for row in rows["sets"]])
    for name in ("comparison", "calibration", "sets"):
        path = out / ("spread.csv" if name == "sets" else f"{name}.csv")
        write_csv(path, list(result[name][0]) if result[name] else [], [list(r.values()) for r in result[name]])
    text = json.dumps(tables.without_nan(result), indent=2, allow_nan=False)
    (out / "evaluate.json").write_text(text + "\n", encoding="utf-8")
    text = f"# Evaluation\n\n{closing_sentence(result, out)}\n\n{markdown(result)}"
    (out / "evaluate.md").write_text(text, encoding="utf-8")
    draw_evaluation(out, result, rows["slices"], rows["volumes"])


def _split(
    entries: Sequence[Entry], names: Sequence[str], plan: Plan, number: int, out: Path, progress: Progress
) -> dict[str, Any]:
    """One split: build on its training subjects, score copies and controls; kept in a file once complete."""
    path = out / f"split-{number:03d}.json"
    if path.exists():
        done: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return done
    started = time.monotonic()
    rng = np.random.default_rng([plan.seed, number])
    order = [names[i] for i in rng.permutation(len(names))]
    count = plan.training_subjects or len(names) * 2 // 3
    training, held_out = order[:count], order[count:][::-1]
    # Of people who are copied, a second volume is kept out of the training set and scored as theirs.
    others = again.other_volumes(entries, training[: plan.volumes])
    kept_out = {entry.name for entry in others}
    trained = [entry for entry in entries if entry.subject in set(training) and entry.name not in kept_out]
    reference, retriever = recording(_built(trained, plan, progress))
    bank = choose(entries, training, reference.plane, len(training), plan.slices)
    # From the end, so that a sweep over numbers of training subjects has the same controls throughout.
    controls = choose(entries, held_out, reference.plane, plan.volumes, plan.slices)
    copies = bank[: plan.volumes]
    if not copies or not controls:
        raise MemorizationIndexError(
            f"Split {number + 1} has {len(copies)} volumes to copy and {len(controls)} controls that can be augmented; "
            f"expected some of each, so give images of at least 32 × 32 pixels."
        )
    rivals = Rivals(bank, plan.published_weights, plan.device)
    weights = None if plan.weights is None else Path(plan.weights)
    options = Options(weights=weights, device=plan.device, cache=plan.cache)
    slices, volumes, features = [], [], []
    for name in plan.augmentations:
        for kind, chosen in (("copy", copies), ("control", controls)):
            progress.begin(f"split {number + 1} of {plan.splits}: {name}, {kind}", len(chosen), "volumes")
            queries = list(augmented(chosen, name, [plan.seed, number], controls))
            scores = score_queries(reference, queries, options=options, progress=progress)
            measures, described = rivals.score(queries)
            measures = retriever.take() | measures
            one = {"split": number, "augmentation": name, "kind": kind}
            slices += [{**one, **row} for row in _slice_rows(scores, measures, chosen)]
            volumes += [{**one, **row} for row in _volume_rows(scores, chosen)]
            features.append(described)
    seconds = choose(others, [entry.subject for entry in others], reference.plane, len(others), plan.slices)
    again_slices, again_volumes = _scored_again(reference, copies, seconds, options, plan, number, progress)
    sets = duplication_rows(slices, np.concatenate(features), rivals.bank_features, [plan.seed, number])
    result = {
        "training": {**reference.manifest["counts"], "calibration": reference.manifest["calibration"]},
        "held_out_subjects": len(controls),
        "notes": list(rivals.notes.values()),
        "seconds": time.monotonic() - started,
        "slices": slices,
        "volumes": volumes,
        "again_slices": again_slices,
        "again_volumes": again_volumes,
        "sets": [{"split": number, **row} for row in sets],
    }
    store(path, result)
    return result


def _scored_again(
    reference: Reference,
    copies: Sequence[Chosen],
    seconds: Sequence[Chosen],
    options: Options,
    plan: Plan,
    number: int,
    progress: Progress,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of slices and volumes of the copied people, scanned again; ``seconds`` are other volumes of theirs."""
    known = {again.RESCAN: list(again.rescanned(copies, [plan.seed, number]))}
    if seconds:
        known[again.OTHER_VOLUME] = [Query(one.name, one.stack) for one in seconds]
    slices, volumes = [], []
    for kind, queries in known.items():
        progress.begin(f"split {number + 1} of {plan.splits}: the same people again, {kind}", len(queries), "volumes")
        scores = score_queries(reference, queries, options=options, progress=progress)
        slices += [{"split": number, "kind": kind, **r} for r in _slice_rows(scores, {}, [*copies, *seconds])]
        volumes += [{"split": number, "kind": kind, **r} for r in _volume_rows(scores, [*copies, *seconds])]
    return slices, volumes


def _built(entries: Sequence[Entry], plan: Plan, progress: Progress) -> Reference:
    with tempfile.TemporaryDirectory(prefix="memorization-index-") as folder:
        table = Path(folder) / "training.csv"
        rows = [[f, e.subject, e.name] for e in entries for f in map(str, e.files)]
        write_csv(table, ["path", "subject", "volume"], [[str(Path(r[0]).absolute()), *r[1:]] for r in rows])
        return Reference.build(
            table,
            plane=plan.plane,
            encoder=plan.encoder,
            weights=plan.weights,
            device=plan.device,
            cache=plan.cache,
            precision=plan.precision,
            layer_scale=plan.layer_scale,
            seed=plan.seed,
            power="none",
            progress=progress,
        )


def _slice_rows(scores: Scores, measures: dict[str, Any], chosen: Sequence[Chosen]) -> Iterator[dict[str, Any]]:
    subject = {one.name: one.subject for one in chosen}
    table = scores.slices
    for i, volume in enumerate(table["volume"]):
        yield {
            "subject": subject[volume],
            **{name: _plain(table[name][i]) for name in tables.COLUMNS[4:]},
            **{name: float(values[i]) for name, values in measures.items()},
        }


def _volume_rows(scores: Scores, chosen: Sequence[Chosen]) -> Iterator[dict[str, Any]]:
    subject = {one.name: one.subject for one in chosen}
    for i, volume in enumerate(scores.volumes["volume"]):
        names = ("n_slices", "n_flagged", "p_value", "match_subject", "agreement", "verdict")
        yield {
            "subject": subject[volume],
            "volume": volume,
            **{name: _plain(scores.volumes[name][i]) for name in names},
        }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def closing_sentence(result: dict[str, Any], out: str | Path) -> str:
    """What was trained on and held out, what that allows, and where the result lies."""
    from memorization_index.evaluation.charts import tables_and

    trained, held_out = result["training"][0]["subjects"], result["held_out_subjects"][0]
    splits = result["plan"]["splits"]
    few = ""
    if held_out < _FEW_SUBJECTS:
        few = f" With fewer than {_FEW_SUBJECTS} subjects held out, the intervals mean little."
    each = f" in each of {splits} splits" if splits > 1 else ""
    null = result["training"][0]["calibration"]
    slice_p, volume_p = null.get("smallest_slice_p"), null.get("smallest_volume_p")
    if slice_p is None or volume_p is None:
        few += " With fewer than 5 subjects to train on there is no p: verdicts rest on verified matches alone."
    elif slice_p > FLAG_P:
        few += f" So few training slices give no p below {slice_p:.3f}: nothing can be found at p ≤ {FLAG_P}."
    if volume_p is not None and volume_p > VOLUME_P:
        few += (
            f" So few training subjects give no volume a p below {volume_p:.3f}: verdicts rest on verified matches "
            f"alone, and a volume whose slices are all flagged by p may read 'no evidence'."
        )
    return (
        f"Trained on {trained} subjects and tested on {held_out} held-out ones{each}; intervals draw whole subjects."
        f"{few} {tables_and('Tables, figures and rows', 'Tables and rows')}: {Path(out).absolute()}"
    )


def markdown(result: dict[str, Any]) -> str:
    """The tables of ``evaluate.md``."""
    parts = [
        tables.detection_table(result),
        again.again_table(result["again"]),
        tables.comparison_table(result["comparison"]),
        "Set measures. Features of FID, KID, C_T, AuthPct and Vendi: the descriptor `spectral` on 64 principal "
        "directions of the training slices. FID, KID, C_T compare with held-out volumes that are not in the set.\n",
        tables.spread_table(result["sets"]),
        *(f"{note}\n" for note in result["notes"]),
    ]
    return "\n".join(parts)
