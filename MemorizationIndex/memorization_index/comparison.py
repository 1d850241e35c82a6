"""Two pictures that lie on each other: intensities matched, one sampled on the other's grid, both in one picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from memorization_index.alignment import Matrix, Slices

#: Quantiles of the foreground at which two histograms are matched; beyond them the map goes on straight.
_QUANTILES = np.linspace(0.02, 0.98, 25)
_SAMPLES = 200_000  # voxels that a histogram is taken from
_FOREGROUND = 0.05  # of the range above the darkest value
_SQUARES = 8  # of the checkerboard, across the longer side


@dataclass(frozen=True)
class IntensityMap:
    """A monotone map between the intensities of a training volume and a query: equal quantiles of their foregrounds.

    ``training`` and ``query`` (k,) are increasing intensities that belong together.
    """

    training: NDArray[np.float64]
    query: NDArray[np.float64]

    @classmethod
    def between(cls, training: NDArray[Any], query: NDArray[Any]) -> IntensityMap:
        """Match the histograms of two arrays of voxels (any shape). Without a foreground in either: the identity."""
        pairs = np.stack([_foreground_quantiles(training), _foreground_quantiles(query)])
        rising = np.concatenate([[True], (np.diff(pairs) > 1e-9 * np.ptp(pairs)).all(axis=0)])
        pairs = pairs[:, rising]
        if pairs.shape[1] < 2:
            pairs = np.array([[0.0, 1.0], [0.0, 1.0]])
        return cls(pairs[0], pairs[1])

    def to_query(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Intensities of the training volume as the query would have them."""
        return _piecewise(values, self.training, self.query)

    def to_training(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Intensities of the query as the training volume would have them."""
        return _piecewise(values, self.query, self.training)


def aligned_slice(
    query: Slices, number: int, to_training: Matrix, voxels: NDArray[Any], affine: Matrix
) -> NDArray[np.float64]:
    """What a training volume has at the pixels (rows, columns) of a query's slice.

    ``to_training`` (4×4) takes RAS points of the query to the training volume's (``alignment.query_to_training``);
    ``voxels`` (k, j, i) and ``affine`` (i, j, k to RAS) are the training volume's. Linear between voxels, NaN beyond.
    """
    to_voxels = np.linalg.inv(affine) @ to_training @ query.to_world
    rows, columns = np.indices(query.shape[1:])
    places = np.stack([np.full(rows.shape, number), rows, columns], axis=-1) @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    places = places[..., ::-1]
    result: NDArray[np.float64] = scipy.ndimage.map_coordinates(
        voxels, np.moveaxis(places, -1, 0), order=1, mode="nearest", output=np.float64
    )
    result[((places < -0.5) | (places > np.array(voxels.shape) - 0.5)).any(axis=-1)] = np.nan
    return result


def checkerboard(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Two pictures of one shape in alternating squares, the first one's at the top left."""
    side = max(1, -(-max(first.shape) // _SQUARES))
    rows, columns = np.indices(first.shape) // side
    picture: NDArray[Any] = np.where((rows + columns) % 2 == 0, first, second)
    return picture


def _foreground_quantiles(values: NDArray[Any]) -> NDArray[np.float64]:
    sample = values.ravel()[:: max(1, values.size // _SAMPLES)].astype(np.float64)
    low = sample.min()
    foreground = sample[sample > low + _FOREGROUND * (np.percentile(sample, 99.5) - low)]
    result: NDArray[np.float64] = np.quantile(foreground if foreground.size else sample, _QUANTILES)
    return result


def _piecewise(values: NDArray[Any], source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear between the given points; beyond them with the slope between the outermost two."""
    slope = (target[-1] - target[0]) / (source[-1] - source[0])
    values = np.asarray(values, np.float64)
    result: NDArray[np.float64] = np.interp(values, source, target)
    result += slope * (np.minimum(values - source[0], 0) + np.maximum(values - source[-1], 0))
    return result
