"""Global attention without reference images."""

import torch
from torch import Tensor, nn

from gaze_lightning.models.shared_map import SharedMap


class FreeMask(SharedMap):
    """One importance map for all images with one free logit per pixel: ``a = sigmoid(theta)``.

    The control of ``GlobalAttention`` whose map is not confined to combinations of reference images. An optimiser step
    moves a logit by about its learning rate, far less than one step of a pixel classifier does: it needs its own.

    Args:
        size: ``(H, W)``, pixels.
        start: all logits at the start.
        rescale: divide the map by its mean.
    """

    def __init__(self, size: tuple[int, int], start: float = 0.0, rescale: bool = False) -> None:
        super().__init__(size, start, rescale)
        self.theta = nn.Parameter(torch.full((1, 1, *size), float(start)))

    def logits(self) -> Tensor:
        """The parameters, ``[1, 1, H, W]``."""
        return self.theta
