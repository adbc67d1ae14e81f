"""The batch-all triplet loss."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from gaze_lightning.losses.label_pairs import LabelPairs

_CELLS = 2**20
"""Distances sorted at a time, 4 MiB in float32: bounds intermediate results, and was the fastest on a CPU."""


class TripletLoss(nn.Module):
    """Supervised batch-all triplet loss over every anchor i, every same-label j and every other-label k.

    ``l_ijk = max(0, |f_i - f_j| - |f_i - f_k| + margin)`` with the Euclidean distance, as in the released code of
    multi-stage cooperative learning (arXiv 2403.16970), which sums it over all triplets in a Python loop. Here no
    tensor has ``B^3`` cells: sorted distances tell how many negatives are active for a positive (``n_ij``) and how many
    positives for a negative (``m_ik``), and the sum over active triplets is

        ``sum_ij n_ij |f_i - f_j| - sum_ik m_ik |f_i - f_k| + margin * sum_ij n_ij``

    whose derivative is exact, because the counts are constant wherever the loss has one. Time is
    ``B^2 (D + log B)``, memory ``B^2``.

    Embeddings ``[B, C, h, w]`` give the semantics of the released code on feature maps, most likely not on purpose:
    distances over the last axis only, a term per triplet, channel and row.

    Distances have no epsilon: that of two equal embeddings is 0 and has the gradient 0. ``torch.nn.TripletMarginLoss``
    adds 1e-6 to every difference, which gives equal embeddings a gradient along the diagonal. Computed in float32 also
    under autocast; float64 stays float64.

    Args:
        margin: positive, in units of the embedding.
        reduction: ``"mean"``: over the active terms (``l > 0``); ``"sum"``: over triplets, and for ``[B, C, h, w]``
            averaged over channels and rows, as published.

    Raises:
        ValueError: a margin that is not positive and finite, or an unknown ``reduction``.
    """

    def __init__(self, margin: float = 1.0, reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        if not 0 < margin < math.inf:
            raise ValueError(f"margin is {margin}: it must be positive and finite")
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction is {reduction!r}: choose 'mean' or 'sum'")
        self.margin, self.reduction = margin, reduction

    def forward(self, embedding: Tensor, pairs: LabelPairs) -> Tensor:
        """Compute the loss.

        Args:
            embedding: ``[B, D]``, or ``[B, C, h, w]`` for a distance per channel and row.
            pairs: of the same ``B`` samples.

        Returns:
            Scalar; 0 with a gradient graph where there is no triplet or none is active.

        Raises:
            ValueError: an embedding of another shape, or pairs of another number of samples.
        """
        samples = len(embedding)
        if embedding.ndim not in (2, 4) or pairs.same.shape != (samples, samples):
            raise ValueError(
                f"expected an embedding [B, D] or [B, C, h, w] and pairs [B, B], got {tuple(embedding.shape)} and "
                f"{tuple(pairs.same.shape)}"
            )
        with torch.autocast(device_type=embedding.device.type, enabled=False):
            values = embedding if embedding.dtype == torch.float64 else embedding.float()
            rows = values[None] if values.ndim == 2 else values.flatten(1, 2).transpose(0, 1)
            sums, counts = [], []
            for part in torch.split(rows, max(1, _CELLS // max(1, samples**2))):
                distance = torch.cdist(part, part, compute_mode="donot_use_mm_for_euclid_dist")
                weight, active = self._weights(distance.detach(), pairs)
                sums.append((weight * distance).sum() + self.margin * active.to(distance.dtype))
                counts.append(active)
            terms = len(rows) if self.reduction == "sum" else torch.stack(counts).sum().clamp(min=1)
            return torch.stack(sums).sum() / terms

    def is_defined(self, pairs: LabelPairs) -> Tensor:
        """Scalar bool: whether any sample is an anchor, with another of its label and one of another label."""
        return (pairs.same.any(dim=1) & pairs.different.any(dim=1)).any()

    def _weights(self, distance: Tensor, pairs: LabelPairs) -> tuple[Tensor, Tensor]:
        """How often each distance ``[R, B, B]`` counts, with its sign, and the number of active terms."""
        reach = (distance + self.margin).masked_fill(~pairs.same, -math.inf)
        nearness = distance.masked_fill(~pairs.different, math.inf)
        negatives = torch.searchsorted(nearness.sort().values, reach, out_int32=True)
        positives = distance.shape[-1] - torch.searchsorted(reach.sort().values, nearness, right=True, out_int32=True)
        return (negatives - positives).to(distance.dtype), negatives.sum()
