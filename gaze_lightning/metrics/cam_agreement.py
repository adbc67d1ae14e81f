"""How well the true class's activation map agrees with gaze, findings and anatomy, sample by sample."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gaze_lightning.batch import Batch
from gaze_lightning.metrics.functional import energy_inside, iou_at_threshold, pointing_game, pointing_game_cells
from gaze_lightning.metrics.saliency_agreement import map_agreement

CAM_VALUES = (
    "gaze_cc",
    "gaze_kl",
    "gaze_sim",
    "gaze_nss",
    "gaze_auc_judd",
    "pointing_lesion",
    "pointing_lesion_chance",
    "pointing_anatomy",
    "pointing_anatomy_chance",
    "pointing_anatomy_cells",
    "pointing_anatomy_cells_chance",
    "energy_lesion",
    "energy_lesion_chance",
    "iou_lesion",
)
"""Names of the values that ``cam_agreement`` returns."""

TOLERANCE = 0.03
"""Tolerance of the pointing game as a fraction of the film's height."""


def true_class_map(cam: Tensor, label: Tensor, label_type: Literal["single", "multi"]) -> tuple[Tensor, Tensor]:
    """Choose the map that is compared with gaze and masks.

    Args:
        cam: ``[B, K, h, w]``.
        label: int64 ``[B]`` (single-label) or ``[B, K]`` in {0, 1, NaN} (multi-label).
        label_type: which of the two.

    Returns:
        float64 ``[B, h, w]``: the map of the true class; multi-label: the mean map of the positive classes, all zero
        without one. And bool ``[B, K]``: the classes it was made of.
    """
    chosen = F.one_hot(label, cam.shape[1]).bool() if label_type == "single" else label == 1
    weights = chosen.double() / chosen.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.einsum("bk,bkhw->bhw", weights, cam.double()), chosen


def cam_agreement(cam: Tensor, batch: Batch, label_type: Literal["single", "multi"]) -> dict[str, Tensor]:
    """Score class activation maps against everything the batch knows about where to look.

    The map of the true class (``true_class_map``) is upsampled bilinearly: to the grid of ``saliency`` for ``gaze_*``
    (the values of ``map_agreement``), to the image for ``pointing_*``, ``energy_lesion`` and ``iou_lesion``. Masks of
    several positive classes are united. ``pointing_*`` accepts 3 % of the film's height as distance; for energy and IoU
    the map's lowest value is taken as zero, and the energy of a flat map (``energy_lesion_chance``) stands beside it;
    ``pointing_anatomy_cells`` is the published 3x3 rule on the map's own grid, to be read beside its ``_chance``.

    Args:
        cam: ``[B, K, h, w]``.
        batch: needs ``image`` and ``label``; ``saliency``, ``has_gaze``, ``fixations``, ``fixation_mask``,
            ``lesion_mask``, ``anatomy_mask`` and ``film_box`` are used where present.
        label_type: kind of labels.

    Returns:
        For each name in ``CAM_VALUES`` float64 ``[B]``; NaN where the sample has no gaze, no mask or no positive class.
    """
    own, chosen = true_class_map(cam, batch["label"], label_type)
    values = {name: own.new_full((len(own),), torch.nan) for name in CAM_VALUES}
    if "saliency" in batch:
        values |= _gaze(own, chosen, batch)
    if "lesion_mask" in batch or "anatomy_mask" in batch:
        values |= _masks(own, chosen, batch)
    return values


def resize_map(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample maps ``[B, h, w]`` bilinearly to ``size``, with cell edges (not centres) at the border."""
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def _gaze(own: Tensor, chosen: Tensor, batch: Batch) -> dict[str, Tensor]:
    height, width = batch["saliency"].shape[-2:]
    agreement = map_agreement(resize_map(own, (height, width)), batch)
    without = ~chosen.any(dim=1)
    return {f"gaze_{name}": value.masked_fill(without, torch.nan) for name, value in agreement.items()}


def _masks(own: Tensor, chosen: Tensor, batch: Batch) -> dict[str, Tensor]:
    height, width = batch["image"].shape[-2:]
    pred = resize_map(own, (height, width))
    film, film_height = _film(batch, height, width)
    result: dict[str, Tensor] = {}
    for name in ("lesion", "anatomy"):
        masks = batch.get(f"{name}_mask")
        if not isinstance(masks, Tensor):
            continue
        united = (masks.bool() & chosen[:, :, None, None]).any(dim=1)
        game = pointing_game(pred, united, TOLERANCE * film_height, film)
        result |= {f"pointing_{name}": game.hit, f"pointing_{name}_chance": game.chance}
        if name == "lesion":
            # a CAM has no zero of its own (the class bias lies outside it): its lowest value becomes zero
            lifted = pred - pred.amin(dim=(1, 2), keepdim=True)
            result |= {
                "energy_lesion": energy_inside(lifted, united),
                "energy_lesion_chance": energy_inside(film.double(), united),
                "iou_lesion": iou_at_threshold(lifted, united),
            }
        else:
            cells = game_on_cells(own, united, film)
            result |= {"pointing_anatomy_cells": cells[0], "pointing_anatomy_cells_chance": cells[1]}
    return result


def game_on_cells(own: Tensor, mask: Tensor, film: Tensor) -> tuple[Tensor, Tensor]:
    """Published pointing rule: hit and chance ``[B]``; a cell belongs to a mask ``[B, H, W]`` if any pixel does."""
    grid = own.shape[-2:]
    on_cells = [F.adaptive_max_pool2d(area.float()[:, None], grid)[:, 0] > 0 for area in (mask, film)]
    game = pointing_game_cells(own, on_cells[0], on_cells[1])
    return game.hit, game.chance


def _film(batch: Batch, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Area of the film, bool ``[B, H, W]`` (pixels whose centre is inside), and its height in pixels, ``[B]``."""
    image = batch["image"]
    if "film_box" not in batch:
        everywhere = torch.ones(len(image), height, width, dtype=torch.bool, device=image.device)
        return everywhere, torch.full((len(image),), float(height), device=image.device)
    x0, y0, x1, y1 = batch["film_box"].double()[:, :, None].unbind(dim=1)
    x = torch.arange(width, device=image.device) + 0.5
    y = torch.arange(height, device=image.device) + 0.5
    inside_x, inside_y = (x >= x0) & (x < x1), (y >= y0) & (y < y1)
    return inside_y[:, :, None] & inside_x[:, None, :], (y1 - y0)[:, 0]
