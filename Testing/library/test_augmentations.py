"""Each augmentation is measured: it does what its name says, by the amount its name says."""

import io
from pathlib import Path

import numpy as np
import pytest
from memorization_index.augmentations import AUGMENTATIONS, PUBLISHED, WORDS, augment_volume
from memorization_index.errors import MemorizationIndexError
from PIL import Image
from scipy import ndimage

WIDTH = 200
EVERY = sorted(AUGMENTATIONS)
SEEDS = range(6)


def rng(seed=0):
    return np.random.default_rng(seed)


def head(height=WIDTH, width=WIDTH, seed=0):
    """An ellipse (30° from the horizontal) full of smooth texture on an empty background."""
    texture = ndimage.gaussian_filter(rng(seed).standard_normal((height, width)), min(height, width) / 40)
    return (ellipse(height, width) * np.clip(0.5 + 0.15 * texture / texture.std(), 0.2, 0.95)).astype(np.float32)


def ellipse(height=WIDTH, width=WIDTH, degrees=30.0):
    y, x = np.mgrid[:height, :width].astype(float)
    y, x = (y - (height - 1) / 2) / height, (x - (width - 1) / 2) / width
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return (((c * x - s * y) / 0.36) ** 2 + ((s * x + c * y) / 0.22) ** 2 <= 1).astype(np.float32)


def axis_degrees(image):
    """Angle of the principal axis, counter-clockwise from the horizontal, in (-90, 90]."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(float)
    y, x = y - np.average(y, weights=image), x - np.average(x, weights=image)
    xx, yy, xy = (np.average(v, weights=image) for v in (x * x, y * y, -x * y))
    return np.rad2deg(0.5 * np.arctan2(2 * xy, xx - yy))


def centroid(image):
    return np.array(ndimage.center_of_mass(image))


def apply(name, image, seed=0, partner=None):
    return AUGMENTATIONS[name].apply(image, rng(seed), partner)


# --- what holds for all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(32, 32), (70, 45), (181, 217)])
@pytest.mark.parametrize("name", EVERY)
def test_shape_type_range_and_repeatability(name, shape):
    image, partner = head(*shape), head(*shape, seed=1)
    kept, kept_partner = image.copy(), partner.copy()
    result = apply(name, image, 3, partner)
    assert result.shape == shape
    assert result.dtype == np.float32
    assert 0 <= result.min() <= result.max() <= 1
    assert result.std() > 0.05, "the picture is still there"
    np.testing.assert_array_equal(result, apply(name, image, 3, partner))
    np.testing.assert_array_equal(image, kept)
    np.testing.assert_array_equal(partner, kept_partner)


@pytest.mark.parametrize("name", [n for n in EVERY if n != "identity"])
def test_always_applied(name):
    image, partner = head(), head(seed=1)
    changes = [np.abs(apply(name, image, seed, partner) - image).max() for seed in SEEDS]
    assert min(changes) > 0.001


@pytest.mark.parametrize("name", [n for n in EVERY if AUGMENTATIONS[n].family != "noise"])
def test_background_stays_background(name):
    image = head()
    noise = 0.1 if AUGMENTATIONS[name].family == "combination" else 0.02  # JPEG rings by less than .02
    result = apply(name, image, 1, head(seed=1))
    assert result[:12, :12].max() <= noise
    assert result[-12:, -12:].max() <= noise


@pytest.mark.parametrize("name", EVERY)
def test_a_volume_gets_one_draw(name):
    """Equal slices stay equal (but for noise, which differs), and equal what a single slice would have become."""
    image, partner = head(64, 80), head(64, 80, seed=1)
    volume = augment_volume(np.stack([image] * 3), name, rng(2), np.stack([partner] * 3))
    assert volume.shape == (3, 64, 80)
    noisy = any(word in name for word in ("noise", "combo", "hard"))
    for other in (volume[1], volume[2]):
        assert np.array_equal(volume[0], other) != noisy
    if not noisy:
        np.testing.assert_allclose(volume[0], apply(name, image, 2, partner), atol=1e-6)


@pytest.mark.parametrize("name", [n for n in EVERY if AUGMENTATIONS[n].family in ("blur", "compression", "tone")])
def test_slices_of_a_volume_do_not_mix(name):
    image = head(64, 80)
    volume = augment_volume(np.stack([image, 0 * image, image]), name, rng())
    assert volume[1].max() == 0
    np.testing.assert_array_equal(volume[0], volume[2])


def test_registry():
    assert set(PUBLISHED) == {
        "identity",
        "noise_0.01",
        "noise_0.02",
        "rotation_3",
        "rotation_5",
        "flip_horizontal",
        "flip_vertical",
        "intensity",
    }
    assert [name for name, entry in AUGMENTATIONS.items() if entry.name != name] == []
    assert {name for name in EVERY if AUGMENTATIONS[name].needs_partner} == {
        "adjacent",
        "blend_50",
        "blend_70",
        "splice_40",
        "splice_60",
    }


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((31, 64), np.float32), "at least 32"),
        (np.zeros((3, 64, 64), np.float32), "at least 32"),
        (np.full((64, 64), np.nan), "not finite"),
        (np.full((64, 64), 1.1), "outside"),
        (np.full((64, 64), -0.1), "outside"),
    ],
)
def test_wrong_images_are_refused(image, words):
    with pytest.raises(MemorizationIndexError, match=words):
        apply("identity", image)


def test_wrong_use_is_refused():
    with pytest.raises(MemorizationIndexError, match="needs a partner"):
        apply("blend_70", head())
    with pytest.raises(MemorizationIndexError, match="resize one"):
        apply("splice_40", head(64, 64), partner=head(64, 80))
    with pytest.raises(MemorizationIndexError, match="choose one of: identity"):
        augment_volume(head()[None], "rotation_7", rng())


# --- intensities -----------------------------------------------------------------------------------------------------


def test_identity_is_exact():
    np.testing.assert_array_equal(apply("identity", head()), head())


@pytest.mark.parametrize("sigma", [0.01, 0.02, 0.05, 0.1])
def test_noise_sd(sigma):
    image = np.full((WIDTH, WIDTH), 0.5, np.float32)
    image[0, :2] = 0, 1  # the intensity range is 1
    noise = apply(f"noise_{sigma}", image)[1:] - 0.5
    assert noise.std() == pytest.approx(sigma, rel=0.02)
    assert abs(noise.mean()) < 0.02 * sigma
    assert abs(np.mean(noise[:, 1:] * noise[:, :-1])) < 0.03 * sigma**2, "white"


def test_noise_follows_the_intensity_range():
    image = np.full((WIDTH, WIDTH), 0.5, np.float32)
    image[0, :2] = 0.25, 0.75
    assert (apply("noise_0.02", image)[1:] - 0.5).std() == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize(("name", "factor"), [("intensity_0.9", 0.9), ("intensity_1.1", 1.1)])
def test_intensity(name, factor):
    np.testing.assert_allclose(apply(name, head()), np.minimum(head() * np.float32(factor), 1), rtol=1e-6)


def test_random_intensity_covers_its_range():
    image = np.full((32, 32), 0.5, np.float32)
    factors = np.array([apply("intensity", image, seed)[0, 0] / 0.5 for seed in range(200)])
    assert 0.9 <= factors.min() < 0.905
    assert 1.095 < factors.max() <= 1.1


@pytest.mark.parametrize("power", [0.8, 1.25])
def test_gamma(power):
    np.testing.assert_allclose(apply(f"gamma_{power}", head()), head() ** np.float32(power), rtol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_tone_curve_is_monotone_from_0_to_1(seed):
    ramp = np.linspace(0, 1, WIDTH * WIDTH, dtype=np.float32).reshape(WIDTH, WIDTH)
    curve = apply("tone_curve", ramp, seed).ravel()
    assert curve[0] == 0
    assert curve[-1] == pytest.approx(1)
    assert np.all(np.diff(curve) >= 0)
    assert np.abs(curve - ramp.ravel()).max() > 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_bias_field_is_smooth_and_attenuates(seed):
    field = apply("bias_field", np.full((WIDTH, WIDTH), 1.0), seed)
    assert field.min() == pytest.approx(0.6, abs=1e-3)
    assert field.max() == pytest.approx(1.0, abs=1e-3)
    assert np.abs(np.diff(field, axis=0)).max() < 0.015, "no steps"
    assert np.std(field) > 0.05
    bends = np.diff(np.sign(np.diff(field[:, 100])))
    assert np.count_nonzero(bends) <= 3, "a coil's field has few extremes across the image"


@pytest.mark.parametrize("percent", [0.45, 0.9])
def test_blur_width(percent):
    image = np.zeros((WIDTH, WIDTH), np.float32)
    image[100, 100] = 1
    spread = apply(f"blur_{percent}", image)
    columns = np.arange(WIDTH) - 100
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    sd = np.sqrt((spread.sum(axis=0) * columns**2).sum())
    assert sd == pytest.approx(percent / 100 * WIDTH, rel=0.05)


def test_jpeg_is_that_of_quality_30():
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(np.round(head() * 255))).save(buffer, "JPEG", quality=30)
    np.testing.assert_allclose(apply("jpeg_30", head()), np.asarray(Image.open(buffer)) / 255, atol=1e-6)
    assert np.sqrt(np.mean((apply("jpeg_30", head()) - head()) ** 2)) > 0.003


def test_down_up_loses_what_half_the_resolution_cannot_hold():
    y, x = np.mgrid[:WIDTH, :WIDTH]
    fine = (0.5 + 0.4 * (-1.0) ** (x + y)).astype(np.float32)
    coarse = (0.5 + 0.4 * np.cos(2 * np.pi * x / 40)).astype(np.float32)
    assert apply("down_up_50", fine).std() < 1e-6
    assert np.abs(apply("down_up_50", coarse) - coarse)[:, 2:-2].max() < 0.02


# --- geometry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [3, 5, 10])
def test_rotation_angle(degrees):
    turned = [axis_degrees(apply(f"rotation_{degrees}", ellipse(), seed)) - axis_degrees(ellipse()) for seed in SEEDS]
    np.testing.assert_allclose(np.abs(turned), degrees, atol=0.05)
    assert {np.sign(t) for t in turned} == {-1, 1}, "both directions occur"


def test_quarter_turns_are_exact_on_square_images():
    quarter = apply("rotation_90", head())
    assert np.abs(quarter - np.rot90(head(), 1)).max() < 1e-6 or np.abs(quarter - np.rot90(head(), -1)).max() < 1e-6
    np.testing.assert_allclose(apply("rotation_180", head(64, 81)), head(64, 81)[::-1, ::-1], atol=1e-6)


def test_flips():
    np.testing.assert_array_equal(apply("flip_horizontal", head()), head()[:, ::-1])
    np.testing.assert_array_equal(apply("flip_vertical", head()), head()[::-1])


@pytest.mark.parametrize("percent", [3, 5, 10])
def test_shift_length(percent):
    moves = np.array([centroid(apply(f"shift_{percent}", ellipse(), seed)) - centroid(ellipse()) for seed in SEEDS])
    np.testing.assert_allclose(np.hypot(*moves.T), percent / 100 * WIDTH, rtol=0.01)
    assert np.ptp(np.arctan2(*moves.T)) > 1, "in different directions"


@pytest.mark.parametrize("percent", [5, 15])
def test_scale_area(percent):
    zooms = [np.sqrt(apply(f"scale_{percent}", ellipse(), seed).sum() / ellipse().sum()) for seed in SEEDS]
    np.testing.assert_allclose(np.abs(np.array(zooms) - 1), percent / 100, atol=0.002)
    assert min(zooms) < 1 < max(zooms)
    np.testing.assert_allclose(centroid(apply(f"scale_{percent}", ellipse())), centroid(ellipse()), atol=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_crop_keeps_nine_tenths_from_inside_the_image(seed):
    y, x = np.mgrid[:WIDTH, :WIDTH].astype(np.float32)
    rows = apply("crop_10", 0.1 + 0.8 * y / WIDTH, seed)[2:-2, 2:-2]
    columns = apply("crop_10", 0.1 + 0.8 * x / WIDTH, seed)[2:-2, 2:-2]
    for slopes in (np.diff(rows, axis=0), np.diff(columns, axis=1)):
        np.testing.assert_allclose(slopes, 0.9 * 0.8 / WIDTH, atol=1e-5)
    assert min(rows.min(), columns.min()) >= 0.1, "nothing comes from outside"


@pytest.mark.parametrize("percent", [0.7, 1.3])
def test_elastic_displacement(percent):
    """A ramp shows the displacement itself: value = position."""
    y, x = np.mgrid[:WIDTH, :WIDTH].astype(np.float32) / WIDTH
    inside = slice(16, -16)
    for seed in SEEDS:
        moves = [(apply(f"elastic_{percent}", ramp, seed) - ramp)[inside, inside] for ramp in (y, x)]
        for move in moves:
            assert move.std() == pytest.approx(percent / 100, rel=0.15)
            assert np.abs(np.diff(move, axis=1)).max() * WIDTH < 0.9, "no folds"
        assert abs(np.corrcoef(moves[0].ravel(), moves[1].ravel())[0, 1]) < 0.4, "independent components"


# --- partial copies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_erased_block(seed):
    image = 0.2 + 0.8 * ellipse()
    image[ellipse() == 0] = 0.01
    erased = apply("erase_20", image, seed) == 0
    rows, columns = np.nonzero(erased)
    assert erased.sum() == 40 * 40 == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert (ellipse()[erased] > 0).mean() >= 0.75


def test_erased_blocks_differ_in_place():
    places = {tuple(np.argwhere(apply("erase_20", head() + 0.01, seed) == 0)[0]) for seed in SEEDS}
    assert len(places) == len(SEEDS)


@pytest.mark.parametrize("percent", [50, 70])
def test_blend_shares(percent):
    share = percent / 100
    blended = apply(f"blend_{percent}", head(), partner=head(seed=1))
    np.testing.assert_allclose(blended, share * head() + (1 - share) * head(seed=1), atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("percent", [40, 60])
def test_spliced_fraction(percent, seed):
    """With a partner of 0 the result divided by the image is the weight itself."""
    image = 0.5 * ellipse()
    weight = apply(f"splice_{percent}", image, seed, np.zeros_like(image))[ellipse() > 0] / 0.5
    assert (weight > 0.5).mean() == pytest.approx(percent / 100, abs=0.01)
    seam = ((weight > 0.02) & (weight < 0.98)).mean()
    assert 0.01 < seam < 0.15, "a seam, and a narrow one"


def test_spliced_region_is_one_piece_and_the_rest_is_the_partner():
    image, partner = np.full((WIDTH, WIDTH), 0.75), head(seed=1) / 2
    result = apply("splice_40", image, 5, partner)
    copied = result == 0.75
    assert ndimage.label(copied)[1] == 1
    far = ndimage.distance_transform_edt(~copied) > 0.04 * WIDTH + 1
    np.testing.assert_allclose(result[far], partner[far], atol=1e-6)
    assert far.mean() > 0.3


def test_volume_splice_counts_the_volume_and_partners_go_by_position():
    volume = np.stack([0.5 * ellipse(degrees=d) for d in (0, 45, 90, 135)])
    spliced = augment_volume(volume, "splice_60", rng(1), np.zeros((2, WIDTH, WIDTH)))
    assert ((spliced > 0.25).sum() / (volume > 0).sum()) == pytest.approx(0.6, abs=0.01)
    partners = np.stack([np.full((WIDTH, WIDTH), v) for v in (0.0, 0.5, 1.0)])
    blended = augment_volume(np.zeros((5, WIDTH, WIDTH)), "blend_50", rng(), partners)
    np.testing.assert_allclose(blended[:, 0, 0], [0, 0, 0.25, 0.5, 0.5])


# --- combinations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "degrees", "zoom", "shift"), [("combo", 4, 0.03, 0.03), ("hard", 8, 0.08, 0.0)])
def test_combination_geometry(name, degrees, zoom, shift):
    """Both flip the ellipse (either flip mirrors its axis), then turn, scale and shift it."""
    for seed in SEEDS:
        outline = (apply(name, ellipse(), seed) > 0.25).astype(float)  # clear of the noise
        assert abs(axis_degrees(outline) + axis_degrees(ellipse())) == pytest.approx(degrees, abs=0.2)
        assert abs(np.sqrt(outline.sum() / ellipse().sum()) - 1) == pytest.approx(zoom, abs=0.01)
        moved = np.hypot(*(centroid(outline) - centroid(ellipse())))
        assert moved == pytest.approx(shift * WIDTH, abs=0.3)


@pytest.mark.parametrize("name", ["combo", "hard", "hard_elastic", "flip_rotation_noise", "elastic_tone_noise"])
def test_combination_noise(name):
    flat = np.full((WIDTH, WIDTH), 0.5, np.float32)
    flat[90:110, 90:110] = 1  # full range for the noise; away from the window that is measured
    window = apply(name, flat)[40:70, 60:140]
    grain = window - ndimage.gaussian_filter(window, 6)
    assert grain.std() == pytest.approx(0.02, rel=0.15)


def test_every_augmentation_has_words_and_is_explained():
    assert list(WORDS) == list(AUGMENTATIONS)
    assert len(set(WORDS.values())) == len(WORDS)
    method = (Path(__file__).parents[2] / "docs" / "method.md").read_text(encoding="utf-8")
    table = method[method.index("## The alterations") : method.index("## What was measured")]
    for name in AUGMENTATIONS:
        assert f"`{name}`" in table
