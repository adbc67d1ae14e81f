"""Mean over the samples for which a value is defined."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class DefinedMean(Metric):
    """Mean of per-sample values, leaving out and counting the undefined ones (NaN).

    States are a float64 sum and two counts with ``dist_reduce_fx='sum'``, so that the value on several ranks equals
    that on one. ``compute`` gives NaN if no sample is defined. The states ``defined`` and ``excluded``
    hold the counts, of this rank outside ``compute``.

    Subclasses implement ``update`` and pass their values on to :meth:`add`.
    """

    full_state_update = False
    is_differentiable = False
    total: Tensor
    defined: Tensor
    excluded: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("defined", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("excluded", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Add per-sample values ``[B]``; NaN marks a sample for which the value is undefined."""
        self.add(values)

    def add(self, values: Tensor) -> None:
        """Accumulate values ``[B]`` in float64, NaN counted as excluded.

        Raises:
            ValueError: If ``values`` is not one-dimensional or holds an infinite value.
        """
        if values.ndim != 1 or bool(torch.isinf(values).any()):
            raise ValueError(f"expected finite or NaN values [B], got shape {tuple(values.shape)}: {values}")
        undefined = torch.isnan(values)
        self.total += values.double().masked_fill(undefined, 0.0).sum()
        self.defined += (~undefined).sum()
        self.excluded += undefined.sum()

    def compute(self) -> Tensor:
        """Return the mean over defined samples, a float64 scalar; NaN if there is none."""
        return self.total / self.defined
