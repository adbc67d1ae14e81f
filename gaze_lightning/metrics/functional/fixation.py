"""Saliency metrics that compare a map with fixated points: NSS, AUC-Judd, shuffled AUC.

Maps are ``[B, h, w]``, points ``[B, N, 2]`` are x and y in map cells (cell ``k`` covers ``[k, k + 1)``) with a mask
``[B, N]``. Points outside the map are dropped, never clamped. Results are float64 ``[B]`` with NaN where undefined: no
point inside the map, or as the docstring says. Nothing is random: ties get half credit instead of jitter.
"""

import torch
from torch import Tensor

from gaze_lightning.metrics.functional.checks import cell_index, map_batch
from gaze_lightning.metrics.functional.distribution import standardised


def nss(pred: Tensor, points: Tensor, mask: Tensor) -> Tensor:
    """Normalised scanpath saliency: the mean over fixations of the map in standard deviations from its mean.

    The standard deviation is that of the population. Every fixation counts, repeated ones too (Peters et al., 2005).
    NaN where the map is constant or no point lies inside.

    Args:
        pred: ``[B, h, w]``, any scale.
        points: ``[B, N, 2]``, x and y in map cells.
        mask: bool ``[B, N]``.

    Returns:
        ``[B]``, unbounded; 0 is chance.

    Raises:
        ValueError: If shapes do not fit together or a value is not finite.
    """
    _same_batch(pred, points)
    index, valid = cell_index(points, mask, (pred.shape[1], pred.shape[2]))
    scores, constant = standardised(pred, "pred")
    values = scores.flatten(1).gather(1, index) * valid
    return (values.sum(1) / valid.sum(1)).masked_fill(constant, torch.nan)


def auc_judd(pred: Tensor, points: Tensor, mask: Tensor) -> Tensor:
    """Area under the ROC curve of the map as a classifier of fixated against all other cells (Judd et al., 2009).

    A fixated cell counts once however often it was fixated. Ties get half credit, so a constant map scores 0.5. NaN
    where no cell or every cell is fixated. One sort per map, then a look-up of the fixated cells' ranks.

    Args:
        pred: ``[B, h, w]``, any scale.
        points: ``[B, N, 2]``, x and y in map cells.
        mask: bool ``[B, N]``.

    Returns:
        ``[B]`` in [0, 1]; 0.5 is chance.

    Raises:
        ValueError: If shapes do not fit together or a value is not finite.
    """
    _same_batch(pred, points)
    cells = map_batch(pred, "pred").flatten(1)
    index, once = _unique_cells(*cell_index(points, mask, (pred.shape[1], pred.shape[2])))
    rank = _mean_rank(cells.sort(1).values, cells.gather(1, index))
    positives = once.sum(1).double()
    # ranks count all cells; pairs of fixated cells (ties and selves at one half) contribute positives^2 / 2
    wins = (rank * once).sum(1) - positives.square() / 2
    pairs = positives * (cells.shape[1] - positives)
    return torch.where(pairs > 0, wins / pairs, torch.nan)


def shuffled_auc(pred: Tensor, points: Tensor, mask: Tensor, other_points: Tensor, other_mask: Tensor) -> Tensor:
    """Area under the ROC curve of fixated cells against the cells fixated in other images (Zhang et al., 2008).

    The negatives carry the centre bias, so that a map which only knows the bias scores 0.5. A cell fixated in this
    image counts once; every fixation of the other images counts, repeats too, and also where this image was fixated.
    All of them are used: no random draw. Ties get half credit. NaN where either set is empty.

    Args:
        pred: ``[B, h, w]``, any scale.
        points: ``[B, N, 2]``, fixations of each image, x and y in map cells.
        mask: bool ``[B, N]``.
        other_points: ``[B, M, 2]``, fixations made on other images, in cells of the same map.
        other_mask: bool ``[B, M]``.

    Returns:
        ``[B]`` in [0, 1]; 0.5 is chance.

    Raises:
        ValueError: If shapes do not fit together or a value is not finite.
    """
    _same_batch(pred, points)
    _same_batch(pred, other_points)
    size = (pred.shape[1], pred.shape[2])
    cells = map_batch(pred, "pred").flatten(1)
    index, once = _unique_cells(*cell_index(points, mask, size))
    other_index, other_valid = cell_index(other_points, other_mask, size)
    negatives = cells.gather(1, other_index).masked_fill(~other_valid, torch.inf).sort(1).values
    rank = _mean_rank(negatives, cells.gather(1, index))
    pairs = (once.sum(1) * other_valid.sum(1)).double()
    return torch.where(pairs > 0, (rank * once).sum(1) / pairs, torch.nan)


def _same_batch(pred: Tensor, points: Tensor) -> None:
    if pred.ndim != 3 or len(pred) != len(points):
        raise ValueError(f"expected [B, h, w] and [B, N, 2], got {tuple(pred.shape)} and {tuple(points.shape)}")


def _unique_cells(index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cells sorted, and true at the first occurrence of each valid one, ``[B, N]`` each."""
    cells = torch.where(valid, index, -1).sort(1).values
    first = torch.ones_like(cells, dtype=torch.bool)
    first[:, 1:] = cells[:, 1:] != cells[:, :-1]
    return cells.clamp(min=0), first & (cells >= 0)


def _mean_rank(ordered: Tensor, values: Tensor) -> Tensor:
    """Return how many of ``ordered [B, M]`` lie below each of ``values [B, N]``, equal ones counting one half."""
    values = values.contiguous()
    below = torch.searchsorted(ordered, values, right=False)
    up_to = torch.searchsorted(ordered, values, right=True)
    return (below + up_to).double() / 2
