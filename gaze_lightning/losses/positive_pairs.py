"""What losses with several positives per anchor have in common."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from gaze_lightning.errors import ConfigurationError

Normalise = Literal["global", "per_anchor"]
"""``global``: a loss is the mean over all positive pairs, so that anchors with many positives weigh more (McGIP);
``per_anchor``: the mean over anchors of the mean over the anchor's positives, so that all anchors weigh the same."""


def check_normalise(normalise: str) -> None:
    """Raise a ``ConfigurationError`` if this is no ``Normalise``."""
    if normalise not in get_args(Normalise):
        raise ConfigurationError(f"normalise is {normalise!r}: choose 'global' (published) or 'per_anchor'")


def check_temperature(temperature: float) -> None:
    """Raise a ``ConfigurationError`` if this is no temperature."""
    if not 0 < temperature < math.inf:
        raise ConfigurationError(f"temperature is {temperature}: it must be positive and finite")


def unit_length(embedding: Tensor) -> Tensor:
    """Divide rows ``[B, D]`` by their lengths, in float32 (float64 stays); rows of length zero stay zero."""
    f = embedding if embedding.dtype == torch.float64 else embedding.float()
    length = f.norm(dim=1, keepdim=True)
    return f / torch.where(length > 0, length, 1.0)


def mean_over_positives(
    value: Tensor, positive: Tensor, normalise: Normalise, total: Tensor | float | None = None
) -> Tensor:
    """Mean of a quantity of pairs over those that are positive.

    Args:
        value: ``[B, M]``; what it is where ``positive`` is false does not matter, be it infinite.
        positive: bool ``[B, M]``.
        normalise: see ``Normalise``; with ``per_anchor``, anchors without a positive are left out.
        total: divide the sum by this instead of the number of positives; ``global`` only.

    Returns:
        Scalar; 0 with a gradient graph where nothing is positive.
    """
    of_anchor = torch.where(positive, value, 0.0).sum(dim=1)
    number = positive.sum(dim=1)
    if normalise == "per_anchor":
        return (of_anchor / number.clamp(min=1)).sum() / (number > 0).sum().clamp(min=1)
    return of_anchor.sum() / (number.sum().clamp(min=1) if total is None else total)
