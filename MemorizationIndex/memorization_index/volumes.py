"""One volume file → voxels in canonical orientation.

Canonical means LPS voxel order: arrays are indexed ``(z, y, x)`` with z from inferior to superior, y from anterior to
posterior, x from right to left, whatever order the file stores. The same volume stored LAS, LPS or with permuted axes
therefore gives the same slices (:mod:`.slices`).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from memorization_index.dicom import dicom_axes, dicom_series, dicom_shape, read_dicom
from memorization_index.durable import unchanging
from memorization_index.errors import MemorizationIndexError
from memorization_index.itk_files import ONE_READER
from memorization_index.limits import (
    MAXIMUM_INTENSITY,
    NOT_THE_FORMAT,
    TRUNCATED,
    BoundedFile,
    check_components,
    check_dimension,
    check_direction,
    check_expansion,
    check_shape,
    check_spacing,
    unreadable,
)
from memorization_index.metaimage import metaimage_header
from memorization_index.nifti import check_nifti, nifti_shape, not_finite
from memorization_index.npy import NpyHeader, npy_header
from memorization_index.nrrd import nrrd_header

PLANES = ("axial", "coronal", "sagittal")
#: The plane of a cohort that consists of 2-D images.
IMAGE_PLANE = "image"

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".npy")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")

Pixel = TypeVar("Pixel", bound=np.generic)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a file as it is stored, in ITK's terms: x first, LPS millimeters."""

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: Any) -> Grid:
        """The grid of a SimpleITK image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


@dataclass(frozen=True)
class Volume:
    """A scan, or a single image, in canonical orientation.

    ``voxels`` is ``(z, y, x)`` float32 in the file's own intensity units, ``spacing`` the voxel size along the same
    axes in millimeters. 2-D images are ``is_image`` (``z`` counts the pictures, mostly 1). ``grid`` is the file's own
    (None for formats without geometry).
    """

    voxels: NDArray[np.float32]
    spacing: tuple[float, float, float]
    is_image: bool
    subject: str | None = None
    grid: Grid | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of shape, spacing (to 1e-4 mm) and decoded voxels: the same scan in any file format or order."""
        digest = begun_fingerprint(self.voxels.shape, self.spacing)
        digest.update(np.ascontiguousarray(self.voxels).data)
        return str(digest.hexdigest())

    @property
    def acquisition_plane(self) -> str | None:
        """The plane across which voxels are thickest (by more than a third), or None for near-isotropic voxels."""
        return IMAGE_PLANE if self.is_image else acquired_plane(self.spacing)


def acquired_plane(spacing: Sequence[float]) -> str | None:
    """The plane of a volume with this spacing along z, y, x; see :attr:`Volume.acquisition_plane`."""
    order = sorted(range(3), key=lambda axis: spacing[axis])
    thickest, next_one = order[2], order[1]
    return PLANES[thickest] if spacing[thickest] > 4 / 3 * spacing[next_one] else None


def begun_fingerprint(shape: tuple[int, ...], spacing: tuple[float, ...]) -> Any:
    """The hash of a volume's fingerprint before its voxels were added."""
    # Rounded between the fractions that fields of view over matrix sizes give (0.46875), where a last bit matters.
    rounded = [math.floor(s * 1e4 + 0.3125) for s in spacing]
    return hashlib.sha256(repr((shape, rounded)).encode())


def read_volume(path: Path | Sequence[Path]) -> Volume:
    """Read one file, the files of one DICOM series, or 2-D pictures as slices, into canonical orientation.

    Raises :class:`MemorizationIndexError` with one sentence that names the file, what was expected and the remedy.
    """
    files = (path,) if isinstance(path, Path) else tuple(path)
    volume = _attempt(_read, files)
    _check_values(files[0], volume)
    return volume


def stored_image(path: Path) -> Any:
    """The SimpleITK image (2-D or 3-D) of a volume file, or of a DICOM file's series, with voxels as they are stored.

    Raises :class:`MemorizationIndexError` as :func:`read_volume` does.
    """
    files: Sequence[Path] = (path,)
    if not path.name.lower().endswith(VOLUME_SUFFIXES):
        beside = sorted(other for other in path.parent.iterdir() if other.is_file())
        files = next((series for series in dicom_series(beside) if path in series), files)
    return _attempt(lambda files: _squeezed(_stored(files)[0], files[0]), files)


def _attempt(read: Callable[[Sequence[Path]], Result], files: Sequence[Path]) -> Result:
    """What a reader gives; any exception of its own becomes one sentence."""
    first = files[0]
    try:
        _check_not_empty(first)
        with unchanging(files):
            return read(files)
    except MemorizationIndexError:
        raise
    except Exception as error:  # every reader has its own exceptions; the user needs one sentence
        raise unreadable(first, _reason(error)) from error


def check_header(path: Path) -> None:
    """Refuse a file that by its size and header alone cannot be read; raises as :func:`read_volume` does."""
    name = path.name.lower()
    try:
        _check_not_empty(path)
        if name.endswith((".nii", ".nii.gz")):
            check_nifti(path, voxels=False)
            check_dimension(path, nifti_shape(path) or ())
        elif name.endswith(".npy"):
            _npy_shape(npy_header(path))
        elif name.endswith(IMAGE_SUFFIXES):
            from PIL import Image

            with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as picture:
                check_shape(path, picture.size)
        else:
            shape = stored_shape(path)
            if name.endswith(VOLUME_SUFFIXES):
                check_dimension(path, shape or ())
    except MemorizationIndexError:
        raise
    except Exception as error:
        raise unreadable(path, _reason(error)) from error


def _check_not_empty(path: Path) -> None:
    if path.stat().st_size == 0:
        raise MemorizationIndexError(f"{path}: is empty; expected an image, so copy or export it again.")


def _check_values(path: Path, volume: Volume) -> None:
    """Refuse voxels that are no numbers, cannot be computed with, or have an impossible size."""
    low, high = float(volume.voxels.min()), float(volume.voxels.max())
    if not math.isfinite(low + high):
        raise not_finite(path, int(np.size(volume.voxels) - np.isfinite(volume.voxels).sum()))
    if max(-low, high) > MAXIMUM_INTENSITY:
        raise MemorizationIndexError(
            f"{path}: has intensities from {low:.3g} to {high:.3g}; expected at most {MAXIMUM_INTENSITY:g}, so correct "
            f"its scaling."
        )
    check_spacing(path, volume.spacing)


def _reason(error: Exception) -> str:
    """What a reader's exception means, in words."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened ({error.strerror})"
    if any(
        sign in text for sign in ("Unable to determine ImageIO", "cannot identify", "gzipped file", "not recognized")
    ):
        return NOT_THE_FORMAT
    incomplete = ("File cannot be read", "_read: ", "DataFileIterNext", "truncated", "end-of-stream", "mmap length")
    if any(sign in text for sign in incomplete):
        return TRUNCATED
    last = [line.strip() for line in text.splitlines() if line.strip()][-1:] or [type(error).__name__]
    return f"cannot be read ({re.sub(r' ?[(]0x[0-9a-f]+[)]', '', last[0])[:300]})"


def looks_flat(files: Sequence[Path]) -> bool:
    """Whether the files of an entry hold 2-D images, by name or header alone; False where that cannot be read."""
    path, name = files[0], files[0].name.lower()
    if name.endswith(IMAGE_SUFFIXES):
        return True
    if len(files) > 1:
        return False
    try:
        shape = stored_shape(path)
    except (OSError, MemorizationIndexError):
        return False
    return shape is not None and sum(side != 1 for side in shape) <= 2


def stored_shape(path: Path) -> tuple[int, ...] | None:
    """Voxels along the axes of one file, by its header alone; None where it is no volume (of a picture always)."""
    name = path.name.lower()
    if name.endswith(".npy"):
        return npy_header(path).shape
    if name.endswith((".nrrd", ".nhdr")):
        return nrrd_header(path).size
    if name.endswith((".mha", ".mhd")):
        return metaimage_header(path).size
    return nifti_shape(path) if name.endswith((".nii", ".nii.gz")) else dicom_shape(path)


def slice_count(files: Sequence[Path], plane: str) -> int:
    """How many slices of ``plane`` the volume in some files has, empty ones included, by their headers alone."""
    path, name = files[0], files[0].name.lower()
    if name.endswith(IMAGE_SUFFIXES):
        return len(files)
    if name.endswith(".npy"):
        shape = [s for s in npy_header(path).shape if s != 1]
        return shape[PLANES.index(plane)] if len(shape) == 3 else 1
    size, _, direction = _stored_axes(files)
    if len(size) < 3 or 1 in size[:3]:
        return 1
    return size[_stored_order(direction, len(size))[PLANES.index(plane)]]


def stored_spacing(files: Sequence[Path]) -> tuple[float, ...] | None:
    """Spacing along z, y, x of a 3-D volume, by its header alone; None where that does not tell."""
    if not files[0].name.lower().endswith(VOLUME_SUFFIXES) or files[0].name.lower().endswith(".npy"):
        return None
    size, spacing, direction = _stored_axes(files)
    if len(size) < 3 or 1 in size[:3]:
        return None
    return tuple(spacing[axis] for axis in _stored_order(direction, len(size)))


def _stored_order(direction: tuple[float, ...], dimension: int) -> list[int]:
    """Which stored axis (x first) runs along z, y and x."""
    matrix = np.abs(np.reshape(direction, (dimension, dimension)))[:3, :3]
    return [int(np.argmax(matrix[row])) for row in (2, 1, 0)]


def _stored_axes(files: Sequence[Path]) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Size, spacing (none of DICOM) and direction of the axes of a volume, x first, by its header alone."""
    path, name = files[0], files[0].name.lower()
    if not name.endswith(VOLUME_SUFFIXES):
        size, direction = dicom_axes(files)
        return size, (), direction
    if name.endswith((".nii", ".nii.gz")):
        with _nifti_reader(path) as reader:
            return reader.GetSize(), reader.GetSpacing(), reader.GetDirection()
    header = nrrd_header(path) if name.endswith((".nrrd", ".nhdr")) else metaimage_header(path)
    return header.size, header.spacing, header.direction


def _read(files: Sequence[Path]) -> Volume:
    path, name = files[0], files[0].name.lower()
    if len(files) > 1 and all(p.name.lower().endswith(IMAGE_SUFFIXES) for p in files):
        return _read_pictures(files)
    if name.endswith(".npy"):
        return _read_npy(path)
    if name.endswith(IMAGE_SUFFIXES):
        return _read_picture(path)
    image, subject = _stored(files)
    return replace(_from_itk(image, path), subject=subject)


def _stored(files: Sequence[Path]) -> tuple[Any, str | None]:
    """The SimpleITK image of a volume file or a DICOM series, and the latter's PatientID."""
    path, name = files[0], files[0].name.lower()
    return (_itk_image(path, name), None) if name.endswith(VOLUME_SUFFIXES) else read_dicom(files)


def _itk_image(path: Path, name: str) -> Any:
    if name.endswith((".nrrd", ".nhdr")):
        return nrrd_header(path).image()
    if name.endswith((".mha", ".mhd")):
        return metaimage_header(path).image()
    return _nifti_image(path)


def _nifti_image(path: Path) -> Any:
    check_nifti(path)
    with _nifti_reader(path) as reader:
        check_shape(path, reader.GetSize())
        check_components(path, reader.GetNumberOfComponents())
        return reader.Execute()


@contextmanager
def _nifti_reader(path: Path) -> Iterator[Any]:
    """The only reader meanwhile; it has read the header."""
    import SimpleITK as sitk

    with ONE_READER:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("NiftiImageIO")
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        yield reader


def _from_itk(image: Any, path: Path) -> Volume:
    """Reorient a SimpleITK image to LPS and take its voxels; squeezes singleton axes beyond the third."""
    import SimpleITK as sitk

    image = _squeezed(image, path)
    grid = Grid.of(image)
    if image.GetDimension() == 2:
        x, y = image.GetSpacing()
        return Volume(_floats(sitk.GetArrayFromImage(image))[None], (1.0, y, x), is_image=True, grid=grid)
    if 1 in image.GetSize():
        return replace(_flat_image(image), grid=grid)
    if sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()) != "LPS":
        image = sitk.DICOMOrient(image, "LPS")
    x, y, z = image.GetSpacing()
    return Volume(_floats(sitk.GetArrayFromImage(image)), (z, y, x), is_image=False, grid=grid)


def _squeezed(image: Any, path: Path) -> Any:
    """The image without the singleton axes beyond the third, after checks of its geometry."""
    check_dimension(path, image.GetSize())
    check_spacing(path, image.GetSpacing()[:3])
    check_direction(path, image.GetDirection())
    while image.GetDimension() > 3:
        image = image[(slice(None),) * (image.GetDimension() - 1) + (0,)]
    return image


def _flat_image(image: Any) -> Volume:
    """A 3-D file with a single slice is an image; it is shown in the plane that it was cut in."""
    import SimpleITK as sitk

    image = sitk.DICOMOrient(image, "LPS")
    voxels = _floats(sitk.GetArrayFromImage(image))
    axis = voxels.shape.index(1)
    spacing = image.GetSpacing()[::-1]
    kept = tuple(spacing[a] for a in range(3) if a != axis)
    flat = displayed(np.moveaxis(voxels, axis, 0), PLANES[axis])
    return Volume(np.ascontiguousarray(flat), (1.0, *kept), is_image=True)


def _floats(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)


def _npy_shape(header: NpyHeader) -> list[int]:
    """Axes of an image or a volume; raises :class:`MemorizationIndexError` where the array is neither."""
    path = header.path
    shape = [s for s in header.shape if s != 1] if len(header.shape) > 3 else list(header.shape)
    if len(shape) not in (2, 3) or header.kind.kind not in "biufc":
        raise MemorizationIndexError(
            f"{path}: holds a {len(shape)}-D array of type {header.kind}; expected a numeric (rows, columns) image or "
            f"(slices, rows, columns) volume, so save one array a volume."
        )
    if header.kind.kind == "c":
        raise MemorizationIndexError(f"{path}: holds complex numbers; expected magnitudes, so save their absolute.")
    return shape


def _read_npy(path: Path) -> Volume:
    header = npy_header(path)
    shape = _npy_shape(header)
    mapped = header.array().reshape(shape[1:] if len(shape) == 3 and shape[0] == 1 else shape)
    voxels = np.array(
        mapped, np.float32, order="C"
    )  # a copy: what is mapped changes with the file, or ends the process
    return Volume(voxels if voxels.ndim == 3 else voxels[None], (1.0, 1.0, 1.0), is_image=voxels.ndim == 2)


def _read_picture(path: Path) -> Volume:
    """Read a PNG, JPEG or TIFF; color is averaged to gray."""
    from PIL import Image

    # Only these formats, whatever the file holds: Pillow would start Ghostscript for a PostScript file.
    with BoundedFile(path) as stream, Image.open(stream, formats=("PNG", "JPEG", "TIFF")) as picture:
        check_shape(path, picture.size)
        check_expansion(path, math.prod(picture.size) * len(picture.getbands()), path.stat().st_size)
        frames = getattr(picture, "n_frames", 1)
        if frames != 1:
            raise MemorizationIndexError(
                f"{path}: holds {frames} pages; expected one 2-D image, so save each page or the stack as NIfTI."
            )
        gray_modes = {"1": "L", "L": "L", "LA": "L", "I": "I", "F": "F"}
        plain = picture if picture.mode.startswith("I;16") else picture.convert(gray_modes.get(picture.mode, "RGB"))
        pixels = np.asarray(plain)
    gray = pixels.mean(axis=2, dtype=np.float32) if pixels.ndim == 3 else pixels
    return Volume(_floats(gray)[None], (1.0, 1.0, 1.0), is_image=True)


def _read_pictures(paths: Sequence[Path]) -> Volume:
    """2-D images that a table assigns to one volume: its slices, in the table's order."""
    pictures = [_read_picture(p) for p in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.voxels.shape != pictures[0].voxels.shape:
            raise MemorizationIndexError(
                f"{path}: has another size than {paths[0].name}, which the table assigns to the same volume; expected "
                f"slices of one size, so correct the table's volume column."
            )
    return Volume(np.concatenate([p.voxels for p in pictures]), (1.0, 1.0, 1.0), is_image=True)


def displayed(stack: NDArray[Pixel], plane: str) -> NDArray[Pixel]:
    """Put superior on top in coronal and sagittal slices (axial ones already have anterior on top)."""
    return stack if plane == "axial" else stack[:, ::-1]
