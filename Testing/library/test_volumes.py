"""Reading, orientation, slicing and square images: one scan gives one set of slices, however it was stored."""

import ast
from itertools import permutations, product
from pathlib import Path

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
from memorization_index.channels import EmbeddedDescriber
from memorization_index.errors import MemorizationIndexError
from memorization_index.slices import to_slices
from memorization_index.volumes import PLANES, Volume, looks_flat, read_volume, slice_count
from PIL import Image

ANATOMY = phantoms.anatomy(7)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_volume_formats_read_the_same_voxels(tmp_path: Path, suffix: str, kind: type) -> None:
    voxels = (ANATOMY // 8).astype(kind)
    read = read_volume(phantoms.write(tmp_path / f"scan{suffix}", voxels))
    assert read.voxels.dtype == np.float32
    np.testing.assert_array_equal(read.voxels, voxels)
    assert read.spacing == pytest.approx(phantoms.SPACING)
    assert not read.is_image


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "SAL"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_slices_are_counted_by_the_header(tmp_path: Path, suffix: str, axes: str) -> None:
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.DICOMOrient(phantoms.itk_image(ANATOMY), axes), str(path))
    volume = read_volume(path)
    for plane in PLANES:
        assert slice_count([path], plane) == to_slices(volume, plane).total


def test_slices_of_series_arrays_and_pictures_are_counted(tmp_path: Path) -> None:
    series = phantoms.write_dicom(tmp_path / "series", ANATOMY)
    np.save(tmp_path / "scan.npy", ANATOMY)
    for plane, count in zip(PLANES, ANATOMY.shape, strict=True):
        assert slice_count(series, plane) == slice_count([tmp_path / "scan.npy"], plane) == count
    assert slice_count([tmp_path / "a.png", tmp_path / "b.png"], "image") == 2
    assert slice_count([phantoms.write(tmp_path / "flat.nii.gz", ANATOMY[:1])], "axial") == 1


def test_dicom_series_reads_the_same_voxels_as_nifti(tmp_path: Path) -> None:
    files = phantoms.write_dicom(tmp_path / "series", ANATOMY, patient="P 17")
    read = read_volume(files[::-1])
    nifti = read_volume(phantoms.write(tmp_path / "scan.nii", ANATOMY))
    np.testing.assert_array_equal(read.voxels, ANATOMY)
    assert read.fingerprint == nifti.fingerprint
    assert read.subject == "P 17"


def test_dicom_slice_by_itself_is_an_image(tmp_path: Path) -> None:
    files = phantoms.write_dicom(tmp_path, ANATOMY)
    read = read_volume(files[-1])
    assert read.is_image
    np.testing.assert_array_equal(read.voxels[0], ANATOMY[-1])


def test_scaled_dicom_and_nifti_intensities_are_those_of_the_scanner(tmp_path: Path) -> None:
    """A slope and an intercept in the header are applied."""
    path = phantoms.write(tmp_path / "scan.nii", ANATOMY)
    data = bytearray(path.read_bytes())
    data[112:120] = np.array([2.0, -50.0], "<f4").tobytes()
    path.write_bytes(data)
    np.testing.assert_allclose(read_volume(path).voxels, ANATOMY * 2.0 - 50, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("eight.png", (ANATOMY[5] // 8).astype(np.uint8)),
        ("sixteen.png", ANATOMY[5].astype(np.uint16) * 30),
        ("eight.tif", (ANATOMY[5] // 8).astype(np.uint8)),
        ("sixteen.tif", ANATOMY[5].astype(np.uint16) * 30),
        ("float.tiff", ANATOMY[5].astype(np.float32) / 7),
        ("whole.tiff", ANATOMY[5].astype(np.int32) * 1000),
        ("array.npy", ANATOMY[5].astype(np.float64) / 7),
    ],
)
def test_lossless_pictures_read_the_same_pixels(tmp_path: Path, name: str, pixels: np.ndarray) -> None:
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
    read = read_volume(path)
    assert read.is_image
    assert looks_flat([path])
    np.testing.assert_allclose(read.voxels[0], pixels, rtol=1e-6)


def test_jpeg_reads_nearly_the_same_pixels(tmp_path: Path) -> None:
    pixels = (ANATOMY[5] // 8).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "scan.jpg", quality=95)
    assert np.abs(read_volume(tmp_path / "scan.jpg").voxels[0] - pixels).mean() < 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_gray_pictures_saved_in_color_stay_gray(tmp_path: Path, mode: str) -> None:
    pixels = (ANATOMY[5] // 8).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "scan.png")
    np.testing.assert_allclose(read_volume(tmp_path / "scan.png").voxels[0], pixels, atol=0.5)


def test_arrays_of_volumes_and_of_single_slices(tmp_path: Path) -> None:
    np.save(tmp_path / "volume.npy", ANATOMY)
    np.save(tmp_path / "single.npy", ANATOMY[:1])
    np.save(tmp_path / "channel.npy", ANATOMY[None])
    assert read_volume(tmp_path / "volume.npy").voxels.shape == phantoms.SHAPE
    assert read_volume(tmp_path / "channel.npy").voxels.shape == phantoms.SHAPE
    assert read_volume(tmp_path / "single.npy").is_image


def test_a_time_series_of_one_is_a_volume(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.JoinSeries([phantoms.itk_image(ANATOMY)]), str(tmp_path / "one.nii.gz"))
    np.testing.assert_array_equal(read_volume(tmp_path / "one.nii.gz").voxels, ANATOMY)


@pytest.mark.parametrize("code", ["LPS", "LAS", "RAS", "RPI", "LIP", "SAR", "PSL", "ASR"])
def test_orientation_is_canonical(tmp_path: Path, code: str) -> None:
    """The same volume stored with flipped and permuted axes has the same fingerprint and the same features."""
    stored = sitk.DICOMOrient(phantoms.itk_image(ANATOMY), code)
    sitk.WriteImage(stored, str(tmp_path / "scan.nii.gz"))
    read = read_volume(tmp_path / "scan.nii.gz")
    plain = Volume(ANATOMY.astype(np.float32), phantoms.SPACING, is_image=False)
    np.testing.assert_array_equal(read.voxels, ANATOMY)
    assert read.fingerprint == plain.fingerprint
    features = [EmbeddedDescriber().describe(to_slices(v, "axial"))["spectral"] for v in (read, plain)]
    np.testing.assert_array_equal(*features)


def test_every_flip_and_permutation_of_axes_is_undone(tmp_path: Path) -> None:
    """All 48 ways to store a volume."""
    image, path = phantoms.itk_image(ANATOMY), tmp_path / "scan.mha"
    letters = [("R", "L"), ("A", "P"), ("I", "S")]
    known = Volume(ANATOMY.astype(np.float32), phantoms.SPACING, is_image=False).fingerprint
    for order in permutations(range(3)):
        for sides in product((0, 1), repeat=3):
            code = "".join(letters[axis][side] for axis, side in zip(order, sides, strict=True))
            sitk.WriteImage(sitk.DICOMOrient(image, code), str(path))
            assert read_volume(path).fingerprint == known, code


@pytest.mark.parametrize("degrees", [-30, 10, 40])
def test_oblique_volumes_are_taken_along_the_nearest_axes(tmp_path: Path, degrees: float) -> None:
    """Voxels are never interpolated between slices: an oblique stack gives the slices that were acquired."""
    tilt = np.deg2rad(degrees)
    image = sitk.DICOMOrient(phantoms.itk_image(ANATOMY), "RAS")
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    image.SetDirection((turn @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / "oblique.nrrd"))
    read = read_volume(tmp_path / "oblique.nrrd")
    assert read.fingerprint == Volume(ANATOMY.astype(np.float32), phantoms.SPACING, is_image=False).fingerprint


def test_fingerprint_is_that_of_voxels_and_spacing() -> None:
    voxels = ANATOMY.astype(np.float32)
    known = Volume(voxels, (4.0, 0.46875, 0.46875), is_image=False).fingerprint
    # The last bits of a spacing differ between file formats, most often at fractions such as 240 mm / 512.
    assert Volume(voxels, (4.0, 0.46875 + 2e-8, 0.46875 - 2e-8), is_image=False).fingerprint == known
    assert Volume(voxels, (4.0, 0.47, 0.47), is_image=False).fingerprint != known
    changed = voxels.copy()
    changed[3, 20, 20] += 1
    assert Volume(changed, (4.0, 0.46875, 0.46875), is_image=False).fingerprint != known


@pytest.mark.parametrize(("axis", "plane"), list(enumerate(PLANES)))
def test_acquisition_plane_is_that_of_the_thick_side(axis: int, plane: str) -> None:
    spacing = [1.0, 1.2, 1.0]
    spacing[axis] = 3.0
    voxels = ANATOMY.astype(np.float32)
    assert Volume(voxels, (spacing[0], spacing[1], spacing[2]), is_image=False).acquisition_plane == plane
    assert Volume(voxels, (1.0, 1.2, 1.1), is_image=False).acquisition_plane is None


def test_flat_file_is_shown_in_the_plane_it_was_cut_in(tmp_path: Path) -> None:
    """A NIfTI file with one coronal slice is the picture that the volume gives in that plane."""
    volume = sitk.DICOMOrient(phantoms.itk_image(ANATOMY), "RAS")
    at = ANATOMY.shape[1] - 1 - 24  # RAS counts the other way
    sitk.WriteImage(volume[:, at : at + 1, :], str(tmp_path / "flat.nii.gz"))
    read = read_volume(tmp_path / "flat.nii.gz")
    expected = to_slices(Volume(ANATOMY.astype(np.float32), phantoms.SPACING, is_image=False), "coronal")
    assert read.is_image
    assert looks_flat([tmp_path / "flat.nii.gz"])
    np.testing.assert_array_equal(read.voxels[0], expected.images[list(expected.numbers).index(24)])
    assert read.spacing[1:] == pytest.approx(expected.spacing)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda array: array.astype(complex), "complex"),
        (lambda array: array.astype(str), "expected a numeric"),
        (lambda array: np.zeros((2, 3, 4, 5)), "4-D array"),
        (lambda array: np.zeros((0, 3, 4)), "announces 0 voxels"),
    ],
)
def test_arrays_that_are_no_volume(tmp_path: Path, spoil, expected: str) -> None:
    path = tmp_path / "array.npy"
    np.save(path, spoil(ANATOMY))
    with pytest.raises(MemorizationIndexError, match=expected) as caught:
        read_volume(path)
    assert str(path) in str(caught.value)


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(MemorizationIndexError, match=r"cannot be read") as caught:
        read_volume(path)
    assert "allow_pickle" not in str(caught.value)


def test_header_that_announces_too_much_is_refused_before_allocating(tmp_path: Path) -> None:
    path = tmp_path / "huge.nrrd"
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 100000 100000 1000\nencoding: raw\nendian: little\n\n"
    path.write_text(header)
    with pytest.raises(MemorizationIndexError, match="announces 10000000000000 voxels"):
        read_volume(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d, i: setattr(d, "ImagePositionPatient", [0, 0, i // 2 * 4.0]), "several time points"),
        (
            lambda d, i: setattr(d, "ImageOrientationPatient", [1, 0, 0, 0, 1, 0] if i % 2 else [0, 1, 0, 0, 0, -1]),
            "different planes",
        ),
    ],
)
def test_dicom_series_that_is_no_single_stack(tmp_path: Path, change, expected: str) -> None:
    files = phantoms.write_dicom_where(tmp_path, ANATOMY, change)
    with pytest.raises(MemorizationIndexError, match=expected):
        read_volume(files)


def test_dicom_series_of_different_sizes(tmp_path: Path) -> None:
    def crop(data, i: int) -> None:
        if i == 3:
            data.Rows, data.PixelData = 20, data.PixelData[: 20 * data.Columns * 2]

    with pytest.raises(MemorizationIndexError, match="different sizes"):
        read_volume(phantoms.write_dicom_where(tmp_path, ANATOMY, crop))


def test_itk_opens_one_file_at_a_time() -> None:
    """Two that are opened at once damage memory too seldom to be seen here, so the rule itself is looked for."""
    opening = {"ReadImage", "ImageFileReader", "ImageSeriesReader", "ReadImageInformation", "GetGDCMSeriesFileNames"}
    found = 0
    for path in (Path(__file__).parents[2] / "MemorizationIndex" / "memorization_index").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls, locked = set(), set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in opening:
                calls.add((node.lineno, node.attr))
            if isinstance(node, ast.With) and any(ast.unparse(i.context_expr) == "ONE_READER" for i in node.items):
                locked |= {(n.lineno, n.attr) for n in ast.walk(node) if isinstance(n, ast.Attribute)}
        assert calls <= locked, path
        found += len(calls)
    assert found >= 4
