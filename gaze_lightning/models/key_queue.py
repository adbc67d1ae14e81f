"""MoCo's queue."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gaze_lightning.errors import ConfigurationError


class KeyQueue(nn.Module):
    """The last ``K`` keys and whose they are, first in, first out (He et al., CVPR 2020, algorithm 1).

    The queue starts empty, not with random keys. It is part of the checkpoint. Nothing here waits for the device.

    Args:
        size: number ``K`` of slots.
        dim: length ``D`` of a key.

    Attributes:
        keys: buffer, float32 ``[K, D]``: unit length in filled slots (zero for a key of zeros), zero in empty ones.
        identities: buffer, int64 ``[K, 3]``: as ``Positives.identities``; -1 in empty slots.
        pointer: buffer, int64 scalar: the slot that is filled next.
        count: buffer, int64 scalar: number of filled slots.

    Raises:
        ConfigurationError: ``size`` or ``dim`` is not positive.
    """

    keys: Tensor
    identities: Tensor
    pointer: Tensor
    count: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ConfigurationError(f"a queue of {size} keys of length {dim}: both must be at least 1")
        self.register_buffer("keys", torch.zeros(size, dim))
        self.register_buffer("identities", torch.full((size, 3), -1, dtype=torch.int64))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def filled(self) -> Tensor:
        """Which slots hold a key; bool ``[K]``."""
        return torch.arange(len(self.keys), device=self.keys.device) < self.count

    @torch.no_grad()
    def push(self, keys: Tensor, identities: Tensor) -> None:
        """Put keys in, over the oldest ones; of more than ``K`` only the last ``K`` stay.

        Args:
            keys: ``[M, D]``, of any length and any ``M``; stored in float32, divided by their lengths.
            identities: int64 ``[M, 3]``.

        Raises:
            ValueError: other shapes.
        """
        size, dim = self.keys.shape
        if keys.shape != (len(keys), dim) or identities.shape != (len(keys), 3):
            raise ValueError(
                f"expected keys [M, {dim}] and identities [M, 3], got {tuple(keys.shape)} and {tuple(identities.shape)}"
            )
        pushed = len(keys)
        first = max(pushed - size, 0)
        slots = (self.pointer + torch.arange(first, pushed, device=self.keys.device)) % size
        self.keys.index_copy_(0, slots, F.normalize(keys[first:].to(self.keys.dtype), dim=1))
        self.identities.index_copy_(0, slots, identities[first:])
        self.pointer.add_(pushed).remainder_(size)
        self.count.add_(pushed).clamp_(max=size)
