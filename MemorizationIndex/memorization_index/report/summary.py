"""The first page of the report: the verdict in one sentence, and the worklist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memorization_index.fraction import FEWEST_VOLUMES
from memorization_index.pictures import worst_first
from memorization_index.report.decisions import Decision
from memorization_index.report.markup import VERDICT_COLORS, name, number, table, tag, text
from memorization_index.verdicts import COPIED, FLAG_P, VERIFIED
from memorization_index.words import plural

if TYPE_CHECKING:
    from memorization_index.scores import Scores

#: Rows of the worklist; the tables have all.
LISTED = 500
_COLUMNS = (
    '<p class="note">Flagged: slices. p: how often a new person\'s real scan is at least this close to the training '
    'set. MI and ONI: how far out that is (see <a href="#method">method</a>). Matched: the training scan '
    "that most of its flagged slices match (without any: that of its most similar slice); slices naming it: how many "
    "of all its slices are closest to that subject.</p>"
)

_UNJUDGED = " (too few training subjects, a generator that p does not fit, or training images that could not be read)."


def verdict_sentence(run: dict[str, Any]) -> str:
    """The result of a run in one sentence (a second one where something should be looked at or was not judged)."""
    verdicts, total = run["verdicts"], run["counts"]["volumes"]
    subjects = run["reference"]["counts"]["subjects"]
    trained = f"the training set of {subjects} {plural('subject', subjects)}"
    if copies := verdicts["copy"]:
        says = "shows" if copies == 1 else "show"
        said = f"{copies} of {total} examined {plural('image', total)} {says} evidence of copying {trained}."
        if verdicts["suspicious"]:
            said += f" {verdicts['suspicious']} more should be looked at."
    elif verdicts["suspicious"]:
        said = (
            f"No copy was verified among {total} examined {plural('image', total)}, but {verdicts['suspicious']} "
            f"should be looked at: closer to {trained} than new people's scans usually are."
        )
    elif judged := total - verdicts["uncalibrated"]:
        among = f"{judged} of {total}" if judged < total else total
        said = f"No evidence of copying {trained} was found in {among} examined {plural('image', total)}."
    else:
        said = f"Whether {total} examined {plural('image', total)} copied {trained} could not be judged{_UNJUDGED}"
        return f"{said} No copy was verified."
    if verdicts["uncalibrated"]:
        said += f" {verdicts['uncalibrated']} could not be judged, and no copy was verified there{_UNJUDGED}"
    return said


def flagged_unjudged(scores: Scores) -> str:
    """A sentence where images could not be judged, but slices of theirs are flagged; else nothing."""
    volumes = scores.volumes
    unjudged = (volumes["verdict"] == "uncalibrated") & (volumes["n_flagged"] > 0)
    if not unjudged.any():
        return ""
    slices, images = int(volumes["n_flagged"][unjudged].sum()), int(unjudged.sum())
    is_flagged = "slice is" if slices == 1 else "slices are"
    return (
        f"In {images} {plural('image', images)} that could not be judged {slices} {is_flagged} flagged: closer to the "
        f"training set than new people's scans are. Look at them, or make it possible to judge them."
    )


def rests_on_p(scores: Scores) -> str:
    """A sentence where verdicts rest on p alone: in no slice of such an image was a match verified; else nothing."""
    slices, volumes = scores.slices, scores.volumes
    verified = {str(name) for name in slices["volume"][np.isin(slices["match_class"], VERIFIED)]}
    judged = [str(name) for name in volumes["volume"][np.isin(volumes["verdict"], ("copy", "suspicious"))]]
    alone = sum(name not in verified for name in judged)
    if not alone:
        return ""
    some = f"One of these {len(judged)} verdicts" if alone == 1 else f"{alone} of these {len(judged)} verdicts"
    if alone == len(judged):
        some = "This verdict" if alone == 1 else "These verdicts"
    rest, image = ("rests", "the image comes") if alone == 1 else ("rest", "the images come")
    return (
        f"{some} {rest} on p alone: {image} closer to the training set than new people's scans usually do, but in no "
        f"slice was a match with a training scan verified."
    )


def copied_share(scores: Scores) -> str:
    """How much of the set is copied; nothing of a few volumes, whose interval says nothing."""
    share = scores.run.get("copied_fraction")
    if not share or share["units"] < FEWEST_VOLUMES:
        return ""
    low, value, high = (f"{100 * share[key]:.0f}" for key in ("low", "value", "high"))
    rests = f"those that were verified, and more with p ≤ {FLAG_P} than chance explains"
    if not np.isin(scores.slices["match_class"], COPIED).any():
        more = "but more have" if share["value"] > 0 else "and no more have"
        rests = f"none was verified, {more} p ≤ {FLAG_P} than chance explains"
    return (
        f"About {value} % of the slices are copies (95 % interval {low} to {high} %): {rests}. Copies that were not "
        f"found are not in it."
    )


def headline(scores: Scores) -> str:
    """The sentence, on the color of the worst verdict, and what it rests on."""
    run = scores.run
    worst = next((v for v in VERDICT_COLORS if run["verdicts"].get(v)), "no evidence")
    said_besides = (flagged_unjudged(scores), rests_on_p(scores), copied_share(scores))
    basis = "".join(f"<p>{text(said)}</p>" for said in said_besides if said)
    return (
        f'<p class="sentence" style="border-color:{VERDICT_COLORS[worst]}">{text(verdict_sentence(run))}</p>'
        f"{basis}<p>An image that is not flagged is not proven novel; see what was measured under "
        f'<a href="#limits">limits</a>.</p>'
    )


def worklist(scores: Scores, decisions: Sequence[Decision], sections: Mapping[str, str]) -> str:
    """All volumes, worst first; ``sections``: the anchor of each volume that has a section of its own."""
    volumes = scores.volumes
    order = worst_first(volumes)
    decided = {d.volume: d.decision for d in decisions if not d.slice}
    header = ["Image", "Verdict", "Flagged", "p", "MI", "ONI", "Matched subject", "Matched image"]
    stacks = bool(np.any(volumes["n_slices"] > 1))
    if stacks:
        header.append("Slices naming it")
    if decided:
        header.append("Reader")
    rows = []
    for i in order[:LISTED]:
        volume = str(volumes["volume"][i])
        shown = name(volume)
        link = f'<a href="#{sections[volume]}">{shown}</a>' if volume in sections else shown
        cells = [
            link,
            tag(str(volumes["verdict"][i])),
            f"{volumes['n_flagged'][i]} of {volumes['n_slices'][i]}",
            number(volumes["p_value"][i], 3),
            number(volumes["mi"][i], 1),
            number(volumes["oni"][i], 2),
            name(volumes["match_subject"][i]),
            name(volumes["match_volume"][i]),
        ]
        if stacks:
            cells.append(f"{100 * float(volumes['agreement'][i]):.0f} %")
        if decided:
            cells.append(text(decided.get(volume, "")))
        rows.append(cells)
    more = len(order) - LISTED
    note = f'<p class="note">{more} more are in volumes.csv.</p>' if more > 0 else ""
    return _COLUMNS + table(header, rows, "worklist", "worklist") + note
