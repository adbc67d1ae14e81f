"""The head that predicts where a radiologist looks."""

from torch import Tensor, nn

from gaze_lightning.models.double_conv import conv_norm_relu


class SaliencyHead(nn.Module):
    """3x3 convolution, batch normalisation, ReLU, 1x1 convolution, and a softmax over all pixels.

    The same in MT-UNet and in the dual-encoder UNet of arXiv 2403.16970 (official code of both).

    Args:
        channels: channels of the input and of the first convolution.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv_norm_relu(channels, channels)
        self.score = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, decoded: Tensor) -> Tensor:
        """Predict the logarithm of the gaze density.

        Args:
            decoded: ``[B, channels, H, W]``.

        Returns:
            float32 ``[B, 1, H, W]``, also under autocast; its exponential sums to 1 over the pixels of a film.
        """
        score: Tensor = self.score(self.conv(decoded))
        return score.float().flatten(1).log_softmax(dim=1).view(score.shape)
