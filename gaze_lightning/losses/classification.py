"""Classification losses with unknown labels left out."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ClassificationLoss(nn.Module):
    """Cross-entropy for exclusive classes, masked binary cross-entropy for independent ones.

    Args:
        label_type: ``"single"``: labels are int64 class indices ``[B]``; ``"multi"``: float ``[B, K]`` in
            {0, 1, NaN = unknown}.
    """

    def __init__(self, label_type: Literal["single", "multi"]) -> None:
        super().__init__()
        self.label_type = label_type

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Mean loss (nats) over samples, or over known entries; 0 with a gradient graph where no entry is known.

        Args:
            logits: ``[B, K]``.
            label: see the class.

        Returns:
            Scalar, float32.
        """
        logits = logits.float()
        with torch.autocast(device_type=logits.device.type, enabled=False):
            if self.label_type == "single":
                return F.cross_entropy(logits, label)
            known = ~label.isnan()
            entries = F.binary_cross_entropy_with_logits(logits, label.nan_to_num(0.0).float(), reduction="none")
            return (entries * known).sum() / known.sum().clamp(min=1)

    def count(self, label: Tensor) -> Tensor:
        """Of how many the loss of these labels is the mean: samples, or known entries.

        Returns:
            Scalar, float32.
        """
        one_each = torch.ones_like(label) if self.label_type == "single" else ~label.isnan()
        return one_each.sum().float()
