"""The report: one self-contained HTML file that needs no network and no scripts."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.pictures import worst_first
from memorization_index.verdicts import FLAG_P, VOLUME_P

if TYPE_CHECKING:
    from memorization_index.scores import Scores

#: Colors that stay apart for color-blind readers (Okabe & Ito 2008).
_COLORS = {"copy": "#d55e00", "suspicious": "#e69f00", "no evidence": "#0072b2", "uncalibrated": "#767676"}
_CLASS_COLORS = {"exact": "#d55e00", "copy": "#d55e00", "altered copy": "#e69f00"}
#: Rows of the worklist; the tables have all.
_LISTED = 500

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; font-size: 1.25rem; }
.sentence { font-size: 1.2rem; border-left: .4rem solid; padding: .6rem 1rem; background: #f6f6f6; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; }
td { overflow-wrap: anywhere; } td:nth-child(n+2):nth-child(-n+6) { white-space: nowrap; } th { background: #f6f6f6; }
.tag { display: inline-block; padding: 0 .5rem; border-radius: .2rem; color: #fff; white-space: nowrap; }
figure { display: inline-block; width: 14rem; vertical-align: top; margin: .5rem 1rem .5rem 0; }
figure img { width: 14rem; height: 14rem; image-rendering: pixelated; background: #000; }
figcaption { font-size: .85rem; color: #444; overflow-wrap: anywhere; }
.match { break-inside: avoid; border-top: 1px solid #ddd; padding: .5rem 0; }
svg { display: block; max-width: min(100%, 40rem); height: auto; }
@media print { body { margin: 0; } h2 { break-after: avoid; } }
"""


def write_report(scores: Scores, path: Path) -> None:
    """Write the report of a result beside its place and move it there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(report(scores), encoding="utf-8", newline="\n")
    os.replace(beside, path)


def report(scores: Scores) -> str:
    """The report of a result as HTML."""
    sections = [
        _headline(scores),
        _worklist(scores),
        _matches(scores),
        _skipped(scores.run),
        _method(scores),
        _provenance(scores.run),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>Copy evidence</title><style>{_STYLE}</style></head><body>\n'
        + "\n".join(["<h1>Copy evidence in synthetic MRI</h1>", *sections, "</body></html>\n"])
    )


def verdict_sentence(run: dict[str, Any]) -> str:
    """The result of a run in one sentence (a second one where nothing could be calibrated)."""
    verdicts, total = run["verdicts"], run["counts"]["volumes"]
    subjects = run["reference"]["counts"]["subjects"]
    trained = f"the training set of {subjects} {_plural('subject', subjects)}"
    if copies := verdicts["copy"]:
        says = "shows" if copies == 1 else "show"
        text = f"{copies} of {total} examined {_plural('image', total)} {says} evidence of copying {trained}."
        if verdicts["suspicious"]:
            text += f" {verdicts['suspicious']} more should be looked at."
    elif verdicts["suspicious"]:
        text = (
            f"No copy was verified among {total} examined {_plural('image', total)}, but {verdicts['suspicious']} "
            f"should be looked at: closer to {trained} than new people's scans usually are."
        )
    else:
        text = f"No evidence of copying {trained} was found in {total} examined {_plural('image', total)}."
    if verdicts["uncalibrated"]:
        text += f" {verdicts['uncalibrated']} could not be judged beyond verified matches (too few training subjects, "
        text += "or training images that were not there)."
    return text


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


def _headline(scores: Scores) -> str:
    verdicts = scores.run["verdicts"]
    worst = next((v for v in _COLORS if verdicts.get(v)), "no evidence")
    return f'<p class="sentence" style="border-color:{_COLORS[worst]}">{_text(verdict_sentence(scores.run))}</p>'


def _worklist(scores: Scores) -> str:
    volumes = scores.volumes
    order = worst_first(volumes)
    header = ("Image", "Verdict", "Flagged", "p", "MI", "ONI", "Matched subject", "Matched image", "Agreement")
    rows = []
    for i in order[:_LISTED]:
        verdict = str(volumes["verdict"][i])
        cells = [
            _text(volumes["volume"][i]),
            f'<span class="tag" style="background:{_COLORS[verdict]}">{verdict}</span>',
            f"{volumes['n_flagged'][i]} of {volumes['n_slices'][i]}",
            _number(volumes["p_value"][i], 3),
            _number(volumes["mi"][i], 1),
            _number(volumes["oni"][i], 2),
            _text(volumes["match_subject"][i]),
            _text(volumes["match_volume"][i]),
            f"{100 * float(volumes['agreement'][i]):.0f} %",
        ]
        rows.append(cells)
    more = len(order) - _LISTED
    note = f"<p>{more} more are in volumes.csv.</p>" if more > 0 else ""
    return f"<h2>Worklist, worst first</h2>\n{_table(header, rows)}{note}"


def _matches(scores: Scores) -> str:
    if not scores.pictures.rows:
        return "<h2>Strongest matches</h2><p>No training image could be shown (see what was skipped, below).</p>"
    parts = [_match(scores, i) for i in range(len(scores.pictures.rows))]
    return (
        "<h2>Strongest matches</h2><p>For each image its strongest slice, the training slice that it matches (moved "
        "onto it), and where the two agree in fine detail (orange).</p>" + "\n".join(parts)
    )


def _match(scores: Scores, picture: int) -> str:
    slices, row = scores.slices, scores.pictures.rows[picture]
    images = {key: stack[picture] for key, stack in scores.pictures.images.items()}
    said = [
        str(slices["match_class"][row]) or "not verified",
        f"NCC {_number(slices['ncc'][row], 3)}",
        f"p {_number(slices['p_value'][row], 4)}",
        f"MI {_number(slices['mi'][row], 1)}",
        str(slices["transform"][row]),
    ]
    query = f"{slices['volume'][row]}, slice {slices['slice'][row]}"
    training = f"{slices['match_subject'][row]}: {slices['match_volume'][row]}, slice {slices['match_slice'][row]}"
    figures = [
        _figure(images["query"], f"synthetic: {query}"),
        _figure(images["training"], f"training: {training}"),
        _figure(_overlaid(images["query"], images["agreement"]), "agreement in fine detail"),
    ]
    return (
        f'<div class="match"><p><strong>{_text(query)}</strong> — {_text(" · ".join(s for s in said if s))}</p>'
        f"{''.join(figures)}{_chart(scores, str(slices['volume'][row]))}</div>"
    )


def _figure(pixels: NDArray[np.uint8], caption: str) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img alt="{_text(caption)}" src="data:image/png;base64,{data}"><figcaption>{_text(caption)}'
        f"</figcaption></figure>"
    )


def _overlaid(query: NDArray[np.uint8], agreement: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The query in gray with agreement as orange on top, ``(128, 128, 3)``; faint agreement (below .5) is not shown."""
    factor = len(query) // len(agreement)
    strength = np.kron(np.clip(agreement.astype(float) / 255 * 2 - 1, 0, 1), np.ones((factor, factor)))[..., None]
    gray = np.repeat(query[..., None].astype(float), 3, axis=2)
    orange = np.array([230.0, 159.0, 0.0])
    mixed = gray * (1 - 0.45 * strength) + orange * 0.45 * strength
    rounded: NDArray[np.uint8] = np.round(mixed).astype(np.uint8)
    return rounded


def _chart(scores: Scores, volume: str) -> str:
    """Similarity against slice number as SVG, with the band that holds 95 % of the null."""
    own = scores.slices["volume"] == volume
    if own.sum() < 2:
        return ""
    number, similarity = scores.slices["slice"][own], scores.slices["similarity"][own]
    classes, flagged = scores.slices["match_class"][own], scores.slices["flagged"][own]
    width, height, left, bottom = 640, 150, 40, 20
    low, high = int(number.min()), max(int(number.max()), int(number.min()) + 1)
    x = left + (number - low) / (high - low) * (width - left - 10)
    y = (1 - similarity) * (height - bottom - 10) + 5
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="similarity against slice of {_text(volume)}">'
    ]
    calibration = scores.run["calibration"]
    if calibration["calibrated"]:
        edges = [calibration["mean"] + k * calibration["deviation"] for k in (1.96, -1.96)]
        top, base = ((1 - min(max(e, 0), 1)) * (height - bottom - 10) + 5 for e in edges)
        parts.append(
            f'<rect x="{left}" y="{top:.1f}" width="{width - left - 10}" height="{base - top:.1f}" fill="#dde7f0">'
            f"<title>95 % of new people's scans</title></rect>"
        )
    for i in range(len(x)):
        color = _CLASS_COLORS.get(str(classes[i]), "#e69f00" if flagged[i] else "#0072b2")
        radius = 3.5 if flagged[i] else 2
        parts.append(f'<circle cx="{x[i]:.1f}" cy="{y[i]:.1f}" r="{radius}" fill="{color}"/>')
    parts.append(
        f'<text x="2" y="12" font-size="11">1</text><text x="2" y="{height - bottom - 4}" font-size="11">0</text>'
        f'<text x="{left}" y="{height - 4}" font-size="11">similarity by slice, {low} to {high}; band: 95 % of '
        f"new people's scans</text></svg>"
    )
    return "".join(parts)


def _skipped(run: dict[str, Any]) -> str:
    items = [_text(s["reason"]) for s in run["skipped"]]
    if missing := run["counts"]["training_volumes_missing"]:
        items.append(
            f"{missing} training volumes were not there or had changed; their matches are not verified "
            f"(name their folder with --training-root)."
        )
    if not items:
        return ""
    return "<h2>Not examined</h2><ul>" + "".join(f"<li>{item}</li>" for item in items[:_LISTED]) + "</ul>"


def _method(scores: Scores) -> str:
    run = scores.run
    calibration = run["calibration"]
    thresholds = calibration["thresholds"]
    lines = [
        f"Protocol {run['protocol']}; every slice is compared with every slice of the training set, under mirrors, "
        f"quarter turns, rotations and scales, by descriptors whitened on the training set.",
        "Similarity is the largest cosine found, from 0 to 1.",
        "The best candidates are aligned with the slice and compared in fine detail (band-passed normalized "
        "cross-correlation, NCC).",
        f"Class: exact (same pixels), copy (NCC ≥ {thresholds['copy_ncc']:.2f}, {thresholds['copy_source']}), "
        f"altered copy (NCC ≥ {thresholds['altered_ncc']:.2f}, {thresholds['altered_source']}), else novel.",
    ]
    if calibration["calibrated"]:
        lines += [
            f"The null: {calibration['null_slices']} training slices of {calibration['null_subjects']} subjects, each "
            f"scored as if its subject were new (whitening and training slices of its fold left out).",
            "p: how often a new person's real scan is at least this similar. MI = (similarity − mean) / deviation of "
            "the null; ONI = −tanh(MI): −1 memorized, 0 typical, +1 novel. q: Benjamini–Hochberg.",
            f"The smallest p that this reference can give: {calibration['smallest_slice_p']:.4f} for a slice, "
            f"{calibration['smallest_volume_p']:.3f} for an image; a lone copy in this run would get q = "
            f"{run['smallest']['slice_q_of_one_copy']:.3f} at best.",
        ]
    else:
        lines.append(
            "Too few training subjects for a null: MI, ONI, p and q are not given; verdicts rest on class alone."
        )
    lines += [
        f"A slice is flagged when its class is exact, copy or altered copy, or p ≤ {FLAG_P}. Verdict copy: any slice "
        f"exact or copy, or p ≤ {VOLUME_P} of the image with altered copies; suspicious: p ≤ {VOLUME_P}, or altered "
        f"copies.",
        "Limits: this is evidence of copying, not proof of its absence. An image that is not flagged is not proven "
        "novel; p is calibrated for real scans of new people, and generated images may differ from those.",
    ]
    return "<h2>Method and limits</h2><ol>" + "".join(f"<li>{_text(line)}</li>" for line in lines) + "</ol>"


def _provenance(run: dict[str, Any]) -> str:
    counts = run["reference"]["counts"]
    rows = [
        ("Reference", run["reference"]["fingerprint"] or "in memory"),
        ("Training set", f"{counts['subjects']} subjects, {counts['volumes']} images, {counts['slices']} slices"),
        ("Plane", run["reference"]["plane"]),
        ("Encoder", f"{run['encoder']['name']} ({run['encoder']['fingerprint']})"),
        ("Seed", run["seed"]),
        ("Version", f"memorization-index {run['version']}"),
    ]
    if controls := run.get("controls"):
        rows.append(("Controls", _controls(controls)))
    return "<h2>Provenance</h2>" + _table(("", ""), [[_text(a), _text(b)] for a, b in rows])


def _controls(controls: dict[str, Any]) -> str:
    text = f"{controls['volumes']} real images that were never trained on: {controls['verdict_copy']} got verdict copy"
    if controls["at_1_percent"] is not None:
        text += f"; slices at p ≤ .01: {100 * controls['at_1_percent']:.1f} %"
        text += f", at p ≤ .05: {100 * controls['at_5_percent']:.1f} %"
    return text


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def _number(value: float, decimals: int) -> str:
    return f"{float(value):.{decimals}f}" if np.isfinite(value) else "–"


def _text(value: object) -> str:
    return html.escape(str(value))
