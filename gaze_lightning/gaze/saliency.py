"""Gaussian saliency maps of fixations as one small matrix product.

A Gaussian without rotation is the outer product of two profiles, so a weighted sum of N of them is
``Gy.T @ diag(w) @ Gx`` with profiles ``Gx [N, w]`` and ``Gy [N, h]``: exact, sub-pixel, no truncation, a sigma per
fixation and axis. The border is zero: mass outside the map is lost before the normalisation, not folded back.

Coordinates are map cells: cell ``k`` covers ``[k, k + 1)`` and its centre lies at ``k + 0.5``.
"""

import math
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtr
from torch import Tensor

Sampling = Literal["auto", "point", "cell"]
Normalise = Literal["sum", "max", "none"]
Array = npt.NDArray[np.float64]

EGD_SIGMA_PX = 150.0
"""Sigma of the EyeGaze (EGD-CXR) authors' static heat maps, in pixels of the original film; each fixation weighs 1."""

REFLACX_SIGMA_DEGREES = 1.0
"""Sigma of the REFLACX authors' heat maps, in degrees of visual angle; the tables give pixels per degree and axis for
every fixation. Weights are seconds, Gaussians are densities clipped to the part of the film that was shown."""

_ROOT_TWO_PI = math.sqrt(2.0 * math.pi)
_NOTHING = 1e-200
"""A map whose sum or maximum is below this counts as empty: dividing by it would amplify rounding noise."""


def scaled_sigma(height: npt.ArrayLike, width: npt.ArrayLike) -> Array:
    """Return the sigma of MT-UNet and GG-CAM in pixels of films of any size and shape.

    The papers take 75.5 px (OpenCV's default for a 501-pixel kernel) on films padded to a canvas of 3,072 lines and
    2,560 columns: 2.5 % of the height of the film padded to 6:5.

    Args:
        height: Heights of the films, pixels, of any shape.
        width: Widths of the films, pixels; broadcast against ``height``.

    Raises:
        ValueError: If a size is not positive and finite.
    """
    sides = np.broadcast_arrays(np.asarray(height, dtype=np.float64), np.asarray(width, dtype=np.float64))
    if not all((np.isfinite(side) & (side > 0)).all() for side in sides):
        raise ValueError("scaled_sigma needs positive, finite heights and widths")
    return np.asarray(75.5 / 3072 * np.maximum(sides[0], 1.2 * sides[1]))


def render_saliency(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    weight: npt.ArrayLike,
    sigma_x: npt.ArrayLike,
    sigma_y: npt.ArrayLike,
    size: tuple[int, int],
    *,
    visible: npt.ArrayLike | None = None,
    sampling: Sampling = "auto",
    density: bool = False,
    normalise: Normalise = "sum",
) -> Array:
    """Render one reading into a map, in float64.

    Args:
        x: Horizontal positions ``[N]`` in map cells.
        y: Vertical positions ``[N]`` in map cells.
        weight: Weights ``[N]``, not negative (seconds, or ones).
        sigma_x: Horizontal standard deviations ``[N]`` in map cells, positive.
        sigma_y: Vertical standard deviations ``[N]`` in map cells, positive.
        size: Height and width of the map in cells.
        visible: ``[N, 4]`` rectangles x0, y0, x1, y1 in map cells to which each Gaussian is confined. Point sampling
            keeps the cells whose centre lies in the closed rectangle, the cell integral clips its limits. A rectangle
            without area shows nothing.
        sampling: ``point`` evaluates the Gaussian at cell centres; ``cell`` integrates it over each cell; ``auto``
            integrates, per point and axis, where sigma is below one cell (point sampling errs by 1.4 % per axis at
            0.5 cells and 38 % at 0.29) and samples elsewhere.
        density: False: every Gaussian has height one (the cell integral is divided by the density's height).
            True: every Gaussian has mass one, so wide ones are low.
        normalise: ``sum``: the map sums to 1; ``max``: its maximum is 1; ``none``: as rendered.

    Returns:
        ``[h, w]``, non-negative; all zero where there is no point, weight or visible part.

    Raises:
        ValueError: If lengths differ, a value is not finite, a sigma is not positive, a weight is negative, or an
            option is unknown.
    """
    _check_options(size, sampling, normalise)
    points = [np.asarray(values, dtype=np.float64) for values in (x, y, weight, sigma_x, sigma_y)]
    shapes = [values.shape for values in points]
    if len(set(shapes)) != 1 or points[0].ndim != 1:
        raise ValueError(f"x, y, weight, sigma_x, sigma_y must all be [N], got {shapes}")
    px, py, pw, sx, sy = points
    if not (np.isfinite(points).all() and (pw >= 0).all() and (sx > 0).all() and (sy > 0).all()):
        raise ValueError("fixations must be finite with positive sigma and non-negative weight")
    shown_x = shown_y = None
    if visible is not None:
        shown = np.asarray(visible, dtype=np.float64)
        if shown.shape != (len(px), 4) or not np.isfinite(shown).all():
            raise ValueError(f"visible must be finite with shape {(len(px), 4)}, got {shown.shape}")
        shown_x, shown_y = shown[:, 0::2], shown[:, 1::2]
    gx = _profile(px, sx, size[1], shown_x, sampling, density)
    gy = _profile(py, sy, size[0], shown_y, sampling, density)
    if normalise == "sum":  # the sum of the map follows from the profiles: no pass over the map is needed
        total = float(pw @ ((gx @ np.ones(size[1])) * (gy @ np.ones(size[0]))))
        pw = pw / total if total > _NOTHING else np.zeros_like(pw)
    gy *= pw[:, None]
    saliency: Array = gy.T @ gx
    if normalise == "max":
        peak = saliency.max()
        saliency = saliency / peak if peak > _NOTHING else np.zeros_like(saliency)
    return saliency


def render_saliency_batch(
    fixations: Tensor,
    mask: Tensor,
    size: tuple[int, int],
    *,
    canvas: tuple[int, int] | None = None,
    visible: Tensor | None = None,
    sampling: Sampling = "auto",
    density: bool = False,
    normalise: Normalise = "sum",
) -> Tensor:
    """Render a batch of readings, on any device and differentiably; equal to :func:`render_saliency`.

    It computes in float64 (positions of a few hundred cells have too few float32 digits for small sigmas, and autocast
    and TF32 would round the product) and returns the dtype of ``fixations``. Values behind ``mask`` are ignored, NaN
    included. Points that count must be finite with positive sigma: readers guarantee it, nothing is checked here, so
    that no device synchronisation is needed.

    Args:
        fixations: ``[B, N, 5]``: x, y, weight, sigma_x, sigma_y; positions and sigmas in pixels of ``canvas``.
        mask: bool ``[B, N]``, true where ``fixations`` holds a point.
        size: Height and width ``(h, w)`` of the map in cells.
        canvas: Height and width ``(H, W)`` of the image to which the positions refer; ``size`` by default.
        visible: ``[B, N, 4]`` rectangles x0, y0, x1, y1 in pixels of ``canvas``, as in :func:`render_saliency`.
        sampling: As in :func:`render_saliency`; sigma is compared with one cell of the map.
        density: As in :func:`render_saliency`.
        normalise: As in :func:`render_saliency`, per sample.

    Returns:
        ``[B, 1, h, w]``, non-negative; all zero for samples without a point, weight or visible part.

    Raises:
        ValueError: If shapes do not fit together or an option is unknown.
    """
    _check_options(size, sampling, normalise)
    if fixations.ndim != 3 or fixations.shape[-1] != 5 or mask.shape != fixations.shape[:2]:
        raise ValueError(f"expected [B, N, 5] and [B, N], got {tuple(fixations.shape)} and {tuple(mask.shape)}")
    if visible is not None and visible.shape != (*mask.shape, 4):
        raise ValueError(f"visible must have shape {(*mask.shape, 4)}, got {tuple(visible.shape)}")
    height, width = canvas or size
    cells_x, cells_y = size[1] / width, size[0] / height
    harmless = fixations.new_tensor([0.0, 0.0, 0.0, 1.0, 1.0])
    x, y, weight, sigma_x, sigma_y = torch.where(mask.bool()[..., None], fixations, harmless).double().unbind(-1)
    shown_x = shown_y = None
    if visible is not None:
        shown = visible.double().masked_fill(~mask.bool()[..., None], 0.0)
        shown_x, shown_y = shown[..., 0::2] * cells_x, shown[..., 1::2] * cells_y
    gx = _profile_batch(x * cells_x, sigma_x * cells_x, size[1], shown_x, sampling, density)
    gy = _profile_batch(y * cells_y, sigma_y * cells_y, size[0], shown_y, sampling, density)
    if normalise == "sum":
        total = (weight * gx.sum(-1) * gy.sum(-1)).sum(-1, keepdim=True)
        weight = weight * (total > _NOTHING) / torch.where(total > _NOTHING, total, 1.0)
    saliency = torch.bmm((gy * weight[..., None]).mT, gx)
    if normalise == "max":
        peak = saliency.amax((-2, -1), keepdim=True)
        saliency = saliency * (peak > _NOTHING) / torch.where(peak > _NOTHING, peak, 1.0)
    return saliency[:, None].to(fixations.dtype)


def _check_options(size: tuple[int, int], sampling: str, normalise: str) -> None:
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be a positive height and width, got {size}")
    if sampling not in get_args(Sampling):
        raise ValueError(f"unknown sampling {sampling!r}: choose from {get_args(Sampling)}")
    if normalise not in get_args(Normalise):
        raise ValueError(f"unknown normalise {normalise!r}: choose from {get_args(Normalise)}")


def _profile(
    position: Array, sigma: Array, length: int, shown: Array | None, sampling: Sampling, density: bool
) -> Array:
    """One axis of every Gaussian, ``[N, length]``."""
    if sampling == "point":
        return _point_profile(position, sigma, length, shown, density)
    if sampling == "cell":
        return _cell_profile(position, sigma, length, shown, density)
    narrow = sigma < 1.0
    if not narrow.any():
        return _point_profile(position, sigma, length, shown, density)
    profile = np.empty((len(position), length))
    for rows, rule in ((narrow, _cell_profile), (~narrow, _point_profile)):
        profile[rows] = rule(position[rows], sigma[rows], length, None if shown is None else shown[rows], density)
    return profile


def _point_profile(position: Array, sigma: Array, length: int, shown: Array | None, density: bool) -> Array:
    centres = np.arange(length) + 0.5
    profile = centres - position[:, None]
    profile *= profile
    profile *= (-0.5 / (sigma * sigma))[:, None]
    np.exp(profile, out=profile)
    if shown is not None:
        low, high = shown[:, :1], shown[:, 1:]
        profile *= (centres >= low) & (centres <= high) & (low < high)
    if density:
        profile /= (_ROOT_TWO_PI * sigma)[:, None]
    return profile


def _cell_profile(position: Array, sigma: Array, length: int, shown: Array | None, density: bool) -> Array:
    edges = np.arange(length + 1.0)[None]
    if shown is not None:
        edges = np.clip(edges, shown[:, :1], np.maximum(shown[:, :1], shown[:, 1:]))
    mass: Array = np.diff(ndtr((edges - position[:, None]) / sigma[:, None]), axis=1)
    return mass if density else mass * (_ROOT_TWO_PI * sigma)[:, None]


def _profile_batch(
    position: Tensor, sigma: Tensor, length: int, shown: Tensor | None, sampling: Sampling, density: bool
) -> Tensor:
    """One axis of every Gaussian, ``[B, N, length]``; computes both rules for ``auto`` to avoid a synchronisation."""
    position, sigma = position[..., None], sigma[..., None]
    if sampling == "point":
        return _point_profile_batch(position, sigma, length, shown, density)
    if sampling == "cell":
        return _cell_profile_batch(position, sigma, length, shown, density)
    return torch.where(
        sigma < 1.0,
        _cell_profile_batch(position, sigma, length, shown, density),
        _point_profile_batch(position, sigma, length, shown, density),
    )


def _point_profile_batch(position: Tensor, sigma: Tensor, length: int, shown: Tensor | None, density: bool) -> Tensor:
    centres = torch.arange(length, device=position.device, dtype=position.dtype) + 0.5
    profile = torch.exp(-0.5 * ((centres - position) / sigma).square())
    if shown is not None:
        low, high = shown[..., :1], shown[..., 1:]
        profile = profile * ((centres >= low) & (centres <= high) & (low < high))
    return profile / (_ROOT_TWO_PI * sigma) if density else profile


def _cell_profile_batch(position: Tensor, sigma: Tensor, length: int, shown: Tensor | None, density: bool) -> Tensor:
    edges = torch.arange(length + 1, device=position.device, dtype=position.dtype)
    if shown is not None:
        low = shown[..., :1]
        edges = torch.minimum(torch.maximum(edges, low), torch.maximum(low, shown[..., 1:]))
    mass: Tensor = torch.special.ndtr((edges - position) / sigma).diff(dim=-1)
    return mass if density else mass * (_ROOT_TWO_PI * sigma)
