"""DICOM files: headers and pixels are read with pydicom, and geometry is made of them here.

GDCM, ITK's reader, allocates what a damaged header announces and now and then ends the process. Here it only decodes
the kinds of JPEG that nothing else decodes, from files that this module writes anew, after it compared the picture's
own header with DICOM's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memorization_index.errors import MemorizationIndexError
from memorization_index.itk_files import ONE_READER
from memorization_index.limits import (
    NOT_THE_FORMAT,
    TRUNCATED,
    BoundedFile,
    check_components,
    check_expansion,
    check_shape,
    unreadable,
)

if TYPE_CHECKING:
    from pydicom import Dataset

_PREAMBLE = 128
_DEFLATED = "1.2.840.10008.1.2.1.99"
#: Read from every header; no other element is looked at.
_TAGS = [
    "PatientID", "SeriesInstanceUID", "InstanceNumber", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelSpacing",
    "SpacingBetweenSlices", "ImageOrientationPatient", "ImagePositionPatient", "RescaleSlope", "RescaleIntercept",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
#: Transfer syntaxes whose only decoder here is GDCM's (12-bit and lossless JPEG, JPEG-LS), and JPEG's size markers.
_GDCM_ONLY = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (51, 57, 70, 80, 81))
_JPEG_SIZES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


def dicom_header(path: Path) -> Dataset | None:
    """The elements of a header that this project looks at; None where the file is no DICOM."""
    return _dataset(path, _TAGS, stop_before_pixels=True)


def _dataset(path: Path, tags: list[str], stop_before_pixels: bool) -> Dataset | None:
    import pydicom

    try:
        if _transfer_syntax(path) == _DEFLATED:  # decompressed without a limit by pydicom
            return None
        with BoundedFile(path) as stream:
            return pydicom.dcmread(
                stream, stop_before_pixels=stop_before_pixels, specific_tags=[*tags], force=not _has_preamble(path)
            )
    except Exception:  # pydicom has many ways to fail on damaged files
        return None


def _has_preamble(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def _transfer_syntax(path: Path) -> str:
    """The transfer syntax, empty for files of old scanners without a preamble."""
    from pydicom.filereader import read_file_meta_info

    if _has_preamble(path):
        return str(read_file_meta_info(path).get("TransferSyntaxUID", ""))
    with path.open("rb") as stream:
        if stream.read(2) in (b"\x02\x00", b"\x00\x02"):
            raise ValueError("file meta information without a preamble")
    return ""


def dicom_text(header: Dataset | None, tag: str) -> str | None:
    """One text value of a header; None where it is empty or there is no header."""
    try:
        return str((header.get(tag, "") or "") if header is not None else "").strip() or None
    except Exception:  # values are decoded when they are looked at
        return None


def dicom_series(paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Group image files by series, each in the order of its slices in space (else of their numbers, else names)."""
    groups: dict[str, list[tuple[tuple[float, float, str], Path]]] = {}
    for path in sorted(paths):
        header = dicom_header(path)
        uid = dicom_text(header, "SeriesInstanceUID")
        if header is None or uid is None or not (_whole(header, "Rows") and _whole(header, "Columns")):
            continue
        number = (_numbers(header, "InstanceNumber", 1) or (0.0,))[0]
        groups.setdefault(uid, []).append(((_along(header), number, path.name), path))
    return [tuple(path for _, path in sorted(groups[uid])) for uid in sorted(groups)]


def dicom_shape(path: Path) -> tuple[int, ...] | None:
    """Columns, rows and frames by the header alone; None where the file is no DICOM image."""
    header = dicom_header(path)
    if header is None:
        return None
    return _whole(header, "Columns"), _whole(header, "Rows"), _whole(header, "NumberOfFrames", 1)


def dicom_axes(paths: Sequence[Path]) -> tuple[tuple[int, int, int], tuple[float, ...]]:
    """Size (columns, rows, slices) and direction, as ITK has it, of a series by the header of its first file."""
    columns, rows, frames = dicom_shape(paths[0]) or (0, 0, 0)
    header = dicom_header(paths[0])
    orientation = None if header is None else _numbers(header, "ImageOrientationPatient", 6)
    direction = tuple(_axes(orientation).T.ravel().tolist())
    return (columns, rows, len(paths) if len(paths) > 1 else frames), direction


# --------------------------------------------------------------------------------------------------------------------
# Values of elements


def _numbers(data: Dataset, tag: str, count: int) -> tuple[float, ...] | None:
    """``count`` finite numbers; None where the element is missing, empty or holds anything else."""
    try:
        value = data.get(tag)
        found = tuple(float(v) for v in (value if count > 1 else [value]))
    except Exception:  # values are decoded when they are looked at
        return None
    return found if len(found) == count and bool(np.isfinite(found).all()) else None


def _whole(data: Dataset, tag: str, default: int = 0) -> int:
    found = _numbers(data, tag, 1)
    return default if found is None else int(found[0])


def _along(header: Dataset) -> float:
    """Place of a slice along its normal in mm; 0 where the header has no geometry."""
    orientation, position = _numbers(header, "ImageOrientationPatient", 6), _numbers(header, "ImagePositionPatient", 3)
    if orientation is None or position is None:
        return 0.0
    return float(np.cross(orientation[:3], orientation[3:]) @ np.array(position))


# --------------------------------------------------------------------------------------------------------------------
# Images


@dataclass(frozen=True)
class _Frame:
    """One slice: pixels ``(rows, columns)``, and its place in LPS mm where the header has one."""

    pixels: NDArray[Any]
    spacing: tuple[float, float]  # between rows, between columns
    orientation: tuple[float, ...] | None
    position: tuple[float, ...] | None
    between: float


def read_dicom(paths: Sequence[Path]) -> tuple[Any, str | None]:
    """The SimpleITK image of one file or of the files of a series, and the PatientID.

    Slices are ordered along their normal. Intensities are rescaled; MONOCHROME1, where low values are bright, is
    inverted. Raises :class:`MemorizationIndexError` where a file is damaged, in color, or the files are no stack.
    """
    import SimpleITK as sitk

    headers = [dicom_header(path) for path in paths]
    _check_headers(paths, headers)
    frames = [frame for path in paths for frame in _frames(path)]
    _check_stack(paths[0], frames)
    placed = all(frame.orientation is not None and frame.position is not None for frame in frames)
    frames = sorted(frames, key=_place) if placed else frames
    image = sitk.GetImageFromArray(np.stack([frame.pixels for frame in frames]))
    rows, columns = frames[0].spacing
    between = frames[0].between
    if placed:
        image.SetOrigin(frames[0].position)
        image.SetDirection(_axes(frames[0].orientation).T.ravel().tolist())
        if len(frames) > 1:
            between = (_place(frames[-1]) - _place(frames[0])) / (len(frames) - 1)
    image.SetSpacing((columns, rows, between))
    return image, dicom_text(headers[0], "PatientID")


def _check_headers(paths: Sequence[Path], headers: Sequence[Dataset | None]) -> None:
    """Refuse by headers alone what is no image, too large, or a series of several sizes."""
    sizes = set()
    for path, header in zip(paths, headers, strict=True):
        if header is None:
            raise unreadable(path, NOT_THE_FORMAT)
        size = _whole(header, "Columns"), _whole(header, "Rows")
        frames = _whole(header, "NumberOfFrames", 1)
        check_shape(path, (*size, frames))
        check_shape(paths[0], (*size, max(frames, len(paths))))
        check_components(path, _whole(header, "SamplesPerPixel", 1))
        shown = dicom_text(header, "PhotometricInterpretation") or "MONOCHROME2"
        if shown not in ("MONOCHROME1", "MONOCHROME2"):
            raise MemorizationIndexError(
                f"{path}: has pixels of {shown[:40]!r}; expected MONOCHROME1 or MONOCHROME2, so export it in gray."
            )
        sizes.add(size)
    if len(sizes) > 1:
        raise _no_stack(paths[0], len(paths), "are of different sizes")


def _no_stack(path: Path, count: int, what: str) -> MemorizationIndexError:
    return MemorizationIndexError(
        f"{path}: belongs to a DICOM series of {count} images that {what}; expected one stack of parallel slices, so "
        f"export each stack as a volume of its own."
    )


def _check_stack(path: Path, frames: Sequence[_Frame]) -> None:
    """Refuse a series that is no single stack of slices."""
    located = [f for f in frames if f.orientation is not None and f.position is not None]
    for frame in located:
        axes = _axes(frame.orientation)
        if np.abs(axes @ axes.T - np.eye(3)).max() > 1e-2:
            raise unreadable(
                path, f"{NOT_THE_FORMAT} (its ImageOrientationPatient is no pair of perpendicular vectors)"
            )
    if len(frames) < 2 or len(located) < len(frames):
        return
    directions = np.array([frame.orientation for frame in frames])
    if np.abs(directions - directions[0]).max() > 1e-2:
        raise _no_stack(path, len(frames), "lie in different planes")
    normal = _axes(frames[0].orientation)[2]
    along = np.sort(np.array([frame.position for frame in frames]) @ normal)
    if np.diff(along).min() < 1e-3:
        what = "lie at the same place (several time points, echoes or directions)"
        raise _no_stack(path, len(frames), what)


def _axes(orientation: tuple[float, ...] | None) -> NDArray[np.float64]:
    """Directions along columns' index, rows' index and slices, one a row."""
    along_row, along_column = np.reshape(orientation or (1, 0, 0, 0, 1, 0), (2, 3)).astype(float)
    return np.stack([along_row, along_column, np.cross(along_row, along_column)])


def _place(frame: _Frame) -> float:
    return float(_axes(frame.orientation)[2] @ np.array(frame.position))


def _frames(path: Path) -> list[_Frame]:
    data = _dataset(path, [*_TAGS, "PixelData"], stop_before_pixels=False)
    if data is None or not getattr(data, "PixelData", b""):
        raise unreadable(path, TRUNCATED)
    stored = _stored(path, data)
    low_is_bright = dicom_text(data, "PhotometricInterpretation") == "MONOCHROME1"
    if low_is_bright:
        bits = _whole(data, "BitsStored", 16)
        signed = _whole(data, "PixelRepresentation") == 1
        stored = (-1 if signed else 2**bits - 1) - stored.astype(np.int64)
    return [_frame(data, number, pixels) for number, pixels in enumerate(stored)]


def _frame(data: Dataset, number: int, stored: NDArray[Any]) -> _Frame:
    """Rescale one frame and take its geometry from where the object has it: frame, shared, or the object itself."""
    groups = [
        *_group(data, "PerFrameFunctionalGroupsSequence", number),
        *_group(data, "SharedFunctionalGroupsSequence"),
    ]

    def found(tag: str, count: int, sequence: str) -> tuple[float, ...] | None:
        places = [item for group in groups for item in _group(group, sequence)]
        values = (_numbers(place, tag, count) for place in (*places, data))
        return next((value for value in values if value is not None), None)

    slope = (found("RescaleSlope", 1, "PixelValueTransformationSequence") or (1.0,))[0]
    intercept = (found("RescaleIntercept", 1, "PixelValueTransformationSequence") or (0.0,))[0]
    pixels = stored if (slope, intercept) == (1, 0) else stored.astype(np.float64) * slope + intercept
    spacing = found("PixelSpacing", 2, "PixelMeasuresSequence") or (1.0, 1.0)
    between = found("SpacingBetweenSlices", 1, "PixelMeasuresSequence")
    return _Frame(
        pixels,
        (spacing[0], spacing[1]),
        found("ImageOrientationPatient", 6, "PlaneOrientationSequence"),
        found("ImagePositionPatient", 3, "PlanePositionSequence"),
        abs(between[0]) if between and between[0] else 1.0,
    )


def _group(data: Dataset, sequence: str, number: int = 0) -> list[Dataset]:
    """Item ``number`` of a sequence, in a list; an empty list where it is not there."""
    try:
        return [data[sequence][number]] if sequence in data else []
    except Exception:  # sequences are decoded when they are looked at
        return []


# --------------------------------------------------------------------------------------------------------------------
# Pixels


def _stored(path: Path, data: Dataset) -> NDArray[Any]:
    """Stored values ``(frames, rows, columns)``, after their size was compared with what the file holds."""
    shape = max(1, _whole(data, "NumberOfFrames", 1)), _whole(data, "Rows"), _whole(data, "Columns")
    check_shape(path, shape)
    bits = _whole(data, "BitsAllocated")
    if bits not in (8, 16, 32) or not 1 <= _whole(data, "BitsStored", bits) <= bits:
        raise unreadable(path, f"{NOT_THE_FORMAT} ({bits} bits a pixel)")
    announced = int(np.prod(shape)) * bits // 8
    syntax = data.file_meta.get("TransferSyntaxUID") if hasattr(data, "file_meta") else None
    try:
        if syntax is None or not syntax.is_compressed:
            if len(data.PixelData) < announced:
                raise unreadable(path, TRUNCATED)
            pixels = data.pixel_array
        else:
            check_expansion(path, announced, len(data.PixelData))
            pixels = _decoded(path, data, shape)
    except MemorizationIndexError:
        raise
    except Exception as error:  # each codec has its own exceptions
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise unreadable(path, f"cannot be decoded ({said})") from error
    found: NDArray[Any] = np.reshape(pixels, shape)
    return found


def _decoded(path: Path, data: Dataset, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Decompress, after every frame's own header was compared with DICOM's."""
    from pydicom.encaps import generate_frames
    from pydicom.uid import RLELossless

    frames = list(generate_frames(data.PixelData, number_of_frames=shape[0]))
    syntax = data.file_meta.TransferSyntaxUID
    if syntax != RLELossless and any(_picture_size(frame) != (shape[2], shape[1], 1) for frame in frames):
        raise unreadable(path, f"{NOT_THE_FORMAT} (a compressed picture of another size than its header says)")
    if syntax in _GDCM_ONLY:
        return np.stack([_by_gdcm(data, frame) for frame in frames])
    pixels: NDArray[Any] = data.pixel_array
    return pixels


def _picture_size(frame: bytes) -> tuple[int, int, int] | None:
    """Columns, rows and components of a JPEG or JPEG 2000 picture, from its own header."""
    if frame.startswith(b"\xff\x4f\xff\x51") and len(frame) > 42:  # a JPEG 2000 codestream: SIZ
        x, y, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in (8, 12, 16, 20))
        return x - left, y - top, int.from_bytes(frame[40:42], "big")
    at = 2  # behind the start marker, each segment has a marker and a length
    while frame.startswith(b"\xff\xd8") and at + 10 <= len(frame) and frame[at] == 0xFF:
        if frame[at + 1] in _JPEG_SIZES:
            rows, columns = (int.from_bytes(frame[start : start + 2], "big") for start in (at + 5, at + 7))
            return columns, rows, frame[at + 9]
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def _by_gdcm(data: Dataset, frame: bytes) -> NDArray[Any]:
    """Decode one frame with GDCM, from a file that holds nothing else."""
    import SimpleITK as sitk
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

    plain = Dataset()
    plain.file_meta = FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = data.file_meta.TransferSyntaxUID
    plain.file_meta.MediaStorageSOPClassUID = plain.SOPClassUID = SecondaryCaptureImageStorage
    plain.file_meta.MediaStorageSOPInstanceUID = plain.SOPInstanceUID = generate_uid(entropy_srcs=["frame"])
    for tag in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        setattr(plain, tag, _whole(data, tag))
    plain.SamplesPerPixel, plain.PhotometricInterpretation = 1, "MONOCHROME2"
    plain.PixelData = encapsulate([frame])
    with tempfile.TemporaryDirectory(prefix="memorization-index-") as folder:
        path = Path(folder) / "frame.dcm"
        plain.save_as(path, enforce_file_format=True)
        with ONE_READER:
            pixels: NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
    first: NDArray[Any] = pixels[0]
    return first
