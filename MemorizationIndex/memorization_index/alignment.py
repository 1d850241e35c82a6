"""Where the square image of a slice lies in the world, and which point of a training slice a query's was matched to.

World coordinates are RAS millimeters. A volume is given by its affine (4×4, from voxel indices (i, j, k) to RAS; its
axes are perpendicular) and its size along the same axes. *Square coordinates* (row, column, slice) of a slice's square
image (see ``slices.square_images``) are fractions of its width, counted from its center downward and rightward, and
numbers of slices, counted from the slice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.volumes import IMAGE_PLANE, PLANES

if TYPE_CHECKING:
    from memorization_index.matching import Match

Matrix = NDArray[np.float64]

_LPS = np.diag([-1.0, -1.0, 1.0])
#: Letter of ITK's name of an orientation → canonical axis (0 = x) and whether the stored axis runs along it.
_LETTERS = {"L": (0, True), "R": (0, False), "P": (1, True), "A": (1, False), "S": (2, True), "I": (2, False)}


@dataclass(frozen=True)
class Slices:
    """The slices of one volume in one plane, as :func:`memorization_index.slices.to_slices` numbers and displays them.

    ``origin`` (3,) is the first pixel (top left) of slice 0 in RAS mm; ``rows``, ``columns`` and ``step`` (3,) lead
    from there to the pixel below, to the pixel on the right, and to the same pixel of the next slice; ``shape`` is
    (slices, rows, columns). ``axes`` names the voxel axes (0 = i) along slices, rows and columns, ``forward`` tells
    which of them run the same way as the voxel indices.
    """

    origin: Matrix
    step: Matrix
    rows: Matrix
    columns: Matrix
    shape: tuple[int, int, int]
    axes: tuple[int, int, int]
    forward: tuple[bool, bool, bool]

    @classmethod
    def of(cls, affine: Matrix, size: Sequence[int], plane: str) -> Slices:
        """The slices of a volume of this ``affine`` and ``size`` (i, j, k) in a plane of ``PLANES``, or ``image``.

        ``image`` is the plane of a volume of one slice. Raises :class:`ValueError` for any other plane.
        """
        stored = _canonical_axes(affine)
        order = _displayed_axes(plane, [size[axis] for axis, _ in stored])
        axes, forward, steps, corner = [], [], [], np.zeros(3)
        for canonical, along in order:
            axis, same = stored[canonical]
            same = same == along
            vector = affine[:3, axis]
            steps.append(vector if same else -vector)
            if not same:
                corner[axis] = size[axis] - 1
            axes.append(axis)
            forward.append(same)
        origin = affine[:3, :3] @ corner + affine[:3, 3]
        shape = tuple(int(size[axis]) for axis in axes)
        return cls(origin, steps[0], steps[1], steps[2], shape, tuple(axes), tuple(forward))  # type: ignore[arg-type]

    @property
    def width(self) -> float:
        """Width of the square image in mm: the longer side of a slice."""
        lengths = np.linalg.norm([self.rows, self.columns], axis=1)
        return float(max(self.shape[1] * lengths[0], self.shape[2] * lengths[1]))

    @property
    def to_world(self) -> Matrix:
        """4×4 from pixels (slice, row, column) to RAS mm."""
        result = np.eye(4)
        result[:3] = np.column_stack([self.step, self.rows, self.columns, self.origin])
        return result

    def square(self, number: int) -> Matrix:
        """4×4 from the square coordinates (row, column, slice) of slice ``number`` to RAS mm."""
        down, right = (vector / np.linalg.norm(vector) * self.width for vector in (self.rows, self.columns))
        result = np.eye(4)
        result[:3] = np.column_stack([down, right, self.step, self.center(number)])
        return result

    def center(self, number: float) -> Matrix:
        """Center (3,) of a slice in RAS mm."""
        middle = [number, (self.shape[1] - 1) / 2, (self.shape[2] - 1) / 2]
        result: Matrix = self.to_world[:3, :3] @ middle + self.origin
        return result

    def corners(self, number: float) -> Matrix:
        """Centers (4, 3) of the corner pixels of a slice in RAS mm."""
        pixels = [[number, row, column] for row in (0, self.shape[1] - 1) for column in (0, self.shape[2] - 1)]
        result: Matrix = np.asarray(pixels) @ self.to_world[:3, :3].T + self.origin
        return result

    def pixels(self, points: Matrix) -> Matrix:
        """RAS points (…, 3) as fractional (slice, row, column)."""
        result: Matrix = (np.asarray(points) - self.origin) @ np.linalg.inv(self.to_world[:3, :3]).T
        return result

    def image(self, voxels: NDArray[Any], number: int) -> NDArray[Any]:
        """Slice ``number`` (rows, columns), as displayed, of an array indexed (k, j, i)."""
        cube = voxels.transpose(2 - np.array(self.axes))
        number = number if self.forward[0] else self.shape[0] - 1 - number
        picture = cube[number]
        displayed: NDArray[Any] = picture[:: 1 if self.forward[1] else -1, :: 1 if self.forward[2] else -1]
        return displayed


@dataclass(frozen=True)
class Alignment:
    """How a training slice lies on a query slice: the numbers of :class:`memorization_index.matching.Match`."""

    mirrored: bool
    quarters: int
    matrix: Matrix
    shift: Matrix

    @classmethod
    def of_match(cls, match: Match) -> Alignment:
        """The alignment that matching found."""
        return cls(match.mirrored, match.quarters, match.matrix, match.shift)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Alignment:
        """The alignment in a row of ``alignments.csv`` (texts or numbers by column name)."""
        matrix = np.array([[float(row["m00"]), float(row["m01"])], [float(row["m10"]), float(row["m11"])]])
        shift = np.array([float(row["shift_rows"]), float(row["shift_columns"])])
        return cls(bool(float(row["mirrored"])), int(float(row["quarters"])), matrix, shift)

    def query_to_training(self) -> Matrix:
        """4×4 from the query's square coordinates (row, column, slice) to those of the training slice."""
        # np.rot90 shows at (row, column), counted from the center, what was at (column, −row).
        quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
        back = np.diag([1.0, -1.0 if self.mirrored else 1.0]) @ np.linalg.matrix_power(quarter, self.quarters % 4)
        result = np.eye(4)
        result[:2, :2] = back @ self.matrix
        result[:2, 3] = back @ self.shift
        return result


def query_to_training(alignment: Alignment, query: Matrix, training: Matrix, direction: int = 1) -> Matrix:
    """4×4 from RAS points of a query slice to the RAS points of the training slice that they were matched to.

    ``query`` and ``training`` are what :meth:`Slices.square` gives for the two slices. Off the slice, one slice of the
    query is one slice of the training volume, in the same (``direction`` 1) or the opposite (−1) order. The inverse
    takes the training slice onto the query.
    """
    result: Matrix = (
        training @ np.diag([1.0, 1.0, direction, 1.0]) @ alignment.query_to_training() @ np.linalg.inv(query)
    )
    return result


def _canonical_axes(affine: Matrix) -> list[tuple[int, bool]]:
    """For each canonical axis (x, y, z of LPS) the voxel axis that lies closest, and whether it runs the same way."""
    import SimpleITK as sitk

    axes = _LPS @ affine[:3, :3]
    directions = axes / np.linalg.norm(axes, axis=0)
    # The same choice as reading makes, also where two axes are equally close.
    name = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(directions.ravel().tolist())
    result = [(0, True)] * 3
    for axis, letter in enumerate(name):
        canonical, same = _LETTERS[letter]
        result[canonical] = (axis, same)
    return result


def _displayed_axes(plane: str, size: Sequence[int]) -> list[tuple[int, bool]]:
    """Canonical axes (0 = x) along slices, rows, columns; whether they are counted upward. ``size``: (x, y, z)."""
    if plane == IMAGE_PLANE and 1 in size:
        # As reading does: the first of z, y, x that has one voxel.
        plane = PLANES[list(size)[::-1].index(1)]
    if plane not in PLANES:
        raise ValueError(f"{plane!r} is no plane of a volume of {'×'.join(map(str, size))} voxels")
    if plane == "axial":
        return [(2, True), (1, True), (0, True)]
    return [(1, True), (2, False), (0, True)] if plane == "coronal" else [(0, True), (2, False), (1, True)]
