"""The gaze-guided loss on class activation maps."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GazeTarget = Literal["intended", "released", "raw_true"]


class GazeCAM(NamedTuple):
    """Result of the gaze loss.

    Attributes:
        loss: scalar, mean over the counted samples; 0 with a gradient graph if none.
        n: scalar float, the number of counted samples.
    """

    loss: Tensor
    n: Tensor


class GazeCAMLoss(nn.Module):
    """Mean squared distance between class activation maps and a gaze map, on the CAM's grid.

    ``L_gaze`` = mean over samples with gaze of ``mean_uv (A - G)^2`` with ``G`` in [0, 1], its maximum 1, and

    * ``intended``: ``A = sigmoid(e^kappa M_t + beta)`` of the true class ``t``: the method as described;
    * ``released``: ``A = M_0`` raw for all images: what the released code of GG-CAM (arXiv 2202.07107) does, because it
      puts the label through the sigmoid instead of the map;
    * ``raw_true``: ``A = M_t`` raw.

    Multi-label: the squared distance is averaged over the positive classes (label 1) of a sample; samples without a
    positive class are left out (not so for ``released``). Computed in float32 also under autocast.

    Args:
        gaze_target: which ``A``, see above.
        train_beta: train ``beta`` (from 0) instead of leaving it out; only with ``intended``.
        released_channel: the class whose map ``released`` guides.

    Raises:
        ValueError: ``train_beta`` with a target that has no sigmoid, or an unknown ``gaze_target``.
    """

    beta: nn.Parameter | None

    def __init__(
        self, gaze_target: GazeTarget = "intended", train_beta: bool = False, released_channel: int = 0
    ) -> None:
        super().__init__()
        if gaze_target not in ("intended", "released", "raw_true"):
            raise ValueError(f"gaze_target is {gaze_target!r}: choose 'intended', 'released' or 'raw_true'")
        if train_beta and gaze_target != "intended":
            raise ValueError(f"train_beta: the map of gaze_target {gaze_target!r} passes through no sigmoid")
        self.gaze_target, self.released_channel = gaze_target, released_channel
        # An idle kappa takes no gradient: a trainable but unused parameter stops distributed training.
        self.kappa = nn.Parameter(torch.zeros(()), requires_grad=gaze_target == "intended")
        self.register_parameter("beta", nn.Parameter(torch.zeros(())) if train_beta else None)

    def attention(self, maps: Tensor) -> Tensor:
        """``A`` for every class: what is compared with ``G``, ``[B, K, h, w]`` like ``maps``."""
        if self.gaze_target != "intended":
            return maps
        scaled = maps * self.kappa.exp()
        return torch.sigmoid(scaled if self.beta is None else scaled + self.beta)

    def forward(self, maps: Tensor, label: Tensor, target: Tensor, has_gaze: Tensor) -> GazeCAM:
        """Compute the loss.

        Args:
            maps: class activation maps ``[B, K, h, w]``.
            label: int64 ``[B]`` (single-label) or float ``[B, K]`` in {0, 1, NaN} (multi-label).
            target: gaze map ``G`` ``[B, 1, h, w]``; samples whose map is all zero are left out.
            has_gaze: bool ``[B]``.

        Returns:
            Loss and number of counted samples.

        Raises:
            ValueError: the grids of ``maps`` and ``target`` differ.
        """
        if maps.shape[-2:] != target.shape[-2:]:
            raise ValueError(f"maps lie on a grid of {tuple(maps.shape[-2:])}, the gaze on {tuple(target.shape[-2:])}")
        with torch.autocast(device_type=maps.device.type, enabled=False):
            guided = self._guided_classes(maps, label)
            distance = (self.attention(maps.float()) - target.float()).square().mean(dim=(2, 3))
            per_sample = (distance * guided).sum(dim=1) / guided.sum(dim=1).clamp(min=1)
            counted = (has_gaze & (target.amax(dim=(1, 2, 3)) > 0) & (guided.sum(dim=1) > 0)).float()
            count = counted.sum()
            return GazeCAM((per_sample * counted).sum() / count.clamp(min=1), count)

    def _guided_classes(self, maps: Tensor, label: Tensor) -> Tensor:
        """Float ``[B, K]``: 1 for the classes whose maps are compared with gaze."""
        classes = maps.shape[1]
        if self.gaze_target == "released":
            channel = torch.full((maps.shape[0],), self.released_channel, device=maps.device)
            return F.one_hot(channel, classes).float()
        if label.ndim == 1:
            return F.one_hot(label, classes).float()
        return (label == 1).float()
