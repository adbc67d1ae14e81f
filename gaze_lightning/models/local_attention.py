"""Spatial attention of its own for each image."""

import torch
from torch import Tensor, nn


class LocalAttention(nn.Module):
    """The spatial attention of CBAM (Woo et al. 2018, arXiv 1807.06521): a map per image, from its own features.

    ``a = sigmoid(f([mean_c x, max_c x]))`` with a convolution ``f``, as in the paper's equation 3. The batch
    normalisation that the authors' code has after ``f`` is left out; ``f`` has a bias instead.

    Args:
        kernel_size: of the convolution, odd.

    Raises:
        ValueError: an even ``kernel_size``.
    """

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}: choose an odd one, so that the map keeps its place")
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[B, C, h, w]`` to importance ``[B, 1, h, w]`` in (0, 1)."""
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(pooled))
