"""The first page of the report: the verdict in one sentence, and the worklist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memorization_index.pictures import worst_first
from memorization_index.report.decisions import Decision
from memorization_index.report.markup import VERDICT_COLORS, number, plural, table, tag, text

if TYPE_CHECKING:
    from memorization_index.scores import Scores

#: Rows of the worklist; the tables have all.
LISTED = 500


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
    else:
        said = f"No evidence of copying {trained} was found in {total} examined {plural('image', total)}."
    if verdicts["uncalibrated"]:
        said += f" {verdicts['uncalibrated']} could not be judged beyond verified matches (too few training subjects, "
        said += "or training images that were not there)."
    return said


def headline(run: dict[str, Any]) -> str:
    """The sentence, on the color of the worst verdict."""
    worst = next((v for v in VERDICT_COLORS if run["verdicts"].get(v)), "no evidence")
    return (
        f'<p class="sentence" style="border-color:{VERDICT_COLORS[worst]}">{text(verdict_sentence(run))}</p>'
        f"<p>An image that is not flagged is not proven novel; see what was measured under "
        f'<a href="#limits">limits</a>.</p>'
    )


def worklist(scores: Scores, decisions: Sequence[Decision], sections: Mapping[str, str]) -> str:
    """All volumes, worst first; ``sections``: the anchor of each volume that has a section of its own."""
    volumes = scores.volumes
    order = worst_first(volumes)
    decided = {d.volume: d.decision for d in decisions if not d.slice}
    header = ["Image", "Verdict", "Flagged", "p", "MI", "ONI", "Matched subject", "Matched image", "Agreement"]
    if decided:
        header.append("Reader")
    rows = []
    for i in order[:LISTED]:
        name = str(volumes["volume"][i])
        link = f'<a href="#{sections[name]}">{text(name)}</a>' if name in sections else text(name)
        cells = [
            link,
            tag(str(volumes["verdict"][i])),
            f"{volumes['n_flagged'][i]} of {volumes['n_slices'][i]}",
            number(volumes["p_value"][i], 3),
            number(volumes["mi"][i], 1),
            number(volumes["oni"][i], 2),
            text(volumes["match_subject"][i]),
            text(volumes["match_volume"][i]),
            f"{100 * float(volumes['agreement'][i]):.0f} %",
        ]
        if decided:
            cells.append(text(decided.get(name, "")))
        rows.append(cells)
    more = len(order) - LISTED
    note = f'<p class="note">{more} more are in volumes.csv.</p>' if more > 0 else ""
    return table(header, rows, "worklist", "worklist") + note
