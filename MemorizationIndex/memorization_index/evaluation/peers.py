"""Other measures of copying and of quality, each short and as its paper defines it, on features given as arrays.

Set measures take features of a generated set, a training set and (C_T) a held-out set; sample measures take one value
for each sample. None of them searches flips or rotations, none has a null: that is how they are used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata

Floats = NDArray[np.float64]

#: Cells that C_T divides the training set into, and the least share of held-out and generated samples that one needs.
CELLS, CELL_SHARE = 5, 0.05
#: Side of the square window of SSIM and its constants K1, K2 (Wang et al. 2004; data range 1).
SSIM_WINDOW, SSIM_K1, SSIM_K2 = 7, 0.01, 0.03
#: SSIM is computed with this many training slices, those whose pixels correlate most.
SSIM_CANDIDATES = 20


def frechet_distance(first: Floats, second: Floats) -> float:
    """FID of two sets of features ``(n, d)``, ``(m, d)``: Fréchet distance of their Gaussian fits (Heusel et al. 2017).

    |μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½); 0 for equal moments, larger is farther.
    """
    covariances = [np.atleast_2d(np.cov(x, rowvar=False)) for x in (first, second)]
    root = _square_root(covariances[0])
    # C₁C₂ has the eigenvalues of the symmetric C₁^½ C₂ C₁^½.
    cross = np.linalg.eigvalsh(root @ covariances[1] @ root)
    step = first.mean(axis=0) - second.mean(axis=0)
    traces = np.trace(covariances[0]) + np.trace(covariances[1])
    return float(step @ step + traces - 2 * np.sqrt(np.clip(cross, 0, None)).sum())


def _square_root(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh(matrix)
    result: Floats = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return result


def kernel_distance(first: Floats, second: Floats) -> float:
    """KID: unbiased squared MMD with the kernel (x·y/d + 1)³ of sets ``(n, d)``, ``(m, d)`` (Bińkowski et al. 2018)."""
    dimension, n, m = first.shape[1], len(first), len(second)
    within = [(x @ x.T / dimension + 1) ** 3 for x in (first, second)]
    across = (first @ second.T / dimension + 1) ** 3
    own = [(k.sum() - np.trace(k)) / (size * (size - 1)) for k, size in zip(within, (n, m), strict=True)]
    return float(own[0] + own[1] - 2 * across.mean())


def vendi_score(features: Floats) -> float:
    """Vendi score of unit vectors ``(n, d)``: exp of the entropy of the eigenvalues of K/n (Friedman & Dieng 2023).

    From 1 (all the same) to n (all orthogonal). ``K = X Xᵀ``, whose eigenvalues but zeros are those of XᵀX.
    """
    small = features.T @ features if features.shape[1] < len(features) else features @ features.T
    values = np.linalg.eigvalsh(small / len(features))
    positive = values[values > 1e-12]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def authentic_share(generated: Floats, training: Floats) -> float:
    """AuthPct: share of generated samples ``(m, d)`` that are authentic (Alaa et al. 2022), in [0, 1].

    A sample is not authentic where it lies closer to its nearest training sample than that one does to any other.
    """
    distances = _distances(generated, training)
    nearest = distances.argmin(axis=1)
    own = _distances(training, training)
    np.fill_diagonal(own, np.inf)
    return float((distances.min(axis=1) >= own.min(axis=1)[nearest]).mean())


def data_copying_score(
    generated: Floats, training: Floats, held_out: Floats, cells: int = CELLS, seed: int = 0
) -> float:
    """C_T of generated ``(m, d)``, training and held-out features (Meehan, Chaudhuri & Dasgupta 2020).

    Distances to the nearest training sample are compared by a Mann–Whitney test in each of ``cells`` k-means cells of
    the training set; the z-scores are averaged by the held-out samples in a cell. Far below 0: data are copied; above
    0: underfitted. Cells with fewer than 5 % of the held-out or of the generated samples are left out; NaN where all
    are.
    """
    cells = min(cells, len(training))
    centers, _ = kmeans2(training, cells, minit="++", seed=seed)
    nearest = [_distances(x, training).min(axis=1) for x in (generated, held_out)]
    labels = [_distances(x, centers).argmin(axis=1) for x in (generated, held_out)]
    total, weights = 0.0, 0.0
    for cell in range(cells):
        ours, theirs = (d[label == cell] for d, label in zip(nearest, labels, strict=True))
        if len(ours) < max(CELL_SHARE * len(generated), 1) or len(theirs) < max(CELL_SHARE * len(held_out), 1):
            continue
        total += len(theirs) * mann_whitney_z(ours, theirs)
        weights += len(theirs)
    return total / weights if weights else float("nan")


def mann_whitney_z(first: Floats, second: Floats) -> float:
    """z-score of Mann–Whitney's U: above 0 where ``first`` is stochastically larger (normal approximation)."""
    n, m = len(first), len(second)
    u = rankdata(np.concatenate([first, second]))[:n].sum() - n * (n + 1) / 2
    return float((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))


def nearest_cosine(samples: Floats, training: Floats) -> Floats:
    """Largest cosine of each sample ``(n, d)`` with a training row, in [−1, 1]: no whitening, no views."""
    result: Floats = (_unit(samples) @ _unit(training).T).max(axis=1)
    return result


def nearest_pixels(images: NDArray[np.float32], training: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Largest pixel NCC and largest SSIM of images ``(n, h, w)`` with training images ``(N, h, w)``, in [−1, 1].

    SSIM (Wang et al. 2004, uniform window) is computed with the 20 training images that correlate most.
    """
    flat = [_unit(_centered(x.reshape(len(x), -1))) for x in (images, training)]
    ncc, ssim = np.empty(len(images)), np.empty(len(images))
    for i, image in enumerate(images):
        correlations = flat[1] @ flat[0][i]
        ncc[i] = correlations.max()
        count = min(SSIM_CANDIDATES, len(training))
        candidates = np.argpartition(-correlations, count - 1)[:count]
        ssim[i] = structural_similarity(image, training[candidates]).max()
    return ncc, ssim


def structural_similarity(image: NDArray[np.float32], others: NDArray[np.float32]) -> Floats:
    """SSIM ``(k,)`` of an image ``(h, w)`` in [0, 1] with others ``(k, h, w)``; sample covariances, no borders."""
    size, margin = SSIM_WINDOW, SSIM_WINDOW // 2
    x, y = np.asarray(image, np.float64)[None], np.asarray(others, np.float64)
    mean_x, mean_y, square_x, square_y, product = (_local_mean(z) for z in (x, y, x * x, y * y, x * y))
    unbiased = size**2 / (size**2 - 1)
    covariance = unbiased * (product - mean_x * mean_y)
    variances = unbiased * (square_x - mean_x**2 + square_y - mean_y**2)
    one, two = SSIM_K1**2, SSIM_K2**2
    index = (2 * mean_x * mean_y + one) * (2 * covariance + two) / ((mean_x**2 + mean_y**2 + one) * (variances + two))
    result: Floats = index[:, margin:-margin, margin:-margin].mean(axis=(1, 2))
    return result


def _local_mean(images: Floats) -> Floats:
    result: Floats = uniform_filter(images, (0, SSIM_WINDOW, SSIM_WINDOW))
    return result


def _distances(first: Floats, second: Floats) -> Floats:
    """Euclidean distances ``(n, m)``."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None] - 2 * first @ second.T
    result: Floats = np.sqrt(np.clip(squares, 0, None))
    return result


def _centered(vectors: NDArray[np.floating]) -> Floats:
    result: Floats = vectors - vectors.mean(axis=1, keepdims=True)
    return result


def _unit(vectors: NDArray[np.floating]) -> Floats:
    result: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return result
