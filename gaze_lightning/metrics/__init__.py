"""Metrics of classification, gaze agreement and localisation, and their intervals."""

from gaze_lightning.metrics.cam_agreement import CAM_VALUES, cam_agreement
from gaze_lightning.metrics.classification import ClassificationReport
from gaze_lightning.metrics.defined_mean import DefinedMean
from gaze_lightning.metrics.embedding_loss import EmbeddingLoss
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
from gaze_lightning.metrics.saliency_agreement import (
    AGREEMENT_VALUES,
    REFERENCES,
    SALIENCY_VALUES,
    gaze_references,
    map_agreement,
    resample_density,
    saliency_agreement,
)
from gaze_lightning.metrics.saliency_report import SaliencyReport
from gaze_lightning.metrics.statistics import (
    AurocIntervals,
    Interval,
    auroc_interval,
    auroc_intervals,
    auroc_micro_interval,
    clustered_bootstrap,
    mean_interval,
    weighted_auroc,
)

__all__ = [
    "AGREEMENT_VALUES",
    "CAM_VALUES",
    "NSS",
    "REFERENCES",
    "SALIENCY_VALUES",
    "AUCJudd",
    "AurocIntervals",
    "ClassificationReport",
    "CorrelationCoefficient",
    "DefinedMean",
    "EmbeddingLoss",
    "EnergyInside",
    "Interval",
    "IoUAtThreshold",
    "PointingGame",
    "PointingGameRate",
    "SaliencyKL",
    "SaliencyReport",
    "ShuffledAUC",
    "Similarity",
    "as_distribution",
    "auc_judd",
    "auroc_interval",
    "auroc_intervals",
    "auroc_micro_interval",
    "cam_agreement",
    "clustered_bootstrap",
    "correlation_coefficient",
    "energy_inside",
    "gaze_references",
    "iou_at_threshold",
    "map_agreement",
    "mean_interval",
    "nss",
    "pointing_game",
    "pointing_game_cells",
    "resample_density",
    "saliency_agreement",
    "saliency_kl",
    "shuffled_auc",
    "similarity",
    "weighted_auroc",
]
