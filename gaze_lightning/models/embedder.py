"""Backbone and projection head: what contrastive pre-training trains."""

from typing import NamedTuple

from torch import Tensor, nn

from gaze_lightning.models.backbone import Backbone


class Embedded(NamedTuple):
    """One film as seen by later tasks and by the contrastive loss.

    Attributes:
        features: float32 ``[B, C]``: means of the backbone's features over the film, what a linear probe takes.
        projection: ``[B, D]``: what the loss takes, of any length.
    """

    features: Tensor
    projection: Tensor


class Embedder(nn.Module):
    """Backbone, global average pooling in float32, projection head.

    Args:
        backbone: with ``C = backbone.num_features`` channels.
        projector: from ``[B, C]`` to ``[B, D]``, such as ``ProjectionHead``.
    """

    def __init__(self, backbone: Backbone, projector: nn.Module) -> None:
        super().__init__()
        self.backbone, self.projector = backbone, projector

    def forward(self, image: Tensor) -> Embedded:
        """Embed films.

        Args:
            image: float ``[B, 1, H, W]`` in [0, 1].
        """
        features: Tensor = self.backbone(image).float().mean(dim=(2, 3))
        return Embedded(features, self.projector(features))
