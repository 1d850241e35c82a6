"""Three libraries refine a match: ``python Testing/benchmarks/registration.py [--pairs N]`` prints JSON.

A slice of a computed head is turned by up to 2.5°, scaled by up to 5 % and made noisy: what the nearest of the views
leaves over. It is registered to its own slice (a copy) and to the same slice of the next head (a stranger), from the
shift at the cross-correlation's peak, as verification does it. What counts is the band-passed NCC afterwards, and
processor time on one core. OpenCV and scikit-image are not needed by the project: a library that is missing is left out
(``pip install opencv-python-headless scikit-image``).

scikit-image registers no affine map itself: it has the two methods that are tried here, phase correlation in log-polar
coordinates (rotation, scale, shift), and dense optical flow, to which an affine map is fitted robustly.
"""

import argparse
import itertools
import json
import os
import time
import warnings
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from machine import processor
from memorization_index.evaluation.cohorts import FOLD_WAVELENGTH, _band_passed, make_head
from memorization_index.matching import (
    SIZE,
    _band_pass,
    _best_try,
    _half,
    _ncc,
    _register,
    _view_matrix,
    warp,
)
from memorization_index.spectral import INPUT_SIZE, View
from numpy.typing import NDArray
from scipy import ndimage

CENTER = (SIZE - 1) / 2
Image = NDArray[np.float32]
Map = tuple[
    NDArray[np.float64], NDArray[np.float64]
]  # 2×2 and shift, rows first: query(x) ≈ training(matrix x + shift)
Register = Callable[[Image, Image, NDArray[np.float64], NDArray[np.float64]], Map]


def opencv(fixed: Image, moving: Image, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> Map:
    """``findTransformECC`` with an affine map, as many iterations as SimpleITK has."""
    import cv2

    offset = CENTER + shift - matrix @ np.full(2, CENTER)
    start = np.column_stack([matrix[::-1, ::-1], offset[::-1]]).astype(np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-6)
    try:
        found = cv2.findTransformECC(fixed, moving, start, cv2.MOTION_AFFINE, criteria, None, 1)[1].astype(float)
    except cv2.error:  # no convergence
        return matrix, shift
    refined = found[::-1, 1::-1].copy()
    return refined, found[::-1, 2] - CENTER + refined @ np.full(2, CENTER)


def log_polar(fixed: Image, moving: Image, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> Map:
    """Rotation and scale by phase correlation of log-polar spectra, then the shift by phase correlation."""
    from skimage.registration import phase_cross_correlation
    from skimage.transform import warp_polar

    window = np.outer(np.hanning(SIZE), np.hanning(SIZE))
    spectra = [np.abs(np.fft.fftshift(np.fft.fft2(x * window))) for x in (fixed, moving)]
    polar = [warp_polar(s, radius=SIZE / 2, output_shape=(720, 256), scaling="log")[:360] for s in spectra]
    (rows, columns), _, _ = phase_cross_correlation(*polar, upsample_factor=10, normalization=None)
    angle, scale = np.deg2rad(rows / 2), np.exp(columns * np.log(SIZE / 2) / 256)
    tries = [(matrix, shift)]
    for sign in (1, -1):
        turn = np.array([[np.cos(angle), sign * np.sin(angle)], [-sign * np.sin(angle), np.cos(angle)]])
        for size in (scale, 1 / scale):
            turned = warp_small(moving, size * turn, np.zeros(2))
            moved, _, _ = phase_cross_correlation(fixed, turned, upsample_factor=20, normalization=None)
            tries.append((size * turn, -size * turn @ moved))
    return max(tries, key=lambda one: _ncc(fixed, warp_small(moving, *one), np.ones_like(fixed)))


def optical_flow(fixed: Image, moving: Image, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> Map:
    """Dense flow (iterative Lucas–Kanade) after the first shift, and the affine map that it mostly follows (RANSAC)."""
    from skimage.measure import ransac
    from skimage.registration import optical_flow_ilk
    from skimage.transform import AffineTransform

    flow = optical_flow_ilk(fixed, warp_small(moving, matrix, shift), radius=7)
    grid = np.stack(np.meshgrid(*[np.arange(SIZE)] * 2, indexing="ij"), -1).reshape(-1, 2) - CENTER
    strong = np.abs(ndimage.gaussian_filter(np.abs(fixed), 2).ravel()) > 0.2 * np.abs(fixed).max()
    if strong.sum() < 50:
        return matrix, shift
    points = grid[strong]
    ends = points + flow.reshape(2, -1).T[strong]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, _ = ransac((points, ends), AffineTransform, 6, 0.5, max_trials=50, rng=0)
    if not model:
        return matrix, shift
    linear, moved = model.params[:2, :2], model.params[:2, 2]
    return matrix @ linear, matrix @ moved + shift


def warp_small(image: Image, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> Image:
    offset = CENTER + shift - matrix @ np.full(2, CENTER)
    warped: Image = ndimage.affine_transform(image, matrix, offset, order=1)
    return warped


def pairs(count: int) -> list[tuple[Image, Image, Image]]:
    """Query, its own training slice, a stranger's: each (128, 128) in [0, 1]."""
    common = _band_passed(np.random.default_rng([0, 0]), FOLD_WAVELENGTH)
    heads = [square(make_head(np.random.default_rng([0, n + 1]), common)[8]) for n in range(count + 1)]
    random, found = np.random.default_rng(1), []
    for own, stranger in itertools.pairwise(heads):
        angle, scale = np.deg2rad(random.uniform(-2.5, 2.5)), random.uniform(0.95, 1.05)
        matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        center = np.full(2, (INPUT_SIZE - 1) / 2)
        offset = center + random.uniform(-4, 4, 2) - matrix @ center
        query = ndimage.affine_transform(own, matrix, offset, order=1) + random.normal(0, 0.02, own.shape)
        found.append((np.clip(query, 0, 1).astype(np.float32), own, stranger))
    return found


def square(slice_: NDArray[np.floating]) -> Image:
    """A head's slice, 112 × 96, on 128 × 128 in [0, 1]."""
    result = np.zeros((INPUT_SIZE, INPUT_SIZE), np.float32)
    result[8:120, 16:112] = np.clip(slice_ / np.quantile(slice_, 0.995), 0, 1)
    return result


def ncc_after(query: Image, training: Image, register: Register) -> tuple[float, float]:
    """Band-passed NCC, and the processor seconds of the registration alone."""
    identity = View(mirrored=False, quarter=0, rotation=0.0, scale=1.0)
    target = _band_pass(_half(query))
    first = _best_try(target, [(training, identity)])
    turned = np.ascontiguousarray(np.rot90(training, first.quarters))
    moving = _band_pass(_half(turned))
    began = time.process_time()
    matrix, moved = register(target, moving, _view_matrix(identity), first.shift)
    spent = time.process_time() - began
    aligned, overlap = warp(turned, matrix, moved)
    return _ncc(target, _band_pass(aligned), overlap), spent


def main() -> None:
    """Every library on the same pairs, one after another for each pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    count = parser.parse_args().pairs
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    ways: dict[str, Register] = {"none (first shift only)": lambda _f, _m, a, s: (a, s), "SimpleITK": _register}
    for name, library, more in (
        ("OpenCV", "cv2", {"OpenCV findTransformECC": opencv}),
        ("scikit-image", "skimage", {"scikit-image log-polar": log_polar, "scikit-image optical flow": optical_flow}),
    ):
        try:
            imported = __import__(library)
        except ImportError:
            print(f"{name} is not installed and is left out.")
            continue
        if library == "cv2":
            imported.setNumThreads(1)
        ways |= more
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for query, own, stranger in pairs(count):
        for name, register in ways.items():
            (copied, spent), (strange, _) = (ncc_after(query, x, register) for x in (own, stranger))
            results[name].append((copied, strange, spent))
    table = {}
    for name, rows in results.items():
        copied, strange, spent = map(np.array, zip(*rows, strict=True))
        table[name] = {
            "copies: median NCC": round(float(np.median(copied)), 3),
            "copies: lowest": round(float(copied.min()), 3),
            "strangers: median NCC": round(float(np.median(strange)), 3),
            "strangers: highest": round(float(strange.max()), 3),
            "copies above all strangers": round(float((copied > strange.max()).mean()), 3),
            "ms a pair": round(1e3 * float(np.median(spent)), 1),
        }
    print(json.dumps({"pairs": count, "processor": processor(), "ways": table}, indent=1))


if __name__ == "__main__":
    main()
