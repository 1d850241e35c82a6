"""The bricks of the report's HTML: text, numbers, tables, pictures, and the style sheet."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

#: Colors that stay apart for color-blind readers (Okabe & Ito 2008); white text on each has a contrast of 4.5 or more
#: but on orange, which has black text.
VERDICT_COLORS = {"copy": "#b34700", "suspicious": "#e69f00", "no evidence": "#0067a0", "uncalibrated": "#6b6b6b"}
CLASS_COLORS = {"exact": "#b34700", "copy": "#b34700", "altered copy": "#e69f00"}
PLAIN_COLOR = "#0067a0"

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; font-size: 1.25rem; } h3 { font-size: 1.05rem; margin: .5rem 0; }
a { color: #004f7c; } a:focus-visible, .wide:focus-visible { outline: 3px solid #b34700; outline-offset: 2px; }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
nav ul { padding: 0; } nav li { display: inline-block; margin-right: 1.2rem; }
.sentence { font-size: 1.2rem; border-left: .4rem solid; padding: .6rem 1rem; background: #f6f6f6; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; }
td { overflow-wrap: break-word; } th { background: #f6f6f6; }
.worklist td:first-child { min-width: 9rem; }
.worklist td:nth-child(n+2):nth-child(-n+6) { white-space: nowrap; }
.tag { display: inline-block; padding: 0 .5rem; border-radius: .2rem; color: #fff; white-space: nowrap; }
.tag.suspicious { color: #1a1a1a; }
figure { display: inline-block; width: 13rem; vertical-align: top; margin: .5rem 1rem .5rem 0; }
figure img { width: 13rem; height: 13rem; image-rendering: pixelated; background: #000; }
figcaption, .note { font-size: .85rem; color: #444; overflow-wrap: anywhere; }
.match { border-top: 1px solid #ddd; padding: .5rem 0; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; margin-bottom: .8rem; }
.legend span { margin-left: .8rem; white-space: nowrap; }
.legend svg { display: inline-block; width: .8rem; vertical-align: -.1em; }
svg { display: block; width: 100%; max-width: 34rem; height: auto; }
@page { size: A4; margin: 15mm 12mm; @bottom-right { content: counter(page) " / " counter(pages); font-size: 8pt; } }
@media print {
  body { margin: 0; padding: 0; max-width: none; font-size: 9.5pt; }
  nav, .back, .skip { display: none; }
  h2, h3 { break-after: avoid; } .match, figure, tr { break-inside: avoid; } .wide { overflow: visible; }
  figure, figure img { width: 4.2cm; } figure img { height: 4.2cm; } figure { margin-right: .3cm; }
  .charts svg { width: 8.8cm; } table { font-size: 7pt; } th, td { padding: .1rem .25rem; }
  figcaption, .note { font-size: 7.5pt; }
  .tag, .sentence, th { print-color-adjust: exact; }
}
"""


def text(value: object) -> str:
    """Any value as HTML text."""
    return html.escape(str(value))


def name(value: object) -> str:
    """A name as HTML text, which breaks between its parts rather than inside of one."""
    return re.sub(r"([_./-])", r"\1<wbr>", text(value))


def number(value: float, decimals: int) -> str:
    """A number with some decimals; a dash where there is none."""
    return f"{float(value):.{decimals}f}" if np.isfinite(value) else "–"


def table(header: Sequence[str], rows: Iterable[Iterable[str]], name: str, kind: str = "") -> str:
    """A table of HTML cells, in a region that scrolls and can be reached by keyboard; ``name`` is read aloud."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    head = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{text(name)}">'
        f'<table class="{kind}">{head}<tbody>\n{body}</tbody></table></div>'
    )


def tag(verdict: str) -> str:
    """A verdict on its color."""
    color = VERDICT_COLORS.get(verdict, VERDICT_COLORS["uncalibrated"])
    return f'<span class="tag {text(verdict)}" style="background:{color}">{text(verdict)}</span>'


def figure(pixels: NDArray[np.uint8], caption: str) -> str:
    """A picture, gray ``(h, w)`` or RGB ``(h, w, 3)``, within the page."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img alt="{text(caption)}" src="data:image/png;base64,{data}"><figcaption>{text(caption)}'
        f"</figcaption></figure>"
    )
