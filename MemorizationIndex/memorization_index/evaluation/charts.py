"""Figures of an evaluation, drawn by matplotlib where it is installed (extra ``figures``), else left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memorization_index.errors import install
from memorization_index.evaluation.duplication import BEYOND, INDEX, LEVELS
from memorization_index.evaluation.tables import measures_of, scores
from memorization_index.statistics import roc

Rows = Sequence[dict[str, Any]]

#: Colors that color-blind readers can tell apart (Okabe & Ito).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#F0E442")


def pyplot() -> Any:
    """Matplotlib without a display, or None where it is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        return None
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 120})
    return plt


def tables_and(figures: str, tables: str) -> str:
    """What was written: the words for it with figures, or those for tables alone and why there is no figure."""
    if pyplot() is not None:
        return figures
    return f"{tables} (no figures: matplotlib is not installed, {install('figures')})"


def draw_evaluation(out: Path, result: dict[str, Any], slices: Rows, volumes: Rows) -> None:
    """Write ``roc.png``, ``calibration.png``, ``volumes.png`` and ``duplication.png`` into ``out``."""
    plt = pyplot()
    if plt is None:
        return
    draws: tuple[tuple[str, Callable[[Any, Rows], None], Rows], ...] = (
        ("roc", _roc, slices),
        ("calibration", _calibration, result["calibration"]),
        ("volumes", _volumes, volumes),
        ("duplication", _duplication, result["sets"]),
    )
    for name, draw, rows in draws:
        figure, axes = plt.subplots(figsize=(5.2, 3.8), layout="constrained")
        draw(axes, rows)
        figure.savefig(out / f"{name}.png")
        plt.close(figure)


def _roc(axes: Any, slices: Rows) -> None:
    copies, controls = ([r for r in slices if r["kind"] == k] for k in ("copy", "control"))
    for number, measure in enumerate(measures_of(slices)):
        ours, theirs = scores(copies, controls, measure)
        if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
            continue
        false, found = roc(ours, theirs)
        style = "-" if number < len(COLORS) else "--"
        axes.step(
            np.maximum(false, 3e-4), found, style, where="post", color=COLORS[number % len(COLORS)], label=measure
        )
    axes.set(xscale="log", xlim=(3e-4, 1), ylim=(0, 1.02), xlabel="false alarms (augmented controls)")
    axes.set_ylabel("copies found")
    axes.axvline(0.01, color="0.8", linewidth=0.8, zorder=0)
    axes.legend(fontsize=6, loc="lower right", frameon=False)


def _calibration(axes: Any, rows: Rows) -> None:
    nominal = [row["nominal"] for row in rows]
    axes.plot([0.008, 1], [0.008, 1], color="0.7", linewidth=0.8)
    axes.fill_between(nominal, [r["low"] for r in rows], [r["high"] for r in rows], color=COLORS[0], alpha=0.2)
    axes.plot(nominal, [r["observed"] for r in rows], "o-", color=COLORS[0], markersize=3)
    axes.set(
        xscale="log", yscale="symlog", xlabel="nominal level of p", ylabel="controls at or below it (95 % interval)"
    )
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_ylim(0, 1)


def _volumes(axes: Any, rows: Rows) -> None:
    """Verdicts on copied and control volumes, by augmentation."""
    names = list(dict.fromkeys(row["augmentation"] for row in rows))
    colors = {"copy": COLORS[1], "suspicious": COLORS[4]}
    for offset, kind in ((-0.2, "copy"), (0.2, "control")):
        bottom = np.zeros(len(names))
        for verdict, color in colors.items():
            own = [
                [r["verdict"] == verdict for r in rows if (r["augmentation"], r["kind"]) == (n, kind)] for n in names
            ]
            height = np.array([np.mean(one) for one in own])
            style = {"color": color, "hatch": None if kind == "copy" else "////", "edgecolor": "white"}
            axes.bar(np.arange(len(names)) + offset, height, 0.36, bottom, label=f"{kind}: {verdict}", **style)
            bottom += height
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=6)
    axes.set(ylim=(0, 1.35), ylabel="share of volumes with the verdict")
    axes.legend(fontsize=6, ncols=2, frameon=False, loc="upper center")


def _duplication(axes: Any, rows: Rows) -> None:
    axes.plot(LEVELS, LEVELS, color="0.7", linewidth=0.8, label="truth")
    shares = [m for m in dict.fromkeys(r["measure"] for r in rows) if m == INDEX or BEYOND in m or "ONI <" in m]
    for measure, color in zip(shares, COLORS, strict=False):
        own = [r for r in rows if r["measure"] == measure]
        mean = np.array([r["mean"] for r in own])
        # The mean of equal numbers may differ from them by rounding.
        span = np.maximum([mean - [r["least"] for r in own], [r["most"] for r in own] - mean], 0)
        axes.errorbar([r["duplication"] for r in own], mean, span, fmt="o-", color=color, capsize=2, label=measure)
    axes.set(xlabel="share of copies in the set", ylabel="index (bars: range over augmentations)", ylim=(-0.02, 1.02))
    axes.legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(0, 0.8))


def draw_stages(out: Path, stages: Rows) -> None:
    """Write ``stages.png``: the share of copies over training time, beside FID."""
    plt = pyplot()
    if plt is None:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    places, names = range(len(stages)), [s["stage"] for s in stages]
    estimate = np.array([s["estimate"] for s in stages])
    span = np.maximum(
        [estimate - [s["estimate_low"] for s in stages], [s["estimate_high"] for s in stages] - estimate], 0
    )
    bounds = [[s[k] for s in stages] for k in ("truth_clear", "truth_at_most")]
    left.fill_between(places, *bounds, color="0.85", label="clearly memorized … not clearly novel")
    left.plot(places, [s["truth"] for s in stages], "s--", color="0.4", label="truth (brute force)")
    left.errorbar(places, estimate, span, fmt="o-", color=COLORS[0], capsize=3, label="estimated (mi-v1, 95 %)")
    left.set(ylim=(-0.02, 1), ylabel="share of samples that are copies")
    left.legend(fontsize=7, frameon=False, loc="upper left")
    right.plot(places, [s["FID"] for s in stages], "o-", color=COLORS[1])
    right.set(ylim=(0, None), ylabel="FID to held-out images")
    for axes in (left, right):
        axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor")
    figure.savefig(out / "stages.png")
    plt.close(figure)
