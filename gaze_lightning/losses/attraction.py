"""The loss of frameworks without negatives."""

import torch
from torch import Tensor, nn

from gaze_lightning.losses.positive_pairs import Normalise, check_normalise, mean_over_positives, unit_length


class AttractionLoss(nn.Module):
    """Negative cosine of predictions and targets over all positive pairs: one direction of BYOL and SimSiam with McGIP.

    With ``A`` of the positive pairs, the diagonal included (McGIP, AAAI 2024, after the released code)::

        global:      l = -1 / (sum A)  sum_ij A_ij cos(p_i, t_j)
        per_anchor:  l = -mean_i  1 / (sum_j A_ij)  sum_j A_ij cos(p_i, t_j)

    It lies in [-1, 1]. With nothing but the diagonal it is SimSiam's (Chen and He, CVPR 2021, equation 1); twice that
    plus 2 is BYOL's squared distance of unit vectors (Grill et al., NeurIPS 2020, equation 2). Targets get no gradient.
    A vector of length zero has the cosine 0. Computed in float32 also under autocast; float64 stays float64.

    Args:
        normalise: ``"global"`` (published) or ``"per_anchor"``.

    Raises:
        ConfigurationError: an unknown ``normalise``.
    """

    def __init__(self, normalise: Normalise = "global") -> None:
        super().__init__()
        check_normalise(normalise)
        self.normalise = normalise

    def forward(self, prediction: Tensor, target: Tensor, positive: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            prediction: ``[B, D]``, of one view.
            target: ``[B, D]``, of the other view of the same films.
            positive: bool ``[B, B]``: ``A``.

        Returns:
            Scalar in [-1, 1]; 0 where nothing is positive.

        Raises:
            ValueError: shapes that do not fit together.
        """
        pairs = (len(prediction), len(prediction))
        if prediction.ndim != 2 or prediction.shape != target.shape or positive.shape != pairs:
            raise ValueError(
                f"expected prediction and target [B, D] and positive [B, B], got {tuple(prediction.shape)}, "
                f"{tuple(target.shape)} and {tuple(positive.shape)}"
            )
        with torch.autocast(device_type=prediction.device.type, enabled=False):
            cosine = unit_length(prediction) @ unit_length(target.detach()).T
            return -mean_over_positives(cosine, positive, self.normalise)
