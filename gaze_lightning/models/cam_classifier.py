"""Backbone and CAM head together."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from gaze_lightning.models.backbone import Backbone
from gaze_lightning.models.cam_head import CAMHead


class CAMClassifier(nn.Module):
    """A classifier that returns its class activation maps along with the logits.

    Args:
        backbone: produces feature maps.
        num_classes: number ``K`` of classes.
        cam_scale: scale of the head, see ``CAMHead``.
    """

    def __init__(self, backbone: Backbone, num_classes: int, cam_scale: Literal["mean", "sum"]) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = CAMHead(backbone.num_features, num_classes, cam_scale, backbone.channels_last)

    def forward(
        self, image: Tensor, position: str | None = None, change: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Classify films.

        Args:
            image: float32 ``[B, 1, H, W]`` in [0, 1].
            position: where in the backbone ``change`` acts, one of ``Backbone.positions``; None: nowhere.
            change: applied to the features there.

        Returns:
            Logits ``[B, K]`` and maps ``[B, K, h, w]`` on the backbone's grid.
        """
        logits, maps = self.head(self.backbone(image, position, change))
        return logits, maps
