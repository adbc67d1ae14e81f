"""The loss of a predicted gaze density."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class SaliencyLoss(NamedTuple):
    """Result of the saliency loss.

    Attributes:
        loss: scalar, mean over the counted samples; 0 with a gradient graph if none.
        n: scalar float, the number of counted samples.
    """

    loss: Tensor
    n: Tensor


class SaliencyKLLoss(nn.Module):
    """Kullback-Leibler divergence of the gaze map ``q`` from the predicted density ``p``, in nats.

    ``L`` = mean over samples with gaze of ``KL(q || p) = sum_uv q (log q - log p)``, the saliency loss in the released
    code of MT-UNet and of multi-stage cooperative learning (arXiv 2403.16970), which have no samples without gaze.
    Computed in float32 also under autocast.
    """

    def forward(self, log_saliency: Tensor, target: Tensor, has_gaze: Tensor) -> SaliencyLoss:
        """Compute the loss.

        Args:
            log_saliency: ``log p`` ``[B, 1, H, W]``, a log-softmax over all pixels of a sample.
            target: gaze map ``[B, 1, H, W]`` on the same grid, not negative; divided by its sum here, so that it may
                come at any scale. Samples whose map is all zero are left out.
            has_gaze: bool ``[B]``; false: left out.

        Returns:
            Loss and number of counted samples. Samples that are left out have a gradient of exactly zero.

        Raises:
            ValueError: the shapes of ``log_saliency`` and ``target`` differ.
        """
        if log_saliency.shape != target.shape:
            raise ValueError(
                f"log_saliency has shape {tuple(log_saliency.shape)}, the gaze {tuple(target.shape)}: render the gaze "
                "on the grid of the prediction (saliency_size of the data module)"
            )
        with torch.autocast(device_type=log_saliency.device.type, enabled=False):
            target = target.float()
            mass = target.sum(dim=(1, 2, 3), keepdim=True)
            q = target / torch.where(mass > 0, mass, 1.0)
            divergence = (torch.xlogy(q, q) - q * log_saliency.float()).sum(dim=(1, 2, 3))
            counted = has_gaze & (mass.flatten() > 0)
            count = counted.sum().float()
            return SaliencyLoss(torch.where(counted, divergence, 0.0).sum() / count.clamp(min=1), count)
