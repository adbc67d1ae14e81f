"""MT-UNet: diagnosis and gaze from one encoder."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from gaze_lightning.models.double_conv import DoubleConv
from gaze_lightning.models.fusion_head import FusionHead
from gaze_lightning.models.normalise import normalise_films
from gaze_lightning.models.saliency_head import SaliencyHead
from gaze_lightning.models.unet_decoder import UNetDecoder
from gaze_lightning.models.unet_widths import unet_widths


class MTUNetOutput(NamedTuple):
    """What MT-UNet predicts.

    Attributes:
        logits: float32 ``[B, K]``.
        log_saliency: float32 ``[B, 1, H, W]``, logarithm of a density over the pixels.
        maps: class maps, float32 ``[B, K, H // 16, W // 16]``, without gradient.
    """

    logits: Tensor
    log_saliency: Tensor
    maps: Tensor


class MTUNet(nn.Module):
    """A UNet with a saliency head at its end and a class head on the means of its deepest and its last map.

    The direct ancestor of the dual-encoder UNet, and its joint-training baseline; layers as in the official code
    (``hz-zhu/MT-UNet``). Its 34,632,837 trainable parameters are those of ``width`` 1 with three classes, and the log
    sigma of the loss, which is no part of the network here.

    Args:
        num_classes: number ``K`` of classes; with 0 there is no class head, and logits and maps are empty.
        width: factor of the channels 64 to 1024; the hidden layer of the class head stays 64.
        mean: subtracted from the image.
        std: the image is divided by it after ``mean`` is subtracted.
        divide_by_max: divide each image by its maximum first, as the official code does.

    Raises:
        ValueError: ``width`` or ``std`` is not positive.
    """

    class_head: FusionHead | None

    def __init__(
        self,
        num_classes: int,
        width: float = 1.0,
        mean: float = 0.0,
        std: float = 1.0,
        divide_by_max: bool = False,
    ) -> None:
        super().__init__()
        if std <= 0:
            raise ValueError(f"std is {std}: it must be positive")
        self.num_classes, self.mean, self.std, self.divide_by_max = num_classes, mean, std, divide_by_max
        widths = unet_widths(width)
        self.encoder = nn.ModuleList(DoubleConv(a, b) for a, b in zip((1, *widths), widths, strict=False))
        upwards = widths[-2::-1]
        self.decoder = UNetDecoder(widths[-1], skips=upwards, widths=upwards)
        self.saliency_head = SaliencyHead(widths[0])
        self.class_head = FusionHead([widths[-1], widths[0]], num_classes) if num_classes else None

    def forward(self, image: Tensor) -> MTUNetOutput:
        """Predict diagnosis and gaze.

        Args:
            image: float ``[B, 1, H, W]`` in [0, 1], at least 16 pixels high and wide.

        Returns:
            Logits, saliency and class maps.
        """
        maps = [self.encoder[0](normalise_films(image, self.mean, self.std, self.divide_by_max))]
        for block in self.encoder[1:]:
            maps.append(block(F.max_pool2d(maps[-1], kernel_size=2)))
        bottom = maps.pop()
        decoded = self.decoder(bottom, maps[::-1])
        log_saliency = self.saliency_head(decoded)
        if self.class_head is None:
            empty = log_saliency.new_zeros((len(image), 0, *bottom.shape[-2:]))
            return MTUNetOutput(empty.flatten(1), log_saliency, empty)
        classified = [bottom, decoded]
        return MTUNetOutput(self.class_head(classified), log_saliency, self.class_head.class_maps(classified))
