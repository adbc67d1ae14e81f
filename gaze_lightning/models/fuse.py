"""How an importance map acts on images and features."""

from typing import Literal

import torch
from torch import Tensor

from gaze_lightning.gaze import cell_overlap

Fusion = Literal["multiply", "residual"]


def fuse(x: Tensor, attention: Tensor, fusion: Fusion) -> Tensor:
    """Weigh images or features by a map: ``a * x`` (multiply) or ``(1 + a) * x`` (residual).

    Args:
        x: ``[B, C, h, w]``.
        attention: ``a``, ``[1 or B, 1, H, W]``; averaged over the area of each cell where ``x`` has a coarser grid.
        fusion: ``"multiply"`` or ``"residual"``.

    Returns:
        ``[B, C, h, w]`` of the type of ``x``.

    Raises:
        ValueError: an unknown ``fusion``, or ``x`` has a finer grid than the map.
    """
    if fusion not in ("multiply", "residual"):
        raise ValueError(f"fusion is {fusion!r}: choose 'multiply' or 'residual'")
    a = _on_grid(attention, x.shape[-2], x.shape[-1])
    return ((a if fusion == "multiply" else 1 + a) * x).to(x.dtype)


def _on_grid(attention: Tensor, height: int, width: int) -> Tensor:
    """Area means of ``[B, 1, H, W]`` on a grid that is not finer."""
    if attention.shape[-2:] == (height, width):
        return attention
    if height > attention.shape[-2] or width > attention.shape[-1]:
        raise ValueError(f"a map of {tuple(attention.shape[-2:])} cannot weigh a finer grid of {(height, width)}")
    with torch.autocast(device_type=attention.device.type, enabled=False):
        rows, columns = (
            (cell_overlap(pixels, cells, attention.device) * cells / pixels).to(attention.dtype)
            for pixels, cells in zip(attention.shape[-2:], (height, width), strict=True)
        )
        return rows @ attention @ columns.T
