"""Two convolutions, the element of a UNet."""

from torch import nn


def conv_norm_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3x3 convolution with bias, batch normalisation and ReLU; height and width stay."""
    return nn.Sequential(
        # The norm makes the bias idle; the published parameter counts include it.
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class DoubleConv(nn.Sequential):
    """Two times 3x3 convolution, batch normalisation and ReLU: ``[B, in, H, W]`` to ``[B, out, H, W]``, not negative.

    Args:
        in_channels: channels of the input.
        out_channels: channels of both convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(conv_norm_relu(in_channels, out_channels), conv_norm_relu(out_channels, out_channels))
