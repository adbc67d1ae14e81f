"""The dual-encoder UNet: diagnosis and gaze from a backbone and a saliency encoder."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from gaze_lightning.models.backbone import Backbone, Taps
from gaze_lightning.models.cam_head import CAMHead
from gaze_lightning.models.fusion_head import FusionHead
from gaze_lightning.models.residual_encoder import ResidualEncoder
from gaze_lightning.models.saliency_head import SaliencyHead
from gaze_lightning.models.unet_decoder import UNetDecoder
from gaze_lightning.models.unet_widths import unet_widths

FusionInputs = Literal["both", "encoder", "decoder"]


class DualEncoderOutput(NamedTuple):
    """What the dual-encoder UNet predicts.

    Attributes:
        logits: of the fusion head, float32 ``[B, K]``.
        linear_logits: of the linear head, float32 ``[B, K]``.
        linear_maps: class activation maps of the linear head, float32 ``[B, K, h, w]``.
        log_saliency: float32 ``[B, 1, H, W]``, logarithm of a density over the pixels.
        features: of the backbone, ``[B, C, h, w]``.
        decoded: last map of the decoder, ``[B, c, H, W]``.
    """

    logits: Tensor
    linear_logits: Tensor
    linear_maps: Tensor
    log_saliency: Tensor
    features: Tensor
    decoded: Tensor


class DualEncoderUNet(nn.Module):
    """A backbone for the diagnosis, Residual-SE blocks for gaze, and a decoder in which they meet.

    The decoder starts from the backbone's map before its last norm; its skips are the five maps of the Residual-SE
    blocks. The fusion head classifies the means of the backbone's features (after norm and ReLU) and of the decoder's
    last map. Layers and sizes as in the official code of arXiv 2403.16970 (``HealthX-Lab/CXRGazeLearn``): with a
    densenet201 of three input channels, three classes and ``width`` 1 there are 66,643,143 parameters.

    Args:
        backbone: encoder A; its normalisation of films and its memory format hold for the whole network.
        num_classes: number ``K`` of classes; with 0 there are no class heads, and logits and maps are empty.
        width: factor of the channels 64 to 1024 of blocks, decoder and saliency head; the hidden layer of the fusion
            head stays 64.
        fusion_inputs: what the fusion head sees: ``both``, or, as a control, the ``encoder``'s features or the
            ``decoder``'s last map alone.

    Raises:
        ValueError: ``width`` is not positive, or ``fusion_inputs`` is unknown.
    """

    linear_head: CAMHead | None
    fusion_head: FusionHead | None

    def __init__(
        self, backbone: Backbone, num_classes: int, width: float = 1.0, fusion_inputs: FusionInputs = "both"
    ) -> None:
        super().__init__()
        if fusion_inputs not in ("both", "encoder", "decoder"):
            raise ValueError(f"fusion_inputs is {fusion_inputs!r}: choose 'both' (published), 'encoder' or 'decoder'")
        self.num_classes, self.fusion_inputs = num_classes, fusion_inputs
        widths = unet_widths(width)
        upwards = widths[::-1]
        self.encoder = backbone
        self.residual_encoder = ResidualEncoder(widths)
        self.decoder = UNetDecoder(backbone.num_features, skips=upwards, widths=(*upwards[1:], upwards[-1]))
        self.saliency_head = SaliencyHead(widths[0])
        seen = {"both": [backbone.num_features, widths[0]], "encoder": [backbone.num_features], "decoder": [widths[0]]}
        self.linear_head = (
            CAMHead(backbone.num_features, num_classes, "sum", backbone.channels_last) if num_classes else None
        )
        self.fusion_head = FusionHead(seen[fusion_inputs], num_classes) if num_classes else None
        if backbone.channels_last:
            for part in (self.residual_encoder, self.decoder, self.saliency_head):
                part.to(memory_format=torch.channels_last)

    def encode(self, image: Tensor) -> Taps:
        """Compute the backbone's maps of films ``[B, 1, H, W]`` in [0, 1], see ``Backbone.taps``."""
        return self.encoder.taps(image)

    def decode(self, image: Tensor, raw: Tensor) -> Tensor:
        """Compute the decoder's last map.

        Args:
            image: float ``[B, 1, H, W]`` in [0, 1], at least 32 pixels high and wide.
            raw: the backbone's map before its last norm, ``[B, C, h, w]``; not changed.

        Returns:
            ``[B, c, H, W]``, not negative.
        """
        skips = self.residual_encoder(self.encoder.normalise(image))
        decoded: Tensor = self.decoder(raw, skips[::-1])
        return decoded

    def fused(self, features: Tensor, decoded: Tensor) -> list[Tensor]:
        """Choose the fusion head's maps, the coarsest first, from ``features`` and ``decoded`` by ``fusion_inputs``."""
        return {"both": [features, decoded], "encoder": [features], "decoder": [decoded]}[self.fusion_inputs]

    def forward(self, image: Tensor) -> DualEncoderOutput:
        """Predict diagnosis and gaze.

        Args:
            image: float ``[B, 1, H, W]`` in [0, 1], at least 32 pixels high and wide.

        Returns:
            Everything the network predicts, and the maps behind it.
        """
        raw, features = self.encode(image)
        decoded = self.decode(image, raw)
        log_saliency = self.saliency_head(decoded)
        if self.linear_head is None or self.fusion_head is None:
            linear_maps = log_saliency.new_zeros((len(image), 0, *features.shape[-2:]))
            logits = linear_logits = linear_maps.flatten(1)
        else:
            linear_logits, linear_maps = self.linear_head(features)
            logits = self.fusion_head(self.fused(features, decoded))
        return DualEncoderOutput(logits, linear_logits, linear_maps, log_saliency, features, decoded)
