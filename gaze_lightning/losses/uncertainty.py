"""Weights of two losses, learned as uncertainties."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UncertaintyWeighting(nn.Module):
    """Sum of a classification and a gaze loss with trained weights.

    With ``s_c = log sigma_c`` and ``s_d = log sigma_d``, two parameters::

        L = L_cls / sigma_c^2 + log(1 + sigma_c) + g * (L_gaze / (2 sigma_d^2) + log(1 + sigma_d))

    as in the released code of GG-CAM (arXiv 2202.07107), a variant of Kendall et al. 2018 without negative terms.
    ``g`` is 1 if any sample of the batch has gaze and else 0, so that ``sigma_d`` never shrinks without evidence.

    Args:
        log_sigma_cls: initial ``s_c``.
        log_sigma_gaze: initial ``s_d``.
        train_gaze: false: ``s_d`` keeps its value, as in the released run of MT-UNet (``s_d = 0``, gaze loss halved).
    """

    log_sigma_gaze: Tensor

    def __init__(self, log_sigma_cls: float, log_sigma_gaze: float, train_gaze: bool = True) -> None:
        super().__init__()
        self.log_sigma_cls = nn.Parameter(torch.tensor(float(log_sigma_cls)))
        if train_gaze:
            self.log_sigma_gaze = nn.Parameter(torch.tensor(float(log_sigma_gaze)))
        else:
            self.register_buffer("log_sigma_gaze", torch.tensor(float(log_sigma_gaze)))

    def forward(self, classification: Tensor, gaze: Tensor, any_gaze: Tensor) -> Tensor:
        """Combine the losses.

        Args:
            classification: scalar ``L_cls``.
            gaze: scalar ``L_gaze``, 0 (with graph) where no sample has gaze.
            any_gaze: scalar, bool or 0/1: whether any sample has gaze.

        Returns:
            Scalar ``L``; the graph holds every parameter whatever ``any_gaze`` is.
        """
        s_c, s_d = self.log_sigma_cls, self.log_sigma_gaze
        of_classes = classification * torch.exp(-2 * s_c) + F.softplus(s_c)
        of_gaze = gaze * torch.exp(-2 * s_d) / 2 + F.softplus(s_d)
        return of_classes + any_gaze * of_gaze
