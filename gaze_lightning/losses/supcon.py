"""The supervised contrastive loss."""

import math

import torch
from torch import Tensor, nn

from gaze_lightning.losses.label_pairs import LabelPairs


class SupConLoss(nn.Module):
    """Supervised contrastive loss (Khosla et al., NeurIPS 2020, "out" form) of one view per sample.

    With ``z = f / |f|`` and ``P(i)`` the samples of the anchor's label::

        L = mean_i  -1 / |P(i)|  sum_{p in P(i)} log( exp(z_i z_p / T) / sum_a exp(z_i z_a / T) )

    ``a`` runs over all other samples whose relation to ``i`` is known (single-label: all others). Anchors with empty
    ``P(i)`` are skipped. An embedding of length zero stays zero. Computed in float32 also under autocast; float64 stays
    float64.

    An anchor with ``n = |P(i)|`` costs at least ``ln n``, reached where no other label is near and all of ``P(i)`` are
    equally near. So a batch of ``B`` samples of one class is not 0, as the triplet loss is, but at least ``ln(B - 1)``,
    with a finite gradient that makes its similarities equal. The project's specification says 0 for it. The formula is
    followed: one sample of another class leaves the floor near ``ln(B - 2)``, and a special case would be a jump. Only
    without any positive pair is the loss 0.

    Args:
        temperature: ``T``, positive; no published value for chest films with gaze.

    Raises:
        ValueError: a temperature that is not positive and finite.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature is {temperature}: it must be positive and finite")
        self.temperature = temperature

    def forward(self, embedding: Tensor, pairs: LabelPairs) -> Tensor:
        """Compute the loss.

        Args:
            embedding: ``[B, D]``, of any length.
            pairs: of the same ``B`` samples.

        Returns:
            Scalar, nats; 0 with a gradient graph where no two samples share a label.

        Raises:
            ValueError: an embedding of another shape, or pairs of another number of samples.
        """
        samples = len(embedding)
        if embedding.ndim != 2 or pairs.same.shape != (samples, samples):
            raise ValueError(
                f"expected an embedding [B, D] and pairs [B, B], got {tuple(embedding.shape)} and "
                f"{tuple(pairs.same.shape)}: pool feature maps first"
            )
        with torch.autocast(device_type=embedding.device.type, enabled=False):
            f = embedding if embedding.dtype == torch.float64 else embedding.float()
            length = f.norm(dim=1, keepdim=True)
            z = f / torch.where(length > 0, length, 1.0)
            # The smallest number instead of minus infinity: rows without a known pair stay finite, gradients too.
            others = (z @ z.T / self.temperature).masked_fill(~(pairs.same | pairs.different), torch.finfo(f.dtype).min)
            log_share = torch.where(pairs.same, others.log_softmax(dim=1), 0.0).sum(dim=1)
            friends = pairs.same.sum(dim=1)
            anchors = (friends > 0).sum()
            return -(log_share / friends.clamp(min=1)).sum() / anchors.clamp(min=1)

    def is_defined(self, pairs: LabelPairs) -> Tensor:
        """Scalar bool: whether any two samples share a label."""
        return pairs.same.any()
