"""Slices of a volume: which count, how they are shown, their intensities, and their square images."""

from pathlib import Path

import numpy as np
import phantoms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from memorization_index.cohort import Entry
from memorization_index.encoding import read_slices
from memorization_index.slices import SliceStack, normalized, resampling_matrix, square_images, to_slices
from memorization_index.volumes import PLANES, Volume

ANATOMY = phantoms.anatomy(7)


def stack_of(images, spacing=(1.0, 1.0), plane="axial") -> SliceStack:
    images = [np.asarray(image, np.float32) for image in images]
    return SliceStack(images, spacing, np.arange(len(images)), len(images), plane)


@pytest.mark.parametrize(
    ("plane", "number", "row", "column"),
    [
        # The marker lies superior, posterior, left (voxel 10 of 12, 40 of 48, 35 of 40; LPS).
        ("axial", 10, 40, 35),  # anterior on top, the patient's right on the image's left
        ("coronal", 40, 1, 35),  # superior on top
        ("sagittal", 35, 1, 40),  # superior on top, anterior on the image's left
    ],
)
def test_plane_conventions(plane: str, number: int, row: int, column: int) -> None:
    voxels = np.abs(np.random.default_rng(0).normal(100, 20, phantoms.SHAPE)).astype(np.float32)
    voxels[10, 40, 35] = 1e4
    stack = to_slices(Volume(voxels, phantoms.SPACING, is_image=False), plane)
    position = list(stack.numbers).index(number)
    assert np.unravel_index(np.argmax(stack.images[position]), stack.images[position].shape) == (row, column)
    assert stack.total == phantoms.SHAPE[PLANES.index(plane)]
    assert stack.spacing == {"axial": (1.5, 1.5), "coronal": (4.0, 1.5), "sagittal": (4.0, 1.5)}[plane]


def test_thin_stacks_are_legal() -> None:
    volume = Volume(ANATOMY[5:7].astype(np.float32), (8.0, 1.5, 1.5), is_image=False)
    stack = to_slices(volume, "axial")
    assert list(stack.numbers) == [0, 1]
    np.testing.assert_array_equal(stack.images[1], ANATOMY[6])
    assert list(stack.positions) == [0, 1]


def test_empty_slices_are_left_out_and_numbers_kept() -> None:
    noise = np.random.default_rng(3).normal(0, 3, phantoms.SHAPE)
    voxels = np.concatenate([np.abs(noise[:2]), ANATOMY, np.zeros_like(noise[:1]), np.abs(noise[2:4])])
    voxels = voxels.astype(np.float32)
    voxels[5] = 700  # constant
    stack = to_slices(Volume(voxels, phantoms.SPACING, is_image=False), "axial")
    assert list(stack.numbers) == [n for n in range(2, 14) if n != 5]
    assert stack.total == len(voxels)


@pytest.mark.parametrize("value", [0.0, -1000.0, 5.0])
def test_constant_volume_has_no_slices(value: float) -> None:
    volume = Volume(np.full(phantoms.SHAPE, value, np.float32), phantoms.SPACING, is_image=False)
    assert to_slices(volume, "axial").images == []
    assert square_images(to_slices(volume, "axial"), 128).shape == (0, 128, 128)


def test_padding_value_is_no_background() -> None:
    """−1000 around the scan (as after resampling) changes nothing inside."""
    padded = np.pad(ANATOMY.astype(np.float32), ((0, 0), (6, 6), (6, 6)), constant_values=-1000)
    filled = np.pad(ANATOMY.astype(np.float32), ((0, 0), (6, 6), (6, 6)), constant_values=0)
    stacks = [to_slices(Volume(v, phantoms.SPACING, is_image=False), "axial") for v in (padded, filled)]
    assert list(stacks[0].numbers) == list(stacks[1].numbers)
    difference = square_images(stacks[0], 128) - square_images(stacks[1], 128)
    assert np.abs(difference).max() < 0.02


@settings(max_examples=40, deadline=None)
@given(scale=st.floats(1e-4, 1e4), offset=st.floats(-1e3, 1e3))
def test_normalization_does_not_depend_on_scale_and_offset(scale: float, offset: float) -> None:
    image = ANATOMY[6].astype(np.float32)
    changed = (image * scale + offset * scale).astype(np.float32)
    np.testing.assert_allclose(normalized(changed), normalized(image), atol=2e-3)


@settings(max_examples=60, deadline=None)
@given(image=arrays(np.float32, (9, 11), elements=st.floats(-3e4, 3e4, width=32)))
def test_normalized_images_are_finite_and_between_0_and_1(image: np.ndarray) -> None:
    result = normalized(image)
    assert result.shape == image.shape
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1


def test_skull_stripped_head_keeps_its_background() -> None:
    """A wide gap between background and tissue is no padding: a noisy copy is normalized the same way."""
    random = np.random.default_rng(1)
    texture = random.normal(0, 40, (64, 64)).astype(np.float32)
    head = disk(64, 64, (1, 1), 20) / 100 * (texture + 600) + disk(64, 64, (1, 1), 12) * 4
    noisy = head + random.normal(0, 5, head.shape).astype(np.float32)
    clean = normalized(head)
    assert np.median(clean[head > 0]) > 0.5
    assert np.abs(normalized(noisy) - clean).max() < 0.1


def test_a_single_bright_voxel_does_not_darken_the_slice() -> None:
    image = ANATOMY[6].astype(np.float32)
    spiked = image.copy()
    spiked[24, 20] = 50 * image.max()
    rest = np.ones_like(image, bool)
    rest[24, 20] = False
    assert np.abs(normalized(spiked) - normalized(image))[rest].max() < 0.05


def disk(rows: int, columns: int, spacing: tuple[float, float], radius: float) -> np.ndarray:
    y = (np.arange(rows) - (rows - 1) / 2)[:, None] * spacing[0]
    x = (np.arange(columns) - (columns - 1) / 2)[None, :] * spacing[1]
    return (100.0 * (np.hypot(y, x) < radius)).astype(np.float32)


@pytest.mark.parametrize(("rows", "columns", "spacing"), [(80, 80, (1, 1)), (40, 80, (2, 1)), (60, 30, (1, 2.5))])
def test_square_images_are_square_in_millimeters(rows: int, columns: int, spacing: tuple[float, float]) -> None:
    """A round thing stays round, centered and of its size, whatever the pixels' shape."""
    [image] = square_images(stack_of([disk(rows, columns, spacing, 20)], spacing), 128)
    extent = max(rows * spacing[0], columns * spacing[1])
    y, x = np.nonzero(image > 0.5)
    diameter = 2 * 20 / extent * 128
    assert np.ptp(y) + 1 == pytest.approx(diameter, abs=4)
    assert np.ptp(x) + 1 == pytest.approx(diameter, abs=4)
    assert (y.mean(), x.mean()) == pytest.approx((63.5, 63.5), abs=0.6)


def test_pixel_shape_read_from_the_file_makes_images_square(tmp_path: Path) -> None:
    spacing = (5.0, 2.0, 1.0)
    thin = np.stack([disk(40, 80, spacing[1:], 15), disk(40, 80, spacing[1:], 25)]).astype(np.int16)
    path = phantoms.write(tmp_path / "scan.nii.gz", thin, spacing)
    _, stack = read_slices(Entry("scan", (path,), "s", "BIDS"), "axial")
    for image in square_images(stack, 128):
        y, x = np.nonzero(image > 0.5)
        assert np.ptp(y) == pytest.approx(np.ptp(x), abs=4)


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 300), fill=st.floats(0.2, 1), size=st.sampled_from([64, 128, 224]))
def test_resampling_keeps_a_plain_image_plain_and_padding_zero(count: int, fill: float, size: int) -> None:
    matrix = resampling_matrix(count, fill / count, size)
    sums = matrix.sum(axis=1)
    assert matrix.min() >= 0
    assert sums.max() <= 1 + 1e-5
    # The image covers the middle `fill` of the output; well inside it, weights sum to one.
    margin = max(1 / size, fill / count)
    centers = (np.arange(size) + 0.5) / size - 0.5
    np.testing.assert_allclose(sums[np.abs(centers) < fill / 2 - margin], 1, atol=1e-5)
    assert np.all(sums[np.abs(centers) > fill / 2 + margin] == 0)
    # Rows of zeros around an image change nothing.
    padded = resampling_matrix(count + 6, fill / count, size)[:, 3 : count + 3]
    np.testing.assert_allclose(matrix, padded, atol=1e-6)


def test_same_picture_at_twice_the_resolution_gives_the_same_square() -> None:
    image = phantoms.anatomy(9)[6].astype(np.float32)
    fine = image.repeat(2, axis=0).repeat(2, axis=1)
    coarse_square = square_images(stack_of([image], (2.0, 2.0)), 64)
    fine_square = square_images(stack_of([fine]), 64)
    assert np.corrcoef(coarse_square.ravel(), fine_square.ravel())[0, 1] > 0.995
