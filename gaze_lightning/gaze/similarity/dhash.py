"""dHash: bits of where the gaze map falls, compared by cosine."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze.fixations import Fixations
from gaze_lightning.gaze.similarity.gaze_similarity import GazeSimilarity
from gaze_lightning.gaze.similarity.maps import MapWeight, check_weight, finish, small_maps
from gaze_lightning.gaze.similarity.prepared_gaze import PreparedGaze, limits

Array = npt.NDArray[np.float64]

SHORT, LONG = 8, 9
"""Bits along an axis, and the cells that they take."""


class DHash(GazeSimilarity):
    """Cosine of difference hashes; McGIP's measure for structured images with heat maps.

    The map is rendered at 8 x 9 cells; a bit is set where a cell exceeds its right neighbour. The similarity is the
    cosine of the 64 bits, which depends on where the gaze lies. Maps are compared in floating point, not at the 256
    levels of a stored image. A reading without any set bit (no gaze, a constant map, one that only rises) is not valid.

    Bits are counted exactly, so blocks are symmetric and do not depend on their limits to the last bit.

    Args:
        hamming: share of equal bits instead of the cosine.
        both_axes: 64 further bits where a cell exceeds the one below it, of a map of 9 x 8 cells.
        tolerance: a cell must exceed its neighbour by more than this part of the map's maximum. Our choice: 1 / 255,
            the step of an 8-bit map, on which the background is constant and gives no bits. At 0 the tail of a
            Gaussian, however small, sets all bits up to the right border, and a map and its mirror image have those
            in common.
        weight: what each fixation counts: ``duration``, ``count`` or ``density``. Our choice; the released code reads
            images. Independent of the maps that training renders: ``data.init_args.gaze_weight`` does not reach this
            measure, so give its weight here as well.

    Raises:
        ConfigurationError: if an argument is out of its range.
    """

    def __init__(
        self,
        hamming: bool = False,
        both_axes: bool = False,
        tolerance: float = 1 / 255,
        weight: MapWeight = "duration",
    ) -> None:
        if not 0 <= tolerance < 1:
            raise ConfigurationError(f"DHash.tolerance must be from 0 to below 1, got {tolerance}")
        check_weight("DHash", weight)
        self.hamming = hamming
        self.both_axes = both_axes
        self.tolerance = tolerance
        self.weight: MapWeight = weight

    def prepare(self, gaze: Sequence[Fixations], frame: tuple[int, int]) -> "PreparedDHash":
        """Take the bits of all maps; see the base class.

        Raises:
            ValueError: If the frame has no area.
        """
        bits = falling(small_maps(gaze, frame, (SHORT, LONG), self.weight, "max"), 2, self.tolerance)
        if self.both_axes:
            down = falling(small_maps(gaze, frame, (LONG, SHORT), self.weight, "max"), 1, self.tolerance)
            bits = np.concatenate([bits, down], axis=1)
        return PreparedDHash(bits, self.hamming)


class PreparedDHash(PreparedGaze):
    """Hashes of all readings.

    Args:
        bits: bool ``[N, n]``.
        hamming: see :class:`DHash`.
    """

    def __init__(self, bits: npt.NDArray[np.bool_], hamming: bool) -> None:
        super().__init__(np.asarray(bits.any(axis=1)))
        self._bits = bits.astype(np.float64)
        self._set = self._bits.sum(axis=1)
        self._hamming = hamming

    def block(self, rows: slice, columns: slice) -> npt.NDArray[np.float32]:
        """Return part of the similarity matrix; see the base class."""
        first, second = limits(rows, len(self)), limits(columns, len(self))
        here, there = slice(*first), slice(*second)
        both = self._bits[here] @ self._bits[there].T
        if self._hamming:
            different = self._set[here, None] + self._set[there] - 2 * both
            return finish(1.0 - different / self._bits.shape[1], self.valid, first, second)
        length = np.sqrt(self._set[here, None] * self._set[there])
        return finish(both / np.maximum(length, 1.0), self.valid, first, second)


def falling(maps: Array, axis: int, tolerance: float) -> npt.NDArray[np.bool_]:
    """Return bool ``[N, n]``: where maps ``[N, h, w]`` of maximum 1 fall to the next cell along an axis."""
    return np.asarray((-np.diff(maps, axis=axis) > tolerance).reshape(len(maps), SHORT * SHORT))
