"""Hand the voxels of a volume file to another process, which can then take them in parts, without decoding anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from memorization_index.volumes import stored_image

_SAMPLES = 200_000  # voxels that the window is taken from
_WINDOW = (0.1, 99.9)  # percentiles


def unpack(path: Path, out: Path) -> dict[str, Any]:
    """Write the voxels of a volume file into the new file ``out``, x fastest, as the machine has its numbers.

    Returns their NumPy ``type``, the ``size`` (x, y, z), ``ijk_to_ras`` (4 × 4, mm) and a ``window`` (lowest and
    highest intensity to show).
    """
    import SimpleITK as sitk

    image = stored_image(path)
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    voxels = sitk.GetArrayViewFromImage(image)
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize == 8:
        voxels = voxels.astype(np.float64)  # Slicer has no whole numbers of that size
    with out.open("xb") as stream:
        voxels.tofile(stream)
    to_lps = np.eye(4)
    to_lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    to_lps[:3, 3] = image.GetOrigin()
    sample = voxels.ravel()[:: max(1, voxels.size // _SAMPLES)]
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, _WINDOW).tolist() if sample.size else (0.0, 1.0)
    return {
        "type": voxels.dtype.name,
        "size": list(image.GetSize()),
        "ijk_to_ras": (np.diag([-1.0, -1.0, 1.0, 1.0]) @ to_lps).tolist(),
        "window": [low, high],
    }
