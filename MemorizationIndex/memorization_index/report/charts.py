"""Charts of one volume as inline SVG: MI against slice, and matched training slice against slice."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from memorization_index.report.markup import CLASS_COLORS, PLAIN_COLOR, text

Columns = dict[str, NDArray[Any]]

#: Half the width of the band that holds 95 % of a normal distribution, in standard deviations (MI's unit).
_BAND = 1.96
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 480, 170, 44, 34, 8, 10


class _Axes:
    """Places data in a drawing of fixed size; ranges of no width get one."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x_range, self.y_range = (x[0], max(x[1], x[0] + 1)), (y[0], y[1] if y[1] > y[0] else y[0] + 1)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def drawn(self, label: str, under: str, content: str) -> str:
        """The whole drawing: frame, ends of both axes, what lies on it, and a line of text under it."""
        (x_low, x_high), (y_low, y_high) = self.x_range, self.y_range
        base = _HEIGHT - _BOTTOM
        frame = f"M{_LEFT} {_TOP}V{base}H{_WIDTH - _RIGHT}"
        ends = (
            f'<text x="{_LEFT - 4}" y="{_TOP + 8}" text-anchor="end">{y_high:g}</text>'
            f'<text x="{_LEFT - 4}" y="{base}" text-anchor="end">{y_low:g}</text>'
            f'<text x="{_LEFT}" y="{base + 13}">{x_low:g}</text>'
            f'<text x="{_WIDTH - _RIGHT}" y="{base + 13}" text-anchor="end">{x_high:g}</text>'
            f'<text x="{_LEFT}" y="{_HEIGHT - 5}">{text(under)}</text>'
        )
        return (
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(label)}" font-size="11" '
            f'font-family="sans-serif" fill="#1a1a1a">{content}'
            f'<path d="{frame}" fill="none" stroke="#767676"/>{ends}</svg>'
        )


def score_chart(volume: str, own: Columns, calibrated: bool) -> str:
    """MI (similarity, without calibration) against slice number, with the band that holds 95 % of the null.

    ``own``: the rows of the slice table that belong to the volume. Empty for a single slice.
    """
    numbers, scores = own["slice"], own["mi" if calibrated else "similarity"]
    if len(numbers) < 2:
        return ""
    span = (math.floor(min(scores.min(), -_BAND)), math.ceil(max(scores.max(), _BAND))) if calibrated else (0, 1)
    axes = _Axes((int(numbers.min()), int(numbers.max())), span)
    parts, under = [], f"{'MI' if calibrated else 'similarity'} against slice"
    if calibrated:
        under += "; band: 95 % of new people's scans"
        high, low = axes.y(_BAND), axes.y(-_BAND)
        parts.append(
            f'<rect x="{_LEFT}" y="{high:.1f}" width="{_WIDTH - _LEFT - _RIGHT}" height="{low - high:.1f}" '
            f'fill="#dde7f0"/>'
        )
    for i in range(len(numbers)):
        parts.append(_point(axes, numbers[i], scores[i], str(own["match_class"][i]), bool(own["flagged"][i])))
    return axes.drawn(f"{volume}: {under}", under, "".join(parts))


def trajectory_chart(volume: str, match_volume: str, own: Columns) -> str:
    """Matched slice of the training volume that the volume is said to match, against slice; empty below two matches.

    A copied volume shows as a line; slices that match other training volumes are gray ticks at the lower edge.
    """
    named = own["match_volume"] == match_volume
    if named.sum() < 2:
        return ""
    numbers, matched = own["slice"], own["match_slice"]
    axes = _Axes((int(numbers.min()), int(numbers.max())), (int(matched[named].min()), int(matched[named].max())))
    parts, base = [], _HEIGHT - _BOTTOM
    for i in range(len(numbers)):
        if named[i]:
            parts.append(_point(axes, numbers[i], matched[i], str(own["match_class"][i]), bool(own["flagged"][i])))
        else:
            parts.append(f'<path d="M{axes.x(numbers[i]):.1f} {base - 6}v6" stroke="#767676"/>')
    under = "matched training slice against slice"
    if not named.all():
        under += "; ticks: another training image"
    return axes.drawn(f"{volume}: {under} of {match_volume}", under, "".join(parts))


def legend() -> str:
    """What the marks of both charts mean."""
    marks = (
        ("exact", "diamond", "flagged: exact or copy"),
        ("altered copy", "diamond", "flagged: altered copy, or by p alone"),
        ("", "dot", "not flagged"),
    )
    said = " ".join(
        f'<span><svg viewBox="0 0 12 12" role="img" aria-label="{shape}">'
        f"{_mark(6, 6, match_class, shape == 'diamond')}</svg> "
        f"{text(meaning)}</span>"
        for match_class, shape, meaning in marks
    )
    return f'<p class="legend">In the charts each mark is a slice: {said}</p>'


def _point(axes: _Axes, x: float, y: float, match_class: str, flagged: bool) -> str:
    return _mark(axes.x(float(x)), axes.y(float(y)), match_class, flagged)


def _mark(cx: float, cy: float, match_class: str, flagged: bool) -> str:
    """Flagged slices are larger, and diamonds: they differ by more than color."""
    color = CLASS_COLORS.get(match_class, "#e69f00" if flagged else PLAIN_COLOR)
    if not flagged:
        return f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="2" fill="{color}"/>'
    return f'<path d="M{cx:.1f} {cy - 4.5:.1f}l4.5 4.5-4.5 4.5-4.5-4.5z" fill="{color}"/>'
