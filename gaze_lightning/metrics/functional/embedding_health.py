"""How embeddings lie on the unit sphere: whether pairs stay together, and whether all collapse."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 1024
"""Rows of a block of pairwise distances: 32 MB in float64 for 4,096 embeddings."""


def alignment(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance of pairs of L2-normalised embeddings (Wang & Isola 2020, equation 1 with alpha 2).

    Args:
        a: ``[B, D]``.
        b: ``[B, D]``; ``b[i]`` belongs to ``a[i]``.

    Returns:
        A float64 scalar in [0, 4]: 0 where all pairs agree, 2 on average for unrelated ones; NaN without a pair, or
        where a value is not finite. Nothing waits for the device.

    Raises:
        ValueError: the shapes are not one ``[B, D]``.
    """
    if a.shape != b.shape:
        raise ValueError(f"alignment needs pairs, got {tuple(a.shape)} and {tuple(b.shape)}")
    return (_unit(a) - _unit(b)).square().sum(1).mean()


def uniformity(z: Tensor, t: float = 2.0) -> Tensor:
    """Logarithm of the mean Gaussian potential of all distinct pairs (Wang & Isola 2020, equation 2).

    ``log mean_{i < j} exp(-t |z_i - z_j|^2)`` of the L2-normalised embeddings; lower is more even. The paper's code
    leaves out the pairs of an embedding with itself as well. Computed in blocks, memory grows with ``B``, not ``B^2``.

    Args:
        z: ``[B, D]``.
        t: of the Gaussian, positive.

    Returns:
        A float64 scalar in [-4 t, 0]: 0 where all embeddings are the same; NaN for fewer than two.

    Raises:
        ValueError: ``z`` is not a finite ``[B, D]``, or ``t`` not positive.
    """
    if not t > 0:
        raise ValueError(f"t is {t}: it must be positive")
    z = _unit(_checked(z))
    n = len(z)
    if n < 2:
        return z.new_tensor(math.nan)
    squares = z.square().sum(1)  # 1, or 0 of an embedding that is 0
    total = z.new_zeros(())
    for start in range(0, n, _ROWS):
        rows = slice(start, start + _ROWS)
        distance = (squares[rows, None] + squares[None, start:] - 2 * z[rows] @ z[start:].T).clamp(min=0)
        total = total + torch.exp(-t * distance).triu(1).sum()  # the first column is that of the first row
    return (total / (n * (n - 1) / 2)).log()


def embedding_std(z: Tensor) -> Tensor:
    """Spread of the L2-normalised embeddings over their dimensions (Chen & He 2021, section 4.1), times ``sqrt(D)``.

    Args:
        z: ``[B, D]``.

    Returns:
        A float64 scalar, the mean over dimensions of the population standard deviation times ``sqrt(D)``: 0 where all
        embeddings point the same way, 1 where they are spread evenly over the sphere, never more. NaN for fewer than
        two, or where a value is not finite. Nothing waits for the device.

    Raises:
        ValueError: ``z`` is not ``[B, D]``.
    """
    z = _unit(z)
    if len(z) < 2:
        return z.new_tensor(math.nan)
    return z.std(0, correction=0).mean() * math.sqrt(z.shape[1])


def effective_rank(z: Tensor) -> Tensor:
    """Number of dimensions that the embeddings fill (Roy & Vetterli 2007), of the centred embeddings.

    ``exp(-sum_k p_k log p_k)`` with ``p`` the singular values of ``z`` minus its mean, divided by their sum.

    Args:
        z: ``[B, D]``, not normalised here.

    Returns:
        A float64 scalar between 1 and ``min(B - 1, D)``; 0 where all embeddings are the same (up to rounding): they
        fill no dimension. NaN for fewer than two.

    Raises:
        ValueError: ``z`` is not a finite ``[B, D]``.
    """
    z = _checked(z)
    if len(z) < 2:
        return z.new_tensor(math.nan)
    values: Tensor = torch.linalg.svdvals(z - z.mean(0))
    rounding = torch.finfo(z.dtype).eps * max(z.shape) * torch.linalg.matrix_norm(z)
    values = torch.where(values > rounding, values, 0.0)
    total = values.sum()
    share = values / torch.where(total > 0, total, 1.0)
    return torch.where(total > 0, torch.special.entr(share).sum().exp(), 0.0)


def _unit(z: Tensor) -> Tensor:
    """``z`` in float64, each of length one."""
    return F.normalize(_shaped(z), dim=1)


def _shaped(z: Tensor) -> Tensor:
    """``z`` in float64."""
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(f"embeddings must be [B, D], got {tuple(z.shape)}")
    return z.double()


def _checked(z: Tensor) -> Tensor:
    """``z`` in float64, finite; waits for the device."""
    z = _shaped(z)
    bad = ~torch.isfinite(z).all(1)
    if bad.any():
        raise ValueError(f"{int(bad.sum())} of {len(z)} embeddings have NaN or infinite values")
    return z
