"""What slices are described by: one or more *channels*, each with a whitening and a null of its own (METHOD §3).

A describer turns the slices of a volume into the features of its channels. The embedded one has ``spectral`` and
``layout``; a foundation model adds two for each of its layers, pooled over the whole slice and over a 4×4 grid.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from memorization_index import layout, spectral
from memorization_index.errors import MemorizationIndexError
from memorization_index.slices import SliceStack, square_images
from memorization_index.usercache import FeatureCache, remember_weights
from memorization_index.whitening import SHRINKAGE

if TYPE_CHECKING:
    from memorization_index.encoders.base import Encoder
    from memorization_index.encoders.mri_core import LayerScale
    from memorization_index.encoders.precision import Precision

#: Features by channel, in the precision they are stored with; a query that is a copy then stays an exact copy.
Features = dict[str, NDArray[np.float16]]

SPECTRAL, LAYOUT = "spectral", "layout"
#: The mirrored view's place in ``spectral.views()``.
_MIRRORED = 1
#: Cells along one side of the layout-keeping pooling.
GRID = 4
#: Names what is done to token grids, in fingerprints.
_POOLING = "pooled-2"
#: Numbers that longer features are projected to.
_PROJECTED = 1024
#: Of deep features less of the identity is mixed into the covariance than of ``spectral`` (docs/encoders.md).
DEEP_SHRINKAGE = 0.1
#: Side of the square images that a foundation model is given.
_ENCODED_SIZE = 224


class Describer(Protocol):
    """Turns slices into features, by channel."""

    name: str
    fingerprint: str
    #: How precisely a network computes; None where there is none.
    precision: Precision | None
    #: Channel → length of its features.
    dimensions: Mapping[str, int]
    #: Channel → how far its covariance is shrunk (see ``Whitening``).
    shrinkage: Mapping[str, float]

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
    fingerprint = "spectral-3"
    precision: Precision | None = None
    dimensions: Mapping[str, int] = {SPECTRAL: spectral.DIMENSION, LAYOUT: layout.DIMENSION}
    shrinkage: Mapping[str, float] = {SPECTRAL: SHRINKAGE, LAYOUT: SHRINKAGE}

    def views(self) -> list[spectral.View]:
        """The spectral views, then the same with a half turn."""
        return [*spectral.views(), *(view.half_turned() for view in spectral.views())]

    def describe(self, stack: SliceStack) -> Features:
        """Features ``(n, 435)`` and ``(n, 1600)``."""
        images = square_images(stack, spectral.INPUT_SIZE)
        return {
            SPECTRAL: spectral.describe(images).astype(np.float16),
            LAYOUT: layout.describe(images).astype(np.float16),
        }

    def describe_views(self, stack: SliceStack) -> Features:
        """Features ``(n, views, 435)`` of ``spectral``."""
        return {SPECTRAL: spectral.describe_views(square_images(stack, spectral.INPUT_SIZE)).astype(np.float16)}

    def describe_chosen(self, stack: SliceStack, found: NDArray[np.int64]) -> Chosen:
        """Features ``(n, 4 + 2·c, 1600)`` of ``layout``."""
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
    tell apart). Null queries go the same way. Features of a picture are computed once and kept in the cache.
    """

    def __init__(self, encoder: Encoder, cache: FeatureCache) -> None:
        self.name, self._encoder, self._cache = encoder.name, encoder, cache
        self.precision: Precision | None = encoder.precision
        self.fingerprint = f"{EmbeddedDescriber.fingerprint}+{_POOLING}+{encoder.fingerprint}"
        self._embedded = EmbeddedDescriber()
        deep = self._computed(np.zeros((0, 8, 8), np.float32))
        lengths = {channel: features.shape[1] for channel, features in deep.items()}
        self.dimensions: Mapping[str, int] = {**self._embedded.dimensions, **lengths}
        self.shrinkage: Mapping[str, float] = {**self._embedded.shrinkage, **dict.fromkeys(deep, DEEP_SHRINKAGE)}
        # The network uses all cores by itself; while it works for one thread, others read, warp and search.
        self._one_at_a_time = threading.Lock()

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
        with self._one_at_a_time:
            return self._looked_up(images)

    def _looked_up(self, images: NDArray[np.float32]) -> Features:
        keys = [hashlib.sha256(self.fingerprint.encode() + image.tobytes()).hexdigest() for image in images]
        known = {key: found for key in dict.fromkeys(keys) if (found := self._cache.load(key)) is not None}
        missing = {key: i for i, key in reversed(list(enumerate(keys))) if key not in known}
        if missing:
            computed = self._computed(images[list(missing.values())])
            for row, key in enumerate(missing):
                known[key] = {channel: values[row] for channel, values in computed.items()}
                self._cache.store(key, known[key])
        return {
            c: np.stack([known[key][c] for key in keys]) for c in self.dimensions if c not in self._embedded.dimensions
        }

    def _computed(self, images: NDArray[np.float32]) -> Features:
        result: Features = {}
        grids = self._grids(images)
        cells = all_projected({layer: pooled(grid, GRID) for layer, grid in grids.items()})
        for layer, grid in grids.items():
            result[f"{layer}.mean"] = grid.mean(axis=(1, 2)).astype(np.float16)
            result[f"{layer}.grid{GRID}"] = cells[layer].astype(np.float16)
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


def projected(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Long features ``(n, D)`` in ``min(D, 1024)`` numbers: random signs, the same on every machine (Achlioptas 2003).

    Sixteen cells of 768 numbers need one covariance over all cells: one that cells share loses most copies
    (docs/encoders.md), and one of 12288² can neither be kept nor inverted. Projecting keeps cosines to about .03.
    """
    length = features.shape[1]
    return features @ _signs(length) if length > _PROJECTED else features


def all_projected(layers: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Layers ``(n, D)`` projected, those of one length in one product: the matrix takes longer to read than to use."""
    result: dict[str, NDArray[np.float32]] = {}
    for length in dict.fromkeys(features.shape[1] for features in layers.values()):
        alike = [layer for layer, features in layers.items() if features.shape[1] == length]
        together = projected(np.concatenate([layers[layer] for layer in alike]))
        result.update(zip(alike, np.split(together, len(alike)), strict=True))
    return result


@lru_cache(maxsize=2)
def _signs(length: int) -> NDArray[np.float32]:
    """A matrix ``(length, 1024)`` of ±1/32."""
    bits = hashlib.shake_256(f"memorization-index {length}".encode()).digest(length * _PROJECTED // 8)
    signs = np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(length, _PROJECTED).astype(np.float32)
    return (2 * signs - 1) / np.float32(_PROJECTED**0.5)


def make_describer(
    encoder: str,
    weights: str | Path | None,
    device: str,
    cache: str | Path | None = None,
    precision: Precision = "auto",
    layer_scale: LayerScale = "refuse",
) -> Describer:
    """The describer that an encoder's name stands for: ``spectral``, ``mri-core`` or ``hf:DIR``.

    ``weights``: a file, or the folder of an ``hf:`` encoder, if it is not DIR; ``layer_scale``: of ``mri-core``;
    ``cache``: see :class:`~memorization_index.usercache.FeatureCache`.
    """
    if encoder == SPECTRAL:
        if weights is not None:
            raise MemorizationIndexError("--weights: the embedded encoder 'spectral' has none; leave the option out.")
        return EmbeddedDescriber()
    from memorization_index.encoders import load_encoder

    # A Hugging Face folder says itself which size its network takes.
    size = None if encoder.startswith("hf:") else _ENCODED_SIZE
    scale: dict[str, Any] = {} if layer_scale == "refuse" else {"layer_scale": layer_scale}
    loaded = load_encoder(encoder, weights, image_size=size, device=device, precision=precision, **scale)
    describer = EncoderDescriber(loaded, FeatureCache(cache))
    remember_weights(describer.fingerprint, weights or encoder.removeprefix("hf:"))
    return describer
