"""What the training films have in common."""

import numpy as np
import numpy.typing as npt
import torch

from data_modules.films.cache import FilmCache
from gaze_lightning.protocols import FilmStatistics

Rows = npt.NDArray[np.int64]

MOST_FILMS = 4096
"""Of more films as many are looked at, evenly spaced in the order of the cache."""

_ROUNDING = 1e-9  # of the mean of equal shares


def evenly_spaced(films: Rows, most: int = MOST_FILMS) -> Rows:
    """Return at most so many of the films, in their order, at distances that differ by at most one."""
    count = min(len(films), most)
    return films[np.arange(count) * len(films) // max(count, 1)]


def film_statistics(cache: FilmCache, films: Rows, boxes: npt.NDArray[np.float64]) -> FilmStatistics:
    """Average films pixel by pixel, in canonical geometry.

    Films are read one by one; sums are of whole numbers and exact. The mean film is that of all films, black padding
    included. The structure is taken over the pixels that at least half of the films cover, and at each of them over the
    films that cover it (half of it, where a film ends within a pixel): padding would pass for structure, as it is black
    in all films and, where films have several shapes, makes the mean film darker the fewer films reach a pixel.

    Args:
        cache: the films.
        films: which of them, at least one.
        boxes: ``[n, 4]``: x0, y0, x1, y1 of these films, canvas pixels; may reach beyond the canvas.

    Returns:
        Their statistics. The structure is zero where no film has any contrast.
    """
    height, width = cache[int(films[0])].shape
    down, across = _covered(boxes[:, 1::2], height), _covered(boxes[:, ::2], width)
    coverage = down.T @ across / len(films)
    least = min(0.5, coverage.max())
    inside = coverage >= least
    total, shown, count = (np.zeros((height, width), dtype=np.int64) for _ in range(3))
    own = []
    for n, film in enumerate(films.tolist()):
        pixels = cache[film]
        there = inside & (np.outer(down[n], across[n]) >= least - _ROUNDING)
        total += pixels
        shown[there] += pixels[there]
        count += there
        if there.any():
            own.append(pixels[there].std(dtype=np.float64))
    mean = total / (255 * len(films))
    structure = float((shown[inside] / count[inside]).std() / np.mean(own)) if any(own) else 0.0
    return FilmStatistics(torch.from_numpy(mean).float(), structure, torch.from_numpy(coverage).float(), len(films))


def _covered(spans: npt.NDArray[np.float64], pixels: int) -> npt.NDArray[np.float64]:
    """Share of each pixel of an axis that lies in each span: ``[n, pixels]`` of ``[n, 2]``."""
    start = np.arange(pixels)
    covered: npt.NDArray[np.float64] = np.minimum(spans[:, 1:], start + 1) - np.maximum(spans[:, :1], start)
    return covered.clip(min=0)
