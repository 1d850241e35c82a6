"""Is a query slice the same picture as a training slice? Align the two, then compare fine detail (METHOD §3.6).

The view under which the candidate was found gives a first guess of mirror, turns, rotation and scale; the peak of the
cross-correlation gives the shift and tells which of two half turns it is; SimpleITK refines all as one affine map. What
is compared is *band-passed*: structures between about 1/64 and 1/16 of the image's width. Blur and noise change those
less than they change pixels, bias fields and gray-value curves hardly at all, and different people differ in them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray

from memorization_index.filters import gaussian
from memorization_index.spectral import INPUT_SIZE, View

#: Side of the images that are aligned and compared.
SIZE = 64
_CENTER = (SIZE - 1) / 2
_FINE, _COARSE = 1.0, 4.0  # band-pass standard deviations in pixels of 64
_WINDOW = 4.0  # standard deviation of the window of local agreement, in pixels of 64
_ITERATIONS = 40
_FIRST_STEP = 0.5  # pixels
#: One unit of an affine coefficient moves a point at the image's border this many pixels; squared for ITK's scales.
_COEFFICIENT_SCALE = 20.0**2
_MINIMUM_OVERLAP = 0.5
_WHOLE = 0.5  # how much the whole counts beside the best third when a candidate is chosen
_FOREGROUND = 0.05  # of the strongest local energy
_BODY = 0.08  # of the intensity range
_FINEST_FOREGROUND = 0.08  # of the intensity range
#: Correlation of whole pictures (not band-passed, no transform) from which on they are the same pixels.
EXACT_CORRELATION = 0.9998

Image = NDArray[np.float32]
#: Cores that were named; 0: all.
_cores = 0

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Match:
    """The best alignment of one query slice with its candidates.

    ``candidate`` is the position in the list of candidates. ``ncc`` is the band-passed normalized cross-correlation in
    [−1, 1] over the overlap. ``mirrored``, then ``quarters`` counter-clockwise quarter turns, then ``matrix`` (2×2,
    row/column order) and ``shift`` (rows, columns, as a fraction of the image's width) take the training slice to the
    query: ``query(x) ≈ turned(matrix @ x + shift)``. ``pixel_correlation`` compares the whole pictures as they are.
    ``part`` is the mean local agreement in [0, 1] over that third of the foreground where it is highest; ``in_place``
    the correlation of the finest structures of both pictures as they are, which a copy keeps and a new scan does not.
    """

    candidate: int
    ncc: float
    part: float
    mirrored: bool
    quarters: int
    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]
    pixel_correlation: float
    in_place: float

    @property
    def angle(self) -> float:
        """Rotation from training slice to query, counter-clockwise, in degrees from −180 to 180 (after the mirror)."""
        rows, columns = self.matrix
        turned = self.quarters * 90 + float(np.degrees(np.arctan2(rows[1] - columns[0], rows[0] + columns[1])))
        return (turned + 180) % 360 - 180

    @property
    def scale(self) -> float:
        """How much larger the query shows what the training slice shows."""
        return float(1 / np.sqrt(max(abs(np.linalg.det(self.matrix)), 1e-6)))

    @property
    def lies_like_a_rescan(self) -> bool:
        """Whether the same person, positioned again with care, could lie like this: hardly moved, turned or scaled."""
        moved = float(np.abs(self.shift).max())
        return not self.mirrored and abs(self.angle) <= 2.5 and abs(self.scale - 1) <= 0.02 and moved <= 0.03

    @property
    def lies_still(self) -> bool:
        """Whether both pictures lie alike to a fraction of a pixel: nobody is positioned again like that."""
        moved = float(np.abs(self.shift).max())
        return not self.mirrored and abs(self.angle) <= 0.4 and abs(self.scale - 1) <= 0.005 and moved <= 0.004

    @property
    def is_exact(self) -> bool:
        """Whether both pictures have the same pixels up to scaling of intensities."""
        return self.pixel_correlation >= EXACT_CORRELATION

    def describe(self) -> str:
        """``identity``, or text such as ``mirrored; rotated by 4.1° clockwise; scaled 1.03; shifted +2.0, -1.2 %``.

        Shifts are in percent of the width: down and to the right are positive.
        """
        scale = self.scale
        parts = _turn_in_words(self.mirrored, self.angle)
        if abs(scale - 1) >= 0.01:
            parts.append(f"scaled {scale:.2f}")
        moved = -self.shift * scale * 100
        if np.abs(moved).max() >= 0.5:
            parts.append(f"shifted {moved[0] + 0.0:+.1f}, {moved[1] + 0.0:+.1f} %")
        return "; ".join(parts) or "identity"


def match(query: Image, candidates: Sequence[tuple[Image, View]]) -> Match:
    """Align a query ``(128, 128)`` with the most promising of its candidates ``((128, 128), view)``.

    Every candidate is tried under its view and that view's half turn, with the shift at the cross-correlation's peak
    and without one. Registered is the try whose whole and whose best third together agree most: of a partial copy the
    whole may resemble somebody else more, and the best third of strangers may be no more than a common outline.
    """
    target = _band_pass(_half(query))
    best = _best_try(target, candidates)
    index, quarters, shift = best.candidate, best.quarters, best.shift
    image, view = candidates[index]
    turned = _turned(image, view.mirrored, quarters)
    matrix, shift = _register(target, _band_pass(_half(turned)), _view_matrix(view), shift)
    aligned, overlap = warp(turned, matrix, shift)
    other = _band_pass(aligned)
    enough = overlap.mean() >= _MINIMUM_OVERLAP
    return Match(
        index,
        _ncc(target, other, overlap) if enough else 0.0,
        float(_best_third(target, _local_agreement(target, other, overlap))) if enough else 0.0,
        view.mirrored,
        quarters % 4,
        matrix,
        shift / SIZE,
        float(np.corrcoef(query.ravel(), image.ravel())[0, 1]),
        _in_place(query, image),
    )


def _in_place(query: Image, image: Image) -> float:
    """Correlation over the foreground of structures of one to two pixels of 128, without any alignment."""
    foreground = (scipy.ndimage.gaussian_filter(image, 2.0) > _FINEST_FOREGROUND).astype(np.float32)
    if not foreground.any():
        return 0.0
    query, image = (
        scipy.ndimage.gaussian_filter(x, 1.0) - scipy.ndimage.gaussian_filter(x, 2.0) for x in (query, image)
    )
    return _ncc(query, image, foreground)


def agreement_map(query: Image, candidate: Image, found: Match) -> Image:
    """Local agreement ``(64, 64)`` in [0, 1] of a query with its aligned training slice, in the query's geometry.

    Normalized cross-correlation of the band-passed pair in a Gaussian window (standard deviation 1/16 of the width);
    0 where there is no structure to compare, and outside the body, where noise that was copied too would agree.
    """
    halved = _half(query)
    aligned, overlap = warp(_turned(candidate, found.mirrored, found.quarters), found.matrix, found.shift * SIZE)
    body = (_blur(np.maximum(halved, aligned), _FINE) > _BODY).astype(np.float32)
    return _local_agreement(_band_pass(halved), _band_pass(aligned), overlap * body)


def _local_agreement(target: Image, other: Image, overlap: Image) -> Image:
    """Local agreement of a target ``(64, 64)`` with other pictures ``(..., 64, 64)`` that it overlaps with."""
    product, left, right = (_blur(x, _WINDOW) for x in (target * other, np.square(target), np.square(other)))
    floor = 1e-3 * float(np.square(target).mean()) + 1e-12
    local = product / np.sqrt(np.maximum(left, floor) * np.maximum(right, floor))
    agreement: Image = (np.clip(local, 0, 1) * overlap).astype(np.float32)
    return agreement


def _best_third(target: Image, agreement: Image) -> NDArray[np.float32]:
    """Mean agreement ``(...)`` over the third of the foreground (where the query has structure) that agrees most."""
    energy = _blur(np.square(target), _WINDOW)
    values = agreement[..., energy > _FOREGROUND * energy.max()]
    count = values.shape[-1]
    best = np.partition(values, -(-2 * count // 3), axis=-1)[..., -max(count // 3, 1) :]
    return np.asarray(best.mean(axis=-1), np.float32)


def aligned_image(candidate: Image, found: Match) -> Image:
    """The training slice ``(128, 128)`` moved onto the query, for showing the two side by side."""
    turned = _turned(candidate, found.mirrored, found.quarters)
    center = np.full(2, (INPUT_SIZE - 1) / 2)
    offset = center + found.shift * INPUT_SIZE - found.matrix @ center
    moved: Image = scipy.ndimage.affine_transform(turned, found.matrix, offset, order=1)
    return moved


def warp(image: Image, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> tuple[Image, Image]:
    """Resample a (turned) training image ``(128, 128)`` into the query's 64×64 geometry; also the overlap (0/1)."""
    factor = INPUT_SIZE // SIZE
    center = (INPUT_SIZE - 1) / 2
    offset = center + shift * factor - matrix @ np.full(2, center)
    warped = scipy.ndimage.affine_transform(image, matrix, offset, order=1)
    inside = scipy.ndimage.affine_transform(np.ones_like(image), matrix, offset, order=1)
    return _half(warped), (_half(inside) > 0.99).astype(np.float32)


def use_cores(count: int) -> None:
    """Let this process work on so many cores; otherwise it takes all. (A worker of a cluster has several tasks.)"""
    global _cores  # noqa: PLW0603
    _cores = count


def cores() -> int:
    """How many threads to work in."""
    return _cores or os.cpu_count() or 1


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Map over items on all cores (ITK and NumPy release the interpreter's lock); order and results are unaffected."""
    import SimpleITK as sitk

    # ITK's own threads only get in each other's way on small images; its warnings (no overlap) are no errors here.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    sitk.ProcessObject.GlobalWarningDisplayOff()
    with one_blas_thread(), ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(work, items))


def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """The same for items that are being made: while all cores work, the caller's thread makes the next ones.

    Yields each item with its result, in order; only a few more items than there are cores are held at a time.
    """
    workers = cores()
    under_way: deque[tuple[Item, Future[Result]]] = deque()
    with one_blas_thread(), ThreadPoolExecutor(workers) as pool:
        for item in items:
            under_way.append((item, pool.submit(work, item)))
            if len(under_way) > workers:
                done, result = under_way.popleft()
                yield done, result.result()
        for done, result in under_way:
            yield done, result.result()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """All cores work already: threads of BLAS in each of ours cost five times the processor time on two cores.

    The command line says so to BLAS when it starts; a program that uses this package has its own BLAS threads. As many
    threads sum in as many parts, so one also gives a program the same numbers as the command line.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # in Slicer, where the command line does the work
        yield
        return
    with threadpool_limits(1, user_api="blas"):
        yield


def _turn_in_words(mirrored: bool, angle: float) -> list[str]:
    """A mirror (left to right) and the rotation after it, counter-clockwise in degrees, as a person would say it.

    Within 5° of a quarter or half turn it is one; what it differs by is told from 1°, a small rotation from 0.5°.
    """
    quarters = round(angle / 90)
    rest = angle - 90 * quarters
    if abs(rest) > 5:
        quarters, rest = 0, angle
    turn = {0: "", 1: "quarter turn counterclockwise", -1: "quarter turn clockwise"}.get(quarters, "half turn")
    parts = ["mirrored", turn] if mirrored else [turn]
    if mirrored and turn == "half turn":  # which together are easier to picture
        parts = ["flipped top to bottom"]
    if abs(rest) >= (1 if quarters else 0.5):
        parts.append(f"rotated by {abs(rest):.1f}° {'counterclockwise' if rest > 0 else 'clockwise'}")
    return [part for part in parts if part]


def _turned(image: Image, mirrored: bool, quarters: int) -> Image:
    """Undo a view's mirror and quarter turns on the training image."""
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirrored else image, quarters))


def _view_matrix(view: View) -> NDArray[np.float64]:
    """Row/column matrix that takes query coordinates to training coordinates under a view's rotation and scale."""
    angle = np.deg2rad(view.rotation)
    return view.scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@dataclass(frozen=True)
class _Try:
    """Where a registration may begin: quarter turns that undo the view, and the shift in training pixels of 64."""

    candidate: int
    quarters: int
    shift: NDArray[np.float64]


def _best_try(target: Image, candidates: Sequence[tuple[Image, View]]) -> _Try:
    """The try whose whole and whose best third agree most with the target; all are compared at once."""
    others = np.stack([_seen(image, view) for image, view in candidates])
    # A half turn of the picture is a half turn of what is computed from it.
    turned = np.ascontiguousarray(np.stack([others, others[:, ::-1, ::-1]], axis=1))
    tries, moves = [], []
    for (index, half_turn), displacement in zip(np.ndindex(turned.shape[:2]), _peaks(target, turned), strict=True):
        view = candidates[index][1]
        for moved in dict.fromkeys([(0, 0), displacement]):
            shift = -_view_matrix(view) @ np.array(moved, float)
            tries.append(_Try(index, 2 * half_turn - view.quarter, shift))
            moves.append((index, half_turn, moved))
    shifted, inside = np.zeros((2, len(tries), SIZE, SIZE), np.float32)
    for i, (index, half_turn, (down, right)) in enumerate(moves):
        to = tuple(slice(max(m, 0), SIZE + min(m, 0)) for m in (down, right))
        of = tuple(slice(max(-m, 0), SIZE + min(-m, 0)) for m in (down, right))
        shifted[i][to], inside[i][to] = turned[index, half_turn][of], 1
    third = _best_third(target, _local_agreement(target, shifted, inside))
    return tries[int((_WHOLE * _correlations(target, shifted, inside) + third).argmax())]


def _seen(image: Image, view: View) -> Image:
    """A training image upright under a view, band-passed: ``(64, 64)``."""
    upright = _half(_turned(image, view.mirrored, -view.quarter))
    if view.rotation == 0 and view.scale == 1:
        return _band_pass(upright)
    return _band_pass(_warp_small(upright, _view_matrix(view), np.zeros(2))[0])


def _peaks(target: Image, others: Image) -> list[tuple[int, int]]:
    """By how much each of ``others`` ``(..., 64, 64)`` is moved where it correlates best with the target."""
    spectra = scipy.fft.rfft2(target) * np.conj(scipy.fft.rfft2(others))
    correlations = scipy.fft.irfft2(spectra, s=target.shape).reshape(-1, SIZE * SIZE)
    rows, columns = np.unravel_index(correlations.argmax(axis=1), target.shape)
    half = SIZE // 2
    return [(int(r + half) % SIZE - half, int(c + half) % SIZE - half) for r, c in zip(rows, columns, strict=True)]


def _correlations(target: Image, others: Image, inside: Image) -> NDArray[np.float32]:
    """Correlation ``(n,)`` of the target with pictures ``(n, 64, 64)`` that are 0 outside of where they lie (0/1)."""
    count = inside.sum(axis=(1, 2))[:, None, None]
    left = target * inside
    left -= inside * (left.sum(axis=(1, 2))[:, None, None] / count)
    right = others - inside * (others.sum(axis=(1, 2))[:, None, None] / count)
    norms = np.sqrt(np.square(left).sum(axis=(1, 2)) * np.square(right).sum(axis=(1, 2)))
    return np.asarray((left * right).sum(axis=(1, 2)) / np.maximum(norms, 1e-12), np.float32)


def _register(
    fixed: Image, moving: Image, matrix: NDArray[np.float64], shift: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Refine an affine map (row/column order, pixels of 64) by maximizing correlation; the start where that fails."""
    import SimpleITK as sitk

    transform = sitk.AffineTransform(2)
    transform.SetCenter((_CENTER, _CENTER))
    transform.SetMatrix(matrix[::-1, ::-1].ravel().tolist())  # ITK counts columns first
    transform.SetTranslation(shift[::-1].tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetInterpolator(sitk.sitkLinear)
    method.MetricUseFixedImageGradientFilterOff()  # correlation needs the moving image's alone
    method.SetOptimizerAsRegularStepGradientDescent(_FIRST_STEP, 0.01, _ITERATIONS, 0.5, 1e-6)
    method.SetOptimizerScales([_COEFFICIENT_SCALE] * 4 + [1.0, 1.0])
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(sitk.GetImageFromArray(fixed), sitk.GetImageFromArray(moving))
    except RuntimeError:  # ITK's way to say that the images no longer overlap
        return matrix, shift
    refined = np.array(transform.GetMatrix()).reshape(2, 2)[::-1, ::-1].copy()
    moved = np.array(transform.GetTranslation())[::-1].copy()
    start, end = (_ncc(fixed, *_warp_small(moving, m, s)) for m, s in ((matrix, shift), (refined, moved)))
    return (refined, moved) if end >= start else (matrix, shift)


def _warp_small(image: Image, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> tuple[Image, Image]:
    offset = _CENTER + shift - matrix @ np.full(2, _CENTER)
    warped: Image = scipy.ndimage.affine_transform(image, matrix, offset, order=1)
    return warped, np.ones_like(warped)


def _ncc(left: Image, right: Image, mask: Image) -> float:
    inside = mask > 0
    a, b = left[inside] - left[inside].mean(), right[inside] - right[inside].mean()
    return float((a @ b) / max(float(np.sqrt((a @ a) * (b @ b))), 1e-12))


def _half(image: Image) -> Image:
    """Mean of 2×2 pixels."""
    rows = image[0::2] + image[1::2]
    halved: Image = (rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25)
    return halved


def _band_pass(image: Image) -> Image:
    return _blur(image, _FINE) - _blur(image, _COARSE)


def _blur(image: Image, sigma: float) -> Image:
    along = gaussian(sigma, SIZE)
    return np.asarray(along @ image @ along.T, np.float32)
