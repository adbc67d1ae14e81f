"""A network that follows another one slowly."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from gaze_lightning.errors import ConfigurationError


class MomentumCopy(nn.Module):
    """A copy of a network whose parameters are a moving average: MoCo's key encoder, BYOL's target.

    ::

        copy = m * copy + (1 - m) * source         (He et al., CVPR 2020, equation 2; Grill et al., NeurIPS 2020, eq. 1)

    The parameters take no gradient. Buffers keep their own course: batch norms of the copy see its own activations and
    run in train mode when the copy does.

    Args:
        source: starts equal; it is copied, not kept.

    Attributes:
        module: the copy.
    """

    module: nn.Module

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.module = deepcopy(source).requires_grad_(False)

    @torch.no_grad()
    def update(self, source: nn.Module, momentum: float) -> None:
        """Move the parameters towards those of the source.

        Args:
            source: of the same architecture.
            momentum: ``m``, 0 (become the source) to 1 (stay).

        Raises:
            ConfigurationError: ``momentum`` is outside [0, 1].
            ValueError: the source has other parameters.
        """
        if not 0 <= momentum <= 1:
            raise ConfigurationError(f"momentum is {momentum}: it must lie between 0 and 1")
        for ours, theirs in zip(self.module.parameters(), source.parameters(), strict=True):
            ours.lerp_(theirs, 1 - momentum)

    def forward(self, *inputs: Any) -> Any:
        """What the copy returns for these inputs."""
        return self.module(*inputs)
