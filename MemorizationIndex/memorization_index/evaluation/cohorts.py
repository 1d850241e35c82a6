"""A made cohort of head MR volumes, so that the demo needs no download and shows nobody's scan.

Why made and not real: no maintained package on PyPI was found that ships real MR anatomy of several people in its
wheel (nilearn ships one averaged template; antspyx, dipy and the BrainWeb packages ship none or fetch them at run
time). Every "subject" here is computed from a seed, so that the license is the project's own, Apache-2.0.

What is made: T1-weighted axial volumes of the upper head, 96 × 112 pixels of 2 mm in 16 slices of 4 mm. The anatomy
is an implicit surface model in millimeters, x right, y anterior, z superior:

* the brain's hull is a superellipsoid, deformed smoothly and differently for each subject; around it cerebrospinal
  fluid, a skull with marrow, a scalp;
* sulci are the nodal sheets of a band-passed Gaussian random field, evaluated so that the sheets stand upright on the
  hull and end at a depth that varies; fluid fills a sulcus, cortex of about 3 mm lines it and the hull, the rest is
  white matter. Nodal lines of such a field are the patterns that reaction-diffusion models of folding grow (Lefèvre and
  Mangin 2010, doi:10.1371/journal.pcbi.1000749). One part of the field is common to all subjects, as primary sulci are;
* longitudinal and Sylvian fissures, ventricles, thalamus, caudate, putamen and pallidum have individual place and size;
* scans differ by head position, contrast, coil sensitivity and Rician noise.

It looks like MR and its "people" differ as people do at the scale a detector sees, but it is a phantom: what a
detector reaches here says that it works, not how well it does on patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from memorization_index.errors import MemorizationIndexError
from memorization_index.itk_files import ONE_READER
from memorization_index.progress import Progress

SHAPE = (16, 112, 96)  # slices, rows, columns: z, y, x
SPACING = (4.0, 2.0, 2.0)  # mm, same order
LOWEST_SLICE = -8.0  # mm above the center of the brain

Field = NDArray[np.float32]


def make_demo_cohort(
    out_dir: Path | str,
    subjects: int = 42,
    seed: int = 0,
    *,
    first: int = 1,
    who: str = "subjects",
    progress: Progress | None = None,
) -> list[Path]:
    """Write one volume a subject, ``sub-001_T1w.nii.gz`` and so on from number ``first``; return the paths in order.

    ``who`` is what progress calls them. A subject depends on the seed and its number alone. Voxels are int16, 0 to
    about 1000, in RAS order with the center of the head at the scanner's origin. About half a second a subject.
    """
    if subjects < 1:
        raise MemorizationIndexError(f"A cohort of {subjects} subjects was asked for; ask for at least 1.")
    folder, progress = Path(out_dir), progress or Progress()
    folder.mkdir(parents=True, exist_ok=True)
    common = _band_passed(np.random.default_rng([seed, 0]), FOLD_WAVELENGTH)
    paths = []
    progress.begin(f"making {who}", subjects, "volumes")
    for number in range(first, first + subjects):
        path = folder / f"sub-{number:03d}_T1w.nii.gz"
        write_demo_volume(make_head(np.random.default_rng([seed, number]), common), path)
        paths.append(path)
        progress.advance()
    return paths


def write_demo_volume(volume: Field, path: Path) -> None:
    """Write an array (16, 112, 96), indexed (z, y, x) upward, forward and to the right, 1.0 becoming 1000."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.round(volume * 1000).astype(np.int16))
    image.SetSpacing(SPACING[::-1])
    # ITK's world is LPS: columns run to the right (-L) and rows to the front (-P), which NIfTI calls RAS.
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    x, y = (SPACING[i] * (SHAPE[i] - 1) / 2 for i in (2, 1))
    image.SetOrigin((x, y, LOWEST_SLICE))
    sitk.WriteImage(image, str(path), useCompression=True)


def read_demo_volume(path: Path) -> Field:
    """Read what :func:`write_demo_volume` wrote, 1000 becoming 1.0."""
    import SimpleITK as sitk

    with ONE_READER:
        image = sitk.ReadImage(str(path))
    return np.asarray(sitk.GetArrayFromImage(image), dtype=np.float32) / np.float32(1000)


# --- random fields ---------------------------------------------------------------------------------------------------

EXTENT = 240.0  # mm; fields repeat beyond
FOLD_WAVELENGTH = 23.0  # mm; sulci lie half of it apart


def _band_passed(rng: np.random.Generator, wavelength: float) -> Field:
    """Return a periodic Gaussian field, SD 1, with wavelengths within about 20 % of the given one (mm)."""
    return _gaussian_field(rng, 96, lambda f: np.exp(-0.5 * ((f * wavelength - 1) / 0.2) ** 2))


def _smooth(rng: np.random.Generator, length: float) -> Field:
    """Return a periodic Gaussian field, SD 1, smooth over ``length`` mm (at least 6, its grid being 5 mm wide)."""
    return _gaussian_field(rng, 48, lambda f: np.exp(-0.5 * (2 * np.pi * f * length) ** 2))


def _gaussian_field(
    rng: np.random.Generator, nodes: int, transfer: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> Field:
    """Filter white noise on ``nodes`` per side by ``transfer``, a function of spatial frequency in cycles per mm."""
    one, half = np.fft.fftfreq(nodes, EXTENT / nodes), np.fft.rfftfreq(nodes, EXTENT / nodes)
    frequency = np.sqrt(one[:, None, None] ** 2 + one[:, None] ** 2 + half**2).astype(np.float32)
    noise = rng.standard_normal((nodes, nodes, nodes), dtype=np.float32)
    field = fft.irfftn(fft.rfftn(noise) * transfer(frequency), s=noise.shape)
    return np.asarray(field / field.std(), dtype=np.float32)


def _at(field: Field, points: tuple[Field, Field, Field]) -> Field:
    """Read a field at points in mm (z, y, x), linearly; it repeats outside its grid."""
    indices = np.stack([p * (len(field) / EXTENT) + len(field) / 2 for p in points])
    return np.asarray(ndimage.map_coordinates(field, indices, order=1, mode="grid-wrap"), dtype=np.float32)


# --- anatomy ---------------------------------------------------------------------------------------------------------


def _step(distance: Field, width: float = 0.8) -> Field:
    """Return the share of a voxel on the positive side of a surface, from its distance in mm."""
    return np.asarray(0.5 + 0.5 * np.tanh(distance / width), dtype=np.float32)


def _ellipsoid(points: tuple[Field, Field, Field], center: tuple[float, ...], axes: tuple[float, ...]) -> Field:
    """Return the approximate depth (mm, positive inside) in an ellipsoid; center and half axes as (z, y, x) in mm."""
    scaled = np.sqrt(sum(((p - c) / a) ** 2 for p, c, a in zip(points, center, axes, strict=True)))
    return np.asarray((1 - scaled) * min(axes), dtype=np.float32)


def _tube(points: tuple[Field, Field, Field], nodes: NDArray[np.float64], radii: NDArray[np.float64]) -> Field:
    """Return the depth (mm, positive inside) in overlapping balls along ``nodes`` (n, 3), in (z, y, x)."""
    depth = np.full(points[0].shape, -np.inf, np.float32)
    for node, radius in zip(nodes, radii, strict=True):
        away = np.sqrt(sum((p - np.float32(c)) ** 2 for p, c in zip(points, node, strict=True)))
        np.maximum(depth, np.float32(radius) - away, out=depth)
    return depth


@dataclass(frozen=True)
class _Head:
    """The grid of one head at 2 mm, and what is drawn for it."""

    rng: np.random.Generator
    points: tuple[Field, Field, Field]  # z, y, x in mm in the head's own, undeformed space
    depth: Field  # mm below the brain's hull, negative outside


def _head(rng: np.random.Generator) -> _Head:
    z = np.arange(2 * SHAPE[0]) * 2.0 + LOWEST_SLICE - 1.0  # two thin layers for each slice
    y, x = ((np.arange(n) - (n - 1) / 2) * 2.0 for n in SHAPE[1:])
    place = [np.asarray(p, np.float32) for p in np.meshgrid(z, y, x, indexing="ij")]
    tilt, turn = np.deg2rad(rng.normal(0, 2.5, 2))
    shift = rng.normal(0, 1.5, 2)
    z, y, x = place[0], place[1] - shift[0], place[2] - shift[1]
    y, x = np.cos(turn) * y - np.sin(turn) * x, np.sin(turn) * y + np.cos(turn) * x
    z, x = np.cos(tilt) * z - np.sin(tilt) * x, np.sin(tilt) * z + np.cos(tilt) * x
    moves = [2.2 * _at(_smooth(rng, 28.0), (z, y, x)) for _ in range(3)]
    points = (z + moves[0], y + moves[1], x + moves[2])
    axes = np.array([66.0, 84.0, 67.0]) * np.exp(rng.normal(0, 0.035, 3))
    narrow = 1 + 0.10 * points[1] / axes[1]  # the forehead is narrower than the back of the head
    terms = (points[0] / axes[0], points[1] / axes[1], points[2] * narrow / axes[2])
    radius = sum(np.abs(t) ** 2.15 for t in terms) ** (1 / 2.15)
    slope = np.sqrt(sum(g**2 for g in np.gradient(radius, 2.0)))
    depth = (1 - radius) / np.maximum(slope, 0.4 / axes.max())
    return _Head(rng, points, np.asarray(depth, np.float32))


def _sulci(head: _Head, common: Field) -> Field:
    """Return the distance (mm) to the nearest sulcal sheet or fissure; a sheet ends at its own depth."""
    z, y, x = head.points
    rng = head.rng
    fold = np.sqrt(0.2) * common + np.sqrt(0.8) * _band_passed(rng, FOLD_WAVELENGTH)
    # Read the field nearer to the hull than the point is: its sheets then stand upright on the hull.
    center = np.sqrt(z**2 + y**2 + x**2) + 1.0
    outward = ((center + np.maximum(head.depth, 0)) / center) ** 0.6
    value = _at(fold, (z * outward, y * outward, x * outward))
    slope = np.sqrt(sum(g**2 for g in np.gradient(value, 2.0)) + 0.06**2)
    reach = np.clip(19 + 6 * _at(_smooth(rng, 10.0), head.points), 5, 32)
    sheet = np.hypot(np.abs(value) / slope, np.maximum(head.depth - reach, 0))
    wobble = 1.5 * _at(_smooth(rng, 12.0), head.points)
    core = _ellipsoid(head.points, (2, -6, 0), (27 + rng.normal(0, 1.5), 46 + rng.normal(0, 2), 200))
    midline = np.hypot(x + wobble, np.maximum(core, 0))
    fissure = z - 4 - 0.25 * y + 2 * wobble + rng.normal(0, 2)
    beyond = np.hypot(np.maximum(36 - np.abs(x), 0), np.maximum(np.abs(y - 5) - 26, 0))
    lateral = np.hypot(fissure, beyond)
    insula = np.hypot(np.abs(x) - 37 + wobble, np.maximum(np.hypot(z - 5, (y - 4) * 0.6) - 12, 0))
    return np.asarray(np.minimum.reduce([sheet, midline, lateral, insula]), dtype=np.float32)


def _ventricles(head: _Head) -> Field:
    """Return the depth (mm, positive inside) in the lateral and third ventricles."""
    rng = head.rng
    size = float(np.exp(rng.normal(0, 0.22)))
    depth = np.full(head.depth.shape, -50, np.float32)
    along = np.linspace(0, 1, 26)
    knots = np.linspace(0, 1, 6)
    #                 frontal horn ................ body ........... atrium, occipital horn
    heights = np.array([4, 12, 20, 22, 12, 4]) + rng.normal(0, 1.2, 6)
    fronts = np.array([32, 22, 4, -16, -34, -50]) + rng.normal(0, 1.5, 6)
    for side in (-1, 1):
        aside = np.array([9, 8, 9, 12, 22, 21]) + rng.normal(0, 1.0, 6)
        wide = np.array([4.0, 5.5, 5.0, 5.5, 6.5, 2.0]) * size * np.exp(rng.normal(0, 0.1, 6))
        nodes = np.stack([np.interp(along, knots, k) for k in (heights, fronts, side * aside)], axis=1)
        depth = np.maximum(depth, _tube(head.points, nodes, np.interp(along, knots, wide)))
    third = _ellipsoid(head.points, (-2, -8, 0), (9, 15, 1.8 * size + 0.6))
    return np.asarray(np.maximum(depth, third), dtype=np.float32)


def _nuclei(head: _Head) -> tuple[Field, Field]:
    """Return the shares of deep gray matter and of pallidum, which is almost as bright as white matter."""
    rng = head.rng
    z, y, x = head.points
    gray, pale = np.zeros_like(z), np.zeros_like(z)
    for side in (-1, 1):
        size = np.exp(rng.normal(0, 0.08, 3))
        lean = y + 0.35 * (side * x - 25)
        thalamus = _ellipsoid(head.points, (4, -16, side * 11), (9 * size[0], 14 * size[1], 8.5 * size[2]))
        caudate = _ellipsoid(head.points, (10, 20, side * 15), (11 * size[1], 10 * size[2], 5 * size[0]))
        putamen = _ellipsoid((z, lean, x), (2, 4, side * 27), (11 * size[2], 17 * size[0], 5 * size[1]))
        pallidum = _ellipsoid((z, lean, x), (0, 0, side * 20), (8 * size[0], 10 * size[1], 4 * size[2]))
        for depth in (thalamus, caudate, putamen):
            np.maximum(gray, _step(depth), out=gray)
        np.maximum(pale, _step(pallidum), out=pale)
    return gray, pale


def make_head(rng: np.random.Generator, common: Field) -> Field:
    """Return one subject's volume (16, 112, 96), about 0 to 1; ``common`` is the folding that all subjects share."""
    head = _head(rng)
    distance = _sulci(head, common)
    gap = np.clip(0.7 + rng.normal(0, 0.12) + 0.35 * _at(_smooth(rng, 15.0), head.points), 0.2, 1.8)
    to_fluid = np.minimum(head.depth, distance - gap)  # from any point of the brain to the fluid outside or in a sulcus
    cortex = 3.6 + 0.4 * _at(_smooth(rng, 8.0), head.points)
    fluid = np.maximum(1 - _step(to_fluid), _step(_ventricles(head)))
    deep, pale = _nuclei(head)
    gray = np.maximum(1 - _step(to_fluid - cortex), 0.85 * deep)
    white_level, gray_level, fluid_level = 0.82 + rng.normal(0, 0.02), 0.53 + rng.normal(0, 0.025), 0.12
    white = white_level * (1 + 0.03 * _at(_smooth(rng, 9.0), head.points))
    tissue = white + gray * (gray_level - white)
    tissue += pale * (0.93 * white_level - tissue)
    signal = tissue + fluid * (fluid_level - tissue)
    signal = _with_skull(head, signal, fluid_level)
    return _scanned(signal, rng)


def _with_skull(head: _Head, brain: Field, fluid_level: float) -> Field:
    """Put the subarachnoid space, the skull with its marrow, and the scalp around the brain."""
    rng = head.rng
    outside = -head.depth
    inner = 2.0 + 0.6 * _at(_smooth(rng, 20.0), head.points)
    bone = inner + np.clip(6.5 + 1.5 * _at(_smooth(rng, 18.0), head.points), 3, 10)
    skin = bone + np.clip(5.5 + rng.normal(0, 0.7) + 1.5 * _at(_smooth(rng, 18.0), head.points), 2.5, 10)
    marrow = 0.2 * np.exp(-0.5 * ((outside - (inner + bone) / 2) / 1.2) ** 2)
    scalp = 0.5 + 0.06 * _at(_smooth(rng, 6.0), head.points)
    signal = brain
    for surface, level in ((0.0, fluid_level), (inner, 0.04 + marrow), (bone, scalp), (skin, 0.0)):
        signal = signal + _step(outside - surface) * (level - signal)
    return np.asarray(signal, dtype=np.float32)


def _scanned(signal: Field, rng: np.random.Generator) -> Field:
    """Receive it: coil sensitivity, slices of two layers, the point spread of the readout, Rician noise of 2 %."""
    slices = signal.reshape(SHAPE[0], 2, *SHAPE[1:]).mean(axis=1)
    slices = ndimage.gaussian_filter(slices, (0, 0.35, 0.35))
    z, y, x = (np.linspace(-1, 1, n) for n in SHAPE)
    a = rng.normal(0, 0.06, 5)
    coil = a[0] * z[:, None, None] + a[1] * y[:, None] + a[2] * x + a[3] * y[:, None] ** 2 + a[4] * x**2
    slices = slices * np.exp(coil)
    noise = 0.02 * rng.standard_normal((2, *SHAPE), dtype=np.float32)
    return np.asarray(np.hypot(slices + noise[0], noise[1]), dtype=np.float32)
