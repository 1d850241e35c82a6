"""A Lightning callback that watches a generator for copies while it is trained. Needs lightning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from memorization_index.errors import MemorizationIndexError, install
from memorization_index.integrations.metric import CopiedFraction
from memorization_index.reference import Reference

try:
    import torch
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise MemorizationIndexError(
        f"MemorizationCallback: cannot be used ({error}); expected its framework installed, {install('training')}."
    ) from error


class MemorizationCallback(Callback):
    """Every ``every_n_epochs`` training epochs: draw samples, score them, log the estimated copied fraction.

    ``sample(module)`` returns a batch ``(n, 1, …)`` of generated images or volumes; it is called without gradients and
    with the module in evaluation mode. Logged through the module are ``copied_fraction`` and the ends of its 95 %
    interval, so that ``EarlyStopping`` and ``ModelCheckpoint`` can monitor them. ``reports`` is a folder that gets the
    whole result of each time (``epoch-0010/report.html``, …). ``settings`` are those of
    :class:`~memorization_index.integrations.samples.SampleScorer`.

    Example::

        watch = MemorizationCallback(lambda model: model.sample(64), "reference/", every_n_epochs=10)
        stop = EarlyStopping("copied_fraction", patience=10**6, divergence_threshold=0.02, strict=False)
        Trainer(callbacks=[watch, stop])
    """

    def __init__(
        self,
        sample: Callable[[Any], torch.Tensor],
        reference: Reference | str | Path,
        *,
        every_n_epochs: int = 10,
        reports: str | Path | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        if every_n_epochs < 1:
            raise MemorizationIndexError(f"every_n_epochs={every_n_epochs}: expected 1 or more.")
        self.metric = CopiedFraction(reference, **settings)
        self._sample, self._every = sample, every_n_epochs
        self._reports = None if reports is None else Path(reports)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score samples where it is time to."""
        epoch = trainer.current_epoch + 1
        if epoch % self._every:
            return
        was_training = pl_module.training
        pl_module.eval()
        try:
            with torch.no_grad():
                samples = self._sample(pl_module)
        finally:
            pl_module.train(was_training)
        self.metric.to(pl_module.device)
        self.metric.reset()
        self.metric.update(samples)
        pl_module.log_dict(self.metric.compute())
        scores = self.metric.scorer.scores
        if self._reports is not None and scores is not None and trainer.is_global_zero:
            scores.write(self._reports / f"epoch-{epoch:04d}")
