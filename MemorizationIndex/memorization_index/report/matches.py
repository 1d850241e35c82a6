"""The flagged volumes, one section each: pictures side by side, charts, and what the reader decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memorization_index.pictures import SHOWN, shown_volumes
from memorization_index.report.charts import Columns, legend, score_chart, trajectory_chart
from memorization_index.report.decisions import Decision, decisions_table, of_volume
from memorization_index.report.markup import figure, number, tag, text
from memorization_index.verdicts import FLAG_P
from memorization_index.words import plural

if TYPE_CHECKING:
    from memorization_index.scores import Scores

_ORANGE = np.array([230.0, 159.0, 0.0])


def section_anchors(scores: Scores) -> dict[str, str]:
    """The anchor of each volume that gets a section."""
    return {str(scores.volumes["volume"][i]): f"image-{i}" for i in shown_volumes(scores.volumes)}


def matches(scores: Scores, decisions: Sequence[Decision], anchors: Mapping[str, str]) -> str:
    """A section for each flagged volume (the strongest matches, where none is flagged)."""
    pictured = {str(scores.slices["volume"][row]): i for i, row in enumerate(scores.pictures.rows)}
    row_of = {str(name): row for row, name in enumerate(scores.volumes["volume"])}
    parts = [
        _section(scores, row_of[name], pictured.get(name), anchor, of_volume(decisions, name))
        for name, anchor in anchors.items()
    ]
    flagged = int((scores.volumes["n_flagged"] > 0).sum())
    said = (
        f"{flagged} {plural('image', flagged)} with flagged slices"
        if flagged
        else "No slice is flagged; these are the strongest matches"
    )
    unproven = int(((scores.volumes["n_flagged"] > 0) & (scores.volumes["verdict"] == "no evidence")).sum())
    if unproven:
        said += (
            f", {unproven} of them with the verdict no evidence (among new people's scans, too, about one slice in "
            f"{1 / FLAG_P:.0f} is flagged)"
        )
    if flagged > SHOWN:
        said += f", of which the worst {SHOWN} are shown; the tables have all"
    return (
        f"<p>{said}. Each is shown by the slice that agrees most with its training slice (the most similar one, "
        f"where p alone flags), beside that training slice (moved onto it), their difference, and where the two agree "
        f"in fine detail (orange).</p>" + legend() + "\n".join(parts)
    )


def _section(scores: Scores, row: int, picture: int | None, anchor: str, decisions: Sequence[Decision]) -> str:
    volumes = scores.volumes
    name, match_volume = str(volumes["volume"][row]), str(volumes["match_volume"][row])
    mask = scores.slices["volume"] == name
    own: Columns = {column: values[mask] for column, values in scores.slices.items()}
    facts = [
        f"{volumes['n_flagged'][row]} of {volumes['n_slices'][row]} slices flagged",
        f"p {number(volumes['p_value'][row], 3)}",
        f"MI {number(volumes['mi'][row], 1)}",
        _matched(own, str(volumes["match_subject"][row]), match_volume),
    ]
    if copied := float(volumes["fraction_copied"][row]) if "fraction_copied" in volumes else 0.0:
        facts.append(f"{100 * copied:.0f} % of its slices are copies")
    if in_order := float(volumes["trajectory"][row]) if "trajectory" in volumes else 0.0:
        first, last = volumes["match_first"][row], volumes["match_last"][row]
        facts.append(f"{100 * in_order:.0f} % follow its training slices {first} to {last} in order")
    charts = score_chart(name, own, scores.run["calibration"]["calibrated"]) + trajectory_chart(name, match_volume, own)
    return (
        f'<section class="match" id="{anchor}"><h3>{text(name)} {tag(str(volumes["verdict"][row]))}</h3>'
        f"<p>{text(' · '.join(facts))}</p>{_pictures(scores, picture)}"
        f'<div class="charts">{charts}</div>{decisions_table(decisions)}'
        f'<p class="back"><a href="#worklist">back to the worklist</a></p></section>'
    )


def _matched(own: Columns, subject: str, match_volume: str) -> str:
    """Whose training scan a volume is matched to, and how many of its slices name that subject."""
    count, naming = len(own["slice"]), int((own["match_subject"] == subject).sum())
    if count == 1:
        return f"is closest to {subject}: {match_volume}"
    if 2 * naming > count:
        return f"most slices are closest to {subject}: {match_volume}"
    return f"matched to {subject}, which {naming} of {count} slices name: {match_volume}"


def _pictures(scores: Scores, picture: int | None) -> str:
    if picture is None:
        return '<p class="note">Its training image was not there, so there is no picture and no verification.</p>'
    slices, row = scores.slices, scores.pictures.rows[picture]
    query, training, agreement = (scores.pictures.images[key][picture] for key in ("query", "training", "agreement"))
    said = [
        str(slices["match_class"][row]) or "not verified",
        f"NCC {number(slices['ncc'][row], 3)}",
        f"p {number(slices['p_value'][row], 4)}",
        f"MI {number(slices['mi'][row], 1)}",
        str(slices["transform"][row]),
    ]
    return (
        f"<p>Slice {slices['slice'][row]}: {text(' · '.join(s for s in said if s))}</p>"
        + figure(query, f"synthetic, slice {slices['slice'][row]}")
        + figure(training, f"training: {slices['match_volume'][row]}, slice {slices['match_slice'][row]}")
        + figure(difference(query, training), "difference, intensities matched (white: half of the range or more)")
        + figure(overlaid(query, agreement), "agreement in fine detail (orange)")
    )


def difference(query: NDArray[np.uint8], training: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Absolute difference ``(h, w)`` after the training slice's intensities are fitted to the query's by a line.

    The line is the least-squares fit where both show something; half of the range or more is white (255).
    """
    q, t = query.astype(float) / 255, training.astype(float) / 255
    both = (q > 0.05) & (t > 0.05)
    slope, offset = 1.0, 0.0
    if both.sum() > 2 and np.ptp(t[both]) > 0:
        slope, offset = np.polyfit(t[both], q[both], 1)
    fitted = np.where(t > 0.05, np.clip(slope * t + offset, 0, 1), t)
    result: NDArray[np.uint8] = np.round(np.clip(np.abs(q - fitted) * 2, 0, 1) * 255).astype(np.uint8)
    return result


def overlaid(query: NDArray[np.uint8], agreement: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The query in gray with agreement as orange on top, ``(128, 128, 3)``; faint agreement (below .5) is not shown."""
    factor = len(query) // len(agreement)
    strength = np.kron(np.clip(agreement.astype(float) / 255 * 2 - 1, 0, 1), np.ones((factor, factor)))[..., None]
    gray = np.repeat(query[..., None].astype(float), 3, axis=2)
    rounded: NDArray[np.uint8] = np.round(gray * (1 - 0.45 * strength) + _ORANGE * 0.45 * strength).astype(np.uint8)
    return rounded
