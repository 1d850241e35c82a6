"""Small volumes with distinct, smooth anatomy for every subject, and ways to write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

#: Slices from inferior to superior, rows from anterior to posterior, columns from right to left.
SHAPE = (12, 48, 40)
#: Voxel size in mm along the same axes: thick axial slices, square pixels.
SPACING = (4.0, 1.5, 1.5)


def anatomy(subject: int, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.int16]:
    """A body of irregular outline, filled with structures of its own, on a dark, slightly noisy background."""
    random = np.random.default_rng(1000 + subject)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    angle = np.arctan2(y, x)
    outline = 0.8 - 0.12 * np.square(z)
    for wave in (1, 2, 3, 4, 5):
        outline += random.normal(0, 0.25 / (wave + 1)) * np.cos(wave * angle + random.uniform(0, 6) + z)
    depth = np.clip((outline.clip(0.45, 0.95) - np.hypot(y, x)) / 0.3, 0, 1)
    structures = sum(
        weight * _unit(gaussian_filter(random.normal(size=shape), (1.2, sigma, sigma)))
        for weight, sigma in ((1.0, 1.3), (1.0, 2.5), (0.6, 5.0))
    )
    image = depth * np.clip(600 + 200 * structures, 60, 1400) + np.abs(random.normal(0, 4, shape))
    return np.asarray(image, np.int16)


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values / values.std()


def itk_image(voxels: NDArray, spacing: tuple[float, ...] = SPACING) -> sitk.Image:
    """A SimpleITK image in LPS voxel order (what ``voxels[z, y, x]`` means here)."""
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing([float(s) for s in spacing[::-1]])
    return image


def write(path: Path, voxels: NDArray, spacing: tuple[float, ...] = SPACING) -> Path:
    """Write voxels ``(z, y, x)`` in the format that the name of the file says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(itk_image(voxels, spacing), str(path), path.suffix == ".gz")
    return path


def write_cohort(folder: Path, subjects: range) -> list[Path]:
    """One NIfTI file of six slices for each subject, named in the BIDS way."""
    return [write(folder / f"sub-{s:02d}" / "anat" / f"sub-{s:02d}_T1w.nii.gz", anatomy(s)[3:9]) for s in subjects]


def write_dicom(
    folder: Path, voxels: NDArray, patient: str = "patient-1", series: str = "1.2.826.0.1.3680043.8.1"
) -> list[Path]:
    """One DICOM file a slice, last slice first (so that the order of names says nothing)."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for position, image in enumerate(voxels):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = f"{series}.{position + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = Dataset()
        data.file_meta = meta
        data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.826.0.1.3680043.8", series
        data.FrameOfReferenceUID = "1.2.826.0.1.3680043.9"
        data.Modality, data.PatientID, data.PatientName = "MR", patient, "Test^Phantom"
        data.InstanceNumber = position + 1
        data.ImagePositionPatient = [0, 0, position * SPACING[0]]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [SPACING[1], SPACING[2]], SPACING[0]
        data.Rows, data.Columns = image.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.PixelData = image.astype("<i2").tobytes()
        path = folder / f"{len(voxels) - position:03d}.dcm"
        data.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def write_dicom_where(folder: Path, voxels: NDArray, change: Callable[[Any, int], None]) -> list[Path]:
    """The same, after ``change(dataset, number)`` was made to each file (in the order that they are listed in)."""
    import pydicom

    files = write_dicom(folder, voxels)
    for number, path in enumerate(files):
        data = pydicom.dcmread(path)
        change(data, number)
        data.save_as(path)
    return files


def picture(seed: int) -> np.ndarray:
    """A smooth random image ``(128, 128)`` in [0, 1] inside a disk, with structure at many scales."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=(128, 128)), sigma) * sigma for sigma in (2, 4, 8)]
    image = sum(layers)
    image = (image - image.min()) / np.ptp(image)
    y, x = np.mgrid[:128, :128] - 63.5
    return (image * (np.hypot(x, y) < 48)).astype(np.float32)
