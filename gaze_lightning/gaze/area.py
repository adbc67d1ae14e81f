"""From one grid to another over the same area, by how far cells overlap."""

import torch
from torch import Tensor


def cell_overlap(source: int, target: int, device: torch.device | str = "cpu") -> Tensor:
    """Share of each cell of one axis that lies in each cell of another, both dividing the same length evenly.

    ``overlap @ x`` moves the mass of ``x`` (a density keeps its sum); ``overlap @ x * target / source`` averages over
    the area of each new cell (an image keeps its level). Exact for any pair of sizes. (Adaptive pooling has windows
    that overlap where sizes do not divide.)

    Args:
        source: number of cells.
        target: number of cells of the other axis.
        device: of the result.

    Returns:
        float64 ``[target, source]``; each column sums to 1, each row to ``source / target``.
    """
    # in units of 1 / (source * target) of the length all edges are integers
    low = torch.arange(source, device=device)[None] * target
    into = torch.arange(target, device=device)[:, None] * source
    common = torch.minimum(low + target, into + source) - torch.maximum(low, into)
    return common.clamp(min=0).double() / target
