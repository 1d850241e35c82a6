"""Where a copy is: the map lies on the query file's own grid, whatever its orientation; alignments are numbers."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk
from memorization_index import Reference
from phantoms import SPACING, anatomy, itk_image, write, write_cohort

#: Directions that scanners store: as is, permuted with flips, and oblique by 20° about two axes.
_TURN = np.radians(20)
_OBLIQUE = np.array([[1, 0, 0], [0, np.cos(_TURN), -np.sin(_TURN)], [0, np.sin(_TURN), np.cos(_TURN)]]) @ np.array(
    [[np.cos(_TURN), -np.sin(_TURN), 0], [np.sin(_TURN), np.cos(_TURN), 0], [0, 0, 1]]
)
ORIENTATIONS = {"LPS": np.eye(3), "RAS": np.diag([-1.0, -1.0, 1.0]), "oblique": _OBLIQUE}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agreement")
    write_cohort(folder / "training", range(8))
    return Reference.build(folder / "training", out=folder / "reference", plane="axial")


def part_copy() -> np.ndarray:
    """Subject 3's slices, whose left border was replaced by another person's."""
    voxels = anatomy(3)[3:9].copy()
    voxels[:, :, 28:] = anatomy(90)[3:9, :, 28:]
    return voxels


def on_disk(path, voxels, direction):
    """Store voxels ``(z, y, x)`` of canonical order under another direction; the anatomy stays in place."""
    image = itk_image(voxels, SPACING)
    if np.array_equal(direction, _OBLIQUE):
        image.SetDirection(direction.ravel())
    else:
        image = sitk.DICOMOrient(image, {1.0: "LPS", -1.0: "RAS"}[direction[0, 0]])
    image.SetOrigin((12.5, -40.25, 7.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return image


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_map_lies_on_the_files_own_grid_and_lights_up_the_copied_part(name, reference, tmp_path):
    stored = on_disk(tmp_path / "query" / "part.nii.gz", part_copy(), ORIENTATIONS[name])
    scores = reference.score(tmp_path / "query")
    scores.write(tmp_path / "result")
    found = sitk.ReadImage(str(tmp_path / "result" / "agreement" / "0000.nrrd"))
    assert found.GetSize() == stored.GetSize()
    np.testing.assert_allclose(found.GetSpacing(), stored.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(found.GetOrigin(), stored.GetOrigin(), rtol=1e-5)
    np.testing.assert_allclose(found.GetDirection(), stored.GetDirection(), atol=1e-6)
    flagged = scores.slices["slice"][scores.slices["flagged"]]
    assert len(flagged) >= 4
    values = sitk.GetArrayFromImage(sitk.DICOMOrient(found, "LPS"))[flagged]
    assert values.max() <= 100
    # Within the body, what was copied agrees; the narrow rest, over which the map's window spills, less.
    assert np.median(values[:, 14:34, 10:20]) >= 90
    assert np.median(values[:, 14:34, 30:34]) <= 75


def test_a_volume_without_flagged_slices_has_no_map(reference, tmp_path):
    write(tmp_path / "query" / "new.nii.gz", anatomy(55)[3:9])
    scores = reference.score(tmp_path / "query")
    scores.write(tmp_path / "result")
    assert not scores.slices["flagged"].any()
    assert not list((tmp_path / "result" / "agreement").iterdir())


def test_alignments_say_how_the_training_slice_lies_on_the_query(reference, tmp_path):
    write(tmp_path / "query" / "mirrored.nii.gz", np.ascontiguousarray(anatomy(5)[3:9][:, :, ::-1]))
    scores = reference.score(tmp_path / "query")
    scores.write(tmp_path / "result")
    with (tmp_path / "result" / "alignments.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(r["slice"]) for r in rows] == scores.slices["slice"].tolist()
    assert {r["match_volume"] for r in rows} == set(scores.slices["match_volume"])
    for row in rows:
        assert (row["mirrored"], int(row["match_slice"])) == ("1", int(row["slice"]))
        matrix = np.array([[float(row["m00"]), float(row["m01"])], [float(row["m10"]), float(row["m11"])]])
        turned = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), int(row["quarters"])) @ matrix
        np.testing.assert_allclose(turned, np.eye(2), atol=0.03)
