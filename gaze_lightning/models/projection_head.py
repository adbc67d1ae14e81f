"""Projection and prediction heads."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor, nn

from gaze_lightning.errors import ConfigurationError

OutNorm = Literal["none", "affine", "plain"]
"""Batch norm after the last layer of a head: none, with scale and shift, or without."""


class ProjectionHead(nn.Module):
    """A multilayer perceptron: ``Linear - [BN] - ReLU`` for each hidden layer, ``Linear - [BN]`` at the end.

    A linear layer has a bias only where no batch norm follows: the norm would remove it. The published heads, on the
    2,048 features of a ResNet-50:

    ============================  ================  ====  ===========  ========
    head                          hidden            out   hidden_norm  out_norm
    ============================  ================  ====  ===========  ========
    MoCo v2, projection           [2048]             128  False        none
    SimCLR, projection            [2048]             128  False        none
    BYOL, projection, prediction  [4096]             256  True         none
    SimSiam, projection           [2048, 2048]      2048  True         plain
    SimSiam, prediction           [512]             2048  True         none
    ============================  ================  ====  ===========  ========

    Sources: Chen, Fan, Girshick and He, arXiv 2003.04297; Chen et al., ICML 2020, section 2.1 (the authors' program has
    batch norms after both layers, the last without shift); Grill et al., NeurIPS 2020, section 3.2 (their program has
    no bias in the last layer); Chen and He, CVPR 2021, section 3 (the last norm has no scale and shift in their
    program).

    Args:
        in_features: length of the input.
        hidden: widths of the hidden layers; ``[]`` for a linear head.
        out_features: length of the output.
        hidden_norm: batch norm in the hidden layers.
        out_norm: batch norm at the end, see ``OutNorm``.

    Raises:
        ConfigurationError: a width that is not positive, or an unknown ``out_norm``.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        hidden_norm: bool,
        out_norm: OutNorm,
    ) -> None:
        super().__init__()
        widths = [in_features, *hidden, out_features]
        if min(widths) < 1:
            raise ConfigurationError(f"a head of the widths {widths}: all must be at least 1")
        if out_norm not in get_args(OutNorm):
            raise ConfigurationError(f"out_norm is {out_norm!r}: choose 'none', 'affine' or 'plain' (without affine)")
        layers: list[nn.Module] = []
        for width, wider in pairwise(widths[:-1]):
            layers.append(nn.Linear(width, wider, bias=not hidden_norm))
            layers.extend([nn.BatchNorm1d(wider)] if hidden_norm else [])
            layers.append(nn.ReLU())
        layers.append(nn.Linear(widths[-2], out_features, bias=out_norm == "none"))
        if out_norm != "none":
            layers.append(nn.BatchNorm1d(out_features, affine=out_norm == "affine"))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Project.

        Args:
            features: ``[B, in_features]``; more than one sample where a batch norm trains.

        Returns:
            ``[B, out_features]``, not normalised.
        """
        projection: Tensor = self.layers(features)
        return projection
