"""The mean map of the training readings, on the film and around it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_modules.announced import announced
from data_modules.film_fits import FilmFits
from data_modules.gaze_sources import GazeWeight, reaches
from gaze_lightning.gaze import Fixations, render_saliency

Array = npt.NDArray[np.float64]

WIDEST = 1.0
"""The map goes on for at most this many heights (widths) of the film on each side: 20 sigma of 5 % of the film."""

_KNOTS_PER_SIGMA = 2  # see `_Axis`
_KNOTS_AROUND = 12
_TINY = 1e-300


class MeanMap(NamedTuple):
    """A map in fractions of the film that goes on beyond it on all sides, or one of the whole canvas."""

    values: Tensor
    """float32 ``[h, w]``, sums to 1."""
    margin_y: float
    """What the map covers above the film, and below it, in heights of the film."""
    margin_x: float
    """What it covers on the left, and on the right, in widths of the film."""
    on_canvas: bool = False
    """Whether it is one of the canvas, for films that are aligned there; then the margins are zero."""


class TrainingMean:
    """The mean of the training readings' maps, made when it is first asked for.

    The maps are those of evaluation: normalised, rendered with their tails into the padding around the film, from the
    points that reach the map (`reaches`). Positions and sigmas are fractions of the film, or, where films are aligned
    on the canvas, of the canvas: read canvas for film then.

    Args:
        gaze: of the training readings, film pixels; those without gaze are not kept.
        sizes: ``[n, 2]``: height and width of their films, pixels.
        weight: what a fixation counts for.
        grid: (h, w) of the film alone, cells.
        margin: what is needed around the film, in its heights and widths (`largest_padding`).
        on_canvas: whether gaze is given on the canvas, with its size as ``sizes``.
    """

    def __init__(
        self,
        gaze: Sequence[Fixations],
        sizes: npt.NDArray[np.integer],
        weight: GazeWeight,
        grid: tuple[int, int],
        margin: tuple[float, float],
        on_canvas: bool = False,
    ) -> None:
        having = [n for n, own in enumerate(gaze) if len(own)]
        self.gaze = [gaze[n] for n in having]
        """What the map is still to be made of; empty as soon as it is made."""
        self._sizes, self._weight, self._grid, self._margin = sizes[having], weight, grid, margin
        self._on_canvas = on_canvas

    @classmethod
    def of(
        cls,
        gaze: Sequence[Fixations],
        films: npt.NDArray[np.int64],
        padded: npt.NDArray[np.int64],
        fits: FilmFits,
        weight: GazeWeight,
        grid: tuple[int, int],
    ) -> Self:
        """Of gaze on these films, film pixels; the map goes on as far as the films ``padded`` are padded."""
        margin = largest_padding(fits.frame_sizes(padded), fits.canvas)
        return cls(fits.to_frame(gaze, films), fits.frame_sizes(films), weight, grid, margin, fits.aligned)

    @cached_property
    def map(self) -> MeanMap | None:
        """The map; None where no training reading has gaze."""
        (rows, columns), (margin_y, margin_x) = self._grid, self._margin
        above, left = (math.ceil(share * n - 1e-6) for share, n in ((margin_y, rows), (margin_x, columns)))
        mean = mean_of_maps(self.gaze, self._sizes, self._weight, self._grid, (above, left))
        self.gaze, self._sizes = [], self._sizes[:0]
        if mean is None:
            return None
        return MeanMap(torch.from_numpy(mean).float(), above / rows, left / columns, self._on_canvas)


def largest_padding(sizes: npt.NDArray[np.integer], canvas: tuple[int, int]) -> tuple[float, float]:
    """Return the largest padding of films on one side, in heights and widths of the film, at most `WIDEST`.

    Args:
        sizes: ``[n, 2]``: height and width of the films, pixels.
        canvas: (H, W) into which they are fitted, pixels.
    """
    if not len(sizes):
        return 0.0, 0.0
    per_film = np.array(canvas) / sizes
    padding = (per_film / per_film.min(axis=1, keepdims=True) - 1) / 2
    down, across = np.minimum(padding.max(axis=0), WIDEST).tolist()
    return down, across


def mean_of_maps(
    gaze: Sequence[Fixations],
    sizes: npt.NDArray[np.integer],
    weight: GazeWeight,
    grid: tuple[int, int],
    around: tuple[int, int],
) -> Array | None:
    """Return the mean of the readings' normalised maps, in fractions of the film.

    Where all Gaussians are wide they are not rendered cell by cell: the mean is made on a coarse grid and spread out
    once (`_Axis`), which changes a value by about 1e-6 of itself.

    Args:
        gaze: of readings that have some, film pixels; those that show nothing take no part.
        sizes: ``[n, 2]``: height and width of their films, pixels.
        weight: what a fixation counts for.
        grid: (h, w) of the film, cells.
        around: cells above and below the film, and on its left and right.

    Returns:
        ``[h + 2 above, w + 2 left]``, sums to 1; None where no reading shows anything.
    """
    size = (grid[0] + 2 * around[0], grid[1] + 2 * around[1])
    scales = np.array(grid) / sizes
    axes = _coarse_axes(gaze, scales, size)
    total = np.zeros(size if axes is None else (len(axes[0].knots), len(axes[1].knots)))
    readings = zip(gaze, scales.tolist(), strict=True)
    for own, (down, across) in announced(readings, len(gaze), f"The mean map of {len(gaze):,} training readings"):
        placed = own.affine(across, down, around[1], around[0])
        placed = placed.select(reaches(placed, size))
        total += _on_cells(placed, weight, size) if axes is None else _on_knots(placed, weight, *axes)
    if axes is not None:
        total = axes[0].spread @ total @ axes[1].spread.T
    return total / total.sum() if total.any() else None


@dataclass(frozen=True)
class _Axis:
    """One axis of a coarse grid on which wide Gaussians are summed before they are spread over the cells.

    A Gaussian of variance ``s^2`` is one of ``s^2 - b^2`` convolved with one of ``b^2``. With the convolution as a sum
    over knots at a distance of ``d``, by Poisson's formula every value is right up to a factor of
    ``1 +- 2 exp(-2 pi^2 v / d^2)``, where ``v = b^2 (s^2 - b^2) / s^2``. With ``b^2`` half of the narrowest variance
    and ``d`` half of the narrowest sigma, ``v`` is at least ``d^2`` and the error 5e-9 per axis, in the tails as well.
    """

    knots: Array
    """Positions ``[k]``, cells."""
    blur: float
    """``b``, cells."""
    spread: Array
    """``[cells, k]``: what a knot gives to the centre of each cell."""

    @classmethod
    def of(cls, narrowest: float, cells: int) -> Self:
        """Choose the knots for Gaussians of at least ``narrowest`` cells on an axis of so many cells."""
        step, blur = narrowest / _KNOTS_PER_SIGMA, narrowest / math.sqrt(2)
        knots: Array = step * np.arange(-_KNOTS_AROUND, math.ceil(cells / step) + _KNOTS_AROUND + 1, dtype=np.float64)
        spread = np.exp(-0.5 * ((np.arange(cells)[:, None] + 0.5 - knots) / blur) ** 2)
        return cls(knots, blur, spread)

    def profile(self, position: Array, sigma: Array) -> npt.NDArray[np.float32]:
        """What each point ``[n]`` gives to the knots ``[n, k]``; spread, they are Gaussians of one height.

        In float32, three times as fast: a value is off by up to 1e-5 of itself, and zero below 1e-38 of the height.
        """
        rest = np.sqrt(sigma**2 - self.blur**2)
        profile = self.knots.astype(np.float32) - position.astype(np.float32)[:, None]
        profile *= profile
        profile *= (-0.5 / rest**2).astype(np.float32)[:, None]
        np.exp(profile, out=profile)
        profile *= (sigma / rest).astype(np.float32)[:, None]
        return profile


def _coarse_axes(gaze: Sequence[Fixations], scales: Array, size: tuple[int, int]) -> tuple[_Axis, _Axis] | None:
    """Axes of a grid of less than half the cells; None where Gaussians are too narrow, or cut by what was visible."""
    if not gaze or any(own.visible is not None for own in gaze):
        return None
    narrowest = (np.array([(own.sigma_y.min(), own.sigma_x.min()) for own in gaze]) * scales).min(axis=0)
    if narrowest.min() < 1:  # they would be integrated over their cells
        return None
    knots = np.array(size) * _KNOTS_PER_SIGMA / narrowest + 2 * _KNOTS_AROUND
    if knots.prod() > math.prod(size) / 2:
        return None
    return _Axis.of(float(narrowest[0]), size[0]), _Axis.of(float(narrowest[1]), size[1])


def _on_cells(own: Fixations, weight: GazeWeight, size: tuple[int, int]) -> Array:
    """The normalised map of one reading, in map cells."""
    return render_saliency(own.x, own.y, own.weights(weight), own.sigma_x, own.sigma_y, size, visible=own.visible)


def _on_knots(own: Fixations, weight: GazeWeight, down: _Axis, across: _Axis) -> Array:
    """The same on the coarse grid, to be spread."""
    if not len(own):
        return np.zeros((len(down.knots), len(across.knots)))
    weights = own.weights(weight)
    rows = down.profile(own.y, own.sigma_y) * (weights / max(weights.max(), _TINY)).astype(np.float32)[:, None]
    coarse: Array = (rows.T @ across.profile(own.x, own.sigma_x)).astype(np.float64)
    mass = down.spread.sum(axis=0) @ coarse @ across.spread.sum(axis=0)
    return coarse / mass if mass > 0 else coarse
