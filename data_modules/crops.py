"""Random crops that do not lose the gaze."""

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

TRIES = 10
"""So many crops are drawn before there is none."""

_ROUNDING = 1e-9  # of sums of weights


def draw_crop(
    generator: np.random.Generator,
    smallest: float,
    size: tuple[int, int],
    matrix: Matrix,
    corners: Matrix,
    points: Matrix,
    weights: npt.NDArray[np.float64],
    keeps: float,
) -> Matrix | None:
    """Draw a crop of the moved canvas, enlarged to the canvas, that shows the film and keeps its gaze.

    Its share of the area is uniform from ``smallest`` to 1, its place uniform; it has the canvas's shape. The weight of
    gaze is that of the points that lie on the canvas before anything moves; without any, every crop that shows the film
    will do.

    Args:
        generator: gives `TRIES` times three numbers, whatever becomes of them.
        smallest: share of the area.
        size: (H, W) of the canvas, pixels.
        matrix: ``[2, 3]``: the affine that moves film and points before the crop.
        corners: ``[4, 2]``: x, y of the film's corners, canvas pixels, not moved yet.
        points: ``[N, 2]``: x, y of the fixations, canvas pixels, not moved yet.
        weights: ``[N]``: what each counts for.
        keeps: smallest share of the weight that stays on the canvas.

    Returns:
        The affine ``[2, 3]`` of the move and the crop together; None where no crop was found.
    """
    extent = np.array([size[1], size[0]], dtype=np.float64)
    here = _inside(points, extent)
    points, weights = points[here], weights[here]
    for share, *place in generator.random((TRIES, 3)):
        side = np.sqrt(smallest + (1 - smallest) * share)
        start = np.array(place) * extent * (1 - side)
        combined = np.column_stack([matrix[:, :2] / side, (matrix[:, 2] - start) / side])
        film = corners @ combined[:, :2].T + combined[:, 2]
        shows_film = (np.minimum(film.max(axis=0), extent) - np.maximum(film.min(axis=0), 0) >= 1).all()
        kept = weights[_inside(points @ combined[:, :2].T + combined[:, 2], extent)].sum()
        if shows_film and kept >= keeps * weights.sum() * (1 - _ROUNDING):
            return combined
    return None


def _inside(points: Matrix, extent: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether points lie on the canvas, bool ``[N]``."""
    return np.asarray(((points >= 0) & (points < extent)).all(axis=1))
