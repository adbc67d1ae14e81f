"""The head whose class activation maps come for free."""

import math
from typing import Literal

import torch
from torch import Tensor, nn


class CAMHead(nn.Module):
    """Class maps by a 1x1 convolution; the logits are their means.

    With features ``F`` (``C`` channels), class weights ``w_c`` and biases ``b_c``::

        M_c(u, v) = s * sum_k w_ck F_k(u, v)        z_c = mean_uv M_c(u, v) + b_c

    where ``s`` is ``1 / C`` for ``scale="mean"``, as in the released code of GG-CAM (arXiv 2202.07107),
    and 1 for ``scale="sum"``, the usual CAM. The biases are no part of the maps. The factor ``1 / C`` makes maps and
    logits so small that short trainings stall. Computed in float32 also under autocast (tiny maps underflow in half).

    Args:
        in_features: channels ``C`` of the features.
        num_classes: number ``K`` of classes.
        scale: ``"mean"`` or ``"sum"``, see above.
        channels_last: keep the weight in the memory format of the features, in which its gradient comes; DDP would copy
            it, and warn.
    """

    def __init__(
        self, in_features: int, num_classes: int, scale: Literal["mean", "sum"], channels_last: bool = False
    ) -> None:
        super().__init__()
        if scale not in ("mean", "sum"):
            raise ValueError(f"cam_scale is {scale!r}: choose 'mean' (published) or 'sum'")
        self.scale = scale
        self.weight = nn.Conv2d(in_features, num_classes, kernel_size=1, bias=False)
        self.bias = nn.Parameter(torch.empty(num_classes))
        bound = 1 / math.sqrt(in_features)
        nn.init.uniform_(self.weight.weight, -bound, bound)
        if channels_last:
            self.weight = self.weight.to(memory_format=torch.channels_last)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits and maps.

        Args:
            features: ``[B, C, h, w]``.

        Returns:
            Logits ``[B, K]`` and class activation maps ``[B, K, h, w]``, float32.
        """
        with torch.autocast(device_type=features.device.type, enabled=False):
            maps: Tensor = self.weight(features.float())
            if self.scale == "mean":
                maps = maps / features.shape[1]
            return maps.mean(dim=(2, 3)) + self.bias, maps
