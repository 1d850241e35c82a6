"""What slices are described by: one or more *channels*, each with a whitening and a null of its own (METHOD §3).

A describer turns the slices of a volume into the features of its channels. The embedded one has ``spectral`` and
``layout``; a foundation model adds two for each of its layers, pooled over the whole slice and over a 4×4 grid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from memorization_index import layout, spectral
from memorization_index.errors import MemorizationIndexError
from memorization_index.volumes import SliceStack, square_images

if TYPE_CHECKING:
    from memorization_index.encoders.base import Encoder

#: Features by channel, in the precision they are stored with; a query that is a copy then stays an exact copy.
Features = dict[str, NDArray[np.float16]]

SPECTRAL, LAYOUT = "spectral", "layout"
#: The mirrored view's place in ``spectral.views()``.
_MIRRORED = 1
#: Cells along one side of the layout-keeping pooling.
GRID = 4
#: Side of the square images that a foundation model is given.
_ENCODED_SIZE = 224


class Describer(Protocol):
    """Turns slices into features, by channel."""

    name: str
    fingerprint: str
    #: Channel → length of its features.
    dimensions: Mapping[str, int]
    #: Channel → cells that its features consist of; cells share one covariance (see ``Moments``).
    cells: Mapping[str, int]

    def views(self) -> list[spectral.View]:
        """The views under which a query is compared, the identity first."""
        ...

    def describe(self, stack: SliceStack) -> Features:
        """Features ``(n, D)`` of the slices as they are, by channel: what training slices are stored as."""
        ...

    def describe_views(self, stack: SliceStack) -> Features:
        """Features ``(n, views, D)`` of the channels that search every view (``spectral``)."""
        ...

    def describe_chosen(self, stack: SliceStack, found: NDArray[np.int64]) -> Chosen:
        """The other channels' features, under views chosen by what ``spectral`` found: views ``(n, c)``, best first."""
        ...


#: Features ``(n, k, D)`` by channel, with the views ``(n, k)`` that they are under.
Chosen = dict[str, tuple[NDArray[np.float16], NDArray[np.int64]]]


class EmbeddedDescriber:
    """The embedded describer: no weights, no torch (see :mod:`.spectral` and :mod:`.layout`).

    ``layout`` sees a slice as it is, mirrored, and both turned by 180°; and under the views that ``spectral`` found for
    its candidates, with their half turns (which ``spectral`` cannot tell apart).
    """

    name = SPECTRAL
    fingerprint = "spectral-2"
    dimensions: Mapping[str, int] = {SPECTRAL: spectral.DIMENSION, LAYOUT: layout.DIMENSION}
    cells: Mapping[str, int] = {SPECTRAL: 1, LAYOUT: 1}

    def views(self) -> list[spectral.View]:
        """The spectral views, then the same with a half turn."""
        return [*spectral.views(), *(view.half_turned() for view in spectral.views())]

    def describe(self, stack: SliceStack) -> Features:
        """Features ``(n, 435)`` and ``(n, 1024)``."""
        images = square_images(stack, spectral.INPUT_SIZE)
        return {
            SPECTRAL: spectral.describe(images).astype(np.float16),
            LAYOUT: layout.describe(images).astype(np.float16),
        }

    def describe_views(self, stack: SliceStack) -> Features:
        """Features ``(n, views, 435)`` of ``spectral``."""
        return {SPECTRAL: spectral.describe_views(square_images(stack, spectral.INPUT_SIZE)).astype(np.float16)}

    def describe_chosen(self, stack: SliceStack, found: NDArray[np.int64]) -> Chosen:
        """Features ``(n, 4 + 2·c, 1024)`` of ``layout``."""
        half = len(spectral.views())
        plain = np.array([0, _MIRRORED, half, half + _MIRRORED], np.int64)
        chosen = np.concatenate([np.broadcast_to(plain, (len(found), 4)), found, found + half], axis=1)
        images, views = square_images(stack, spectral.INPUT_SIZE), self.views()
        features = np.empty((*chosen.shape, layout.DIMENSION), np.float16)
        for view in np.unique(chosen):
            slices, places = np.nonzero(chosen == view)
            features[slices, places] = layout.describe(images[slices], views[view])
        return {LAYOUT: (features, chosen)}


class EncoderDescriber:
    """The embedded channels and the layers of a foundation model, each pooled globally and 4×4.

    A forward pass costs a thousand times what a spectral view costs, so the network does not see every view: it sees
    the slice as it is, and under the view that ``spectral`` found best and its half turn (which ``spectral`` cannot
    tell apart). Null queries go the same way. Features of a picture are computed once and kept in ``cache``.
    """

    def __init__(self, encoder: Encoder, cache: Path | None) -> None:
        self.name, self._encoder, self._cache = encoder.name, encoder, cache
        self.fingerprint = hashlib.sha256(f"{EmbeddedDescriber.fingerprint}+{encoder.fingerprint}".encode()).hexdigest()
        self._embedded = EmbeddedDescriber()
        widths = {layer: grid.shape[-1] for layer, grid in self._grids(np.zeros((1, 8, 8), np.float32)).items()}
        dimensions, cells = dict(self._embedded.dimensions), dict(self._embedded.cells)
        for layer, width in widths.items():
            dimensions |= {f"{layer}.mean": width, f"{layer}.grid{GRID}": width * GRID**2}
            cells |= {f"{layer}.mean": 1, f"{layer}.grid{GRID}": GRID**2}
        self.dimensions: Mapping[str, int] = dimensions
        self.cells: Mapping[str, int] = cells

    def views(self) -> list[spectral.View]:
        """Those of the embedded describer."""
        return self._embedded.views()

    def describe(self, stack: SliceStack) -> Features:
        """Features ``(n, D)`` of all channels."""
        return {**self._embedded.describe(stack), **self._encoded(square_images(stack, _ENCODED_SIZE))}

    def describe_views(self, stack: SliceStack) -> Features:
        """Features ``(n, views, 435)`` of ``spectral``."""
        return self._embedded.describe_views(stack)

    def describe_chosen(self, stack: SliceStack, found: NDArray[np.int64]) -> Chosen:
        """Features of ``layout`` and ``(n, 3, D)`` of the network's channels."""
        best = found[:, 0]
        chosen = np.stack([np.zeros_like(best), best, best + len(spectral.views())], axis=1)
        images = square_images(stack, _ENCODED_SIZE)
        views = self.views()
        flat = np.stack([viewed(images[i], views[v]) for i in range(len(images)) for v in chosen[i]])
        encoded = {c: (f.reshape(*chosen.shape, -1), chosen) for c, f in self._encoded(flat).items()}
        return {**self._embedded.describe_chosen(stack, found), **encoded}

    def _encoded(self, images: NDArray[np.float32]) -> Features:
        """Features of pictures, each from the cache where it is there."""
        if self._cache is None:
            return self._computed(images)
        keys = [hashlib.sha256(self.fingerprint.encode() + image.tobytes()).hexdigest() for image in images]
        known = {key: found for key in dict.fromkeys(keys) if (found := _load(self._cache, key)) is not None}
        missing = {key: i for i, key in reversed(list(enumerate(keys))) if key not in known}
        if missing:
            computed = self._computed(images[list(missing.values())])
            for row, key in enumerate(missing):
                known[key] = {channel: values[row] for channel, values in computed.items()}
                _store(self._cache, key, known[key])
        return {
            c: np.stack([known[key][c] for key in keys]) for c in self.dimensions if c not in self._embedded.dimensions
        }

    def _computed(self, images: NDArray[np.float32]) -> Features:
        result: Features = {}
        for layer, grid in self._grids(images).items():
            result[f"{layer}.mean"] = grid.mean(axis=(1, 2)).astype(np.float16)
            result[f"{layer}.grid{GRID}"] = pooled(grid, GRID).astype(np.float16)
        return result

    def _grids(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return self._encoder.encode(list(images), pool="none")


def viewed(image: NDArray[np.float32], view: spectral.View) -> NDArray[np.float32]:
    """A square image under a view: rotated and scaled (linear interpolation), quarter-turned, mirrored."""
    if view.rotation or view.scale != 1:
        angle = np.deg2rad(view.rotation)
        matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / view.scale
        center = np.full(2, (len(image) - 1) / 2)
        image = scipy.ndimage.affine_transform(image, matrix, center - matrix @ center, order=1)
    turned = np.rot90(image, view.quarter)
    return np.ascontiguousarray(turned[:, ::-1] if view.mirrored else turned)


def pooled(grid: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    """Means of a token grid ``(n, h, w, C)`` over ``cells``×``cells`` parts: ``(n, cells²·C)``, cell by cell.

    Parts begin at ⌊i·h/cells⌋ and end at ⌈(i+1)·h/cells⌉, so they overlap where ``h`` is no multiple.
    """
    height, width = grid.shape[1:3]
    parts = []
    for i in range(cells):
        rows = slice(i * height // cells, -(-(i + 1) * height // cells))
        for j in range(cells):
            parts.append(grid[:, rows, j * width // cells : -(-(j + 1) * width // cells)].mean(axis=(1, 2)))
    return np.concatenate(parts, axis=1)


def make_describer(encoder: str, weights: str | Path | None, device: str, cache: Path | None = None) -> Describer:
    """The describer that an encoder's name stands for: ``spectral``, ``mri-core`` or ``hf:DIR``."""
    if encoder == SPECTRAL:
        if weights is not None:
            raise MemorizationIndexError("--weights: the embedded encoder 'spectral' has none; leave the option out.")
        return EmbeddedDescriber()
    from memorization_index.encoders import load_encoder

    # A Hugging Face folder says itself which size its network takes.
    size = None if encoder.startswith("hf:") else _ENCODED_SIZE
    return EncoderDescriber(load_encoder(encoder, weights, image_size=size, device=device), cache)


def _load(cache: Path, key: str) -> Features | None:
    """Features from the cache; None where they are not there or cannot be read."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(cache / key[:2] / f"{key}.safetensors")
    except (OSError, SafetensorError):
        return None


def _store(cache: Path, key: str, features: Features) -> None:
    import os

    from safetensors.numpy import save_file

    folder = cache / key[:2]
    # Features can be matched to the pictures they come from: nobody else on the machine may read them.
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = folder / f".{key}.{os.getpid()}"
    save_file(features, beside)
    os.replace(beside, folder / f"{key}.safetensors")
