"""A scored volume and its slices, as the views see them."""

import functools

import numpy as np
import slicer
from memorization_index.alignment import Slices
from memorization_index.errors import MemorizationIndexError

from .VolumeWriter import worldMatrix


class ScoredVolume:
    """Rows of one volume's slices by number, and where those slices lie in the world now.

    ``rows``: ``{slice number: row of the slice table}``; ``plane``: the plane that was scored.
    """

    def __init__(self, node, rows):
        self.node = node
        self.rows = {int(row["slice"]): row for row in rows}
        self.plane = rows[0]["plane"]

    @property
    def slices(self):
        """The geometry of the slices; None where the volume is under a transform that does not keep its grid."""
        try:
            return worldSlices(self.node, self.plane)
        except (MemorizationIndexError, ValueError):
            return None

    def shownIn(self, sliceNode):
        """The number of the slice that a slice view shows (it may lie outside the volume), or None.

        None where the view cuts through slices: where, within the volume, it is farther than half a slice from one
        slice.
        """
        slices = self.slices
        return None if slices is None else shownSlice(slices, sliceNode)

    def jump(self, sliceNode, number):
        """Move a slice view to a slice, without turning it."""
        sliceNode.JumpSliceByOffsetting(*self.slices.center(number))


def worldSlices(volumeNode, plane):
    """Geometry (``alignment.Slices``) of a volume's slices in the world, its linear transforms included.

    Raises ``MemorizationIndexError`` for non-linear and shearing transforms, ``ValueError`` for an impossible plane.
    """
    affine = slicer.util.arrayFromVTKMatrix(worldMatrix(volumeNode, volumeNode.GetName()))
    return _slicesOf(affine.tobytes(), volumeNode.GetImageData().GetDimensions(), plane)


@functools.lru_cache(maxsize=16)
def _slicesOf(affine, dimensions, plane):
    """The same geometry is asked for dozens of times whenever a view moves."""
    return Slices.of(np.frombuffer(affine).reshape(4, 4), dimensions, plane)


def shownSlice(slices, sliceNode):
    """The number of the slice that a view shows, or None where the view is not parallel to the slices."""
    toWorld = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())
    normal, point = toWorld[:3, 2], toWorld[:3, 3]
    across = float(normal @ slices.step)
    if abs(across) < 1e-6 * np.linalg.norm(slices.step):
        return None
    # Where the view cuts the four lines along which the slices' corners are stacked.
    numbers = (point - slices.corners(0)) @ normal / across
    number = numbers.mean()
    return None if np.abs(numbers - number).max() > 0.5 else int(np.floor(number + 0.5))
