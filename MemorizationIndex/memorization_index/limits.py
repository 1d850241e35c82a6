"""What a file may announce: checked from headers alone, before anything is allocated or given to a reader in C++."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memorization_index.errors import MemorizationIndexError

#: Voxels of one volume, and along one axis (a whole-body scan has 1,000; a 7 T slab of 0.1 mm 2,000).
MAXIMUM_VOXELS, MAXIMUM_SIDE = 2**30, 2**15
#: A compressed file above this size may announce so many times what it holds. Scans shrink to a half or a tenth; a
#: decompression bomb to a thousandth.
MAXIMUM_EXPANSION, SMALL = 200, 64 << 20
#: Sizes of voxels in mm, and how much they may differ: beyond, resampling to square pixels has no meaning.
VOXEL_SIZES, MAXIMUM_ANISOTROPY = (1e-6, 1e6), 1000
#: Intensities beyond this cannot be subtracted and squared in single precision.
MAXIMUM_INTENSITY = 1e18

_FORMATS = "NIfTI, NRRD, MHA, DICOM, PNG, JPEG, TIFF or NPY"
NOT_THE_FORMAT = "is not of the format that its name says, or its beginning is damaged"
TRUNCATED = "is truncated, or the data file that belongs to it is missing or shorter than its header says"


class BoundedFile(io.BufferedReader):
    """A file of which no more is asked for than is left: Python allocates what a damaged length announces."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """At most ``size`` bytes, and no more than there are."""
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def unreadable(path: Path, reason: str) -> MemorizationIndexError:
    """The error of a file that is damaged: one sentence."""
    return MemorizationIndexError(f"{path}: {reason}; expected a complete {_FORMATS} file, so copy or export it again.")


def check_shape(path: Path, shape: Sequence[int]) -> None:
    """Refuse a file that announces no voxel, or more than any scan has."""
    voxels = math.prod(int(side) for side in shape)
    if not 0 < voxels <= MAXIMUM_VOXELS or min(shape) < 1:
        raise MemorizationIndexError(
            f"{path}: its header announces {_short(voxels)} voxels; expected between 1 and {MAXIMUM_VOXELS}, so check "
            f"the file."
        )
    if max(shape) > MAXIMUM_SIDE:
        raise MemorizationIndexError(
            f"{path}: its header announces {max(shape)} voxels along one axis; expected at most {MAXIMUM_SIDE}, so "
            f"check the file."
        )


def check_expansion(path: Path, announced: int, held: int) -> None:
    """Refuse a compressed file of ``held`` bytes that announces far more bytes than scans are compressed from."""
    if announced > max(SMALL, MAXIMUM_EXPANSION * held):
        raise MemorizationIndexError(
            f"{path}: announces {_short(announced)} bytes in {held} compressed ones, as a decompression bomb does; "
            f"expected at most {MAXIMUM_EXPANSION} times as many, so check the file."
        )


def check_dimension(path: Path, size: Sequence[int]) -> None:
    """Refuse what is neither an image nor one volume; ``size`` is x first."""
    if len(size) < 2 or any(side != 1 for side in size[3:]):
        shown = "x".join(map(str, size[:8]))
        raise MemorizationIndexError(
            f"{path}: is a {len(size)}-D file of size {shown}; expected one 3-D volume, so split it into 3-D volumes "
            f"(one a time point or channel)."
        )


def check_components(path: Path, components: int) -> None:
    """Refuse color, vectors and complex numbers."""
    if components != 1:
        raise MemorizationIndexError(
            f"{path}: has {_short(components)} values a voxel (color, vector or complex); expected one scalar "
            f"intensity, so export each component as a volume of its own."
        )


def check_spacing(path: Path, spacing: Sequence[float]) -> None:
    """Refuse voxel sizes that no scanner has."""
    low, high = VOXEL_SIZES
    plausible = all(low <= side <= high for side in spacing)  # false for NaN
    if not plausible or max(spacing) > MAXIMUM_ANISOTROPY * min(spacing):
        shown = " × ".join(f"{side:.4g}" for side in spacing)
        raise MemorizationIndexError(
            f"{path}: has voxels of {shown} mm; expected sizes between {low:g} and {high:g} mm that differ at most "
            f"{MAXIMUM_ANISOTROPY}-fold, so correct the header."
        )


def check_direction(path: Path, direction: Sequence[float]) -> None:
    """Refuse axes that (nearly) lie in one plane, or are far from unit length: ITK works on them without end."""
    side = math.isqrt(len(direction))
    matrix = np.reshape(direction, (side, side))
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > 2 or abs(np.linalg.det(matrix)) < 0.5:
        raise MemorizationIndexError(
            f"{path}: has axes that are not perpendicular; expected a box-shaped volume, so correct the directions in "
            f"its header."
        )


def _short(number: int) -> str:
    """A number that a hostile header may have made thousands of digits long."""
    return str(number) if abs(number) < 10**30 else "more than 10^30"
