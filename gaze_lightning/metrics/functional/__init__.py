"""Saliency and localisation metrics as functions of batched tensors."""

from gaze_lightning.metrics.functional.distribution import (
    as_distribution,
    correlation_coefficient,
    saliency_kl,
    similarity,
)
from gaze_lightning.metrics.functional.fixation import auc_judd, nss, shuffled_auc
from gaze_lightning.metrics.functional.localisation import (
    PointingGame,
    energy_inside,
    iou_at_threshold,
    pointing_game,
    pointing_game_cells,
)

__all__ = [
    "PointingGame",
    "as_distribution",
    "auc_judd",
    "correlation_coefficient",
    "energy_inside",
    "iou_at_threshold",
    "nss",
    "pointing_game",
    "pointing_game_cells",
    "saliency_kl",
    "shuffled_auc",
    "similarity",
]
