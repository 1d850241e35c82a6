"""The embedded descriptor ``spectral``: what a slice looks like, whatever its position in the field of view.

Slice (128×128) → warp of the view → 64×64 → difference of Gaussians, normalized by local contrast → Hann window →
|FFT| → logarithm → light blur → the low-frequency half plane (29×15 = 435 numbers) → unit length.

The magnitude of a Fourier transform does not change when the image is shifted or turned by 180°. Flips and quarter
turns only permute its entries, so they are not computed again. Small rotations and scales are searched: the *query*
is warped, the training slices never are, so that one index and one whitening serve all views (METHOD §3.2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray

from memorization_index.filters import normalized_band

#: Side of the square images that the descriptor is computed from (see ``slices.square_images``).
INPUT_SIZE = 128
_SIZE = 64
_BAND = 14
DIMENSION = (2 * _BAND + 1) * (_BAND + 1)

ROTATIONS = (0.0, -4.0, 4.0, -8.0, 8.0, -12.0, 12.0)
SCALES = (1.0, 0.92, 1.08, 0.85, 1.17)

_FINE, _COARSE, _CONTRAST = 1.2, 4.0, 8.0  # standard deviations in pixels of the 64×64 image
_CONTRAST_FLOOR = 1e-4


@dataclass(frozen=True)
class View:
    """How a query is transformed before it is compared: rotated and scaled, then quarter-turned, then mirrored.

    ``rotation`` is in degrees, clockwise as displayed; ``scale`` > 1 enlarges; ``quarter`` is 0 or 1 counter-clockwise
    quarter turns (the descriptor cannot tell a half turn); ``mirrored`` exchanges left and right.
    """

    mirrored: bool = False
    quarter: int = 0
    rotation: float = 0.0
    scale: float = 1.0

    def half_turned(self) -> View:
        """The same view and a half turn: ``quarter`` 2 or 3."""
        return replace(self, quarter=self.quarter + 2)


def views() -> list[View]:
    """Return the views that :func:`describe_views` distinguishes, in its order, the identity first."""
    return [
        View(mirrored, quarter, rotation, scale)
        for scale in SCALES
        for rotation in ROTATIONS
        for quarter in (0, 1)
        for mirrored in (False, True)
    ]


@lru_cache(maxsize=1)
def between_views() -> NDArray[np.int64]:
    """Places in :func:`views` of the 80 whose rotation lies between two others': they look into fewer cells.

    Each is 4° from the others, which leaves .8 of a copy's similarity in the median; all candidates are compared with
    all views (docs/performance.md).
    """
    between = sorted(ROTATIONS)[::2]
    return np.flatnonzero([view.rotation in between for view in views()])


def describe(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Descriptors ``(n, 435)`` of unit length of images ``(n, 128, 128)`` in [0, 1], as they are (identity view)."""
    return _half_plane(_spectra(images, 0.0, 1.0))


def describe_views(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Descriptors ``(n, views, 435)`` of images ``(n, 128, 128)`` under every view of :func:`views`."""
    parts = []
    for scale in SCALES:
        for rotation in ROTATIONS:
            plane = _spectra(images, rotation, scale)
            for quarter in (0, 1):
                turned = np.rot90(plane, quarter, axes=(1, 2))
                for mirrored in (False, True):
                    parts.append(_half_plane(turned[:, :, ::-1] if mirrored else turned))
    return np.stack(parts, axis=1)


def _half_plane(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    half = plane[:, :, _BAND:].reshape(len(plane), DIMENSION)
    norm = np.linalg.norm(half, axis=1, keepdims=True)
    result: NDArray[np.float32] = (half / np.maximum(norm, 1e-12)).astype(np.float32)
    return result


def _spectra(images: NDArray[np.float32], rotation: float, scale: float) -> NDArray[np.float32]:
    """Blurred log-magnitude spectra ``(n, 29, 29)`` around zero frequency of the warped images."""
    halved = warped(images, rotation, scale)
    flattened = normalized_band(halved, _FINE, _COARSE, _CONTRAST, _CONTRAST_FLOOR) * _window()
    spectrum = np.abs(scipy.fft.rfft2(flattened, axes=(1, 2)))
    half = np.log1p(spectrum)[:, np.r_[-_BAND - 2 : 0, 0 : _BAND + 3], : _BAND + 3]
    # A real image has the same magnitude at opposite frequencies: complete the plane from its right half.
    plane = np.concatenate([half[:, ::-1, :0:-1], half], axis=2)
    blurred = _blur() @ plane @ _blur().T
    result: NDArray[np.float32] = blurred.astype(np.float32)
    return result


def warped(images: NDArray[np.float32], rotation: float, scale: float) -> NDArray[np.float32]:
    """Images ``(n, 128, 128)`` rotated (degrees, clockwise) and scaled, at half their resolution: ``(n, 64, 64)``."""
    flat = images.reshape(len(images), -1).T
    result: NDArray[np.float32] = (_warp(rotation, scale) @ flat).T.reshape(len(images), _SIZE, _SIZE)
    return result


@lru_cache(maxsize=1)
def _window() -> NDArray[np.float32]:
    line = np.hanning(_SIZE + 2)[1:-1]
    window: NDArray[np.float32] = np.outer(line, line).astype(np.float32)
    return window


@lru_cache(maxsize=1)
def _blur() -> NDArray[np.float32]:
    """Binomial blur of the spectrum that also crops its margin: ``(29, 33)``."""
    matrix = np.zeros((2 * _BAND + 1, 2 * _BAND + 5), np.float32)
    for row in range(2 * _BAND + 1):
        matrix[row, row : row + 5] = np.array([1, 4, 6, 4, 1]) / 16
    return matrix


@lru_cache(maxsize=64)
def _warp(rotation: float, scale: float) -> scipy.sparse.csr_matrix:
    """Sparse map from a flattened 128×128 image to the flattened rotated and scaled 64×64 one.

    Each output pixel is the mean of 2×2 points, each interpolated linearly in the input: antialiased, and for the
    identity exactly the mean of the four pixels below.
    """
    step = INPUT_SIZE / _SIZE
    offsets = (np.arange(2) + 0.5) * step / 2
    line = (np.arange(_SIZE)[:, None] * step + offsets[None, :]).ravel() - INPUT_SIZE / 2
    y, x = np.meshgrid(line, line, indexing="ij")
    angle = np.deg2rad(rotation)
    source_x = (np.cos(angle) * x - np.sin(angle) * y) / scale + INPUT_SIZE / 2 - 0.5
    source_y = (np.sin(angle) * x + np.cos(angle) * y) / scale + INPUT_SIZE / 2 - 0.5
    row = ((np.arange(2 * _SIZE) // 2)[:, None] * _SIZE + (np.arange(2 * _SIZE) // 2)[None, :]).ravel()
    rows, columns, values = [], [], []
    for corner_y, corner_x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        column_y = np.floor(source_y).astype(int) + corner_y
        column_x = np.floor(source_x).astype(int) + corner_x
        weight = (1 - np.abs(source_y - column_y)) * (1 - np.abs(source_x - column_x)) / 4
        inside = (column_y >= 0) & (column_y < INPUT_SIZE) & (column_x >= 0) & (column_x < INPUT_SIZE) & (weight > 0)
        rows.append(row[inside.ravel()])
        columns.append((column_y * INPUT_SIZE + column_x)[inside])
        values.append(weight[inside])
    shape = (_SIZE * _SIZE, INPUT_SIZE * INPUT_SIZE)
    entries = (np.concatenate(values).astype(np.float32), (np.concatenate(rows), np.concatenate(columns)))
    return scipy.sparse.csr_matrix(entries, shape=shape)
