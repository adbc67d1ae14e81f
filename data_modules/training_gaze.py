"""Where the training readings looked, on the canvas."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_modules.references import place_on_films
from data_modules.training_mean import MeanMap

_BLOCK = 64  # boxes that are placed at a time


def mean_on_films(mean: MeanMap, boxes: npt.NDArray[np.float64], canvas: tuple[int, int]) -> Tensor:
    """Place a map on each film and average.

    Args:
        mean: in fractions of the film.
        boxes: ``[n, 4]``: x0, y0, x1, y1 of the films, canvas pixels, at least one; equal ones are placed once.
        canvas: (H, W), pixels.

    Returns:
        float32 ``[H, W]``, sums to 1.
    """
    distinct, counts = (torch.from_numpy(values) for values in np.unique(boxes, axis=0, return_counts=True))
    total = torch.zeros(canvas, dtype=torch.float64)
    for here, weight in zip(torch.split(distinct, _BLOCK), torch.split(counts.double(), _BLOCK), strict=True):
        placed = place_on_films(mean, here, canvas, canvas)[:, 0].double()
        total += (weight[:, None, None] * placed).sum(dim=0)
    return (total / total.sum()).float()
