"""The report: one self-contained HTML file that needs no network and no scripts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memorization_index.errors import MemorizationIndexError
from memorization_index.report import method
from memorization_index.report.decisions import FILE, Decision, read_decisions, summary
from memorization_index.report.markup import STYLE
from memorization_index.report.matches import matches, section_anchors
from memorization_index.report.summary import headline, verdict_sentence, worklist

if TYPE_CHECKING:
    from memorization_index.scores import Scores

__all__ = ["FILE", "Decision", "read_decisions", "report", "verdict_sentence", "write_pdf", "write_report"]


def report(scores: Scores, decisions: Sequence[Decision] = ()) -> str:
    """The report of a result, with the reader's decisions, as HTML. The same input gives the same text."""
    run, anchors = scores.run, section_anchors(scores)
    volumes = [str(name) for name in scores.volumes["volume"]]
    sections = {
        "worklist": ("Worklist, worst first", summary(decisions, volumes) + worklist(scores, decisions, anchors)),
        "matches": ("Flagged images", matches(scores, decisions, anchors)),
        "skipped": ("Not examined", method.skipped(run)),
        "hypothesis": ("The hypothesis tested", method.hypothesis(run)),
        "method": ("Method", method.method(run)),
        "power": ("Power: what would be found", method.power(run)),
        "controls": ("Calibration on controls", method.controls(run)),
        "limits": ("Limits", method.limits(run)),
        "provenance": ("Provenance", method.provenance(run)),
    }
    contents = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, (title, _) in sections.items())
    body = "\n".join(f'<h2 id="{key}">{title}</h2>\n{content}' for key, (title, content) in sections.items())
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>Copy evidence</title><style>{STYLE}</style></head><body>\n'
        f'<a class="skip" href="#worklist">Skip to the worklist</a><main>\n<h1>Copy evidence in synthetic MRI</h1>\n'
        f'{headline(scores)}\n<nav aria-label="Contents"><ul>{contents}</ul></nav>\n{body}\n</main></body></html>\n'
    )


def write_report(scores: Scores, path: Path, decisions: Sequence[Decision] = ()) -> None:
    """Write the report of a result as HTML.

    Raises :class:`MemorizationIndexError` where the result lacks something, as one that was made by hand may.
    """
    _write(path, _whole(scores, path, decisions).encode())


def write_pdf(scores: Scores, path: Path, decisions: Sequence[Decision] = ()) -> None:
    """Write the report as PDF: the HTML as it prints (needs the extra ``pdf``).

    Raises :class:`MemorizationIndexError` where WeasyPrint cannot be used.
    """
    from memorization_index.report.pdf import pdf

    _write(path, pdf(_whole(scores, path, decisions)))


def _whole(scores: Scores, path: Path, decisions: Sequence[Decision]) -> str:
    try:
        return report(scores, decisions)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise MemorizationIndexError(
            f"{path.parent}: its parts do not fit each other ({type(error).__name__}: {error}); expected what "
            f"'memorization-index score' wrote, so score again."
        ) from error


def _write(path: Path, content: bytes) -> None:
    """Write beside a place and move there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    os.replace(beside, path)
