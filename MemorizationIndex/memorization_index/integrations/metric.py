"""A torchmetrics metric: the estimated copied fraction of generated samples. Needs torchmetrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memorization_index.errors import MemorizationIndexError, install
from memorization_index.integrations.samples import CopyRate, SampleScorer
from memorization_index.reference import Reference

try:
    import torch
    from torchmetrics import Metric
except ImportError as error:
    raise MemorizationIndexError(
        f"CopiedFraction: cannot be used ({error}); expected its framework installed, {install('training')}."
    ) from error


class CopiedFraction(Metric):
    """Estimated fraction of a generator's samples that are copies of a reference's training scans.

    ``update(samples)`` scores a batch ``(n, 1, rows, columns)`` of images or ``(n, 1, …three axes…)`` of volumes;
    ``compute()`` returns ``copied_fraction`` and the ends of its 95 % interval as 0-dimensional tensors. Counts are
    summed over processes, as with any torchmetrics metric. Settings are those of
    :class:`~memorization_index.integrations.samples.SampleScorer`.

    Example::

        metric = CopiedFraction("reference/")
        metric.update(generator(noise))
        metric.compute()["copied_fraction"]
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    copies: torch.Tensor
    flagged: torch.Tensor
    samples: torch.Tensor

    def __init__(self, reference: Reference | str | Path, **settings: Any) -> None:
        super().__init__()
        self.scorer = SampleScorer(reference, **settings)
        self.add_state("copies", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("flagged", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("samples", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, samples: Any) -> None:
        """Score a batch of samples and add it to the count."""
        rate = self.scorer(samples)
        self.copies += rate.copies
        self.flagged += rate.flagged
        self.samples += rate.samples

    def compute(self) -> dict[str, torch.Tensor]:
        """``copied_fraction``, ``copied_fraction_low``, ``copied_fraction_high`` of all samples since ``reset``."""
        rate = CopyRate(int(self.copies), int(self.samples), int(self.flagged))
        return {name: torch.tensor(value, device=self.device) for name, value in rate.metrics().items()}
