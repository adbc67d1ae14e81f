"""Small gaze maps for the measures that compare maps."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze.fixations import Fixations
from gaze_lightning.gaze.saliency import Normalise, render_saliency
from gaze_lightning.gaze.similarity.gaze_similarity import check_frame

Array = npt.NDArray[np.float64]
MapWeight = Literal["duration", "count", "density"]
"""What each fixation's Gaussian is multiplied by, see :meth:`Fixations.weights`."""

FLAT = 1e-9
"""A map whose values differ by less than this part of their maximum is constant: the rest is rounding."""


def small_maps(
    gaze: Sequence[Fixations], frame: tuple[int, int], size: tuple[int, int], weight: MapWeight, normalise: Normalise
) -> Array:
    """Render every reading directly at a small size, with its own sigmas.

    Args:
        gaze: ``N`` readings in pixels of the frame.
        frame: Height and width in pixels.
        size: Height and width of the maps in cells.
        weight: See :data:`MapWeight`.
        normalise: See :func:`render_saliency`.

    Returns:
        float64 ``[N, h, w]``, zero where there is nothing to see.

    Raises:
        ValueError: If the frame has no area.
    """
    check_frame(frame)
    maps = np.zeros((len(gaze), *size))
    for saliency, reading in zip(maps, gaze, strict=True):
        own = reading.affine(size[1] / frame[1], size[0] / frame[0], 0.0, 0.0)
        saliency[:] = render_saliency(
            own.x,
            own.y,
            reading.weights(weight),
            own.sigma_x,
            own.sigma_y,
            size,
            visible=own.visible,
            normalise=normalise,
        )
    return maps


def constant(maps: Array) -> npt.NDArray[np.bool_]:
    """Return bool ``[N]``: whether each map ``[N, h, w]`` is the same everywhere, up to rounding."""
    high, low = maps.max(axis=(1, 2)), maps.min(axis=(1, 2))
    return np.asarray(high - low <= FLAT * high)


def finish(
    similarity: Array, valid: npt.NDArray[np.bool_], rows: tuple[int, int], columns: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Bring a block into its final form: from 0 to 1, 0 where a reading is not valid, 1 on the diagonal.

    Args:
        similarity: float64 ``[r, c]``.
        valid: bool ``[N]``.
        rows: First and last + 1.
        columns: First and last + 1.
    """
    block = np.clip(similarity, 0.0, 1.0).astype(np.float32)
    block[~valid[slice(*rows)]] = 0.0
    block[:, ~valid[slice(*columns)]] = 0.0
    same = np.arange(max(rows[0], columns[0]), max(rows[0], columns[0], min(rows[1], columns[1])))
    block[same - rows[0], same - columns[0]] = 1.0
    return block


def check_weight(owner: str, weight: str) -> None:
    """Refuse an unknown weight of the fixations.

    Raises:
        ConfigurationError: If it is none of :data:`MapWeight`.
    """
    if weight not in get_args(MapWeight):
        raise ConfigurationError(f"{owner}.weight must be one of {', '.join(get_args(MapWeight))}, got {weight!r}")
