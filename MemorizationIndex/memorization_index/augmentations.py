"""What may happen to a training slice between the scanner and a synthetic set, each change under one fixed name.

Every augmentation is *always applied*: nothing here is skipped with probability 1/2, because a benchmark that skips
measures its own coin. Detection is only believed when the controls went through the same change with the same draw::

    copy = AUGMENTATIONS["rotation_5"].apply(training_slice, np.random.default_rng(7))
    control = AUGMENTATIONS["rotation_5"].apply(held_out_slice, np.random.default_rng(7))

Conventions
    Images are float32 in [0, 1], rows downward, background near 0, at least 32 pixels a side; results have the same
    shape, type and range. Lengths are fractions of the image's width (its number of columns). Geometry is applied
    about the image's center in one resampling with *linear* interpolation (flips and, on square images, turns by 90°
    and 180° fall on the grid and are therefore exact); what comes from outside the image is 0. "±" draws the sign.
    The same generator state gives the same result. Placement (erased block, splice) looks for the foreground, that is
    pixels above 10 % of the image's 99.5th percentile.

The published benchmark (arXiv 2602.13066, section "Augmentations") has ``PUBLISHED``: the clean copy, Gaussian noise σ
.01 and .02, rotations by ±3° and ±5°, both flips, and a random intensity factor in [0.9, 1.1]. ``ADJACENT`` lies half
way to the next slice of the same volume, which is its partner.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from memorization_index.errors import MemorizationIndexError

Stack: TypeAlias = NDArray[np.float32]  # (n, H, W): the slices of one volume, or one slice with n = 1
Transform: TypeAlias = Callable[[Stack, np.random.Generator, Stack | None], Stack]

SMALLEST_SIDE = 32
#: The augmentation whose partner is the next slice of the same volume, not another subject.
ADJACENT = "adjacent"


@dataclass(frozen=True)
class Augmentation:
    """One change with fixed strength; what is random in it (sign, direction, place, noise) comes from the generator.

    ``transform`` maps a stack (n, H, W) with one draw for all of its slices; noise alone differs from slice to slice.
    """

    name: str
    family: str
    transform: Transform
    published: bool = False
    needs_partner: bool = False

    def apply(
        self, image: ArrayLike, rng: np.random.Generator, partner: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Return the changed slice (H, W) float32 in [0, 1]; blends and splices need a ``partner`` of the same shape.

        Raises MemorizationIndexError for anything but a finite 2-D image in [0, 1] of at least 32 pixels a side.
        """
        stack = _checked(np.asarray(image)[None], "image")
        other = None if partner is None else _checked(np.asarray(partner)[None], "partner")
        return np.asarray(self._run(stack, rng, other)[0])

    def _run(self, stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
        if self.needs_partner:
            if partner is None:
                raise MemorizationIndexError(
                    f"Augmentation {self.name} needs a partner image: pass partner=, a slice of another subject."
                )
            if partner.shape != stack.shape:
                raise MemorizationIndexError(
                    f"The partner has shape {partner.shape[1:]}, the image {stack.shape[1:]}; resize one to match."
                )
        return np.asarray(np.clip(self.transform(stack, rng, partner), 0.0, 1.0), dtype=np.float32)


def augment_volume(
    volume: ArrayLike, name: str, rng: np.random.Generator, partner_volume: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Apply augmentation ``name`` to a volume (n, H, W) with the same drawn parameters in every slice.

    A volume rotated by 5° is rotated everywhere by the same 5°, a splice cuts through all slices at the same place (its
    fraction is that of the volume's foreground); noise is independent from slice to slice. A partner volume (m, H, W)
    gives each slice the partner at the same relative position.
    """
    if name not in AUGMENTATIONS:
        raise MemorizationIndexError(f"There is no augmentation {name!r}; choose one of: {', '.join(AUGMENTATIONS)}.")
    stack = _checked(volume, "volume")
    other = None
    if partner_volume is not None:
        other = _checked(partner_volume, "partner volume")
        other = other[np.round(np.linspace(0, len(other) - 1, len(stack))).astype(int)]
    return AUGMENTATIONS[name]._run(stack, rng, other)


def _checked(stack: ArrayLike, what: str) -> Stack:
    array = np.asarray(stack)
    if array.ndim != 3 or min(array.shape[1:]) < SMALLEST_SIDE or len(array) == 0:
        raise MemorizationIndexError(
            f"The {what} has shape {array.shape}; slices of at least {SMALLEST_SIDE} × {SMALLEST_SIDE} are expected."
        )
    array = array.astype(np.float32)  # a copy: no transform can reach the caller's array
    if not (array.min() >= -1e-6 and array.max() <= 1 + 1e-6):  # written so that NaN fails too
        raise MemorizationIndexError(
            f"The {what} has values outside [0, 1] or not finite; scale its intensities to [0, 1] first."
        )
    return array


# --- what the transforms are made of ---------------------------------------------------------------------------------


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _foreground_counts(stack: Stack) -> NDArray[np.float64]:
    """Return, for every pixel (H, W), in how many slices it is foreground; all ones where nothing is."""
    level = 0.1 * np.percentile(stack[:, ::4, ::4], 99.5)  # a sample of pixels is enough for a threshold, and faster
    counts = np.asarray((stack > level).sum(axis=0), dtype=float)
    return counts if counts.any() else np.ones_like(counts)


def _smooth_field(shape: tuple[int, int], length: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a random field (H, W) of mean 0 and SD 1, Gaussian with correlation length ``length`` × each side.

    Drawn on a coarse grid with two nodes a correlation length, which bicubic interpolation then cannot be told from.
    """
    from PIL import Image

    nodes = max(4, round(2 / length))
    coarse = ndimage.gaussian_filter(rng.standard_normal((nodes, nodes), dtype=np.float32), 2.0, mode="reflect")
    fine = np.asarray(Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
    return np.asarray((fine - fine.mean()) / fine.std(), dtype=np.float32)


def _warp(stack: Stack, degrees: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Stack:
    """Rotate counter-clockwise on the screen, zoom about the center, then move down and right by ``shift`` pixels."""
    from PIL import Image

    height, width = stack.shape[1:]
    # Rounded, so that turns by 90° and 180° fall exactly on the grid. Pillow counts from the corner, hence height / 2.
    cosine, sine = np.round([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], 12) / zoom
    down, right = height / 2 + shift[0], width / 2 + shift[1]
    across = (cosine, -sine, width / 2 - cosine * right + sine * down)
    along = (sine, cosine, height / 2 - sine * right - cosine * down)
    warped = [
        Image.fromarray(image).transform(
            (width, height), Image.Transform.AFFINE, across + along, resample=Image.Resampling.BILINEAR
        )
        for image in stack
    ]
    return np.stack([np.asarray(image, dtype=np.float32) for image in warped])


# --- one change each -------------------------------------------------------------------------------------------------


def _identity(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
    return stack


def _noise(sigma: float) -> Transform:
    """Gaussian noise, SD = ``sigma`` × the intensity range, everywhere, then clipped to [0, 1] (as published)."""

    def transform(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
        scale = np.float32(sigma) * (stack.max() - stack.min())
        return np.asarray(stack + scale * rng.standard_normal(stack.shape, dtype=np.float32))

    return transform


def _geometry(degrees: float = 0.0, scale: float = 0.0, shift: float = 0.0) -> Transform:
    """±rotation, ±scale and a shift of fixed length in a random direction, in one resampling."""

    def transform(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
        angle, zoom = _sign(rng) * degrees, 1 + _sign(rng) * scale
        direction, length = rng.uniform(0, 2 * np.pi), shift * stack.shape[2]
        return _warp(stack, angle, zoom, (length * np.sin(direction), length * np.cos(direction)))

    return transform


def _flip(axis: int | None) -> Transform:
    """Mirror the rows' order (axis 1, "vertical") or the columns' (axis 2, "horizontal"); None draws one of them."""

    def transform(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
        chosen = axis if axis is not None else int(rng.integers(1, 3))
        return np.flip(stack, chosen)

    return transform


def _crop(fraction: float) -> Transform:
    """Keep a window of 1 − ``fraction`` of each side, anywhere in the image, and enlarge it to the whole."""

    def transform(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
        zoom = 1 / (1 - fraction)
        height, width = stack.shape[1:]
        down, right = rng.uniform(-0.5, 0.5, 2) * fraction * zoom
        return _warp(stack, zoom=zoom, shift=(float(down) * height, float(right) * width))

    return transform


def _elastic(sd: float) -> Transform:
    """Smooth random displacement: SD = ``sd`` × the width per component, correlation length 5 % of each side."""

    def transform(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
        height, width = stack.shape[1:]
        moves = [sd * width * _smooth_field((height, width), 0.05, rng) for _ in range(2)]
        positions = np.stack([np.arange(height)[:, None] + moves[0], np.arange(width)[None, :] + moves[1]])
        sampled = [ndimage.map_coordinates(image, positions, order=1, mode="grid-constant") for image in stack]
        return np.stack(sampled)

    return transform


def _intensity(low: float, high: float) -> Transform:
    """Multiply by one factor drawn from [low, high]; clipped at 1."""

    def transform(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
        return stack * np.float32(rng.uniform(low, high))

    return transform


def _gamma(low: float, high: float) -> Transform:
    """Raise to one of two powers, drawn with equal odds."""

    def transform(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
        return stack ** np.float32(low if rng.random() < 0.5 else high)

    return transform


def _tone(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
    """Pass through a random increasing curve with 0 → 0 and 1 → 1: six segments, slopes within a factor of 5."""
    heights = np.concatenate([[0.0], np.cumsum(rng.uniform(0.2, 1.0, 6))])
    return np.asarray(np.interp(stack, np.linspace(0, 1, 7), heights / heights[-1]), dtype=np.float32)


def _bias(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
    """Multiply by a smooth field between 0.6 and 1, as an uncorrected receive coil does; nothing is clipped."""
    field = _smooth_field((stack.shape[1], stack.shape[2]), 0.35, rng)
    field = (field - field.min()) / (field.max() - field.min())
    return np.asarray(stack * (np.float32(0.6) + np.float32(0.4) * field))


def _blur(sigma: float) -> Transform:
    """Gaussian blur, σ = ``sigma`` × the width."""

    def transform(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
        width = sigma * stack.shape[2]
        return np.asarray(ndimage.gaussian_filter(stack, (0, width, width), mode="nearest"), dtype=np.float32)

    return transform


def _jpeg(quality: int) -> Transform:
    """Write as an 8-bit JPEG and read back."""
    from PIL import Image

    def one(image: NDArray[np.float32]) -> NDArray[np.float32]:
        buffer = io.BytesIO()
        Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer), dtype=np.float32) / np.float32(255)

    return lambda stack, rng, partner: np.stack([one(image) for image in stack])


def _down_up(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
    """Halve the resolution by area averaging and interpolate back (linear)."""
    from PIL import Image

    height, width = stack.shape[1:]
    small = [
        Image.fromarray(image).resize(((width + 1) // 2, (height + 1) // 2), Image.Resampling.BOX) for image in stack
    ]
    return np.stack([np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)) for image in small])


def _erase(side: float) -> Transform:
    """Set a block of ``side`` × each side to 0, at random where it lies in the foreground (≥ 80 % of the most)."""

    def transform(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
        height, width = (round(side * extent) for extent in stack.shape[1:])
        corners = np.pad(_foreground_counts(stack).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        inside = (
            corners[height:, width:]
            - corners[:-height, width:]
            - corners[height:, :-width]
            + corners[:-height, :-width]
        )
        row, column = rng.choice(np.argwhere(inside >= 0.8 * inside.max()))
        stack[:, row : row + height, column : column + width] = 0
        return stack

    return transform


def _blend(share: float) -> Transform:
    """``share`` of the image plus the rest of the partner."""
    return lambda stack, rng, partner: np.float32(share) * stack + np.float32(1 - share) * _present(partner)


def _splice(share: float) -> Transform:
    """Paste a disc of the image that holds ``share`` of its foreground into the partner; the seam is 4 % of the width.

    The disc is centered on a random foreground pixel; its edge (half weight) encloses that share to 1/4 pixel.
    """

    def transform(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
        counts = _foreground_counts(stack)
        row, column = np.unravel_index(rng.choice(counts.size, p=counts.ravel() / counts.sum()), counts.shape)
        distance = np.hypot(np.arange(counts.shape[0])[:, None] - row, np.arange(counts.shape[1])[None, :] - column)
        rings = (4 * distance).astype(np.int32)  # a quarter of a pixel each
        enclosed = np.cumsum(np.bincount(rings.ravel(), counts.ravel()))
        radius = (np.searchsorted(enclosed, share * enclosed[-1]) + 1) / 4
        ramp = np.clip((radius - distance) / (0.04 * counts.shape[1]) + 0.5, 0, 1)
        weight = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
        return np.asarray(weight * stack + (1 - weight) * _present(partner))

    return transform


def _present(partner: Stack | None) -> Stack:
    assert partner is not None  # Augmentation._run has refused the call otherwise
    return partner


def _chain(*transforms: Transform) -> Transform:
    def transform(stack: Stack, rng: np.random.Generator, partner: Stack | None) -> Stack:
        for step in transforms:
            stack = np.clip(step(stack, rng, partner), 0, 1)
        return stack

    return transform


# --- the registry ----------------------------------------------------------------------------------------------------


def _registry() -> dict[str, Augmentation]:
    entries = [
        Augmentation("identity", "identity", _identity, published=True),
        *(Augmentation(f"noise_{s}", "noise", _noise(s), published=s <= 0.02) for s in (0.01, 0.02, 0.05, 0.1)),
        *(
            Augmentation(f"rotation_{d}", "rotation", _geometry(degrees=d), published=d <= 5)
            for d in (3, 5, 10, 90, 180)
        ),
        Augmentation("flip_horizontal", "flip", _flip(2), published=True),
        Augmentation("flip_vertical", "flip", _flip(1), published=True),
        Augmentation("intensity", "intensity", _intensity(0.9, 1.1), published=True),
        *(Augmentation(f"intensity_{f}", "intensity", _intensity(f, f)) for f in (0.9, 1.1)),
        *(Augmentation(f"shift_{p}", "shift", _geometry(shift=p / 100)) for p in (3, 5, 10)),
        *(Augmentation(f"scale_{p}", "scale", _geometry(scale=p / 100)) for p in (5, 15)),
        Augmentation("crop_10", "crop", _crop(0.1)),
        *(Augmentation(f"gamma_{g}", "tone", _gamma(g, g)) for g in (0.8, 1.25)),
        Augmentation("tone_curve", "tone", _tone),
        Augmentation("bias_field", "bias", _bias),
        *(Augmentation(f"blur_{p}", "blur", _blur(p / 100)) for p in (0.45, 0.9)),
        Augmentation("jpeg_30", "compression", _jpeg(30)),
        Augmentation("down_up_50", "compression", _down_up),
        *(Augmentation(f"elastic_{p}", "elastic", _elastic(p / 100)) for p in (0.7, 1.3)),
        Augmentation("erase_20", "erase", _erase(0.2)),
        *(Augmentation(f"blend_{p}", "blend", _blend(p / 100), needs_partner=True) for p in (70, 50)),
        Augmentation(ADJACENT, "adjacent", _blend(0.5), needs_partner=True),
        *(Augmentation(f"splice_{p}", "splice", _splice(p / 100), needs_partner=True) for p in (60, 40)),
        Augmentation("flip_rotation_noise", "combination", _chain(_flip(None), _geometry(degrees=5), _noise(0.02))),
        Augmentation(
            "scale_gamma_blur", "combination", _chain(_geometry(scale=0.05), _gamma(0.8, 1.25), _blur(0.0045))
        ),
        Augmentation(
            "shift_intensity_jpeg", "combination", _chain(_geometry(shift=0.05), _intensity(0.9, 1.1), _jpeg(30))
        ),
        Augmentation("elastic_tone_noise", "combination", _chain(_elastic(0.007), _tone, _noise(0.02))),
        Augmentation(
            "combo",  # hflip + rotation 4° + shift 3 % + scale 3 % + bias + gamma + noise
            "combination",
            _chain(_flip(2), _geometry(4, 0.03, 0.03), _bias, _gamma(0.8, 1.25), _noise(0.02)),
        ),
        Augmentation("hard", "combination", _chain(_tone, _geometry(8, 0.08), _flip(None), _noise(0.02))),
        Augmentation(
            "hard_elastic",
            "combination",
            _chain(_elastic(0.007), _tone, _geometry(8, 0.08), _flip(None), _blur(0.0045), _noise(0.02)),
        ),
    ]
    return {entry.name: entry for entry in entries}


AUGMENTATIONS: dict[str, Augmentation] = _registry()
"""Every augmentation by name, in the order in which tables list them."""

PUBLISHED: tuple[str, ...] = tuple(name for name, entry in AUGMENTATIONS.items() if entry.published)
"""The published benchmark's augmentations, "identity" (its clean copies) first."""

WORDS: dict[str, str] = {
    "identity": "unchanged",
    "noise_0.01": "noise 1 %",
    "noise_0.02": "noise 2 %",
    "noise_0.05": "noise 5 %",
    "noise_0.1": "noise 10 %",
    "rotation_3": "rotated by 3°",
    "rotation_5": "rotated by 5°",
    "rotation_10": "rotated by 10°",
    "rotation_90": "quarter turn",
    "rotation_180": "half turn",
    "flip_horizontal": "mirrored left–right",
    "flip_vertical": "mirrored top–bottom",
    "intensity": "intensity × 0.9 to 1.1",
    "intensity_0.9": "intensity × 0.9",
    "intensity_1.1": "intensity × 1.1",
    "shift_3": "shifted by 3 %",
    "shift_5": "shifted by 5 %",
    "shift_10": "shifted by 10 %",
    "scale_5": "scaled by ±5 %",
    "scale_15": "scaled by ±15 %",
    "crop_10": "cropped by 10 %",
    "gamma_0.8": "gamma 0.8",
    "gamma_1.25": "gamma 1.25",
    "tone_curve": "random tone curve",
    "bias_field": "uneven brightness",
    "blur_0.45": "blurred by 0.45 %",
    "blur_0.9": "blurred by 0.9 %",
    "jpeg_30": "JPEG, quality 30",
    "down_up_50": "half the resolution",
    "elastic_0.7": "bent by 0.7 %",
    "elastic_1.3": "bent by 1.3 %",
    "erase_20": "block of 20 % erased",
    "blend_70": "blend, 70 % copy",
    "blend_50": "blend, 50 % copy",
    ADJACENT: "half way to the next slice",
    "splice_60": "60 % pasted into another",
    "splice_40": "40 % pasted into another",
    "flip_rotation_noise": "mirrored, rotated, noise",
    "scale_gamma_blur": "scaled, gamma, blurred",
    "shift_intensity_jpeg": "shifted, intensity, JPEG",
    "elastic_tone_noise": "bent, tone curve, noise",
    "combo": "several together",
    "hard": "several together, stronger",
    "hard_elastic": "several together, stronger and bent",
}
"""What readers are told instead of the names (docs/method.md says more of each)."""


def named(names: str) -> tuple[str, ...]:
    """The augmentations that a setting names: ``published``, ``all``, or names with commas between them.

    Raises MemorizationIndexError for a name that is not known.
    """
    if names == "published":
        return PUBLISHED
    if names == "all":
        return tuple(AUGMENTATIONS)
    wanted = tuple(name.strip() for name in names.split(",") if name.strip())
    unknown = [name for name in wanted if name not in AUGMENTATIONS]
    if unknown or not wanted:
        raise MemorizationIndexError(
            f"--augmentations {names}: {', '.join(unknown) or 'nothing'} is not known; expected published, all, or "
            f"some of {', '.join(AUGMENTATIONS)}."
        )
    return wanted
