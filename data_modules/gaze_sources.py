"""Whose gaze a training sample is given: its own, another patient's, or the average (controls, spec/ggcam.md 10)."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from data_modules.announced import announced
from data_modules.errors import DataError
from gaze_lightning.gaze import Fixations, render_saliency

GazeSource = Literal["own", "shuffled", "mean"]
GazeWeight = Literal["duration", "count", "density"]

_REACH = 3.0  # a point further than this many sigmas outside the image shows nothing
_NEGLIGIBLE = 1e-4  # cells of the mean map below this share of its maximum are left out


def shuffled_gaze(
    gaze: Sequence[Fixations], sizes: Sequence[tuple[int, int]], subjects: Sequence[str], seed: int
) -> list[Fixations]:
    """Give every reading that has gaze the gaze of another patient's; readings without gaze stay without.

    Every gaze is used once. Positions and sigmas are carried over as fractions of the film.

    Args:
        gaze: per reading, film pixels.
        sizes: (height, width) of each film, pixels.
        subjects: patient of each reading.
        seed: of the exchange.

    Raises:
        DataError: if one patient has more than half of the gaze, so that no exchange exists.
    """
    donors = exchange([subject if len(own) else None for subject, own in zip(subjects, gaze, strict=True)], seed)
    result = []
    for donor, own, (height, width) in zip(donors, gaze, sizes, strict=True):
        donor_height, donor_width = sizes[donor]
        result.append(gaze[donor].affine(width / donor_width, height / donor_height, 0, 0) if len(own) else own)
    return result


def exchange(subjects: Sequence[str | None], seed: int) -> npt.NDArray[np.int64]:
    """Permutation that gives every reading one of another patient; readings of None keep their own.

    Readings are lined up patient by patient in random order and shifted by the largest patient's number of readings.

    Raises:
        DataError: if one patient has more than half of the readings.
    """
    generator = np.random.default_rng(seed)
    donors = np.arange(len(subjects))
    names = sorted({subject for subject in subjects if subject is not None})
    if not names:
        return donors
    place = dict(zip(names, generator.permutation(len(names)).tolist(), strict=True))
    rows = generator.permutation(np.flatnonzero([subject is not None for subject in subjects]))
    groups = np.array([place[str(subjects[row])] for row in rows])
    line = rows[np.argsort(groups, kind="stable")]
    largest = int(np.bincount(groups).max())
    if 2 * largest > len(line):
        raise DataError(
            f"gaze_source: shuffled needs gaze of other patients, but one patient has {largest} of {len(line)} "
            "readings with gaze."
        )
    donors[line] = np.roll(line, largest)
    return donors


def mean_gaze(
    gaze: Sequence[Fixations], sizes: Sequence[tuple[int, int]], weight: GazeWeight, grid: tuple[int, int]
) -> list[Fixations]:
    """Give every reading that has gaze the mean map of all of them.

    Each cell of `mean_map` becomes one point with a sigma of half a cell, whose duration is the cell's value: render it
    with weight ``duration``.

    Args:
        gaze: per reading, film pixels.
        sizes: (height, width) of each film, pixels.
        weight: what a fixation counts for.
        grid: (h, w) of the mean map, cells.
    """
    total = mean_map(gaze, sizes, weight, grid)
    if total is None:
        return list(gaze)
    rows, columns = grid
    row, column = np.nonzero(total > _NEGLIGIBLE * total.max())
    x, y = column.astype(np.float64) + 0.5, row.astype(np.float64) + 0.5
    half = np.full(len(row), 0.5)
    mean = Fixations(x, y, total[row, column], half, half, np.zeros(len(row)))
    return [
        mean.affine(width / columns, height / rows, 0, 0) if len(own) else own
        for own, (height, width) in zip(gaze, sizes, strict=True)
    ]


def mean_map(
    gaze: Sequence[Fixations], sizes: Sequence[tuple[int, int]], weight: GazeWeight, grid: tuple[int, int]
) -> npt.NDArray[np.float64] | None:
    """Return the mean of the readings' normalised saliency maps in fractions of the film.

    Args:
        gaze: per reading, film pixels; readings of whose gaze nothing falls on the film take no part.
        sizes: (height, width) of each film, pixels.
        weight: what a fixation counts for.
        grid: (h, w) of the map, cells; it covers the film, without any padding.

    Returns:
        ``[h, w]``, sums to 1; None where nobody looked at a film.
    """
    rows, columns = grid
    total = np.zeros(grid)
    having = [(own, film) for own, film in zip(gaze, sizes, strict=True) if len(own)]
    for own, (height, width) in announced(having, len(having), f"The mean map of {len(having):,} readings"):
        cells = own.affine(columns / width, rows / height, 0, 0)
        total += render_saliency(
            cells.x, cells.y, cells.weights(weight), cells.sigma_x, cells.sigma_y, grid, visible=cells.visible
        )
    return total / total.sum() if total.any() else None


def reaches(gaze: Fixations, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Whether points take part in a map ``[n]``: inside, or less than three sigmas outside.

    Args:
        gaze: in the map's own units.
        size: (h, w) of the map.
    """
    reach_x, reach_y = _REACH * gaze.sigma_x, _REACH * gaze.sigma_y
    inside: npt.NDArray[np.bool_] = (
        (gaze.x > -reach_x) & (gaze.x < size[1] + reach_x) & (gaze.y > -reach_y) & (gaze.y < size[0] + reach_y)
    )
    return inside


def gaze_of(sample_ids: Sequence[str], fixations: Mapping[str, Fixations]) -> list[Fixations]:
    """Fixations of each sample; empty where there are none."""
    none = Fixations.empty()
    return [fixations.get(sample_id, none) for sample_id in sample_ids]
