"""Where in a query volume a copy is: maps of local agreement, on the voxel grid of the query's own file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from memorization_index.volumes import IMAGE_PLANE, PLANES, Grid, displayed

#: Maps are stored as whole percent.
PERCENT = 100


@dataclass
class AgreementVolume:
    """Maps of the flagged slices of one query volume.

    ``shape`` and ``spacing`` (mm) are those of a slice as it is displayed (rows, columns); ``maps[number]`` is ``(64,
    64)`` uint8, percent of local agreement in the geometry of the square image (see ``matching.agreement_map``).
    """

    grid: Grid
    plane: str
    shape: tuple[int, int]
    spacing: tuple[float, float]
    maps: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def to_image(self) -> Any:
        """A SimpleITK image (uint8, percent) on the file's own grid; 0 in slices that have no map."""
        import SimpleITK as sitk

        blank = sitk.Image(self.grid.size, sitk.sitkUInt8)
        blank.SetSpacing(self.grid.spacing)
        blank.SetDirection(self.grid.direction)
        if len(self.grid.size) == 2:
            array = np.zeros(self.grid.size[::-1], np.uint8)
            for found in self.maps.values():
                array[:] = on_slice(found, self.shape, self.spacing)
            image = sitk.GetImageFromArray(array)
        else:
            image = self._volume(sitk.DICOMOrient(blank, "LPS"))
        image.SetSpacing(self.grid.spacing)
        image.SetOrigin(self.grid.origin)
        image.SetDirection(self.grid.direction)
        return image

    def _volume(self, canonical: Any) -> Any:
        """Fill the slices of a blank image in canonical orientation, then turn it back to the file's."""
        import SimpleITK as sitk

        array = sitk.GetArrayFromImage(canonical)
        # A volume of a single slice counts as an image and was displayed in the plane that it was cut in.
        axis = array.shape.index(1) if self.plane == IMAGE_PLANE else PLANES.index(self.plane)
        slices = displayed(np.moveaxis(array, axis, 0), PLANES[axis])
        for number, found in self.maps.items():
            slices[number] = on_slice(found, self.shape, self.spacing)
        image = sitk.GetImageFromArray(array)
        image.CopyInformation(canonical)
        stored = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(self.grid.direction)
        return sitk.DICOMOrient(image, stored)

    def write(self, path: Path) -> None:
        """Write as a compressed NRRD."""
        import SimpleITK as sitk

        sitk.WriteImage(self.to_image(), str(path), useCompression=True)


def on_slice(square: NDArray[np.uint8], shape: Sequence[int], spacing: Sequence[float]) -> NDArray[np.uint8]:
    """Resample a map ``(64, 64)`` of the square image onto the slice ``shape`` (rows, columns) it was made from.

    The inverse of the geometry of ``slices.square_images``: the square is centered on the slice and as wide as its
    longer side in mm.
    """
    extent = max(n * s for n, s in zip(shape, spacing, strict=True))
    rows, columns = (
        (0.5 + (np.arange(n) + 0.5 - n / 2) * s / extent) * len(square) - 0.5
        for n, s in zip(shape, spacing, strict=True)
    )
    places = np.meshgrid(rows, columns, indexing="ij")
    resampled = scipy.ndimage.map_coordinates(square.astype(np.float32), places, order=1, mode="nearest")
    result: NDArray[np.uint8] = np.round(resampled).astype(np.uint8)
    return result
