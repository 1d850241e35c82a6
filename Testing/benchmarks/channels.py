"""What each channel finds, and what it adds to ``spectral``: ``python Testing/benchmarks/channels.py --help``.

Training slices, a null of people that nobody trained on, and queries that are or are not copies are compared channel by
channel as ``mi-v1`` compares them (views, whitening, 4×4 pooling, combination), without verification. p is the place of
a query's similarity among those of the null; the null's people are not among the queries.

``generator``: samples of a diffusion model that memorized part of its 120 training images (labels where they are clear:
not .85 < NCC < .93), controls are other people. ``ixi`` and ``hippocampus``: training slices and equally augmented
slices of other people. LiteMedSAM takes about a second a picture, so ``--stored`` uses its features of the generator's
set as they lie beside it (pictures as they are, no views).
"""

import argparse
import csv
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from machine import processor
from memorization_index.augmentations import PUBLISHED, augment_volume
from memorization_index.channels import DEEP_SHRINKAGE, SPECTRAL, EmbeddedDescriber, EncoderDescriber, projected
from memorization_index.cohort import find_volumes
from memorization_index.encoding import read_slices
from memorization_index.neighbors import Index, Nearest
from memorization_index.retrieval import Retriever, concatenated, joined, joined_null
from memorization_index.slices import SliceStack, normalized
from memorization_index.statistics import auc
from memorization_index.usercache import FeatureCache
from memorization_index.volumes import IMAGE_PLANE
from memorization_index.whitening import Moments, Whitening

ALPHA = 0.01
COMBINED = "combined"


@dataclass
class Queries:
    """Slices of one kind, of which it is known whether they are copies, and of which training slice (−1: of none)."""

    stacks: list[SliceStack]
    copied: np.ndarray
    source: np.ndarray
    #: Features ``{channel: (n, D)}`` that were computed elsewhere.
    stored: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Experiment:
    training: Queries
    null: Queries
    groups: dict[str, Queries]


# --- what is compared -------------------------------------------------------------------------------------------------


def stack_of(path: Path, plane: str = IMAGE_PLANE, count: int = 1) -> SliceStack:
    """Up to ``count`` evenly spaced slices of a file, in [0, 1]."""
    _, stack = read_slices(find_volumes([path]).entries[0], plane)
    keep = np.unique(np.linspace(0, len(stack.images) - 1, count + 2).round().astype(int)[1:-1])
    keep = keep if len(keep) else np.array([0])
    images = [normalized(stack.images[i]) for i in keep]
    return SliceStack(images, stack.spacing, stack.numbers[keep], stack.total, stack.plane)


def unknown(stacks: list[SliceStack]) -> Queries:
    count = sum(len(s.images) for s in stacks)
    return Queries(stacks, np.zeros(count, bool), np.full(count, -1))


def names(path: Path) -> list[str]:
    with path.open() as stream:
        return [row["file"] for row in csv.DictReader(stream)]


def generator(data: Path, stored: bool) -> Experiment:
    folder, real = data / "generated_ixi", data / "ixi_midsagittal"
    trained, others = names(folder / "train.csv"), names(folder / "controls.csv")
    arrays = dict(np.load(folder / "litemedsam_features.npz", allow_pickle=False)) if stored else {}
    if stored:
        others = [str(name) for name in arrays["control_file"]]
        trained = [str(name) for name in arrays["train_file"]]

    def features(group: str, rows: Any) -> dict[str, np.ndarray]:
        found = {}
        for key, values in arrays.items():
            if key.startswith(f"{group}_") and values.ndim == 2:
                layer, pool = key.removeprefix(f"{group}_").rsplit("_", 1)
                found[f"{layer}.{pool}"] = values[rows]
        return found

    def people(files: list[str], group: str, rows: Any) -> Queries:
        queries = unknown([stack_of(real / name) for name in np.array(files)[rows]])
        queries.stored = features(group, rows)
        return queries

    training = people(trained, "train", slice(None))
    null, rest = slice(0, None, 2), slice(1, None, 2)
    groups = {"controls": people(others, "control", rest)}
    with (folder / "truth.csv").open() as stream:
        truth = list(csv.DictReader(stream))
    for stage in ("step_03120", "step_05311"):
        rows = [row for row in truth if row["checkpoint"] == stage]
        clear = [i for i, row in enumerate(rows) if not 0.85 < float(row["ncc_train"]) < 0.93]
        chosen = [rows[i] for i in clear]
        copied = np.array([row["label"] == "memorized" for row in chosen])
        source = np.array([trained.index(row["nearest_train"]) for row in chosen])
        stacks = [stack_of(folder / stage / row["sample"]) for row in chosen]
        groups[stage] = Queries(stacks, copied, np.where(copied, source, -1), features(stage, clear))
    return Experiment(training, people(others, "control", null), groups)


def planted(training: list[SliceStack], null: list[SliceStack], others: list[SliceStack], copies: int) -> Experiment:
    """Copies and other people under the published augmentations, always applied, with the same draws."""
    groups = {}
    for name in PUBLISHED:
        stacks, copied, source = [], [], []
        for kind, chosen in ((True, training[:copies]), (False, others)):
            row = 0
            for i, stack in enumerate(chosen):
                images = augment_volume(np.stack(stack.images), name, np.random.default_rng([0, i]))
                stacks.append(SliceStack(list(images), stack.spacing, stack.numbers, stack.total, stack.plane))
                copied += [kind] * len(images)
                source += [row + j if kind else -1 for j in range(len(images))]
                row += len(images)
        groups[name] = Queries(stacks, np.array(copied), np.array(source))
    return Experiment(unknown(training), unknown(null), groups)


def ixi(data: Path, people: int) -> Experiment:
    """One slice a subject; the training images of the generator, and half of its controls as the null."""
    trained, others = (names(data / "generated_ixi" / f"{kind}.csv") for kind in ("train", "controls"))
    stacks = [[stack_of(data / "ixi_midsagittal" / n) for n in files] for files in (trained, others)]
    return planted(stacks[0], stacks[1][::2], stacks[1][1::2][:people], people)


def hippocampus(data: Path, people: int) -> Experiment:
    """Three slices of one crop of each subject: 60 to train, 60 for the null, others as controls."""
    first: dict[str, str] = {}
    with (data / "hippocampus" / "volumes.csv").open() as stream:
        for row in csv.DictReader(stream):
            first.setdefault(row["subject_id"], row["file"])
    files = [first[s] for s in sorted(first)]
    order = np.random.default_rng(0).permutation(len(files))[: 120 + people]
    stacks = [stack_of(data / "hippocampus" / files[i], "axial", 3) for i in order]
    return planted(stacks[:60], stacks[60:120], stacks[120:], people)


# --- how it is compared -----------------------------------------------------------------------------------------------


class Comparison:
    """A bank of training slices in every channel of a describer, and of stored features."""

    def __init__(self, training: Queries, describer: Any) -> None:
        self.describer = describer
        parts = [describer.describe(stack) for stack in training.stacks]
        features = {c: np.concatenate([p[c] for p in parts]) for c in describer.dimensions}
        self.inner = self._retriever(features, describer.shrinkage)
        own = {c: stored_as_channel(c, f) for c, f in training.stored.items()}
        self.stored = self._retriever(own, dict.fromkeys(own, DEEP_SHRINKAGE))

    @staticmethod
    def _retriever(features: dict[str, np.ndarray], shrinkage: dict[str, float]) -> Retriever:
        whitenings = {c: Whitening.fit(Moments.of(f), shrinkage[c]) for c, f in features.items()}
        return Retriever(whitenings, {c: Index(whitenings[c](f)) for c, f in features.items()})

    def find(self, queries: Queries) -> dict[str, Nearest]:
        found = concatenated(self.inner.examine(self.describer, queries.stacks))
        if queries.stored:
            views = {c: stored_as_channel(c, f)[:, None, :] for c, f in queries.stored.items()}
            found |= self.stored.search(views).nearest
        return found


def stored_as_channel(channel: str, features: np.ndarray) -> np.ndarray:
    """Stored 4×4 features are channel-major; ours are cell by cell, and projected."""
    values = features.astype(np.float32)
    if channel.endswith("grid4"):
        values = projected(values.reshape(len(values), -1, 16).transpose(0, 2, 1).reshape(len(values), -1))
    return values


def p_values(null: np.ndarray, values: np.ndarray) -> np.ndarray:
    return (1 + len(null) - np.searchsorted(np.sort(null), values, side="left")) / (len(null) + 1)


def figures(
    queries: Queries, p: np.ndarray, similarity: np.ndarray, row: np.ndarray, by_spectral: np.ndarray
) -> dict[str, Any]:
    """What one channel finds of one group; ``by_spectral`` says which slices ``spectral`` finds."""
    copied, found = queries.copied, p <= ALPHA
    result: dict[str, Any] = {"others": int((~copied).sum()), "others_flagged": float(found[~copied].mean())}
    if copied.any():
        result |= {
            "copies": int(copied.sum()),
            "found": float(found[copied].mean()),
            "auc": float(auc(similarity[copied], similarity[~copied])),
            "named": float((row[copied] == queries.source[copied]).mean()),
            "found_and_not_by_spectral": int((found & ~by_spectral & copied).sum()),
            "not_found_and_by_spectral": int((~found & by_spectral & copied).sum()),
        }
    return result


def compare(experiment: Experiment, describer: Any) -> dict[str, Any]:
    comparison = Comparison(experiment.training, describer)
    null = comparison.find(experiment.null)
    channels = {c: n.similarity[:, 0] for c, n in null.items()}
    together, scale = joined_null(null, np.arange(len(next(iter(channels.values())))))
    channels[COMBINED] = together.similarity
    result: dict[str, Any] = {"channels": list(channels), "null": len(together.similarity), "groups": {}}
    for name, queries in experiment.groups.items():
        found = comparison.find(queries)
        one = joined(found, scale)
        values = {c: (n.similarity[:, 0], n.row[:, 0]) for c, n in found.items()}
        values[COMBINED] = (one.similarity, one.rows[:, 0])
        p = {c: p_values(channels[c], v[0]) for c, v in values.items()}
        by_spectral = p[SPECTRAL] <= ALPHA
        result["groups"][name] = {c: figures(queries, p[c], *values[c], by_spectral) for c in channels}
        share = ALPHA / (len(channels) - 1)
        result["groups"][name]["best channel at α/K"] = float(
            max(((p[c] <= share) & queries.copied).sum() for c in found) / max(queries.copied.sum(), 1)
        )
    return result


# --- what comes out ---------------------------------------------------------------------------------------------------


def markdown(result: dict[str, Any]) -> str:
    """One row a channel: found copies, flagged others (and of a channel what it adds and misses, over all groups)."""
    groups = result["groups"]
    lines = [
        f"| channel | {' | '.join(groups)} | found, not by `spectral` | the other way |",
        "|---|" + "---|" * (len(groups) + 2),
    ]
    for channel in result["channels"]:
        cells = [channel]
        for group in groups.values():
            one = group[channel]
            cells.append(
                f"{one['found']:.2f}, {one['others_flagged']:.2f}"
                if "found" in one
                else f"–, {one['others_flagged']:.2f}"
            )
        for key in ("found_and_not_by_spectral", "not_found_and_by_spectral"):
            cells.append(str(sum(group[channel].get(key, 0) for group in groups.values())))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=("generator", "ixi", "hippocampus"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the real and generated scans")
    parser.add_argument("--network", choices=("none", "efficientnet-lite2", "litemedsam"), default="none")
    parser.add_argument("--stored", action="store_true", help="LiteMedSAM's stored features of the generator's set")
    parser.add_argument("--people", type=int, default=30, help="copied, and other, volumes a group (default 30)")
    parser.add_argument("--precision", default="float32", help="of the network (default float32)")
    parser.add_argument("--out", type=Path, help="write the JSON here")
    options = parser.parse_args()
    describer: Any = EmbeddedDescriber()
    if options.network != "none":
        from pretrained import NETWORKS

        network = NETWORKS[options.network]()
        network.precision = options.precision
        describer = EncoderDescriber(network, FeatureCache(None))
    started = time.perf_counter()
    if options.experiment == "generator":
        experiment = generator(options.data, options.stored)
    else:
        experiment = {"ixi": ixi, "hippocampus": hippocampus}[options.experiment](options.data, options.people)
    result = {
        "processor": processor(),
        "experiment": options.experiment,
        "network": options.network,
        "stored": options.stored,
    }
    result |= {"precision": options.precision, **compare(experiment, describer)}
    result["seconds"] = round(time.perf_counter() - started, 1)
    print(markdown(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
