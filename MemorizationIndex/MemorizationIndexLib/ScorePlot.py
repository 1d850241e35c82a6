"""A volume's scores against its slices, with the band that holds 95 % of new people's scans."""

import itertools
import math

import qt
from slicer.i18n import tr as _

from .Palette import CLASSES

#: Half the width of the band that holds 95 % of a normal distribution, in standard deviations (MI's unit).
_BAND = 1.96
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 10, 8, 22
_GRAY = "#808080"
# A click this far from a slice's point (pixels along the slices) still means it.
_NEAR = 12


class ScorePlot(qt.QWidget):
    """Draws MI (similarity, without calibration) against slice number. ``onJump(slice number)`` at a click."""

    def __init__(self, onJump):
        qt.QWidget.__init__(self)
        self._onJump, self._points, self._current, self._calibrated = onJump, [], None, True
        self._empty = ""
        self.setMinimumHeight(140)
        self.setMouseTracking(True)

    def draw(self, rows, current=None, empty=""):
        """Draw the slices ``rows``; ``current`` is the slice number that is marked, ``empty`` said where none is."""
        self._empty = empty
        self._calibrated = any(not math.isnan(row["mi"]) for row in rows)
        column = "mi" if self._calibrated else "similarity"
        self._points = [(int(row["slice"]), row[column], row) for row in rows if not math.isnan(row[column])]
        self._current = current
        self.update()

    def mark(self, current):
        """Mark another slice as the one that is shown."""
        self._current = current
        self.update()

    # --- Where things are --------------------------------------------------------------------------------------------

    def place(self, number, value):
        """Pixel (x, y) of a value at a slice number."""
        first, last = self._span([point[0] for point in self._points], 1)
        low, high = self._range()
        x = _LEFT + (number - first) / (last - first) * (self.width - _LEFT - _RIGHT)
        y = self.height - _BOTTOM - (value - low) / (high - low) * (self.height - _TOP - _BOTTOM)
        return round(x), round(y)

    def _range(self):
        values = [point[1] for point in self._points]
        if not self._calibrated:
            return 0.0, max(1.0, *values)
        return self._span([*values, -_BAND - 0.5, _BAND + 0.5], 0.5)

    @staticmethod
    def _span(values, least):
        return min(values), max(*values, min(values) + least)

    def _nearest(self, x):
        """The point nearest to a pixel column, or None where none is near."""
        near = [(abs(self.place(point[0], point[1])[0] - x), point) for point in self._points]
        near = [pair for pair in near if pair[0] <= _NEAR]
        return min(near, key=lambda pair: pair[0])[1] if near else None

    # --- Qt ----------------------------------------------------------------------------------------------------------

    def mousePressEvent(self, event):
        """Jump to the slice that was clicked."""
        point = self._nearest(_across(event)) if self._points else None
        if point is not None:
            self._onJump(point[0])

    def mouseMoveEvent(self, event):
        """Say what is under the mouse."""
        point = self._nearest(_across(event)) if self._points else None
        self.setToolTip(self._describe(point[2]) if point else "")

    def paintEvent(self, _event):
        """Draw it."""
        painter = qt.QPainter()
        painter.begin(self)
        painter.fillRect(self.rect, qt.QColor("white"))
        if self._points:
            self._drawAxes(painter)
            self._drawPoints(painter)
        else:
            painter.setPen(qt.QColor(_GRAY))
            painter.drawText(self.rect, qt.Qt.AlignCenter, self._empty or _("Choose a row to see its slices."))
        painter.end()

    def _drawAxes(self, painter):
        right, bottom = self.width - _RIGHT, self.height - _BOTTOM
        if self._calibrated:
            top, base = self.place(0, _BAND)[1], self.place(0, -_BAND)[1]
            painter.fillRect(_LEFT, top, right - _LEFT, base - top, qt.QColor("#DDE7F0"))
            painter.setPen(qt.QColor("#5A7A99"))
            painter.drawText(_LEFT + 4, base - 3, _("95 % of new people's scans"))
        painter.setPen(qt.QColor("black"))
        painter.drawLine(_LEFT, _TOP, _LEFT, bottom)
        painter.drawLine(_LEFT, bottom, right, bottom)
        low, high = self._range()
        for value in (low, high):
            painter.drawText(2, self.place(0, value)[1] + (10 if value == high else 0), f"{value:.1f}")
        painter.drawText(2, (self.height - _BOTTOM) // 2, _("MI") if self._calibrated else _("similarity")[:6])
        first, last = self._points[0][0], self._points[-1][0]
        painter.drawText(_LEFT, self.height - 6, str(first))
        painter.drawText(right - 24, self.height - 6, str(last))
        painter.drawText((_LEFT + right) // 2 - 16, self.height - 6, _("slice"))

    def _drawPoints(self, painter):
        if self._current is not None:
            x = self.place(self._current, 0)[0]
            painter.setPen(qt.QColor("#009E73"))
            painter.drawLine(x, _TOP, x, self.height - _BOTTOM)
        painter.setPen(qt.QColor("#B0B0B0"))
        places = [self.place(number, value) for number, value, _row in self._points]
        for (x1, y1), (x2, y2) in itertools.pairwise(places):
            painter.drawLine(x1, y1, x2, y2)
        for (x, y), (_number, _value, row) in zip(places, self._points, strict=True):
            size = 7 if row["flagged"] else 3
            color = qt.QColor(*CLASSES.get(row["match_class"], CLASSES[""]))
            painter.fillRect(x - size // 2, y - size // 2, size, size, color)

    @staticmethod
    def _describe(row):
        return _("slice {number}: {kind}, {volume} slice {match}").format(
            number=int(row["slice"]),
            kind=row["match_class"] or _("not verified"),
            volume=row["match_volume"],
            match=int(row["match_slice"]),
        )


def _across(event):
    """The pixel column of a mouse event; ``position`` is Qt 6's, where ``pos`` is going, and Qt 5 has it not."""
    return event.position().x() if hasattr(event, "position") else event.pos().x()
