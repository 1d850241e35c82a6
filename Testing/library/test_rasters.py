"""Formats that are read here and not by ITK (NRRD, MetaImage, DICOM, NPY): the same voxels and geometry as ITK's."""

import gzip
import math
import struct
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
from memorization_index.dicom import read_dicom
from memorization_index.errors import MemorizationIndexError
from memorization_index.metaimage import metaimage_header
from memorization_index.nrrd import nrrd_header
from memorization_index.volumes import read_volume

ANATOMY = phantoms.anatomy(7)
KINDS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")


def header_of(path: Path):
    return (nrrd_header if path.suffix in (".nrrd", ".nhdr") else metaimage_header)(path)


def assert_same(image: sitk.Image, path: Path) -> None:
    known = sitk.ReadImage(str(path))
    assert image.GetSize() == known.GetSize()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(known))
    for value in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(image, value)(), getattr(known, value)(), atol=1e-9, err_msg=value)


def oblique(voxels: np.ndarray) -> sitk.Image:
    """A volume whose axes are tilted, turned and flipped, away from the origin."""
    image = phantoms.itk_image(voxels)
    rotation = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.3, 1.9).GetMatrix()
    image.SetDirection((np.reshape(rotation, (3, 3)) @ np.diag([1, -1, 1])).ravel().tolist())
    image.SetOrigin((-80.5, 31.25, 7))
    return image


@pytest.mark.parametrize(("suffix", "compressed"), list(product([".nrrd", ".nhdr", ".mha", ".mhd"], [False, True])))
def test_written_by_itk(tmp_path: Path, suffix: str, compressed: bool) -> None:
    for kind in KINDS:
        path = tmp_path / f"{kind}{suffix}"
        sitk.WriteImage(oblique((ANATOMY // 12).astype(kind)), str(path), compressed)
        assert_same(header_of(path).image(), path)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_pictures_and_series_of_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"flat{suffix}"
    flat = sitk.GetImageFromArray(ANATOMY[5])
    flat.SetSpacing((0.5, 2))
    sitk.WriteImage(flat, str(path))
    assert_same(header_of(path).image(), path)
    sitk.WriteImage(sitk.JoinSeries([oblique(ANATOMY)]), str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(header_of(path).image()), ANATOMY)


@pytest.mark.parametrize("space", ["right-anterior-superior", "left-anterior-superior", "LPS", "RAS", "scanner-xyz"])
@pytest.mark.parametrize("order", ["little", "big"])
def test_nrrd_in_the_space_of_others(tmp_path: Path, space: str, order: str) -> None:
    path = tmp_path / "scan.nrrd"
    lines = [
        "NRRD0005", "# written by hand", "type: signed short", "dimension: 3", f"space: {space}", "sizes: 40 48 12",
        "space directions: (1.5,0,0) (0,0,-1.5) (0,4,0.5)", "kinds: domain domain domain", f"endian: {order}",
        "encoding: raw", "space origin: (10,-20,30.5)", "note:=a: colon",
    ]  # fmt: skip
    voxels = ANATOMY.astype(">i2" if order == "big" else "<i2").tobytes()
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + voxels)
    assert_same(nrrd_header(path).image(), path)


@pytest.mark.parametrize("skip", ["byte skip: 5", "byte skip: -1"])
def test_nrrd_that_skips_bytes_and_has_plain_spacings(tmp_path: Path, skip: str) -> None:
    path = tmp_path / "scan.nhdr"
    lines = [
        "NRRD0004", "type: uint16", "dimension: 3", "sizes: 40 48 12", "spacings: 1.5 1.5 4", "encoding: raw",
        "endian: little", "data file: voxels.bin", skip,
    ]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    (tmp_path / "voxels.bin").write_bytes(b"12345" + ANATOMY.astype("<u2").tobytes())
    assert_same(nrrd_header(path).image(), path)


@pytest.mark.parametrize("more", ["HeaderSize = -1", "BinaryDataByteOrderMSB = True", "ElementSize = 1 2 3", ""])
def test_metaimage_written_by_others(tmp_path: Path, more: str) -> None:
    path = tmp_path / "scan.mhd"
    lines = [
        "ObjectType = Image", "NDims = 3", "DimSize = 40 48 12", "ElementType = MET_SHORT", "Position = 1 2 3",
        "Rotation = 0 1 0 -1 0 0 0 0 1", more, "ElementDataFile = voxels.raw",
    ]  # fmt: skip
    path.write_text("\n".join(line for line in lines if line) + "\n")
    (tmp_path / "voxels.raw").write_bytes(ANATOMY.astype(">i2" if "MSB" in more else "<i2").tobytes())
    assert_same(metaimage_header(path).image(), path)


# --------------------------------------------------------------------------------------------------------------------
# DICOM


def series(folder: Path, change=lambda data, number: None) -> list[Path]:
    return phantoms.write_dicom_where(folder, ANATOMY, change)


def tilted(data, number: int) -> None:
    rotation = np.reshape(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.3, 0.4).GetMatrix(), (3, 3))
    data.ImageOrientationPatient = [f"{v:.12f}" for v in rotation[:, :2].T.ravel()]
    data.ImagePositionPatient = [f"{v:.10f}" for v in rotation @ [-30, 40, 4 * number]]
    data.RescaleSlope, data.RescaleIntercept = "1.5", "-20"


def test_series_has_itks_voxels_and_geometry(tmp_path: Path) -> None:
    paths = series(tmp_path, tilted)
    image, subject = read_dicom(paths)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    known = reader.Execute()
    assert subject == "patient-1"
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(known))
    for value in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(image, value)(), getattr(known, value)(), atol=1e-5, err_msg=value)


def compressed(path: Path, name: str) -> None:
    import pydicom
    from pydicom.uid import RLELossless

    if name == "RLE":
        data = pydicom.dcmread(path)
        data.compress(RLELossless)
        data.save_as(path)
        return
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.SetCompressor(name)
    writer.KeepOriginalImageUIDOn()
    writer.Execute(sitk.ReadImage(str(path)))
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_compressed


@pytest.mark.parametrize("name", ["RLE", "JPEG", "JPEG2000"])
def test_lossless_compression_keeps_every_voxel(tmp_path: Path, name: str) -> None:
    paths = series(tmp_path)
    plain = read_volume(paths[3]).voxels
    compressed(paths[3], name)
    np.testing.assert_array_equal(read_volume(paths[3]).voxels, plain)


@pytest.mark.parametrize("signed", [0, 1])
def test_monochrome1_is_inverted(tmp_path: Path, signed: int) -> None:
    """Where low values are bright, bright tissue reads as bright as in the same picture in MONOCHROME2."""

    def invert(data, number: int) -> None:
        stored = ANATOMY[number].astype(np.int32)
        data.PixelRepresentation, data.BitsStored, data.HighBit = signed, 12, 11
        data.PhotometricInterpretation = "MONOCHROME1"
        data.PixelData = ((-1 if signed else 4095) - stored).astype("<i2" if signed else "<u2").tobytes()

    np.testing.assert_array_equal(read_volume(series(tmp_path, invert)).voxels, ANATOMY)


def test_enhanced_multi_frame_object_is_a_volume(tmp_path: Path) -> None:
    import pydicom
    from pydicom.dataset import Dataset

    path = phantoms.write_dicom(tmp_path, ANATOMY)[0]
    data = pydicom.dcmread(path)
    data.NumberOfFrames, data.PixelData = len(ANATOMY), ANATOMY[::-1].astype("<i2").tobytes()
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(data, tag)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient, measures.PixelSpacing = [1, 0, 0, 0, 1, 0], [1.5, 1.5]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    data.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for place in reversed(range(len(ANATOMY))):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 4 * place]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = frames
    data.save_as(path)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels, ANATOMY)
    assert volume.spacing == pytest.approx(phantoms.SPACING)


# --------------------------------------------------------------------------------------------------------------------
# Refused by their headers (what fuzzing found, and what it could not)


def refusal(path: Path) -> str:
    with pytest.raises(MemorizationIndexError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../secret.raw", "a/../../secret.raw", "..\\secret.raw", "C:\\secret.raw", "\\\\host\\x.raw"],
)
@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_data_file_outside_its_folder(tmp_path: Path, suffix: str, name: str) -> None:
    (tmp_path / "secret.raw").write_bytes(ANATOMY.tobytes())
    path = phantoms.write(tmp_path / "below" / f"scan{suffix}", ANATOMY)
    path.write_text(path.read_text().replace("scan.raw", name))
    assert "names a data file outside its folder" in refusal(path)


@pytest.mark.parametrize("name", ["LIST", "LIST 2", "slice%03d.raw 1 12 1"])
@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_lists_of_data_files(tmp_path: Path, suffix: str, name: str) -> None:
    path = phantoms.write(tmp_path / f"scan{suffix}", ANATOMY)
    path.write_text(path.read_text().replace("scan.raw", name))
    assert "expected" in refusal(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".png", ".tif"])
def test_decompression_bomb_is_refused_by_its_header(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    path = tmp_path / f"bomb{suffix}"
    if suffix in (".png", ".tif"):
        Image.new("L", (12_000, 12_000)).save(
            path, **({"compression": "tiff_adobe_deflate"} if suffix == ".tif" else {})
        )
    else:
        sitk.WriteImage(sitk.Image(512, 512, 300, sitk.sitkUInt8), str(path), True)
    assert path.stat().st_size < 2_000_000
    assert "as a decompression bomb does" in refusal(path)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("sizes: 40 48 12", "sizes: 40 48 -12", "voxels; expected between 1"),
        ("sizes: 40 48 12", "sizes: 40 48", "instead of whole numbers"),
        ("sizes: 40 48 12", f"sizes: 40 48 {'9' * 400}", "instead of whole numbers"),
        ("sizes: 40 48 12", "sizes: 40000 48 12", "40000 voxels along one axis; expected at most 32768"),
        ("dimension: 3", "dimension: 99", "instead of whole numbers|in 99 dimensions"),
        ("type: short", "type: block", "type 'block'"),
        ("encoding: raw", "encoding: text", "in the encoding 'text'"),
        ("(1.5,0,0)", "(nan,0,0)", "instead of numbers"),
        ("(1.5,0,0)", "(0,0,0)", "space directions"),
        ("(1.5,0,0)", "(1e200,0,0)", "expected sizes between|space directions"),
        ("(1.5,0,0)", "(1e-4,0,0)", "differ at most 1000-fold"),
        ("endian:", "endian little\nendian:", "the line 'endian little'"),
        ("kinds: domain", "kinds: vector", "has 40 values a voxel|is a 2-D file"),
    ],
)
def test_nrrd_headers_that_make_no_sense(tmp_path: Path, old: str, new: str, expected: str) -> None:
    import re

    path = phantoms.write(tmp_path / "scan.nrrd", ANATOMY)
    data = path.read_bytes()
    assert old.encode() in data
    path.write_bytes(data.replace(old.encode(), new.encode(), 1))
    if not (old.startswith("kinds") and b"space directions" in data):  # directions say what an axis is
        assert re.search(expected, refusal(path))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("DimSize = 40 48 12", "DimSize = 40 48 0", "announces 0 voxels"),
        ("DimSize = 40 48 12", "DimSize = 40 48 120", "is truncated"),
        ("NDims = 3", "NDims = 300", "in 300 dimensions"),
        ("MET_SHORT", "MET_STRING", "element type 'MET_STRING'"),
        ("ElementSpacing = 1.5", "ElementSpacing = inf", "instead of numbers"),
        ("ElementSpacing = 1.5", "ElementSpacing = -1.5", "has voxels of|cannot be read"),
        ("BinaryData = True", "BinaryData = False", "as text or in several files"),
        ("NDims", "N Dims", "is not of the format"),
        ("ElementDataFile = LOCAL", "ElementDataFile", "is not of the format"),
    ],
)
def test_metaimage_headers_that_make_no_sense(tmp_path: Path, old: str, new: str, expected: str) -> None:
    import re

    path = phantoms.write(tmp_path / "scan.mha", ANATOMY)
    data = path.read_bytes()
    assert old.encode() in data
    path.write_bytes(data.replace(old.encode(), new.encode(), 1))
    assert re.search(expected, refusal(path))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"(12, 48, 40)", b"(" + b"[" * 10 + b")"),
        lambda data: data[:70],
        lambda _: b"\x93NUMPY",
    ],
)
def test_npy_headers_that_make_no_sense(tmp_path: Path, change) -> None:
    path = tmp_path / "scan.npy"
    np.save(path, ANATOMY)
    path.write_bytes(change(path.read_bytes()))
    assert "expected" in refusal(path)


def test_picture_that_is_another_format_is_not_opened(tmp_path: Path) -> None:
    """Pillow would start Ghostscript for PostScript, whatever the file's name."""
    path = tmp_path / "scan.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert "is not of the format that its name says" in refusal(path)


def test_deflated_dicom_is_not_decompressed(tmp_path: Path) -> None:
    """Its stream could hold any number of zeros."""
    import pydicom
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    path = phantoms.write_dicom(tmp_path, ANATOMY)[0]
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path)
    assert "is not of the format" in refusal(path)


@pytest.mark.parametrize(("rows", "columns"), [(30_000, 30_000), (0, 40), (48, 41)])
def test_dicom_that_announces_other_pixels_than_it_has(tmp_path: Path, rows: int, columns: int) -> None:
    import pydicom

    path = phantoms.write_dicom(tmp_path, ANATOMY)[0]
    data = pydicom.dcmread(path)
    data.Rows, data.Columns = rows, columns
    data.save_as(path)
    assert "expected" in refusal(path)


@pytest.mark.parametrize("name", ["JPEG", "JPEG2000"])
def test_compressed_picture_of_another_size_than_dicom_says(tmp_path: Path, name: str) -> None:
    import pydicom

    path = series(tmp_path)[3]
    compressed(path, name)
    data = pydicom.dcmread(path)
    data.Columns += 1
    data.save_as(path)
    assert "a compressed picture of another size than its header says" in refusal(path)


def test_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch) -> None:
    from memorization_index import volumes

    path = phantoms.write(tmp_path / "scan.nii", ANATOMY)
    read = volumes._read

    def slow(files):
        result = read(files)
        with path.open("ab") as stream:
            stream.write(b"more")
        return result

    monkeypatch.setattr(volumes, "_read", slow)
    assert "changed while it was read" in refusal(path)


def test_intensities_that_cannot_be_computed_with(tmp_path: Path) -> None:
    voxels = ANATOMY.astype(np.float32)
    voxels[3, 20, 20] = 3e38
    assert "has intensities from" in refusal(phantoms.write(tmp_path / "scan.nii", voxels))


def test_npy_that_is_rewritten_after_it_was_read_changes_nothing(tmp_path: Path) -> None:
    """Single precision needs no conversion, so that a mapped file would show through."""
    path = tmp_path / "scan.npy"
    np.save(path, ANATOMY.astype(np.float32))
    voxels = read_volume(path).voxels
    with path.open("r+b") as stream:
        stream.seek(128)
        stream.write(bytes(ANATOMY.size * 4))
    np.testing.assert_array_equal(voxels, ANATOMY)


def test_axes_of_absurd_length_are_refused_at_once(tmp_path: Path) -> None:
    """ITK works on such a matrix without end (found by Testing/faults/fuzz.py), hence a process that can be ended."""
    path = tmp_path / "scan.mha"
    sitk.WriteImage(oblique(ANATOMY), str(path))
    head, tail = path.read_bytes().split(b"TransformMatrix = ", 1)
    path.write_bytes(head + b"TransformMatrix = 1 0 0 0 1 0 0 1e308 1\n" + tail.split(b"\n", 1)[1])
    code = "import pathlib, sys; from memorization_index import volumes; volumes.read_volume(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=False)
    assert "expected a box-shaped volume" in done.stderr


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", "<>")
def test_nifti_axes_that_make_no_sense(tmp_path: Path, suffix: str, order: str) -> None:
    """ITK makes 1 mm of an infinite voxel, and works without end on the last of these (found by fuzzing)."""
    path, shown = phantoms.write(tmp_path / "scan.nii", ANATOMY), tmp_path / f"shown{suffix}"
    known, whole = read_volume(path).fingerprint, bytearray(path.read_bytes())
    if order == ">":
        whole = swapped(whole)

    def changed(at: int, *values: float) -> Path:
        content = bytearray(whole)
        struct.pack_into(f"{order}{len(values)}f", content, at, *values)
        shown.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
        return shown

    assert read_volume(changed(264, 1)).fingerprint == known  # as it is in the quaternion anyway
    for value in (math.inf, -math.inf, math.nan, 1e30):
        for at in (80, 88, 256, 268, 280, 292):
            assert "has voxel sizes or axes that are infinite" in refusal(changed(at, value))
    endless = (-1.5, 0, 0, 0, 0, -1.5, 0, 2.35e-38, 3.2e-43, 0, -math.inf, 3.6e-43)
    assert "has voxel sizes or axes that are infinite" in refusal(changed(280, *endless))


def swapped(content: bytearray) -> bytearray:
    """A NIfTI file in the other byte order."""
    result = bytearray(content)
    for kind, at, count in ("i", 0, 1), ("h", 40, 8), ("h", 68, 4), ("f", 76, 11), ("h", 252, 2), ("f", 256, 18):
        struct.pack_into(f">{count}{kind}", result, at, *struct.unpack_from(f"<{count}{kind}", content, at))
    result[352:] = np.frombuffer(content, "<i2", offset=352).astype(">i2").tobytes()
    return result
