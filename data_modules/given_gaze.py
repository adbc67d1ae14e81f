"""The gaze that training samples are given, see `gaze_sources`."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from data_modules.film_fits import FilmFits
from data_modules.gaze_sources import GazeSource, GazeWeight, mean_gaze, shuffled_gaze
from gaze_lightning.gaze import Fixations


def given_gaze(
    source: GazeSource,
    gaze: list[Fixations],
    weight: GazeWeight,
    films: npt.NDArray[np.int64],
    fits: FilmFits,
    subjects: Sequence[str],
    seed: int,
    grid: tuple[int, int],
) -> tuple[list[Fixations], GazeWeight]:
    """Exchange or average the gaze of readings in the frame of their films (`FilmFits`).

    Args:
        source: whose gaze readings are given.
        gaze: their own, film pixels.
        weight: what a fixation of it counts for.
        films: number of each reading's film.
        fits: of the films.
        subjects: patient of each reading.
        seed: of the exchange.
        grid: (h, w) of the mean map, cells.

    Returns:
        The gaze of each reading, film pixels, and what a fixation of it counts for.

    Raises:
        DataError: if one patient has more than half of the gaze that is to be exchanged.
    """
    if source == "own":
        return gaze, weight
    sizes = [(int(height), int(width)) for height, width in fits.frame_sizes(films)]
    framed = fits.to_frame(gaze, films)
    if source == "shuffled":
        return fits.from_frame(shuffled_gaze(framed, sizes, subjects, seed), films), weight
    return fits.from_frame(mean_gaze(framed, sizes, weight, grid), films), "duration"
