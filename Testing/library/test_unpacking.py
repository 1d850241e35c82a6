"""Voxels handed to another process: those of the file, where they lie, in any format."""

import json
from pathlib import Path

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
from memorization_index.cli import main
from memorization_index.unpacking import unpack

ANATOMY = phantoms.anatomy(7)


def taken(out: Path, found: dict) -> np.ndarray:
    return np.fromfile(out, found["type"]).reshape(found["size"][::-1])


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nrrd", "scan.mha"])
def test_voxels_are_those_of_the_file_in_its_own_order_and_place(tmp_path: Path, name: str) -> None:
    image = sitk.DICOMOrient(phantoms.itk_image(ANATOMY), "PIR")
    image.SetOrigin((5.0, -7.0, 11.0))
    image = sitk.DICOMOrient(image, "RAS")
    sitk.WriteImage(image, str(tmp_path / name))
    found = unpack(tmp_path / name, tmp_path / "voxels")
    voxels = taken(tmp_path / "voxels", found)
    np.testing.assert_array_equal(voxels, sitk.GetArrayFromImage(image))
    assert voxels.dtype == np.int16, "not converted"
    index = (4, 3, 2)
    lps = image.TransformIndexToPhysicalPoint(index)
    np.testing.assert_allclose((np.array(found["ijk_to_ras"]) @ [*index, 1])[:3], lps * np.array([-1, -1, 1]), 1e-4)
    low, high = found["window"]
    assert ANATOMY.min() <= low < high <= ANATOMY.max()


def test_a_file_of_a_dicom_series_stands_for_the_series(tmp_path: Path) -> None:
    files = phantoms.write_dicom(tmp_path / "series", ANATOMY)
    phantoms.write_dicom(tmp_path / "other", ANATOMY[:3], series="1.2.3")[0].rename(tmp_path / "series" / "other.dcm")
    found = unpack(files[0], tmp_path / "voxels")
    np.testing.assert_array_equal(taken(tmp_path / "voxels", found), ANATOMY)


def test_long_whole_numbers_and_missing_values_can_be_taken(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(ANATOMY.astype(np.int64)), str(tmp_path / "long.nrrd"))
    found = unpack(tmp_path / "long.nrrd", tmp_path / "long")
    assert found["type"] == "float64"
    np.testing.assert_array_equal(taken(tmp_path / "long", found), ANATOMY)
    sitk.WriteImage(sitk.GetImageFromArray(np.full((2, 3, 4), np.nan, np.float32)), str(tmp_path / "none.nrrd"))
    assert unpack(tmp_path / "none.nrrd", tmp_path / "none")["window"] == [0.0, 1.0]


def test_the_command_tells_what_it_wrote_and_overwrites_nothing(tmp_path: Path, capsys) -> None:
    path = phantoms.write(tmp_path / "scan.nii", ANATOMY)
    command = ["unpack", str(path), "--out", str(tmp_path / "voxels"), "--json"]
    assert main(command) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert done["event"] == "done"
    np.testing.assert_array_equal(taken(tmp_path / "voxels", done), ANATOMY)
    assert main(command) == 2
    (tmp_path / "scan.nii").write_bytes(b"nothing")
    assert main([*command[:3], str(tmp_path / "new"), "--json"]) == 2
    assert "scan.nii" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()
