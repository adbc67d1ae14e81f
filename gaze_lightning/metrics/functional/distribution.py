"""Saliency metrics that compare a map with a map: CC, KL, SIM.

Every function takes ``[B, h, w]`` maps of one size in any float type, computes in float64 and returns float64 ``[B]``
with NaN where the metric is undefined. NaN or infinite maps are errors. Conventions are those of the MIT saliency
benchmark (Bylinskii et al., "What do different evaluation metrics tell us about saliency models?", TPAMI 2019) where
the docstring says nothing else.
"""

import torch
from torch import Tensor

from gaze_lightning.metrics.functional.checks import map_batch, same_size

KL_EPSILON = 2.2e-16
"""Regularisation of :func:`saliency_kl`, that of the MIT benchmark's code."""


def as_distribution(saliency: Tensor) -> Tensor:
    """Turn maps ``[B, h, w]`` into distributions: non-negative, each summing to 1, float64.

    The minimum is subtracted only where a map has negative values (a CAM), so that a density keeps its zero. A map
    that is constant after that, all zeros included, becomes uniform.

    Raises:
        ValueError: If the shape is not ``[B, h, w]`` or a value is not finite.
    """
    values = map_batch(saliency, "saliency")
    low = values.amin((1, 2), keepdim=True)
    shifted = values - low.clamp(max=0.0)
    peak = shifted.amax((1, 2), keepdim=True)
    shifted = torch.where(peak > 0, shifted / torch.where(peak > 0, peak, 1.0), 1.0)  # no overflow of the sum
    return shifted / shifted.sum((1, 2), keepdim=True)


def correlation_coefficient(pred: Tensor, target: Tensor) -> Tensor:
    """Pearson correlation over the cells of each pair of maps ``[B, h, w]``: ``[B]`` in [-1, 1].

    NaN where one of the maps is constant (all zero included).

    Raises:
        ValueError: If sizes differ or a value is not finite.
    """
    same_size(pred, target, "pred and target")
    (a, flat_a), (b, flat_b) = standardised(pred, "pred"), standardised(target, "target")
    result = (a * b).mean((1, 2)).clamp(-1.0, 1.0)
    return result.masked_fill(flat_a | flat_b, torch.nan)


def saliency_kl(pred: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence KL(target || pred) in nats of each pair of maps ``[B, h, w]``: ``[B]``, best 0.

    ``sum(q * log(eps + q / (p + eps)))`` with q the target, p the prediction, both through :func:`as_distribution`,
    and ``eps`` 2.2e-16 (the MIT variant: finite, up to about 36 nats, where the prediction is zero and the target is
    not). NaN where the target is all zero. A constant prediction is the uniform distribution and stays finite.

    Raises:
        ValueError: If sizes differ or a value is not finite.
    """
    same_size(pred, target, "pred and target")
    p, q = as_distribution(pred), as_distribution(target)
    result = (q * torch.log(KL_EPSILON + q / (p + KL_EPSILON))).sum((1, 2))
    return result.masked_fill(_all_zero(target), torch.nan)


def similarity(pred: Tensor, target: Tensor) -> Tensor:
    """Histogram intersection ``sum(min(p, q))`` of each pair of maps ``[B, h, w]``: ``[B]`` in [0, 1].

    Both maps go through :func:`as_distribution`. NaN where the target is all zero.

    Raises:
        ValueError: If sizes differ or a value is not finite.
    """
    same_size(pred, target, "pred and target")
    result = torch.minimum(as_distribution(pred), as_distribution(target)).sum((1, 2))
    return result.masked_fill(_all_zero(target), torch.nan)


def standardised(values: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Return maps with mean 0 and population standard deviation 1, and bool ``[B]``: true where constant."""
    values = map_batch(values, name)
    constant = values.amax((1, 2)) == values.amin((1, 2))
    centred = values - values.mean((1, 2), keepdim=True)
    peak = centred.abs().amax((1, 2), keepdim=True)
    centred = centred / torch.where(peak > 0, peak, 1.0)  # squares of tiny values would underflow
    deviation = centred.square().mean((1, 2), keepdim=True).sqrt()
    return centred / torch.where(deviation > 0, deviation, 1.0), constant


def _all_zero(values: Tensor) -> Tensor:
    return (values == 0).flatten(1).all(1)
