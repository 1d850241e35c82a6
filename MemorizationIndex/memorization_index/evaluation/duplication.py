"""Sets in which a known share are copies: what every set measure says of them (the paper's Tables 1–4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.evaluation.peers import (
    authentic_share,
    data_copying_score,
    frechet_distance,
    kernel_distance,
    vendi_score,
)
from memorization_index.evaluation.rivals import PAPER, PAPER_CODE, flagged_by_paper
from memorization_index.fraction import copied_fraction

#: Shares of copies in a set.
LEVELS = (0.0, 0.05, 0.15, 0.30, 0.45)
#: Set measures see this many principal directions of the bank's descriptors.
_DIRECTIONS = 64
INDEX = "copied fraction (mi-v1)"
#: The published index with a threshold of its own, taken from clean held-out slices that are in no set.
BEYOND = "share beyond 99 % of clean controls"
COLUMNS = ("split", "augmentation", "duplication", "copies", "slices", "measure", "value", "low", "high")

Rows = list[dict[str, Any]]


def duplication_rows(
    slices: Sequence[dict[str, Any]], features: NDArray[np.float32], bank: NDArray[np.float32], seed: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Mix copies into controls at every level and measure each set.

    ``slices`` are the rows of one split, ``features`` ``(n, D)`` their descriptors, ``bank`` ``(N, D)`` those of the
    training slices. Half of the control volumes are mixed with; the others, not augmented, are the real held-out
    images that FID, KID and C_T compare with (nothing of them is in a set).
    """  # fmt: skip
    reduced, training = reduce(features, bank), reduce(bank, bank)
    controls = sorted({row["subject"] for row in slices if row["kind"] == "control"})
    mixed = set(controls[::2])
    by: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, row in enumerate(slices):
        by[row["augmentation"], row["kind"]].append(i)
    clean = by["identity", "control"]
    apart = [i for i in clean if slices[i]["subject"] not in mixed]
    held_out = reduced[apart]
    limits = {
        n: np.quantile([slices[i][n] for i in apart], 0.99) for n in (PAPER, PAPER_CODE) if apart and n in slices[0]
    }
    names = list(dict.fromkeys(row["augmentation"] for row in slices))
    for number, name in enumerate(names):
        novel = [i for i in by[name, "control"] if slices[i]["subject"] in mixed]
        rng = np.random.default_rng([*seed, number])
        order = rng.permutation(by[name, "copy"])
        for level in LEVELS:
            count = min(round(level / (1 - level) * len(novel)), len(order))
            chosen = np.array([*novel, *order[:count]], np.int64)
            common = {"augmentation": name, "duplication": level, "copies": count, "slices": len(chosen)}
            measured = _indices([slices[i] for i in chosen], limits) | {
                measure: (value, np.nan, np.nan)
                for measure, value in set_measures(reduced[chosen], training, held_out).items()
            }
            for measure, (value, low, high) in measured.items():
                yield {**common, "measure": measure, "value": value, "low": low, "high": high}


def reduce(features: NDArray[np.float32], bank: NDArray[np.float32]) -> NDArray[np.float64]:
    """Features ``(n, D)`` centered and on the bank's 64 principal directions; its slices have length about 1."""
    mean = bank.mean(axis=0)
    _, values, directions = np.linalg.svd(bank - mean, full_matrices=False)
    length = np.sqrt(np.square(values[:_DIRECTIONS]).sum() / len(bank))
    return np.asarray((features - mean) @ directions[:_DIRECTIONS].T / max(float(length), 1e-12), np.float64)


def _indices(rows: Rows, limits: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Measures that are made of one number for each slice; ``limits``: MI that 1 % of clean controls exceed."""
    found = copied_fraction(
        np.array([r["p_value"] for r in rows], float),
        np.array([r["match_class"] for r in rows], object),
        np.array([f"{r['kind']} {r['subject']}" for r in rows], object),
    )
    result = {INDEX: (found.value, found.low, found.high)}
    for name, limit in limits.items():
        mi = np.array([r[name] for r in rows], float)
        result[f"{name}: share with ONI < .68"] = (float(flagged_by_paper(mi).mean()), np.nan, np.nan)
        result[f"{name}: {BEYOND}"] = (float((mi > limit).mean()), np.nan, np.nan)
        result[f"{name}: mean ONI"] = (float(-np.tanh(mi).mean()), np.nan, np.nan)
    for name in ("nearest cosine", "pixel NCC", "SSIM"):
        result[f"mean {name}"] = (float(np.mean([r[name] for r in rows])), np.nan, np.nan)
    return result


def set_measures(
    reduced: NDArray[np.float64], training: NDArray[np.float64], held_out: NDArray[np.float64]
) -> dict[str, float]:
    """Measures of a set as a whole, from reduced features."""
    unit = reduced / np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), 1e-12)
    result = {"AuthPct": authentic_share(reduced, training), "Vendi": vendi_score(unit)}
    if len(held_out) > 1:
        result |= {
            "FID": frechet_distance(reduced, held_out),
            "KID": kernel_distance(reduced, held_out),
            "C_T": data_copying_score(reduced, training, held_out),
        }
    return result


def spread(rows: Rows) -> Rows:
    """For every measure and level: mean over splits, then mean, least, most, spread (most − least) over kinds.

    ``copied``: the share of copies that the sets of a level really have.
    """
    values: dict[tuple[str, float], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    copied: dict[float, list[float]] = defaultdict(list)
    for row in rows:
        values[row["measure"], row["duplication"]][row["augmentation"]].append(row["value"])
        copied[row["duplication"]].append(row["copies"] / row["slices"])
    result = []
    for (measure, level), by_augmentation in values.items():
        means = [float(np.mean(v)) for v in by_augmentation.values()]
        result.append({
            "measure": measure, "duplication": level, "mean": float(np.mean(means)), "least": min(means),
            "most": max(means), "spread": max(means) - min(means), "copied": float(np.mean(copied[level])),
        })  # fmt: skip
    return result
