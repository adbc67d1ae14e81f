"""How rough an importance map is."""

import torch
from torch import Tensor


def total_variation(a: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, over all pairs side by side and one above the other.

    Args:
        a: map ``[B, 1, H, W]`` with two pixels at least.

    Returns:
        Scalar, not negative; 0 for a constant map.

    Raises:
        ValueError: maps of a single pixel.
    """
    if a.shape[-2:] == (1, 1):
        raise ValueError("a map of one pixel has no neighbours")
    return torch.cat([a.diff(dim=-1).abs().flatten(), a.diff(dim=-2).abs().flatten()]).mean()
