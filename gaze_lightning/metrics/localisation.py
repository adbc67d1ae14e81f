"""Localisation of findings as torchmetrics: means over the samples with a mask."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gaze_lightning.metrics import functional as F
from gaze_lightning.metrics.defined_mean import DefinedMean


class PointingGameRate(Metric):
    """Hit rate of the pointing game with the chance rate of the same samples.

    ``compute`` returns ``hit`` and ``chance`` (float64, NaN if no sample has a mask) and ``n``, the samples with one.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    hits: Tensor
    chances: Tensor
    defined: Tensor
    excluded: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("hits", "chances"):
            self.add_state(name, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("defined", "excluded"):
            self.add_state(name, default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, cam: Tensor, mask: Tensor, tolerance: Tensor, film: Tensor | None = None) -> None:
        """Add CAMs ``[B, h, w]`` with masks, tolerances ``[B]`` in cells and the film's area, all on one grid."""
        result = F.pointing_game(cam, mask, tolerance, film)
        undefined = torch.isnan(result.hit)
        self.hits += result.hit.masked_fill(undefined, 0.0).sum()
        self.chances += result.chance.masked_fill(undefined, 0.0).sum()
        self.defined += (~undefined).sum()
        self.excluded += undefined.sum()

    def compute(self) -> dict[str, Tensor]:
        """Return ``hit``, ``chance`` and ``n``."""
        return {"hit": self.hits / self.defined, "chance": self.chances / self.defined, "n": self.defined.double()}


class EnergyInside(DefinedMean):
    """Mean share of the CAM's positive values inside the mask; samples without mask or energy are excluded."""

    higher_is_better = True

    def update(self, cam: Tensor, mask: Tensor) -> None:  # type: ignore[override]
        """Add CAMs ``[B, h, w]`` with masks ``[B, h, w]``."""
        self.add(F.energy_inside(cam, mask))


class IoUAtThreshold(DefinedMean):
    """Mean IoU of the mask with the CAM above a fraction of its maximum; samples without mask are excluded.

    Args:
        threshold: Fraction of the maximum in (0, 1].
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold

    def update(self, cam: Tensor, mask: Tensor) -> None:  # type: ignore[override]
        """Add CAMs ``[B, h, w]`` with masks ``[B, h, w]``."""
        self.add(F.iou_at_threshold(cam, mask, self.threshold))
