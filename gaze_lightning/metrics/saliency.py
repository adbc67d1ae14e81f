"""Gaze agreement of maps as torchmetrics: means over the samples for which each metric is defined.

``higher_is_better`` and the conventions are those of the functions in :mod:`gaze_lightning.metrics.functional`.
"""

from torch import Tensor

from gaze_lightning.metrics import functional as F
from gaze_lightning.metrics.defined_mean import DefinedMean


class CorrelationCoefficient(DefinedMean):
    """Mean Pearson correlation (CC) of predicted and gaze maps; pairs with a constant map are excluded."""

    higher_is_better = True

    def update(self, pred: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Add maps ``[B, h, w]``."""
        self.add(F.correlation_coefficient(pred, target))


class SaliencyKL(DefinedMean):
    """Mean KL(gaze map || predicted map) in nats; samples with an all-zero gaze map are excluded."""

    higher_is_better = False

    def update(self, pred: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Add maps ``[B, h, w]``."""
        self.add(F.saliency_kl(pred, target))


class Similarity(DefinedMean):
    """Mean histogram intersection (SIM) of maps; samples with an all-zero gaze map are excluded."""

    higher_is_better = True

    def update(self, pred: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Add maps ``[B, h, w]``."""
        self.add(F.similarity(pred, target))


class NSS(DefinedMean):
    """Mean normalised scanpath saliency; constant maps and samples without a point are excluded."""

    higher_is_better = True

    def update(self, pred: Tensor, points: Tensor, mask: Tensor) -> None:  # type: ignore[override]
        """Add maps ``[B, h, w]`` with points ``[B, N, 2]`` (x, y in map cells) and their mask ``[B, N]``."""
        self.add(F.nss(pred, points, mask))


class AUCJudd(DefinedMean):
    """Mean AUC-Judd; samples without a point are excluded."""

    higher_is_better = True

    def update(self, pred: Tensor, points: Tensor, mask: Tensor) -> None:  # type: ignore[override]
        """Add maps ``[B, h, w]`` with points ``[B, N, 2]`` (x, y in map cells) and their mask ``[B, N]``."""
        self.add(F.auc_judd(pred, points, mask))


class ShuffledAUC(DefinedMean):
    """Mean shuffled AUC; samples without a point of their own or of other images are excluded."""

    higher_is_better = True

    def update(  # type: ignore[override]
        self, pred: Tensor, points: Tensor, mask: Tensor, other_points: Tensor, other_mask: Tensor
    ) -> None:
        """Add maps ``[B, h, w]``, points ``[B, N, 2]`` and other images' points ``[B, M, 2]``, each with its mask."""
        self.add(F.shuffled_auc(pred, points, mask, other_points, other_mask))
