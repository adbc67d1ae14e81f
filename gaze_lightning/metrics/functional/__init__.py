"""Metrics of saliency, localisation and embeddings as functions of batched tensors."""

from gaze_lightning.metrics.functional.distribution import (
    as_distribution,
    correlation_coefficient,
    saliency_kl,
    similarity,
)
from gaze_lightning.metrics.functional.embedding_health import (
    alignment,
    effective_rank,
    embedding_std,
    uniformity,
)
from gaze_lightning.metrics.functional.fixation import auc_judd, nss, shuffled_auc
from gaze_lightning.metrics.functional.localisation import (
    PointingGame,
    energy_inside,
    iou_at_threshold,
    pointing_game,
    pointing_game_cells,
)
from gaze_lightning.metrics.functional.nearest_neighbours import NearestNeighbours

__all__ = [
    "NearestNeighbours",
    "PointingGame",
    "alignment",
    "as_distribution",
    "auc_judd",
    "correlation_coefficient",
    "effective_rank",
    "embedding_std",
    "energy_inside",
    "iou_at_threshold",
    "nss",
    "pointing_game",
    "pointing_game_cells",
    "saliency_kl",
    "shuffled_auc",
    "similarity",
    "uniformity",
]
