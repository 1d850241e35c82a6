"""Raw slices to network input: values in [0, 1], one square size, three equal channels.

The two published ways of getting there differ by up to 3 % of the range, so an encoder's fingerprint names the one it
uses. Neither keeps the aspect ratio, and neither subtracts a mean or divides by a standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from memorization_index.errors import MemorizationIndexError

if TYPE_CHECKING:
    import torch

#: ``volume``: min-max, then bilinear without antialiasing; ``spine``: bilinear with antialiasing, then min-max.
Preprocessing = Literal["volume", "spine"]
PREPROCESSINGS: tuple[Preprocessing, ...] = ("volume", "spine")


def preprocess(slices: Sequence[NDArray[Any]], size: int, method: Preprocessing) -> torch.Tensor:
    """Three equal channels ``(n, 3, size, size)``, float32 in [0, 1], of raw 2-D slices.

    Raises :class:`MemorizationIndexError` where a slice is not a finite, numeric 2-D array.
    """
    import torch

    resized = [_resized(_unit_range(image, i), size, method) for i, image in enumerate(slices)]
    return torch.stack(resized)[:, None].expand(-1, 3, -1, -1)


def _unit_range(image: NDArray[Any], number: int) -> NDArray[np.float32]:
    """Map the least value to 0 and the greatest to 1; a constant slice to zeros.

    Min-max is done in float64 and before any resizing. It commutes with resizing (whose weights sum to 1), and so
    neither very small intensities (the published code calls a range below 1e-6 constant) nor very large ones are lost.
    """
    image = np.asarray(image)
    if image.ndim != 2 or image.size == 0 or image.dtype.kind not in "biuf":
        raise MemorizationIndexError(
            f"Slice {number}: has shape {image.shape} and type {image.dtype}; expected a 2-D array of numbers, so pass "
            "one slice of one channel."
        )
    values = image.astype(np.float64)
    least, greatest = values.min(), values.max()
    with np.errstate(over="ignore", invalid="ignore"):
        spread = greatest - least
    if not np.isfinite(spread):
        raise MemorizationIndexError(
            f"Slice {number}: has values that are not finite; expected finite intensities, so repair or leave it out."
        )
    if spread == 0:
        return np.zeros(image.shape, np.float32)
    scaled: NDArray[np.float64] = (values - least) / spread
    return scaled.astype(np.float32)


def _resized(image: NDArray[np.float32], size: int, method: Preprocessing) -> torch.Tensor:
    import torch
    import torch.nn.functional as F

    if method == "volume":
        tensor = torch.from_numpy(image)[None, None]
        return F.interpolate(tensor, (size, size), mode="bilinear", align_corners=False)[0, 0]
    from PIL import Image

    shrunk = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    return torch.from_numpy(_unit_range(shrunk, 0))
