"""The way up of a UNet."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gaze_lightning.models.double_conv import DoubleConv, conv_norm_relu


class UNetDecoder(nn.Module):
    """Nearest upsampling, convolution, concatenation with a skip and two convolutions, once per skip.

    A step is ``DoubleConv([skip, ReLU(BN(conv3(upsample(x))))])`` with the skip's channels first. Upsampling goes to
    the size of the skip, twice that of ``x`` where the sizes of the film are multiples of 32; others work too.
    The same in MT-UNet and in the dual-encoder UNet of arXiv 2403.16970 (official code of both).

    Args:
        bottom: channels of the deepest map.
        skips: channels of the skips, the deepest first.
        widths: channels of the steps, the deepest first.

    Raises:
        ValueError: there are not as many skips as widths.
    """

    def __init__(self, bottom: int, skips: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        if len(skips) != len(widths):
            raise ValueError(f"{len(skips)} skips for {len(widths)} widths: each step takes one skip")
        self.up = nn.ModuleList(conv_norm_relu(a, b) for a, b in zip([bottom, *widths], widths, strict=False))
        self.fuse = nn.ModuleList(DoubleConv(skip + width, width) for skip, width in zip(skips, widths, strict=True))

    def forward(self, bottom: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Climb from the deepest map to the size of the last skip.

        Args:
            bottom: ``[B, C, h, w]``; not changed.
            skips: maps ``[B, skips[i], h_i, w_i]``, the deepest first.

        Returns:
            ``[B, widths[-1], h, w]`` with the size of the last skip, not negative.
        """
        x = bottom
        for up, fuse, skip in zip(self.up, self.fuse, skips, strict=True):
            x = fuse(torch.cat([skip, up(F.interpolate(x, size=skip.shape[-2:], mode="nearest"))], dim=1))
        return x
