"""Points of a query slice are found in the matched training slice, whatever turns, flips and grids lie in between."""

import numpy as np
import pytest
import SimpleITK as sitk
from memorization_index import matching
from memorization_index.alignment import Alignment, Slices, query_to_training
from memorization_index.slices import square_images, to_slices
from memorization_index.spectral import INPUT_SIZE, View
from memorization_index.volumes import PLANES, read_volume
from scipy.ndimage import gaussian_filter

LPS = np.diag([-1.0, -1.0, 1.0])


def turn(degrees, axis):
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    result = np.eye(3)
    a, b = [i for i in range(3) if i != axis]
    result[a, a] = result[b, b] = cos
    result[a, b], result[b, a] = -sin, sin
    return result


OBLIQUE = turn(25, 2) @ turn(-15, 0) @ turn(10, 1)
# Directions (columns: i, j, k in LPS) and voxel sizes (i, j, k).
GRIDS = {
    "canonical": (np.eye(3), (1.0, 1.0, 1.0)),
    "RAS, thick slices": (np.diag([-1.0, -1.0, 1.0]), (1.0, 1.2, 3.0)),
    "left-handed": (np.diag([1.0, 1.0, -1.0]), (0.8, 1.1, 2.5)),
    "sagittal": (np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), (0.9, 1.3, 1.7)),
    "oblique": (OBLIQUE, (1.1, 0.8, 2.2)),
    "oblique, permuted and flipped": (OBLIQUE @ np.array([[0.0, -1, 0], [0, 0, 1], [1, 0, 0]]), (0.7, 2.0, 1.2)),
}


def volume_file(path, grid, size=(26, 30, 22), seed=0):
    """A NIfTI file of smooth texture (k, j, i) and its affine to RAS."""
    direction, spacing = GRIDS[grid]
    voxels = gaussian_filter(np.random.default_rng(seed).normal(size=size[::-1]), 1.5) * 1000 + 500
    image = sitk.GetImageFromArray(voxels.astype(np.float32))
    image.SetSpacing(spacing)
    image.SetDirection(direction.ravel())
    image.SetOrigin((13.0, -40.5, 22.25))
    sitk.WriteImage(image, str(path))
    affine = np.eye(4)
    affine[:3, :3] = LPS @ direction * spacing
    affine[:3, 3] = LPS @ image.GetOrigin()
    return affine, image


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("grid", GRIDS)
def test_slices_are_where_reading_finds_them(grid, plane, tmp_path):
    """Number, rows and columns of every pixel lead back to the voxel that has its value."""
    affine, image = volume_file(tmp_path / "v.nii", grid)
    slices = Slices.of(affine, image.GetSize(), plane)
    stack = to_slices(read_volume(tmp_path / "v.nii"), plane)
    assert slices.shape == (stack.total, *stack.images[0].shape)
    np.testing.assert_allclose([np.linalg.norm(v) for v in (slices.rows, slices.columns)], stack.spacing, rtol=1e-5)
    voxels = sitk.GetArrayFromImage(image)
    random = np.random.default_rng(1)
    for index, number in list(zip(range(len(stack.images)), stack.numbers, strict=True))[::5]:
        np.testing.assert_array_equal(slices.image(voxels, number), stack.images[index])
        row, column = (int(random.integers(n)) for n in stack.images[index].shape)
        world = (slices.to_world @ [number, row, column, 1])[:3]
        found = image.TransformPhysicalPointToIndex((LPS @ world).tolist())
        assert voxels[found[::-1]] == stack.images[index][row, column]
        np.testing.assert_allclose(slices.pixels(world), [number, row, column], atol=1e-6)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("grid", ["oblique", "sagittal"])
def test_the_square_image_is_where_it_is_said_to_be(grid, plane, tmp_path):
    """The center of gravity of a bright patch, seen in the square image, is the patch's place in the world."""
    affine, image = volume_file(tmp_path / "v.nii", grid)
    slices = Slices.of(affine, image.GetSize(), plane)
    number, row, column = slices.shape[0] // 2, 5, slices.shape[2] - 7
    voxels = np.zeros(image.GetSize()[::-1], np.float32)
    slices.image(voxels, number)[row - 2 : row + 3, column - 2 : column + 3] = 100  # a view: written through
    bright = sitk.GetImageFromArray(voxels)
    bright.CopyInformation(image)
    sitk.WriteImage(bright, str(tmp_path / "bright.nii"))
    stack = to_slices(read_volume(tmp_path / "bright.nii"), plane)
    [picture] = square_images(stack, INPUT_SIZE)[stack.numbers == number]
    center = np.average(np.indices(picture.shape).reshape(2, -1), axis=1, weights=picture.ravel())
    place = (center + 0.5) / INPUT_SIZE - 0.5
    world = (slices.square(number) @ [*place, 0, 1])[:3]
    np.testing.assert_allclose(slices.pixels(world), [number, row, column], atol=0.2)


# What happened to the training slice before it was found again.
TURNED = {
    "as it is": View(),
    "mirrored": View(mirrored=True),
    "quarter turn": View(quarter=1),
    "mirrored half turn": View(mirrored=True, quarter=2),
    "mirrored, three quarters": View(mirrored=True, quarter=3),
    "rotated and scaled": View(rotation=8, scale=1.08),
    "mirrored, turned, rotated": View(mirrored=True, quarter=1, rotation=-6, scale=0.94),
}
SHIFT = np.array([0.04, -0.06])


def altered(name):
    """4×4 of ``training square = A @ query square`` that makes the copy."""
    view = TURNED[name]
    angle = np.radians(view.rotation)
    matrix = view.scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Alignment(view.mirrored, -view.quarter % 4, matrix, SHIFT).query_to_training()


@pytest.mark.parametrize("name", TURNED)
def test_landmarks_of_an_altered_copy_are_found(name, tmp_path):
    """A training slice is resampled, at known places, into a query volume on another grid, and matched again."""
    training_affine, training_image = volume_file(tmp_path / "t.nii", "oblique", size=(60, 70, 12), seed=5)
    training = Slices.of(training_affine, training_image.GetSize(), "axial")
    direction, spacing = GRIDS["RAS, thick slices"]
    query_affine = np.eye(4)
    query_affine[:3, :3] = LPS @ direction * spacing
    query_size, number, source = (64, 56, 9), 6, 7
    query = Slices.of(query_affine, query_size, "axial")
    truth = training.square(source) @ altered(name) @ np.linalg.inv(query.square(number))
    voxels = disk_filled(query, number, truth, training, sitk.GetArrayFromImage(training_image), query_size)
    query_picture = picture_of(query.image(voxels, number), query)
    training_picture = picture_of(training.image(sitk.GetArrayFromImage(training_image), source), training)
    found = matching.match(query_picture, [(training_picture, TURNED[name])])
    assert found.ncc > 0.85
    matrix = query_to_training(Alignment.of_match(found), query.square(number), training.square(source))
    landmarks = query.pixels(query.corners(number)) * [1, 0.4, 0.4] + [0, query.shape[1] * 0.3, query.shape[2] * 0.3]
    world = landmarks @ query.to_world[:3, :3].T + query.origin
    for point in world:
        there = training.pixels((matrix @ [*point, 1])[:3])
        expected = training.pixels((truth @ [*point, 1])[:3])
        assert abs(there[0] - source) < 1e-6
        assert np.linalg.norm(there - expected) < 1.0
        np.testing.assert_allclose((np.linalg.inv(matrix) @ matrix @ [*point, 1])[:3], point, atol=1e-6)


def disk_filled(query, number, truth, training, training_voxels, size):
    """Query voxels (k, j, i): in slice ``number`` what ``truth`` says lies there in the training volume."""
    from scipy.ndimage import map_coordinates

    voxels = np.zeros(size[::-1], np.float32)
    rows, columns = np.indices(query.shape[1:])
    pixels = np.stack([np.full(rows.shape, number), rows, columns, np.ones(rows.shape)], axis=-1)
    world = pixels @ query.to_world.T @ truth.T
    places = training.pixels(world[..., :3])
    cube = np.stack([training.image(training_voxels, n) for n in range(training.shape[0])])
    query.image(voxels, number)[:] = map_coordinates(cube, np.moveaxis(places, -1, 0), order=1)
    return voxels


def picture_of(picture, slices):
    from memorization_index.slices import SliceStack

    spacing = tuple(float(np.linalg.norm(v)) for v in (slices.rows, slices.columns))
    stack = SliceStack([np.ascontiguousarray(picture)], spacing, np.array([0]), 1, "axial")
    return square_images(stack, INPUT_SIZE)[0]


def test_off_the_slice_slices_are_counted_in_either_direction():
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    other = np.diag([1.0, 1.0, 2.0, 1.0])
    query, training = Slices.of(affine, (9, 9, 9), "axial"), Slices.of(other, (9, 9, 9), "axial")
    same = Alignment(False, 0, np.eye(2), np.zeros(2))
    for direction in (1, -1):
        matrix = query_to_training(same, query.square(4), training.square(5), direction)
        there = matrix @ [*query.center(6), 1]
        np.testing.assert_allclose(training.pixels(there[:3]), training.pixels(training.center(5 + 2 * direction)))


def test_a_row_of_the_table_is_read_as_texts_or_numbers():
    row = {"mirrored": "1", "quarters": "3", "m00": "1.01", "m01": "0", "m10": 0.0, "m11": 0.99}
    found = Alignment.of_row({**row, "shift_rows": "0.25", "shift_columns": -0.125})
    assert (found.mirrored, found.quarters) == (True, 3)
    np.testing.assert_array_equal(found.matrix, [[1.01, 0], [0, 0.99]])
    np.testing.assert_array_equal(found.shift, [0.25, -0.125])


def test_a_volume_of_one_slice_is_an_image():
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    slices = Slices.of(affine, (20, 1, 30), "image")
    assert slices.shape == (1, 30, 20)
    np.testing.assert_allclose(slices.rows, [0, 0, -1])
    with pytest.raises(ValueError, match="no plane"):
        Slices.of(affine, (20, 10, 30), "image")
