"""Mean agreement of predicted saliency with gaze, for validation."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gaze_lightning.batch import Batch
from gaze_lightning.metrics.saliency_agreement import SALIENCY_VALUES, saliency_agreement


class SaliencyReport(Metric):
    """Means of the five values of ``saliency_agreement``, each over the samples for which it is defined.

    States are float64 sums and counts with ``dist_reduce_fx='sum'``, one entry per value, so that the means do not
    depend on batches or ranks. The states ``defined`` and ``excluded`` hold the counts, of this rank outside
    ``compute``.

    ``compute`` returns a float64 scalar for each name in ``SALIENCY_VALUES``; NaN where no sample has the value.

    Args:
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    total: Tensor
    defined: Tensor
    excluded: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        n = len(SALIENCY_VALUES)
        self.add_state("total", default=torch.zeros(n, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("defined", default=torch.zeros(n, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("excluded", default=torch.zeros(n, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, saliency: Tensor, batch: Batch) -> None:
        """Add densities ``[B, 1, H, W]`` (not their logarithm) with the batch that they were predicted for.

        Raises:
            ValueError: As :func:`saliency_agreement` does.
        """
        agreement = saliency_agreement(saliency.detach(), batch)
        values = torch.stack([agreement[name] for name in SALIENCY_VALUES])
        undefined = torch.isnan(values)
        self.total += values.masked_fill(undefined, 0.0).sum(1)
        self.defined += (~undefined).sum(1)
        self.excluded += undefined.sum(1)

    def compute(self) -> dict[str, Tensor]:
        """Return the values listed in the class docstring."""
        return dict(zip(SALIENCY_VALUES, self.total / self.defined, strict=True))
