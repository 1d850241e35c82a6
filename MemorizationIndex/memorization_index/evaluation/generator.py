"""``memorization-index evaluate-generator``: detection against the truth about a real generator's samples.

Input is a folder with

* ``train.csv`` and ``controls.csv``, a column ``file``: images it was trained on, and that it never saw;
* ``truth.csv``, a row for each sample: ``checkpoint`` (the stage of training, a folder with the samples), ``sample``
  (file name), ``nearest_train``, ``ncc_train`` and ``label`` (``memorized`` or not), made by brute force.

The reference is built on the training images alone; nothing is fitted or chosen on the samples. Where a sample's NCC is
between .85 and .93 the labels are a continuum: such samples are counted in "all" but not among the clear ones.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index._version import __version__
from memorization_index.bundle import check_own, write_csv
from memorization_index.cohort import find_volumes
from memorization_index.encoding import read_slices
from memorization_index.errors import MemorizationIndexError
from memorization_index.evaluation.duplication import reduce, set_measures
from memorization_index.evaluation.kept import MARKS, begin, states, store
from memorization_index.evaluation.rivals import RecordingRetriever, Rivals, recording
from memorization_index.evaluation.sampling import Chosen
from memorization_index.evaluation.sharpness import Changed, altered, grain, matched_auc
from memorization_index.evaluation.tables import table, without_nan
from memorization_index.fraction import copied_fraction
from memorization_index.progress import Progress
from memorization_index.reference import Reference
from memorization_index.scoring import Options, Query, score_queries
from memorization_index.slices import SliceStack, normalized
from memorization_index.statistics import auc, detection_rate
from memorization_index.verdicts import COPIED
from memorization_index.volumes import IMAGE_PLANE

#: NCC between which the labels of samples are not clear.
UNCLEAR = (0.85, 0.93)


@dataclass(frozen=True)
class Settings:
    """Encoder of mi-v1, weights of the published protocols, and every how manieth control is scored."""

    encoder: str = "spectral"
    weights: str | None = None
    published_weights: str | None = None
    device: str = "auto"
    cache: str | None = None
    every: int = 2


@dataclass(frozen=True)
class Truth:
    """What is known about the samples of one stage ``(n,)``."""

    path: NDArray[Any]
    memorized: NDArray[np.bool_]
    ncc: NDArray[np.float64]
    nearest: NDArray[Any]

    @property
    def is_clear(self) -> NDArray[np.bool_]:
        """Samples whose label is not on a continuum."""
        return (self.ncc <= UNCLEAR[0]) | (self.ncc >= UNCLEAR[1])


def evaluate_generator(
    folder: str | Path, images: str | Path, out: str | Path, settings: Settings, progress: Progress | None = None
) -> dict[str, Any]:
    """Score every stage against its truth; write tables (CSV, JSON, Markdown) and a figure to ``out``.

    ``images`` is the folder that the file names in the tables lie below. Finished stages are kept in ``out``. Raises
    :class:`MemorizationIndexError` where a table or an image is missing.
    """
    folder, images, out = Path(folder), Path(images), Path(out)
    progress = progress or Progress()
    check_own(out, "an evaluation", MARKS)
    out.mkdir(parents=True, exist_ok=True)
    training, controls = (_listed(folder / name, images) for name in ("train.csv", "controls.csv"))
    stages = _truth(folder)
    tables = [states(folder / name) for name in ("train.csv", "controls.csv", "truth.csv")]
    samples = [states(path) for stage in stages.values() for path in stage.path if path.is_file()]
    settled = json.dumps([__version__, asdict(settings), str(images.absolute()), tables, samples])
    begin(out, "stage-*.json", settled, progress)
    bench: Bench | None = None
    done = {}
    for name in ("controls", *stages):
        path = out / f"stage-{name}.json"
        if not path.exists():
            bench = bench or Bench.build(training, controls[:: settings.every], settings, progress)
            found = bench.controls() if name == "controls" else bench.stage(name, stages[name])
            store(path, found)
        done[name] = json.loads(path.read_text(encoding="utf-8"))
    result = {"version": __version__, "settings": asdict(settings), "training_images": len(training), **_joined(done)}
    _write(out, result, done)
    return result


def _listed(table: Path, images: Path) -> list[Path]:
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            return [images / row["file"] for row in csv.DictReader(stream)]
    except (OSError, KeyError) as error:
        raise MemorizationIndexError(
            f"{table}: cannot be read ({error}); expected a table with a column 'file'."
        ) from error


def _truth(folder: Path) -> dict[str, Truth]:
    """The samples of every stage, in the order of the table."""
    path = folder / "truth.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        result = {}
        for stage in dict.fromkeys(row["checkpoint"] for row in rows):
            own = [row for row in rows if row["checkpoint"] == stage]
            if unknown := {row["label"] for row in own} - set(LABELS):
                raise ValueError(f"the label {unknown.pop()!r} is neither {LABELS[0]} nor {LABELS[1]}")
            result[stage] = Truth(
                np.array([folder / stage / row["sample"] for row in own], object),
                np.array([row["label"] == LABELS[0] for row in own]),
                np.array([float(row["ncc_train"]) for row in own]),
                np.array([Path(row["nearest_train"]).stem for row in own], object),
            )
    except (OSError, KeyError, ValueError) as error:
        raise MemorizationIndexError(
            f"{path}: cannot be read ({error}); expected columns checkpoint, sample, nearest_train, ncc_train, label."
        ) from error
    return result


#: What truth.csv may say of a sample.
LABELS = ("memorized", "not_memorized")


@dataclass
class Bench:
    """A reference of the training images, what is compared with it, and the controls."""

    reference: Reference
    retriever: RecordingRetriever
    rivals: Rivals
    real: list[Chosen]
    settings: Settings
    progress: Progress
    _of_controls: dict[str, NDArray[Any]] | None = None

    @classmethod
    def build(cls, training: Sequence[Path], controls: Sequence[Path], settings: Settings, progress: Progress) -> Bench:
        """Build the reference on the training images, each a subject of its own."""
        with tempfile.TemporaryDirectory(prefix="memorization-index-") as temporary:
            listed = Path(temporary) / "training.csv"
            write_csv(listed, ["path", "subject"], [[path.absolute(), path.stem] for path in training])
            reference = Reference.build(
                listed,
                encoder=settings.encoder,
                weights=settings.weights,
                device=settings.device,
                cache=settings.cache,
                progress=progress,
            )
        reference, retriever = recording(reference)
        rivals = Rivals(_read(training), settings.published_weights, settings.device)
        return cls(reference, retriever, rivals, _read(controls), settings, progress)

    def score(self, chosen: Sequence[Chosen], what: str) -> dict[str, NDArray[Any]]:
        """Columns ``(n,)`` of images: what mi-v1 says, measures of the rivals, ``features`` and ``grain``."""
        self.progress.begin(what, len(chosen), "images")
        queries = [Query(one.name, one.stack) for one in chosen]
        weights = None if self.settings.weights is None else Path(self.settings.weights)
        options = Options(weights=weights, device=self.settings.device, cache=self.settings.cache)
        scores = score_queries(self.reference, queries, options=options, progress=self.progress)
        measures, features = self.rivals.score(queries)
        names = ("similarity", "mi", "p_value", "match_class", "match_subject", "ncc", "flagged")
        own = {name: scores.slices[name] for name in names}
        grains = np.array([grain(one.stack.images[0]) for one in chosen])
        return {**own, **self.retriever.take(), **measures, "features": features, "grain": grains}

    @property
    def of_controls(self) -> dict[str, NDArray[Any]]:
        """What :meth:`score` says of the real images that were never trained on."""
        if self._of_controls is None:
            self._of_controls = self.score(self.real, "real images that were not trained on")
        return self._of_controls

    def controls(self) -> dict[str, Any]:
        """How often real controls are flagged, as they are and made as smooth as samples may be."""
        rows = {"": self.of_controls}
        for change in Changed:
            rows[change] = self.score(altered(self.real, change), f"real images, {change}")
        return {
            "images": len(self.real),
            "flagged": {
                change or "as they are": {
                    "at_1_percent": float((found["p_value"] <= 0.01).mean()),
                    "flagged": float(found["flagged"].mean()),
                    "verified": float(np.isin(found["match_class"].astype(str), COPIED).mean()),
                    "grain": float(np.median(found["grain"])),
                }
                for change, found in rows.items()
            },
        }

    def stage(self, name: str, truth: Truth) -> dict[str, Any]:
        """All figures of one stage, and its samples."""
        samples = _read(list(truth.path))
        found = self.score(samples, f"samples of {name}")
        figures = {"stage": name, **detection(found, truth), **self._set(found)}
        measures = [n for n in found if n.startswith("channel ") or n in ("nearest cosine", "pixel NCC", "SSIM")]
        measures += [n for n in ("paper-v1", "paper-code-v1") if n in found]
        clear = [truth.memorized & truth.is_clear, ~truth.memorized & truth.is_clear]
        peers = {
            measure: {"auc": auc(found[key][clear[0]], found[key][clear[1]]),
                      "tpr": detection_rate(found[key][clear[0]], self.of_controls[key])}
            for measure, key in {"mi-v1": "mi", **{n: n for n in measures}}.items()
        }  # fmt: skip
        figures["peers"] = peers
        figures["sharpness"] = self._sharpness(samples, found, clear)
        figures["rows"] = [
            {"stage": name, "sample": samples[i].name, "label": bool(truth.memorized[i]), "ncc_train": truth.ncc[i],
             **{key: _plain(found[key][i]) for key in ("similarity", "mi", "p_value", "match_class", "match_subject",
                                                       "ncc", "flagged", "grain")}}
            for i in range(len(samples))
        ]  # fmt: skip
        return figures

    def _set(self, found: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """The estimated share of copies, and set measures of quality beside it."""
        units = np.arange(len(found["p_value"]))
        share = copied_fraction(found["p_value"], found["match_class"], units)
        bank = self.rivals.bank_features
        sets = [reduce(f, bank) for f in (found["features"], bank, self.of_controls["features"])]
        return {"estimate": share.value, "estimate_low": share.low, "estimate_high": share.high,
                "verified_share": float(np.isin(found["match_class"].astype(str), COPIED).mean()),
                **set_measures(*sets)}  # fmt: skip

    def _sharpness(
        self, samples: list[Chosen], found: dict[str, NDArray[Any]], clear: Sequence[NDArray[np.bool_]]
    ) -> dict[str, Any]:
        """Whether copies are found for what they show: at equal grain, and all made as smooth or as grainy."""
        copies, others = clear
        result: dict[str, Any] = {
            "auc_of_grain": auc(-found["grain"][copies], -found["grain"][others]),
            "grain_of_copies": float(np.median(found["grain"][copies])) if copies.any() else float("nan"),
            "grain_of_others": float(np.median(found["grain"][others])) if others.any() else float("nan"),
        }
        area, pairs = matched_auc(found["mi"], found["grain"], copies, others)
        result |= {"auc_at_equal_grain": area, "pairs_at_equal_grain": pairs, "altered": {}}
        if copies.sum() < 10:  # a rate of fewer says nothing
            return result
        for change in Changed:
            rates = {}
            for kind, chosen in (("copies", copies), ("others", others)):
                part = altered([samples[i] for i in np.flatnonzero(chosen)], change)
                rates[kind] = float((self.score(part, f"{kind}, {change}")["p_value"] <= 0.01).mean())
            result["altered"][change] = rates
        return result


def detection(found: dict[str, NDArray[Any]], truth: Truth) -> dict[str, Any]:
    """Detection of the memorized samples, among clear labels and among all."""
    memorized, clear = truth.memorized, truth.is_clear
    copies, others = memorized & clear, ~memorized & clear
    at_1_percent, mi = found["p_value"] <= 0.01, found["mi"]
    named = found["match_subject"].astype(str) == truth.nearest.astype(str)
    return {
        "samples": len(memorized),
        "truth": float(memorized.mean()),
        # Labels are a threshold on a continuum: what is clearly memorized, and what is not clearly novel.
        "truth_clear": float(copies.mean()),
        "truth_at_most": float((~others).mean()),
        "clear_copies": int(copies.sum()),
        "clear_others": int(others.sum()),
        "auc": auc(mi[copies], mi[others]),
        "auc_all": auc(mi[memorized], mi[~memorized]),
        "found": _rate(at_1_percent, copies),
        "found_all": _rate(at_1_percent, memorized),
        "others_flagged": _rate(at_1_percent, others),
        "others_flagged_all": _rate(at_1_percent, ~memorized),
        "right": _rate(named, copies),
        "right_all": _rate(named, memorized),
    }


def _rate(values: NDArray[np.bool_], where: NDArray[np.bool_]) -> float:
    return float(values[where].mean()) if where.any() else float("nan")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _read(paths: Sequence[Path]) -> list[Chosen]:
    """2-D images, each a volume and a subject of its own."""
    cohort = find_volumes(list(paths))
    if len(cohort.entries) != len(paths):
        missing = cohort.skipped[0].reason if cohort.skipped else "some are listed twice"
        raise MemorizationIndexError(
            f"Of {len(paths)} images {len(cohort.entries)} can be read; expected all; the first reason: {missing}"
        )
    by_path = {Path(entry.path).absolute(): entry for entry in cohort.entries}
    result = []
    for path in paths:
        _, stack = read_slices(by_path[Path(path).absolute()], IMAGE_PLANE)
        images = [normalized(image) for image in stack.images]
        own = SliceStack(images, stack.spacing, stack.numbers, stack.total, stack.plane)
        result.append(Chosen(Path(path).stem, Path(path).stem, own))
    return result


def _joined(done: dict[str, Any]) -> dict[str, Any]:
    stages = [{k: v for k, v in found.items() if k != "rows"} for name, found in done.items() if name != "controls"]
    return {"controls": done["controls"], "stages": stages}


def _write(out: Path, result: dict[str, Any], done: dict[str, Any]) -> None:
    from memorization_index.evaluation.charts import draw_stages

    flat = [{k: v for k, v in s.items() if not isinstance(v, dict)} for s in result["stages"]]
    write_csv(out / "stages.csv", list(flat[0]), [list(row.values()) for row in flat])
    rows = [row for name, found in done.items() if name != "controls" for row in found["rows"]]
    write_csv(out / "samples.csv", list(rows[0]), [list(row.values()) for row in rows])
    (out / "generator.json").write_text(
        json.dumps(without_nan(result), indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    (out / "generator.md").write_text(markdown(result), encoding="utf-8")
    draw_stages(out, result["stages"])


def markdown(result: dict[str, Any]) -> str:
    """Tables: detection by stage, the share of copies beside FID, peers, and what sharpness has to do with it."""
    stages = result["stages"]
    detected = table(
        ["stage", "clear copies / others", "AUC clear", "AUC all", "found at p ≤ .01, clear", "found, all",
         "others flagged, clear", "others flagged, all", "right image, clear"],
        [[s["stage"], f"{s['clear_copies']} / {s['clear_others']}",
          *(s[k] for k in ("auc", "auc_all", "found", "found_all", "others_flagged", "others_flagged_all", "right"))]
         for s in stages],
    )  # fmt: skip
    shares = table(
        ["stage", "estimated share of copies [95 %]", "true share", "difference", "true share, bounds",
         "verified share", "FID", "KID", "C_T", "AuthPct", "Vendi"],
        [[s["stage"], (s["estimate"], s["estimate_low"], s["estimate_high"]), s["truth"],
          f"{s['estimate'] - s['truth']:+.3f}", f"{s['truth_clear']:.3f} … {s['truth_at_most']:.3f}",
          s["verified_share"], *(s[k] for k in ("FID", "KID", "C_T", "AuthPct", "Vendi"))] for s in stages],
    )  # fmt: skip
    with_copies = [s for s in stages if s["clear_copies"] >= 10]
    peers = table(
        ["measure: AUC, TPR at 1 % FPR on real controls (clear labels)", *(s["stage"] for s in with_copies)],
        [[m, *(f"{s['peers'][m]['auc']:.3f}, {s['peers'][m]['tpr']:.3f}" for s in with_copies)]
         for m in stages[0]["peers"]],
    )  # fmt: skip
    return "\n".join([detected, shares, peers, _sharpness_table(with_copies), _controls_table(result["controls"])])


def _sharpness_table(stages: Sequence[dict[str, Any]]) -> str:
    rows = []
    for s in stages:
        own = s["sharpness"]
        changed = [f"{r['copies']:.3f} / {r['others']:.3f}" for r in own["altered"].values()]
        rows.append([
            s["stage"], own["auc_of_grain"], own["auc_at_equal_grain"], own["pairs_at_equal_grain"],
            f"{s['found']:.3f} / {s['others_flagged']:.3f}", *changed,
        ])  # fmt: skip
    header = ["stage", "AUC of (lack of) grain alone", "AUC of mi-v1 at equal grain", "pairs"]
    return table([*header, "copies / others at p ≤ .01: as they are", *Changed], rows)


def _controls_table(controls: dict[str, Any]) -> str:
    return table(
        [f"{controls['images']} real images that were not trained on", "at p ≤ .01", "flagged", "verified as copies"],
        [[c, f["at_1_percent"], f["flagged"], f["verified"]] for c, f in controls["flagged"].items()],
    )
