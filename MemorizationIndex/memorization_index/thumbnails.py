"""Small pictures of the training slices in a reference, for who reads results without the training set."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from memorization_index.cohort import Entry
from memorization_index.encoding import read_slices
from memorization_index.errors import MemorizationIndexError
from memorization_index.progress import Progress
from memorization_index.slices import square_images

if TYPE_CHECKING:
    from memorization_index.reference import Reference

KINDS = ("none", "blurred", "full")
#: Side in pixels, and of ``blurred`` the standard deviation of the blur.
SIZE, _BLUR = 64, 3.0


def check_kind(kind: str) -> None:
    """Refuse a kind that is not known."""
    if kind not in KINDS:
        raise MemorizationIndexError(f"--thumbnails {kind}: is not known; expected {', '.join(KINDS)}.")


def make_thumbnails(
    reference: Reference, entries: Mapping[str, Entry], kind: str, progress: Progress
) -> NDArray[np.uint8] | None:
    """Pictures ``(N, 64, 64)`` uint8 of the reference's slices, row by row, held on disk; None for ``none``.

    ``full`` are the square images; ``blurred`` lose what is finer than about a tenth of the width, by which a layout
    can still be told, and perhaps a person. The volumes are read once more.
    """
    check_kind(kind)
    if kind == "none":
        return None
    shape = (len(reference.slice_volume), SIZE, SIZE)
    with tempfile.TemporaryFile() as stream:  # the map outlives the file's name
        result: NDArray[np.uint8] = np.memmap(stream, np.uint8, "w+", shape=shape)
    progress.begin("drawing thumbnails", len(reference.volumes), "volumes")
    for row, volume in enumerate(reference.volumes):
        _, stack = read_slices(entries[volume.name], reference.plane)
        images = square_images(stack, SIZE)
        if kind == "blurred":
            images = scipy.ndimage.gaussian_filter(images, (0, _BLUR, _BLUR))
        own = np.flatnonzero(reference.slice_volume == row)
        result[own[0] : own[-1] + 1] = np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)
        progress.advance()
    return result
