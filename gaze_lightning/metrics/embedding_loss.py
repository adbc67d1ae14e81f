"""A loss of pairs of samples, over all samples of a stage."""

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from gaze_lightning.losses.label_pairs import label_pairs
from gaze_lightning.losses.pair_loss import PairLoss


class EmbeddingLoss(Metric):
    """Triplet or supervised contrastive loss over all pairs of samples at once.

    The mean over batches of such a loss depends on how the samples were cut into batches. This one keeps embeddings and
    labels until ``compute`` (``dist_reduce_fx='cat'``) and compares all of them, in float64, so the value depends
    neither on batches nor on ranks. Memory and time grow with the square of the number of samples.

    Args:
        loss: :class:`~gaze_lightning.losses.TripletLoss`, :class:`~gaze_lightning.losses.SupConLoss` or another module
            of their interface, without parameters.
        label_type: as in :func:`~gaze_lightning.losses.label_pairs`.
        kwargs: Passed to :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    embedding: list[Tensor]
    label: list[Tensor]

    def __init__(self, loss: PairLoss, label_type: Literal["single", "multi"], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loss = loss
        self.label_type = label_type
        self.add_state("embedding", default=[], dist_reduce_fx="cat")
        self.add_state("label", default=[], dist_reduce_fx="cat")

    def update(self, embedding: Tensor, label: Tensor) -> None:
        """Add embeddings ``[B, D]`` (``[B, C, h, w]`` if the loss takes them) and their labels.

        Args:
            embedding: kept in float32, or float64 if it comes so.
            label: int64 ``[B]`` (single-label) or float ``[B, K]`` in {0, 1, NaN} (multi-label).

        Raises:
            ValueError: different numbers of embeddings and labels.
        """
        if len(embedding) != len(label):
            raise ValueError(f"{len(embedding)} embeddings and {len(label)} labels: one of each per sample")
        embedding = embedding.detach()
        self.embedding.append(embedding if embedding.dtype == torch.float64 else embedding.float())
        self.label.append(label)

    def compute(self) -> Tensor:
        """Return the loss, a float64 scalar; NaN where the samples hold no term of it."""
        undefined = torch.tensor(torch.nan, dtype=torch.float64, device=self.device)
        if len(self.embedding) == 0:  # a list, or one tensor after synchronisation
            return undefined
        pairs = label_pairs(dim_zero_cat(self.label), self.label_type)
        if not self.loss.is_defined(pairs):
            return undefined
        return self.loss(dim_zero_cat(self.embedding).double(), pairs)
