"""Residual block with squeeze and excitation."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_REDUCTION = 16


class ResidualSE(nn.Module):
    """A residual block whose channels are weighted by their own means.

    With 3x3 convolutions with bias ``A_i`` and batch normalisation ``N_i``::

        y = ReLU(N_2(A_2(ReLU(N_1(A_1 x)))) + A_0 x)            s = sigmoid(W_2 ReLU(W_1 mean_uv(y)))
        output_c = s_c * y_c

    The shortcut ``A_0`` is a bare 3x3 convolution and the weights act after the sum, as in the official code of
    arXiv 2403.16970 (the paper's figure draws an identity). ``W_1`` and ``W_2`` have no bias.

    Args:
        in_channels: channels of the input.
        out_channels: channels ``c`` of the output; between ``W_1`` and ``W_2`` there are ``max(1, c // 16)``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        squeezed = max(1, out_channels // _REDUCTION)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.squeeze = nn.Linear(out_channels, squeezed, bias=False)
        self.excite = nn.Linear(squeezed, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_channels, H, W]`` to ``[B, out_channels, H, W]``, not negative."""
        inner = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = F.relu(self.norm2(self.conv2(inner)) + self.shortcut(x), inplace=True)
        weights = torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean(dim=(2, 3))))))
        return y * weights[:, :, None, None]
