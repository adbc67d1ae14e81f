"""What the training films have in common."""

import numpy as np
import numpy.typing as npt
import torch

from data_modules.films.cache import FilmCache
from gaze_lightning.protocols import FilmStatistics

Rows = npt.NDArray[np.int64]

MOST_FILMS = 4096
"""Of more films as many are looked at, evenly spaced in the order of the cache."""


def evenly_spaced(films: Rows, most: int = MOST_FILMS) -> Rows:
    """Return at most so many of the films, in their order, at distances that differ by at most one."""
    count = min(len(films), most)
    return films[np.arange(count) * len(films) // max(count, 1)]


def film_statistics(cache: FilmCache, films: Rows, boxes: npt.NDArray[np.float64]) -> FilmStatistics:
    """Average films pixel by pixel, in canonical geometry.

    Films are read one by one; sums are of whole numbers and exact. The structure is taken over the pixels that at least
    half of the films cover: the padding, which is black in all films, would pass for structure.

    Args:
        cache: the films.
        films: which of them, at least one.
        boxes: ``[n, 4]``: x0, y0, x1, y1 of these films, canvas pixels; may reach beyond the canvas.

    Returns:
        Their statistics. The structure is zero where no film has any contrast.
    """
    height, width = cache[int(films[0])].shape
    coverage = _covered(boxes[:, 1::2], height).T @ _covered(boxes[:, ::2], width) / len(films)
    inside = coverage >= min(0.5, coverage.max())
    total = np.zeros((height, width), dtype=np.int64)
    own = np.zeros(len(films))
    for n, film in enumerate(films.tolist()):
        pixels = cache[film]
        total += pixels
        own[n] = pixels[inside].std(dtype=np.float64)
    mean = total / (255 * len(films))
    structure = float(255 * mean[inside].std() / own.mean()) if own.any() else 0.0
    return FilmStatistics(torch.from_numpy(mean).float(), structure, torch.from_numpy(coverage).float(), len(films))


def _covered(spans: npt.NDArray[np.float64], pixels: int) -> npt.NDArray[np.float64]:
    """Share of each pixel of an axis that lies in each span: ``[n, pixels]`` of ``[n, 2]``."""
    start = np.arange(pixels)
    covered: npt.NDArray[np.float64] = np.minimum(spans[:, 1:], start + 1) - np.maximum(spans[:, :1], start)
    return covered.clip(min=0)
