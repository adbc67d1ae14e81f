"""Does a class activation map lie on the finding? Pointing game, energy inside the mask, IoU at a threshold."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gaze_lightning.metrics.functional.checks import map_batch, same_size

_TIE = 1e-6
"""Cells this close to the maximum, relative to the map's range, share it: upsampling makes plateaus that are flat but
for rounding, and which of their cells is the highest must not depend on the batch size."""


class PointingGame(NamedTuple):
    """Result of the pointing game per sample; NaN in both where the mask or the film is empty."""

    hit: Tensor
    """float64 ``[B]``: 1 where the map's maximum lies on the (dilated) mask, else 0; the share of the maxima that do
    where several cells share the maximum."""

    chance: Tensor
    """float64 ``[B]``: the share of the film's area that counts as a hit, the rate of a blind guess."""


def pointing_game(cam: Tensor, mask: Tensor, tolerance: Tensor, film: Tensor | None = None) -> PointingGame:
    """Pointing game (Zhang et al., IJCV 2018) with the chance rate beside it.

    A hit is a maximum whose cell centre lies at most ``tolerance`` from the centre of a cell of the mask (Euclidean).
    The maximum is searched over the whole map; one in the padding is a miss unless within tolerance of the mask.

    Args:
        cam: ``[B, h, w]``, any scale.
        mask: bool ``[B, h, w]``: where the finding lies.
        tolerance: ``[B]``, in cells of this grid, not negative; take a fraction of the film's height.
        film: bool ``[B, h, w]``: the film inside the padded image; everything by default.

    Returns:
        Hit and chance, float64 ``[B]`` each.

    Raises:
        ValueError: If sizes differ, the CAM is not finite, or a tolerance is negative or not finite.
    """
    cam = map_batch(cam, "cam")
    same_size(cam, mask, "cam and mask")
    if tolerance.shape != cam.shape[:1] or not bool((torch.isfinite(tolerance) & (tolerance >= 0)).all()):
        raise ValueError(f"tolerance must be [{len(cam)}], finite and not negative, got {tolerance}")
    return _score(cam, mask.bool(), _dilate(mask.bool(), tolerance.double()), film)


def pointing_game_cells(cam: Tensor, mask: Tensor, film: Tensor | None = None) -> PointingGame:
    """The GG-CAM authors' rule on the CAM's own grid: a hit where any of the 3x3 cells at the maximum is in the mask.

    The neighbourhood is cut at the border. On a coarse grid this is generous (30 % of the film for one cell on 6x5):
    read it beside ``chance``. Bring a fine mask to the grid before, a cell belonging to it if any pixel does.

    Args:
        cam: ``[B, h, w]``, any scale.
        mask: bool ``[B, h, w]`` on the same grid.
        film: bool ``[B, h, w]``: cells of the film; everything by default.

    Returns:
        Hit and chance, float64 ``[B]`` each.

    Raises:
        ValueError: If sizes differ or the CAM is not finite.
    """
    cam = map_batch(cam, "cam")
    same_size(cam, mask, "cam and mask")
    grown = torch.nn.functional.max_pool2d(mask.bool().float()[:, None], 3, stride=1, padding=1)[:, 0] > 0
    return _score(cam, mask.bool(), grown, film)


def energy_inside(cam: Tensor, mask: Tensor) -> Tensor:
    """Share of the map's positive values that lies inside the mask (Wang et al., Score-CAM, 2020): ``[B]`` in [0, 1].

    Negative values count as zero. NaN where the mask is empty or the map has no positive value.

    Raises:
        ValueError: If sizes differ or the CAM is not finite.
    """
    energy = map_batch(cam, "cam").clamp(min=0.0)
    same_size(energy, mask, "cam and mask")
    inside = (energy * mask.bool()).sum((1, 2)) / energy.sum((1, 2))
    return inside.masked_fill(~mask.bool().flatten(1).any(1), torch.nan)


def iou_at_threshold(cam: Tensor, mask: Tensor, threshold: float = 0.5) -> Tensor:
    """Intersection over union of the mask with the cells at or above ``threshold`` times the maximum: ``[B]``.

    A map without a positive value selects nothing and scores 0. NaN where the mask is empty.

    Raises:
        ValueError: If sizes differ, the CAM is not finite, or the threshold lies outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is a fraction of the maximum in (0, 1], got {threshold}")
    cam = map_batch(cam, "cam")
    same_size(cam, mask, "cam and mask")
    peak = cam.amax((1, 2), keepdim=True)
    region = (cam >= threshold * peak) & (peak > 0)
    inside, either = (region & mask.bool()).sum((1, 2)), (region | mask.bool()).sum((1, 2))
    return (inside.double() / either).masked_fill(~mask.bool().flatten(1).any(1), torch.nan)


def _score(cam: Tensor, mask: Tensor, accepted: Tensor, film: Tensor | None) -> PointingGame:
    film = torch.ones_like(mask) if film is None else film.bool()
    same_size(cam, film, "cam and film")
    high, low = cam.amax((1, 2), keepdim=True), cam.amin((1, 2), keepdim=True)
    maxima = cam >= high - _TIE * (high - low)
    hit = (maxima & accepted).sum((1, 2)).double() / maxima.sum((1, 2))
    chance = (accepted & film).sum((1, 2)).double() / film.sum((1, 2))
    undefined = ~(mask.flatten(1).any(1) & film.flatten(1).any(1))
    return PointingGame(hit.masked_fill(undefined, torch.nan), chance.masked_fill(undefined, torch.nan))


def _dilate(mask: Tensor, radius: Tensor) -> Tensor:
    """Grow each mask ``[B, h, w]`` by a disc of its own radius ``[B]``: one pass per row offset."""
    height, width = mask.shape[1:]
    column = torch.arange(width, device=mask.device, dtype=torch.float64)
    left = torch.where(mask, column, -torch.inf).cummax(2).values
    right = torch.where(mask, column, torch.inf).flip(2).cummin(2).values.flip(2)
    gap = torch.minimum(column - left, right - column).square()  # squared distance to the mask within the row
    reach = radius.square()[:, None, None]
    grown = gap <= reach
    rows = min(height - 1, math.floor(float(radius.max()))) if len(radius) else 0
    for offset in range(1, rows + 1):
        near = gap + offset * offset <= reach
        grown[:, offset:] |= near[:, :-offset]
        grown[:, :-offset] |= near[:, offset:]
    return grown
