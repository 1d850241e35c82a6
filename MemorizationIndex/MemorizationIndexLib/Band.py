"""A band along the left edge of a slice view: one cell a slice, the lowest number at the bottom."""

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from .Palette import UNSCORED, sliceColor

_LEFT, _WIDTH = 4, 14  # pixels
_MARGIN = 0.08  # of the view's height, above and below
_MARK = 3  # pixels by which the current slice's frame stands out; and half its height, at least


class Band:
    """Draws the band of one volume in a renderer, marks the current slice, and tells which cell is at a pixel."""

    def __init__(self, renderer):
        self._renderer, self._shown = renderer, False
        self._count, self._state = 0, None
        self._cells, self._mark = _Shape(line=False), _Shape(line=True)

    def show(self, volume, current):
        """Show the slices of a :class:`ScoredVolume`; ``current`` is the one that the view shows."""
        self._setShown(True)
        self._count = volume.slices.shape[0]
        state = (id(volume), self._renderer.GetRenderWindow().GetSize())
        if state != self._state:
            self._state = state
            colors = [sliceColor(volume.rows[n]) if n in volume.rows else UNSCORED for n in range(self._count)]
            self._cells.draw([self._box(n) for n in range(self._count)], colors)
        left, right, bottom, top = self._box(min(max(current, 0), self._count - 1))
        middle, half = (bottom + top) / 2, max((top - bottom) / 2, _MARK)
        self._mark.draw([(left - _MARK, right + _MARK, middle - half, middle + half)], [(255, 255, 255)])

    def hide(self):
        """Take the band out of the view."""
        self._setShown(False)

    def sliceAt(self, x, y):
        """The number of the slice whose cell is at a pixel (from the lower left corner), or None."""
        bottom, height = self._extent()
        inside = self._shown and _LEFT <= x <= _LEFT + _WIDTH and bottom <= y < bottom + height
        return int((y - bottom) / height * self._count) if inside else None

    def place(self, number):
        """The pixel (x, y) on the right of a slice's cell."""
        _left, right, bottom, top = self._box(number)
        return right + 2 * _MARK, (bottom + top) / 2

    def _extent(self):
        height = self._renderer.GetRenderWindow().GetSize()[1]
        return _MARGIN * height, (1 - 2 * _MARGIN) * height

    def _box(self, number):
        """Left, right, bottom and top of a slice's cell in pixels."""
        bottom, height = self._extent()
        cell = height / self._count
        return _LEFT, _LEFT + _WIDTH, bottom + number * cell, bottom + (number + 1) * cell

    def _setShown(self, shown):
        if shown != self._shown:
            self._shown = shown
            for shape in (self._cells, self._mark):
                (self._renderer.AddViewProp if shown else self._renderer.RemoveViewProp)(shape.actor)


class _Shape:
    """Colored boxes, filled or as lines, in pixels of the view."""

    def __init__(self, line):
        self._line, self._data = line, vtk.vtkPolyData()
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self._data)
        self.actor = vtk.vtkActor2D()
        self.actor.SetMapper(mapper)
        self.actor.GetProperty().SetLineWidth(2)

    def draw(self, boxes, colors):
        """Draw boxes (left, right, bottom, top) in colors (0–255), one a box."""
        points, cells = vtk.vtkPoints(), vtk.vtkCellArray()
        for left, right, bottom, top in boxes:
            corners = [
                points.InsertNextPoint(x, y, 0) for x, y in ((left, bottom), (right, bottom), (right, top), (left, top))
            ]
            corners += corners[:1] if self._line else []
            cells.InsertNextCell(len(corners))
            for corner in corners:
                cells.InsertCellPoint(corner)
        self._data.Initialize()
        self._data.SetPoints(points)
        (self._data.SetLines if self._line else self._data.SetPolys)(cells)
        self._data.GetCellData().SetScalars(numpy_to_vtk(np.array(colors, np.uint8).reshape(-1, 3), deep=True))
