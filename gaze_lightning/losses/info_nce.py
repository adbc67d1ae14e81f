"""InfoNCE with a queue of negatives, some of which are positives."""

import torch
from torch import Tensor, nn

from gaze_lightning.losses.positive_pairs import (
    Normalise,
    check_normalise,
    check_temperature,
    mean_over_positives,
    unit_length,
)


class MultiPositiveInfoNCE(nn.Module):
    """The loss of MoCo (He et al., CVPR 2020; v2: arXiv 2003.04297) with McGIP's positives in the queue.

    With unit vectors ``q_i`` of the queries, ``k_i`` of their keys and ``Q_m`` of the queue (McGIP, AAAI 2024, after
    the released code)::

        l_i = [ q_i k_i , q_i Q_1 , ... , q_i Q_K ] / T        y_i = [ 1 , positive_i1 , ... , positive_iK ]
        global:      L = -1 / (sum y)  sum_i sum_m y_im log softmax(l_i)_m
        per_anchor:  L = -1 / B  sum_i  1 / (sum_m y_im)  sum_m y_im log softmax(l_i)_m

    Slots that are not usable are in neither softmax nor ``y``. Without positives in the queue this is InfoNCE, the
    cross entropy of class 0. Keys and queue get no gradient. Vectors may have any length and are divided by it; one of
    length zero stays zero. Computed in float32 also under autocast; float64 stays float64.

    Args:
        temperature: ``T``, positive; 0.2 as in MoCo v2.
        normalise: ``"global"`` (published) or ``"per_anchor"``.

    Raises:
        ConfigurationError: a temperature that is not positive and finite, or an unknown ``normalise``.
    """

    def __init__(self, temperature: float = 0.2, normalise: Normalise = "global") -> None:
        super().__init__()
        check_temperature(temperature)
        check_normalise(normalise)
        self.temperature, self.normalise = temperature, normalise

    def forward(
        self, query: Tensor, key: Tensor, queue: Tensor, positive: Tensor, usable: Tensor, total: Tensor | None = None
    ) -> Tensor:
        """Compute the loss.

        Args:
            query: ``[B, D]``.
            key: ``[B, D]``, of the other view of the same films.
            queue: ``[K, D]``.
            positive: bool ``[B, K]``; what is not usable is not positive either.
            usable: bool ``[B, K]``: which slots each anchor's softmax contains.
            total: scalar: the number to divide by instead of ``sum y``, for anchors spread over several processes; it
                counts the keys, too. Only for ``global``: with ``per_anchor`` it changes nothing.

        Returns:
            Scalar, nats.

        Raises:
            ValueError: shapes that do not fit together.
        """
        slots = (len(query), len(queue))
        if query.ndim != 2 or query.shape != key.shape or queue.shape[1:] != query.shape[1:]:
            raise ValueError(
                f"expected query and key [B, D] and queue [K, D], got {tuple(query.shape)}, {tuple(key.shape)} and "
                f"{tuple(queue.shape)}"
            )
        if positive.shape != slots or usable.shape != slots:
            raise ValueError(
                f"expected positive and usable {slots}, got {tuple(positive.shape)} and {tuple(usable.shape)}"
            )
        with torch.autocast(device_type=query.device.type, enabled=False):
            q, k, others = unit_length(query), unit_length(key.detach()), unit_length(queue.detach())
            # The smallest number instead of minus infinity: nothing becomes NaN, gradients neither.
            far = (q @ others.T / self.temperature).masked_fill(~usable, torch.finfo(q.dtype).min)
            near = (q * k).sum(dim=1, keepdim=True) / self.temperature
            log_share = torch.cat([near, far], dim=1).log_softmax(dim=1)
            y = torch.cat([positive.new_ones(len(query), 1), positive & usable], dim=1)
            return -mean_over_positives(log_share, y, self.normalise, total)
