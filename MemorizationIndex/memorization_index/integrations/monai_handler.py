"""A handler for MONAI's engines, which are Ignite's, that watches a generator for copies. Needs pytorch-ignite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from memorization_index.errors import MemorizationIndexError, install
from memorization_index.integrations.samples import Layout, SampleScorer
from memorization_index.reference import Reference

try:
    import torch
    from ignite.engine import Engine, Events
except ImportError as error:
    raise MemorizationIndexError(
        f"MemorizationHandler: cannot be used ({error}); expected its framework installed, {install('training')}."
    ) from error


class MemorizationHandler:
    """Every ``every_n_epochs`` epochs: draw samples, score them, put the copied fraction into the engine's metrics.

    ``sample(engine)`` returns a batch ``(n, 1, …)`` of generated images or volumes; it is called without gradients.
    ``engine.state.metrics`` gets ``copied_fraction`` and the ends of its 95 % interval, where MONAI's ``StatsHandler``,
    ``TensorBoardStatsHandler`` and ``MetricLogger`` find them; they must be attached later than this one. Axes are
    taken as MONAI's after ``Orientation("RAS")``. ``reports`` is a folder that gets the whole result of each time.
    ``settings`` are those of :class:`~memorization_index.integrations.samples.SampleScorer`.

    Example::

        MemorizationHandler(lambda engine: draw(engine.network), "reference/", every_n_epochs=10).attach(trainer)
    """

    def __init__(
        self,
        sample: Callable[[Any], torch.Tensor],
        reference: Reference | str | Path,
        *,
        every_n_epochs: int = 10,
        layout: Layout = "RAS",
        reports: str | Path | None = None,
        **settings: Any,
    ) -> None:
        if every_n_epochs < 1:
            raise MemorizationIndexError(f"every_n_epochs={every_n_epochs}: expected 1 or more.")
        self.scorer = SampleScorer(reference, layout=layout, **settings)
        self._sample, self._every = sample, every_n_epochs
        self._reports = None if reports is None else Path(reports)

    def attach(self, engine: Engine) -> None:
        """Be called at the end of every k-th epoch of an engine."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self._every), self)

    def __call__(self, engine: Engine) -> None:
        """Score samples now."""
        with torch.no_grad():
            samples = self._sample(engine)
        engine.state.metrics.update(self.scorer(samples).metrics())
        if self._reports is not None and self.scorer.scores is not None:
            self.scorer.scores.write(self._reports / f"epoch-{engine.state.epoch:04d}")
