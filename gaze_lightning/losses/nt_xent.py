"""NT-Xent with several positives per anchor."""

from typing import Literal

import torch
from torch import Tensor, nn

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.losses.positive_pairs import (
    Normalise,
    check_normalise,
    check_temperature,
    mean_over_positives,
    unit_length,
)


class MultiPositiveNTXent(nn.Module):
    """The loss of SimCLR (Chen et al., ICML 2020, equation 1) with McGIP's positives.

    With the unit vectors ``z`` of both views of ``B`` films, ``2 B`` rows, and ``P`` of the positive pairs::

        global:      L = -1 / (sum P)  sum_ab P_ab log softmax_{c != a}( z_a z_c / T )_b
        per_anchor:  L = -1 / (2 B)  sum_a  1 / (sum_b P_ab)  sum_b P_ab log softmax_{c != a}( z_a z_c / T )_b

    Positive are the two views of a film, pairs of the same film (other readings of it) in any two views, and related
    films. These are positive in any two views (``gaze_block="all"``) or, as McGIP's code was released, where both are
    shown in the first view (``"released"``), so that in the others the same pair is a negative. ``P`` is symmetric and
    false on the diagonal. Without related films and repeated ones this is NT-Xent. A vector of length zero stays zero.
    Computed in float32 also under autocast; float64 stays float64.

    Args:
        temperature: ``T``, positive; 0.07 as in McGIP's released configuration.
        normalise: ``"global"`` (published) or ``"per_anchor"``.
        gaze_block: see above.

    Raises:
        ConfigurationError: a temperature that is not positive and finite, an unknown ``normalise`` or ``gaze_block``.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        normalise: Normalise = "global",
        gaze_block: Literal["all", "released"] = "all",
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        check_normalise(normalise)
        if gaze_block not in ("all", "released"):
            raise ConfigurationError(f"gaze_block is {gaze_block!r}: choose 'all' or 'released'")
        self.temperature, self.normalise, self.gaze_block = temperature, normalise, gaze_block

    def forward(self, a: Tensor, b: Tensor, same: Tensor, related: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            a: ``[B, D]``, first views.
            b: ``[B, D]``, second views of the same films.
            same: bool ``[B, B]``, symmetric: which samples show the same film; the diagonal does not matter.
            related: bool ``[B, B]``, symmetric: which samples are positives of each other beyond that.

        Returns:
            Scalar, nats.

        Raises:
            ValueError: shapes that do not fit together.
        """
        pairs = (len(a), len(a))
        if a.ndim != 2 or a.shape != b.shape or same.shape != pairs or related.shape != pairs:
            raise ValueError(
                f"expected a and b [B, D], same and related [B, B], got {tuple(a.shape)}, {tuple(b.shape)}, "
                f"{tuple(same.shape)} and {tuple(related.shape)}"
            )
        with torch.autocast(device_type=a.device.type, enabled=False):
            z = torch.cat([unit_length(a), unit_length(b)])
            itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
            # The smallest number instead of minus infinity: nothing becomes NaN, gradients neither.
            logits = (z @ z.T / self.temperature).masked_fill(itself, torch.finfo(z.dtype).min)
            positive = self.positives(same, related)
            return -mean_over_positives(logits.log_softmax(dim=1), positive, self.normalise)

    def positives(self, same: Tensor, related: Tensor) -> Tensor:
        """Which of the ``2 B`` views are positives of each other; bool ``[2 B, 2 B]``, false on the diagonal."""
        one_film = same | torch.eye(len(same), dtype=torch.bool, device=same.device)
        every, elsewhere = one_film | related, one_film | related if self.gaze_block == "all" else one_film
        positive = torch.cat([torch.cat([every, elsewhere], dim=1), torch.cat([elsewhere, elsewhere], dim=1)])
        return positive & ~torch.eye(len(positive), dtype=torch.bool, device=same.device)
