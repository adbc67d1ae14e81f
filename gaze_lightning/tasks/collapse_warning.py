"""What is said when a network has come to see no difference between films."""

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

_COLLAPSED = 0.1
"""Spread of the projections (1: even over the sphere) below which they are as good as the same."""


class CollapseWarning:
    """Warn once, at the end of an epoch in which the projections were nearly the same in every step.

    Not after the first epoch: to a network with random weights all films look much the same.
    """

    def __init__(self) -> None:
        self._widest: Tensor | None = None
        self._warned = False

    def update(self, spread: Tensor) -> None:
        """Take the spread (``embedding_std``) of a step's projections, a scalar; nothing waits for the device."""
        self._widest = spread if self._widest is None else torch.maximum(self._widest, spread)

    def end_epoch(self, epoch: int) -> None:
        """Judge the epoch, counted from 0, and start the next one."""
        widest, self._widest = self._widest, None
        if epoch > 0 and widest is not None and not self._warned and float(widest) < _COLLAPSED:
            self._warned = True
            rank_zero_warn(
                f"epoch {epoch}: the projections have collapsed: their spread (train/embedding_std) was "
                f"below {_COLLAPSED:g} in every step (1: even over the sphere). Likely causes: a threshold of the "
                "relations so low that most films are positives (see train/gaze_pairs), or too high a learning rate"
            )
