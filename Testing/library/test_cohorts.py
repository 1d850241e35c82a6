"""The made cohort is what its description says: readable, repeatable, like MR, and of different people."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from memorization_index.errors import MemorizationIndexError
from memorization_index.evaluation.cohorts import SHAPE, SPACING, make_demo_cohort
from memorization_index.matching import match
from memorization_index.slices import square_images, to_slices
from memorization_index.spectral import View
from memorization_index.volumes import read_volume

SUBJECTS = 5


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_demo_cohort(tmp_path_factory.mktemp("cohort"), subjects=SUBJECTS, seed=3)


@pytest.fixture(scope="module")
def voxels(cohort):
    """(subject, z, y, x) in RAS order: y from posterior to anterior."""
    return np.stack([sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in cohort]).astype(float)


@pytest.fixture(scope="module")
def images(cohort):
    return [square_images(to_slices(read_volume(path), "axial"), 128) for path in cohort]


def test_files_and_geometry(cohort):
    assert [path.name for path in cohort] == [f"sub-{i:03d}_T1w.nii.gz" for i in range(1, SUBJECTS + 1)]
    image = sitk.ReadImage(str(cohort[0]))
    assert image.GetSize() == SHAPE[::-1]
    assert image.GetSpacing() == pytest.approx(SPACING[::-1])
    assert sitk.DICOMOrientImageFilter_GetOrientationFromDirectionCosines(image.GetDirection()) == "RAS"
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    assert middle[:2] == pytest.approx((0, 0), abs=1e-4)
    assert image.GetPixelIDValue() == sitk.sitkInt16


def test_no_slice_is_empty_and_the_plane_is_axial(cohort):
    volume = read_volume(cohort[0])
    assert volume.acquisition_plane == "axial"
    assert len(to_slices(volume, "axial").numbers) == SHAPE[0]


def test_a_subject_depends_on_seed_and_number_alone(cohort, tmp_path):
    again = make_demo_cohort(tmp_path, subjects=2, seed=3, first=2)
    assert [p.name for p in again] == [p.name for p in cohort[1:3]]
    assert [read_volume(p).fingerprint for p in again] == [read_volume(p).fingerprint for p in cohort[1:3]]
    other = make_demo_cohort(tmp_path / "other", subjects=1, seed=4)
    assert read_volume(other[0]).fingerprint != read_volume(cohort[0]).fingerprint


def test_no_cohort_of_nobody(tmp_path):
    with pytest.raises(MemorizationIndexError, match="at least 1"):
        make_demo_cohort(tmp_path, subjects=0)


def test_looks_like_a_head(voxels):
    """Air, cerebrospinal fluid, gray and white matter have their levels and a plausible share; the front is ahead."""
    air = voxels[:, :, :6, :6]
    assert air.mean() == pytest.approx(1000 * 0.02 * np.sqrt(np.pi / 2), rel=0.05), "Rician noise of 2 %"
    middle = voxels[:, 7]
    head = middle > 150
    assert 0.4 < head.mean() < 0.75
    inside = middle[:, 35:77, 25:71]
    shares = [np.mean((low < inside) & (inside < high)) for low, high in ((0, 350), (400, 650), (650, 1100))]
    assert 0.01 < shares[0] < 0.25, "ventricles, fissures and sulci"
    assert 0.1 < shares[1] < 0.6, "gray matter"
    assert 0.3 < shares[2] < 0.85, "white matter"
    widths = head.sum(axis=2)
    for width in widths:
        rows = np.flatnonzero(width)
        quarter = len(rows) // 4
        assert width[rows[-quarter]] < width[rows[quarter]], "heads are narrower in front"


def test_people_differ(images):
    """After affine alignment two people correlate like people (real heads: .45 ± .13), not like copies."""
    pairs = [
        match(images[a][k], [(images[b][k], View())]).ncc
        for a, b in itertools.combinations(range(SUBJECTS), 2)
        for k in (2, 8, 13)
    ]
    assert 0.3 < np.mean(pairs) < 0.65
    assert np.max(pairs) < 0.85


def test_neighboring_slices_continue_each_other(images):
    across = [match(stack[k], [(stack[k + 1], View())]).ncc for stack in images[:2] for k in range(SHAPE[0] - 1)]
    assert np.min(across) > 0.65
    assert np.mean(across) > 0.8
    assert np.max(across) < 0.99, "but are not the same"
