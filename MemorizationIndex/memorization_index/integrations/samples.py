"""Generated samples in memory → how many of them are copies of a reference's training scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memorization_index.errors import MemorizationIndexError
from memorization_index.fraction import estimate
from memorization_index.reference import Reference
from memorization_index.scores import Scores
from memorization_index.scoring import Options, Query, check_root, score_queries
from memorization_index.slices import to_slices
from memorization_index.verdicts import COPIED, Verdict
from memorization_index.volumes import IMAGE_PLANE, Volume

#: How a sample's axes lie: ``zyx`` as this package keeps volumes (to superior, posterior, left; images: down, left),
#: or ``RAS`` as MONAI does after ``Orientation("RAS")`` (x to right, y to anterior, z to superior).
Layout = Literal["zyx", "RAS"]

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class CopyRate:
    """How many of ``samples`` generated samples are ``copies``, and how many ``flagged`` ones there are.

    An image is a copy where its match was verified as one, and flagged also where p ≤ .01; a volume is both where its
    verdict is copy.
    """

    copies: int
    samples: int
    flagged: int

    @property
    def fraction(self) -> float:
        """The estimated copied fraction, in [0, 1]; NaN without samples.

        As in :func:`memorization_index.fraction.copied_fraction`: flagged images less those that chance flags, and at
        least the verified ones.
        """
        if not self.samples:
            return float("nan")
        return self._estimated(self.copies / self.samples, self.flagged / self.samples)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the fraction of all samples that the model would make (from Clopper and Pearson 1934).

        It knows of the number of samples, not of copies that are overlooked or of novel samples that are called copy.
        """
        if not self.samples:
            return float("nan"), float("nan")
        ends = (self._ends(self.copies), self._ends(self.flagged))
        return self._estimated(ends[0][0], ends[1][0]), self._estimated(ends[0][1], ends[1][1])

    def _ends(self, count: int) -> tuple[float, float]:
        from scipy.stats import beta

        tail, n = (1 - _CONFIDENCE) / 2, self.samples
        low = float(beta.ppf(tail, count, n - count + 1)) if count else 0.0
        high = float(beta.ppf(1 - tail, count + 1, n - count)) if count < n else 1.0
        return low, high

    def _estimated(self, copies: float, flagged: float) -> float:
        return copies if self.flagged == self.copies else float(estimate(flagged, copies))

    def metrics(self, prefix: str = "") -> dict[str, float]:
        """What is logged: ``copied_fraction`` and the ends of its interval, ``…_low`` and ``…_high``."""
        names = [f"{prefix}copied_fraction{end}" for end in ("", "_low", "_high")]
        return dict(zip(names, (self.fraction, *self.interval), strict=True))


class SampleScorer:
    """Scores generated samples against a reference without writing them to disk.

    ``reference`` is an open reference or its folder. ``layout`` says how the axes of a sample lie and ``spacing`` is
    the size of its voxels in mm along those axes (images: the last two of them). The other settings are those of
    :meth:`Reference.score`. After a call ``scores`` holds the whole result, for a report.
    """

    def __init__(
        self,
        reference: Reference | str | Path,
        *,
        layout: Layout = "zyx",
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        training_root: str | Path | None = None,
        weights: str | Path | None = None,
        device: str = "auto",
        cache: str | Path | None = None,
    ) -> None:
        if layout not in ("zyx", "RAS"):
            raise MemorizationIndexError(f"layout={layout!r}: is not known; expected 'zyx' or 'RAS'.")
        self.reference = reference if isinstance(reference, Reference) else Reference.open(reference)
        self._layout, self._spacing = layout, tuple(float(size) for size in spacing)
        root, weights, cache = (None if path is None else Path(path) for path in (training_root, weights, cache))
        self._options = Options(root, weights, device, cache)
        check_root(self.reference, self._options)  # before a model is trained for hours
        self.scores: Scores | None = None

    def __call__(self, samples: Any) -> CopyRate:
        """Count the copies among samples: an array or tensor ``(n, 1, …)`` or ``(n, …)`` of images or volumes.

        A sample that holds nothing (constant, or not finite, as an untrained generator makes them) is no copy.
        Raises :class:`MemorizationIndexError` where the array has another shape.
        """
        array = _unpacked(samples)
        expects_images = self.reference.plane == IMAGE_PLANE
        if (array.ndim == 3) != expects_images:
            expected = "images (n, 1, rows, columns)" if expects_images else "volumes (n, 1, …three axes…)"
            raise MemorizationIndexError(
                f"Samples of shape {np.shape(samples)}: do not fit the reference, which was built on "
                f"{'images' if expects_images else 'volumes'}; expected {expected}, with one channel."
            )
        volumes = [self._volume(sample) for sample in array]
        self.scores = None
        queries = list(self._queries(volumes))
        if not queries:
            return CopyRate(0, len(volumes), 0)
        self.scores = score_queries(self.reference, queries, options=self._options)
        slices, copies = self.scores.slices, int((self.scores.volumes["verdict"] == Verdict.COPY).sum())
        if self.reference.plane != IMAGE_PLANE:
            return CopyRate(copies, len(volumes), copies)
        return CopyRate(int(np.isin(slices["match_class"], COPIED).sum()), len(volumes), int(slices["flagged"].sum()))

    def _volume(self, sample: NDArray[np.float32]) -> Volume | None:
        if not np.isfinite(sample).all() or np.ptp(sample) == 0:
            return None
        spacing = self._spacing[-sample.ndim :]
        if self._layout == "RAS":
            # (x, y, z) to right, anterior, superior becomes (z, y, x) to superior, posterior, left.
            sample = np.transpose(np.flip(sample, axis=(0, 1)))
            spacing = spacing[::-1]
        if sample.ndim == 2:
            return Volume(np.ascontiguousarray(sample)[None], (1.0, spacing[0], spacing[1]), is_image=True)
        return Volume(np.ascontiguousarray(sample), (spacing[0], spacing[1], spacing[2]), is_image=False)

    def _queries(self, volumes: Sequence[Volume | None]) -> Iterator[Query]:
        for number, volume in enumerate(volumes):
            if volume is None:
                continue
            stack = to_slices(volume, IMAGE_PLANE if volume.is_image else self.reference.plane)
            if stack.images:
                yield Query(f"sample {number + 1}", stack)


def _unpacked(samples: Any) -> NDArray[np.float32]:
    """Samples ``(n, rows, columns)`` or ``(n, slices, rows, columns)`` as float32, on the CPU."""
    if hasattr(samples, "detach"):
        samples = samples.detach().float().cpu().numpy()
    array: NDArray[np.float32] = np.asarray(samples, np.float32)
    if array.ndim in (4, 5) and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (3, 4):
        raise MemorizationIndexError(
            f"Samples of shape {array.shape}: cannot be scored; expected (n, 1, rows, columns) for images or "
            f"(n, 1, …three axes…) for volumes, with one channel."
        )
    return array
