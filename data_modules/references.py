"""What a predicted map is compared with in evaluation: the mean training map and the film's other readers."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_modules.training_mean import MeanMap
from gaze_lightning.gaze import Fixations, render_saliency_batch

Rows = npt.NDArray[np.int64]


def readings_of_films(films: Rows, with_gaze: npt.NDArray[np.bool_]) -> dict[int, list[int]]:
    """Return the readings with gaze of the films that have several.

    Args:
        films: film of each reading ``[n]``.
        with_gaze: the readings that are in use and have gaze ``[n]``.

    Returns:
        Film -> indices of its readings, ascending; films with fewer than two are absent.
    """
    readings: dict[int, list[int]] = {}
    for row in np.flatnonzero(with_gaze).tolist():
        readings.setdefault(int(films[row]), []).append(row)
    return {film: rows for film, rows in readings.items() if len(rows) > 1}


def other_gaze(
    rows: Rows, films: Rows, readings: Mapping[int, Sequence[int]], gaze: Sequence[Fixations]
) -> dict[int, dict[int, Fixations]]:
    """Return the gaze of the other readings of each reading's film.

    Args:
        rows: readings of a data set, as indices of all readings.
        films: film of each of all readings.
        readings: see `readings_of_films`.
        gaze: of all readings, film pixels.

    Returns:
        Index within the data set -> the others, as indices of all readings, with their fixations; readings without
        others are absent.
    """
    others = {
        index: {other: gaze[other] for other in readings[int(films[row])] if other != row}
        for index, row in enumerate(rows.tolist())
        if int(films[row]) in readings
    }
    return {index: found for index, found in others.items() if found}


def place_on_films(mean: MeanMap, film_box: Tensor, canvas: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Place a map on films that are padded, by exact area interpolation, and normalise what lies on the canvas.

    A map of the canvas (films are aligned there) is the same for all films, wherever they lie.

    Args:
        mean: in fractions of the film, or of the canvas.
        film_box: ``[B, 4]``: x0, y0, x1, y1 of the films, pixels of ``canvas``.
        canvas: (H, W) of the padded image, pixels.
        size: (h, w) of the result, cells; it covers the canvas.

    Returns:
        float32 ``[B, 1, h, w]``; sums to 1, all zero where nothing of the map lies on the canvas.
    """
    box = film_box.double()
    if mean.on_canvas:
        box = box.new_tensor([0.0, 0.0, canvas[1], canvas[0]]).expand(len(box), 4)
    x0, y0, x1, y1 = box.unbind(1)
    down, across = mean.margin_y * (y1 - y0), mean.margin_x * (x1 - x0)
    per_row, per_column = size[0] / canvas[0], size[1] / canvas[1]
    rows = _shares((y0 - down) * per_row, (y1 + down) * per_row, mean.values.shape[0], size[0])
    columns = _shares((x0 - across) * per_column, (x1 + across) * per_column, mean.values.shape[1], size[1])
    placed: Tensor = rows @ mean.values.double() @ columns.mT
    total = placed.sum(dim=(1, 2), keepdim=True)
    return (placed / torch.where(total > 0, total, 1.0))[:, None].float()


def _shares(low: Tensor, high: Tensor, parts: int, cells: int) -> Tensor:
    """Share of each of equal parts of [low, high] that lies in each cell, ``[B, cells, parts]``."""
    steps = torch.arange(parts + 1, dtype=low.dtype, device=low.device) / parts
    edges = (low[:, None] + (high - low)[:, None] * steps)[:, None]
    cell = torch.arange(cells, dtype=low.dtype, device=low.device)[:, None]
    covered = torch.minimum(edges[..., 1:], cell + 1) - torch.maximum(edges[..., :-1], cell)
    return covered.clamp(min=0) * (parts / (high - low))[:, None, None]


def mean_of_others(
    points: Tensor,
    mask: Tensor,
    visible: Tensor | None,
    belongs: Tensor,
    size: tuple[int, int],
    canvas: tuple[int, int],
) -> Tensor:
    """Render other readings of the samples' films and average their normalised maps for each sample.

    As many readings are rendered at once as there are samples, so that it needs no more memory than the own maps.

    Args:
        points: ``[M, N, 5]``: x, y, weight, sigma_x, sigma_y of the readings, pixels of ``canvas``.
        mask: bool ``[M, N]``, false where ``points`` is padding.
        visible: ``[M, N, 4]`` or None, as in `render_saliency_batch`.
        belongs: bool ``[B, M]``, whether a reading counts for a sample.
        size: (h, w) of the maps, cells.
        canvas: (H, W) of the image, pixels.

    Returns:
        ``[B, 1, h, w]``; sums to 1, all zero for samples of whose film no other reading shows anything.
    """
    total = points.new_zeros(len(belongs), size[0] * size[1], dtype=torch.float64)
    count = total.new_zeros(len(belongs), 1)
    step = max(1, len(belongs))
    for start in range(0, len(points), step):
        here = slice(start, start + step)
        shown = None if visible is None else visible[here]
        maps = render_saliency_batch(points[here], mask[here], size, canvas=canvas, visible=shown).flatten(1).double()
        share = belongs[:, here].double()
        total += share @ maps
        count += share @ (maps.sum(dim=1, keepdim=True) > 0).double()
    return (total / count.clamp(min=1)).view(-1, 1, *size).to(points.dtype)
