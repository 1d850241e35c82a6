"""A volume → 2-D slices in a chosen plane → square images in [0, 1].

Slices are shown as radiologists read them (anterior or superior on top); slice numbers are 0-based along the axis that
is sliced: *axial* inferior → superior, *coronal* anterior → posterior, *sagittal* right → left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from memorization_index.volumes import IMAGE_PLANE, PLANES, Volume, displayed

#: A slice is empty when less than this fraction of its pixels is foreground, or …
EMPTY_FOREGROUND = 0.02
#: … when its bright end stays below this fraction of the volume's (air and noise beyond the anatomy).
EMPTY_RANGE = 0.10
#: Above a padding value, at least this fraction of the values is background.
_BACKGROUND_FRACTION = 0.05


@dataclass(frozen=True)
class SliceStack:
    """The foreground slices of one volume in one plane.

    ``images`` is a list of ``n`` float32 arrays ``(rows, columns)`` in file units, ``spacing`` their (row, column)
    size in mm, ``numbers`` their 0-based numbers along the axis, ``total`` how many slices the volume has.
    """

    images: list[NDArray[np.float32]]
    spacing: tuple[float, float]
    numbers: NDArray[np.int64]
    total: int
    plane: str
    #: What :func:`square_images` made of them, by size: several channels and the verification ask for the same.
    _squares: dict[int, NDArray[np.float32]] = field(default_factory=dict, init=False, repr=False, compare=False)
    #: What :func:`_levels` found in each slice.
    _scales: list[tuple[float, float]] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def positions(self) -> NDArray[np.float32]:
        """Relative position of each slice along the axis, in [0, 1]; 0.5 for single images."""
        if self.total == 1:
            return np.full(len(self.numbers), 0.5, np.float32)
        return (self.numbers / (self.total - 1)).astype(np.float32)

    def batches(self, size: int = 32) -> Iterator[SliceStack]:
        """The same slices in parts of at most ``size``."""
        return (self.part(slice(start, start + size)) for start in range(0, len(self.images), size))

    def part(self, chosen: slice) -> SliceStack:
        """Some of the slices."""
        part = replace(self, images=self.images[chosen], numbers=self.numbers[chosen])
        part._scales.extend(self._scales[chosen])
        part._squares.update({side: squares[chosen] for side, squares in self._squares.items()})
        return part


def to_slices(volume: Volume, plane: str, numbers: Sequence[int] | None = None) -> SliceStack:
    """Cut a volume into the foreground slices of ``plane`` (never interpolating between slices).

    Empty slices — constant ones, those with less than 2 % foreground, and those whose intensities stay in the lowest
    tenth of the volume's range — are left out; ``SliceStack.total`` still counts them. Who knows already which slices
    are wanted names their ``numbers``.
    """
    if volume.is_image:
        stack, spacing, name = volume.voxels, volume.spacing[1:], IMAGE_PLANE
    else:
        axis = PLANES.index(plane)
        stack = displayed(np.moveaxis(volume.voxels, axis, 0), plane)
        kept = [volume.spacing[a] for a in range(3) if a != axis]
        spacing, name = (kept[0], kept[1]), plane
    keep = _foreground(stack, volume) if numbers is None else sorted(numbers)
    images = [np.ascontiguousarray(stack[i]) for i in keep]
    return SliceStack(images, spacing, np.asarray(keep, np.int64), len(stack), name)


def _foreground(stack: NDArray[np.float32], volume: Volume) -> list[int]:
    background, bright = _range(volume.voxels)
    return [i for i, image in enumerate(stack) if not _is_empty(image, background, bright)]


def _range(values: NDArray[np.float32]) -> tuple[float, float]:
    """Background (a padding value is ignored) and bright end (99.5th percentile) of the intensities."""
    sample = values.ravel()[:: max(1, values.size // 200_000)]
    low = float(sample.min())
    above = sample[sample > low]
    if above.size == 0:
        return low, low
    # A value far below everything else is padding (−1000 around an MR of 0 … 3000), not background, where there is a
    # background above it: values near the next lowest. Without one (a skull-stripped head) the gap must be enormous.
    next_low, bright = (float(value) for value in np.percentile(above, (0.1, 99.5)))
    span, gap = bright - next_low, next_low - low
    has_background = np.mean(above < next_low + 0.05 * span) > _BACKGROUND_FRACTION
    is_padded = gap > 0.2 * span > 0 and (has_background or gap > 2 * span)
    return next_low if is_padded else low, bright


def _is_empty(image: NDArray[np.float32], background: float, bright: float) -> bool:
    span = bright - background
    if span <= 0:
        return True
    foreground = image > background + 0.05 * span
    if foreground.mean() < EMPTY_FOREGROUND:
        return True
    return bool(np.percentile(image, 99.5) - background < EMPTY_RANGE * span or np.ptp(image) == 0)


def square_images(stack: SliceStack, size: int) -> NDArray[np.float32]:
    """Resample slices to ``(n, size, size)`` float32 in [0, 1] (but for rounding), square in millimeters.

    Resampling to square pixels by spacing, padding to a square and resizing are one separable linear map: along each
    axis a triangle filter as wide as the larger of the two pixel sizes (so it is antialiased when shrinking), around
    the slice's center. Intensities are mapped robustly by :func:`normalized`.
    """
    if size not in stack._squares:
        stack._squares[size] = _square_images(stack, size)
        stack._squares[size].flags.writeable = False
    return stack._squares[size]


def _square_images(stack: SliceStack, size: int) -> NDArray[np.float32]:
    if not stack.images:
        return np.zeros((0, size, size), np.float32)
    rows, columns = stack.images[0].shape
    extent = max(rows * stack.spacing[0], columns * stack.spacing[1])
    left = resampling_matrix(rows, stack.spacing[0] / extent, size)
    right = resampling_matrix(columns, stack.spacing[1] / extent, size).T
    if not stack._scales:
        stack._scales.extend(map(_levels, stack.images))
    result = np.empty((len(stack.images), size, size), np.float32)
    for i, (image, levels) in enumerate(zip(stack.images, stack._scales, strict=True)):
        result[i] = left @ _scaled(image, levels) @ right
    return result


def normalized(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Robust min–max over the foreground to [0, 1]: background (and padding) → 0, 99.5th foreground percentile → 1."""
    return _scaled(image, _levels(image))


def _levels(image: NDArray[np.float32]) -> tuple[float, float]:
    """The intensities that :func:`normalized` takes to 0 and to 1."""
    background, bright = _range(image)
    foreground = image[image > background + 0.05 * (bright - background)]
    return background, float(np.percentile(foreground, 99.5)) if foreground.size else bright


def _scaled(image: NDArray[np.float32], levels: tuple[float, float]) -> NDArray[np.float32]:
    background, high = levels
    if high <= background:
        return np.zeros_like(image)
    scaled: NDArray[np.float32] = np.clip((image - background) / (high - background), 0, 1)
    return scaled


@lru_cache(maxsize=64)
def resampling_matrix(count: int, pixel: float, size: int) -> NDArray[np.float32]:
    """Matrix ``(size, count)`` that resamples ``count`` pixels, each ``pixel`` of the output's extent wide.

    Rows sum to 1 inside the image and to less at its border, where the missing part is background (0).
    """
    step = 1.0 / size
    width = max(pixel, step)
    targets = (np.arange(size) + 0.5) * step - 0.5
    beyond = 2 * math.ceil(width / pixel)  # pixels beyond the image under any triangle that touches it
    sources = (np.arange(-beyond, count + beyond) + 0.5 - count / 2) * pixel
    weights = np.clip(1 - np.abs(targets[:, None] - sources[None, :]) / width, 0, None)
    # Divided by what the triangle would weigh without a border: its sum over pixels differs with its place among them.
    inside = weights[:, beyond : beyond + count]
    weight = weights.sum(axis=1, keepdims=True)
    matrix: NDArray[np.float32] = (inside / np.where(weight > 0, weight, 1)).astype(np.float32)
    matrix.flags.writeable = False
    return matrix
