"""What slices are described by: one or more *channels*, each with a whitening and a null of its own (METHOD §3).

A describer turns the slices of a volume into the features of its channels. The embedded one has the single channel
``spectral``; foundation models add one channel for each of their layers and poolings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memorization_index import spectral
from memorization_index.volumes import SliceStack, square_images

#: Features by channel, in the precision they are stored with; a query that is a copy then stays an exact copy.
Features = dict[str, NDArray[np.float16]]


class Describer(Protocol):
    """Turns slices into features, by channel."""

    name: str
    fingerprint: str
    #: Channel → length of its features.
    dimensions: Mapping[str, int]

    def views(self) -> list[spectral.View]:
        """The views under which a query is compared, the identity first."""
        ...

    def describe(self, stack: SliceStack) -> Features:
        """Features ``(n, D)`` of the slices as they are, by channel: what training slices are stored as."""
        ...

    def describe_views(self, stack: SliceStack) -> Features:
        """Features ``(n, views, D)`` of the slices under every view, by channel: what queries are searched by."""
        ...


class SpectralDescriber:
    """The embedded describer: no weights, no torch (see :mod:`memorization_index.spectral`)."""

    name = "spectral"
    fingerprint = "spectral-1"
    dimensions: Mapping[str, int] = {"spectral": spectral.DIMENSION}

    def views(self) -> list[spectral.View]:
        """All views of the spectral descriptor."""
        return spectral.views()

    def describe(self, stack: SliceStack) -> Features:
        """Features ``(n, 435)``."""
        return {"spectral": spectral.describe(square_images(stack, spectral.INPUT_SIZE)).astype(np.float16)}

    def describe_views(self, stack: SliceStack) -> Features:
        """Features ``(n, views, 435)``."""
        return {"spectral": spectral.describe_views(square_images(stack, spectral.INPUT_SIZE)).astype(np.float16)}
