"""Geometric augmentation on the device, with gradient."""

import torch
from torch import Tensor
from torch.nn import functional as F


def warp(x: Tensor, matrix: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Move images or features by an affine: bilinear, zeros outside.

    Every place of the result looks up where it came from, ``W(x)(p) = x(A^-1 p)``. Places are computed in float64:
    the identity, flips and whole-pixel shifts are exact to rounding (``grid_sample`` with a float32 grid is not), and
    the gradient can be computed deterministically on a GPU (that of ``grid_sample`` cannot).

    Args:
        x: ``[B, C, h, w]``; covers the whole canvas, on any grid.
        matrix: affines ``A`` ``[B, 2, 3]``, canvas pixels (x, y; pixel ``k`` covers ``[k, k + 1)``), from where things
            are in ``x`` to where they are in the result; invertible.
        canvas: ``(H, W)``, pixels.

    Returns:
        ``[B, C, h, w]`` of the type of ``x``; differentiable in ``x``.
    """
    _, channels, height, width = x.shape
    column, row = _origins(matrix, canvas, height, width)
    column, row = column.clamp(-1, width), row.clamp(-1, height)
    left, top = column.floor().clamp(max=width - 1), row.floor().clamp(max=height - 1)
    exact = torch.promote_types(x.dtype, torch.float32)
    right, below = ((place - whole)[:, None].to(exact) for place, whole in ((column, left), (row, top)))
    edged = F.pad(x, (1, 1, 1, 1)).to(exact).flatten(2)  # zeros around: each place has four neighbours
    first = ((top + 1) * (width + 2) + left + 1).long()[:, None].expand(-1, channels, -1)
    upper, lower = (
        torch.lerp(edged.gather(2, first + step), edged.gather(2, first + step + 1), right) for step in (0, width + 2)
    )
    return torch.lerp(upper, lower, below).view_as(x).to(x.dtype)


def _origins(matrix: Tensor, canvas: tuple[int, int], height: int, width: int) -> tuple[Tensor, Tensor]:
    """Column and row, float64 ``[B, h * w]``, in units of cells from the centre of the first one."""
    a, b, c, d, e, f = matrix.double().flatten(1)[:, :, None, None].unbind(1)
    down, across = canvas[0] / height, canvas[1] / width  # canvas pixels per cell
    x = (torch.arange(width, device=matrix.device).double() + 0.5) * across - c
    y = (torch.arange(height, device=matrix.device).double()[:, None] + 0.5) * down - f
    determinant = a * e - b * d
    # x is [B, 1, w] and y [B, h, 1]: only the last operation of each line is one per cell
    column = (e / determinant / across * x - 0.5) - b / determinant / across * y
    row = (a / determinant / down * y - 0.5) - d / determinant / down * x
    return column.flatten(1), row.flatten(1)
