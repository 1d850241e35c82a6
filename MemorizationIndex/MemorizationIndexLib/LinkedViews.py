"""Two slice views that show the same plane."""

import vtk

from .Observations import Observations


class LinkedViews:
    """Whichever of two slice nodes is moved, the other follows; then ``onMoved()`` is called."""

    def __init__(self, first, second, onMoved):
        self._nodes, self._onMoved = (first, second), onMoved
        self._observations, self._following = Observations(), False
        for node in self._nodes:
            self._observations.add(node, "ModifiedEvent", self._onModified)
        self._state = _state(first)

    def cleanup(self):
        """Stop to follow."""
        self._observations.clear()

    def _onModified(self, caller, _event):
        state = _state(caller)
        if self._following or state == self._state:
            return
        self._following, self._state = True, state
        first, second = self._nodes
        _follow(caller, second if caller is first else first)
        self._onMoved()
        self._following = False


def _state(node):
    matrix = node.GetSliceToRAS()
    elements = [matrix.GetElement(row, column) for row in range(3) for column in range(4)]
    return (*elements, node.GetFieldOfView()[0], *node.GetXYZOrigin())


def _follow(source, target):
    """Plane, pan and zoom of ``source``, in a view that may have another shape."""
    modified = target.StartModify()
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(source.GetSliceToRAS())
    target.GetSliceToRAS().DeepCopy(matrix)
    width, _height, depth = source.GetFieldOfView()
    columns, rows, _ = target.GetDimensions()
    target.SetFieldOfView(width, width * rows / max(columns, 1), depth)
    target.SetXYZOrigin(*source.GetXYZOrigin())
    target.UpdateMatrices()
    target.EndModify(modified)
