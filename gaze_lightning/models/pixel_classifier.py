"""The binary classifier over pixels."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

PixelClassifierKind = Literal["linear", "conv"]
_HIDDEN = 16


class PixelClassifier(nn.Module):
    """Scores every pixel by the intensities that a set of images has there.

    ``linear``: a 1x1 convolution, that is one logistic regression for all pixels (``n + 1`` parameters). ``conv``: a
    3x3 convolution to 16 channels, ReLU, a 1x1 convolution (``9 * n * 16 + 16 + 16 + 1`` parameters). The paper
    (arXiv 2007.15897) only says "binary classifier"; both are readings of it. Weights are drawn from N(0, 1 / fan in)
    with a generator of their own, biases are 0. Computed in float32 also under autocast.

    Args:
        n_images: number ``n`` of features of a pixel.
        kind: ``"linear"`` or ``"conv"``.
        start: bias of the last layer at the start: the logit of a pixel without evidence.
        seed: of the weights; the global random state is not touched.

    Raises:
        ValueError: an unknown ``kind`` or no image.
    """

    def __init__(self, n_images: int, kind: PixelClassifierKind = "linear", start: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        if kind not in ("linear", "conv"):
            raise ValueError(f"pixel_classifier is {kind!r}: choose 'linear' or 'conv'")
        if n_images < 1:
            raise ValueError(f"{n_images} images: a pixel needs one feature at least")
        self.hidden: nn.Conv2d | None = None
        generator = torch.Generator().manual_seed(seed)
        if kind == "conv":
            self.hidden = _conv(n_images, _HIDDEN, 3, 0.0, generator)
        self.score = _conv(_HIDDEN if kind == "conv" else n_images, 1, 1, start, generator)

    def forward(self, features: Tensor) -> Tensor:
        """Score the pixels.

        Args:
            features: ``[1, n_images, H, W]``, standardised intensities.

        Returns:
            Logits ``[1, 1, H, W]``.
        """
        with torch.autocast(device_type=features.device.type, enabled=False):
            if self.hidden is not None:
                features = F.relu(self.hidden(features))
            logits: Tensor = self.score(features)
            return logits


def _conv(channels: int, out_channels: int, kernel_size: int, bias: float, generator: torch.Generator) -> nn.Conv2d:
    # the constructor alone would draw from the global generator
    conv: nn.Conv2d = skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, channels, out_channels, kernel_size, padding=kernel_size // 2
    )
    nn.init.normal_(conv.weight, std=conv.weight[0].numel() ** -0.5, generator=generator)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, bias)
    return conv
