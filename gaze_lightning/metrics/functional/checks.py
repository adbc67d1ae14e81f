"""Input checks shared by the metrics: a bad map is an error, never a silent NaN."""

import torch
from torch import Tensor


def map_batch(values: Tensor, name: str) -> Tensor:
    """Return ``values`` as float64 after checking that it is a finite ``[B, h, w]``.

    Raises:
        ValueError: If the shape is another one or a value is NaN or infinite; counts the bad samples.
    """
    if values.ndim != 3 or 0 in values.shape[1:]:
        raise ValueError(f"{name} must be [B, h, w], got {tuple(values.shape)}")
    values = values.double()
    bad = ~torch.isfinite(values).flatten(1).all(1)
    if bad.any():
        raise ValueError(f"{name} has NaN or infinite values in {int(bad.sum())} of {len(bad)} samples")
    return values


def same_size(a: Tensor, b: Tensor, names: str) -> None:
    """Check that two batches of maps have one shape.

    Raises:
        ValueError: If they differ; maps are never resized silently.
    """
    if a.shape != b.shape:
        raise ValueError(f"{names} differ in size: {tuple(a.shape)} and {tuple(b.shape)}; resize before, explicitly")


def cell_index(points: Tensor, mask: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the flat cell of each point and whether it counts, ``[B, N]`` each.

    Args:
        points: ``[B, N, 2]``, x and y in map cells; cell ``k`` covers ``[k, k + 1)``.
        mask: bool ``[B, N]``; points behind it may hold anything.
        size: Height and width of the map.

    Returns:
        Index ``[B, N]`` (zero where the point does not count) and valid ``[B, N]``: true where the mask is true and
        the point lies inside the map. Points outside are dropped, never clamped.

    Raises:
        ValueError: If shapes do not fit together or a point that counts is not finite.
    """
    if points.ndim != 3 or points.shape[-1] != 2 or mask.shape != points.shape[:2]:
        raise ValueError(f"points must be [B, N, 2] and mask [B, N], got {tuple(points.shape)}, {tuple(mask.shape)}")
    mask = mask.bool()
    points = points.double().masked_fill(~mask[..., None], -1.0)
    if not torch.isfinite(points).all():
        raise ValueError("points hold NaN or infinite coordinates where the mask is true")
    column, row = points.floor().unbind(-1)
    valid = mask & (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0])
    index = torch.where(valid, row * size[1] + column, 0.0).long()
    return index, valid
