"""Metrics of classification, gaze agreement and localisation, and their intervals."""

from gaze_lightning.metrics.cam_agreement import CAM_VALUES, cam_agreement
from gaze_lightning.metrics.classification import ClassificationReport
from gaze_lightning.metrics.defined_mean import DefinedMean
from gaze_lightning.metrics.functional import (
    PointingGame,
    as_distribution,
    auc_judd,
    correlation_coefficient,
    energy_inside,
    iou_at_threshold,
    nss,
    pointing_game,
    pointing_game_cells,
    saliency_kl,
    shuffled_auc,
    similarity,
)
from gaze_lightning.metrics.localisation import EnergyInside, IoUAtThreshold, PointingGameRate
from gaze_lightning.metrics.saliency import (
    NSS,
    AUCJudd,
    CorrelationCoefficient,
    SaliencyKL,
    ShuffledAUC,
    Similarity,
)
from gaze_lightning.metrics.statistics import (
    AurocIntervals,
    Interval,
    auroc_interval,
    auroc_intervals,
    clustered_bootstrap,
    mean_interval,
    weighted_auroc,
)

__all__ = [
    "CAM_VALUES",
    "NSS",
    "AUCJudd",
    "AurocIntervals",
    "ClassificationReport",
    "CorrelationCoefficient",
    "DefinedMean",
    "EnergyInside",
    "Interval",
    "IoUAtThreshold",
    "PointingGame",
    "PointingGameRate",
    "SaliencyKL",
    "ShuffledAUC",
    "Similarity",
    "as_distribution",
    "auc_judd",
    "auroc_interval",
    "auroc_intervals",
    "cam_agreement",
    "clustered_bootstrap",
    "correlation_coefficient",
    "energy_inside",
    "iou_at_threshold",
    "mean_interval",
    "nss",
    "pointing_game",
    "pointing_game_cells",
    "saliency_kl",
    "shuffled_auc",
    "similarity",
    "weighted_auroc",
]
