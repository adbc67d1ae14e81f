"""Image moments: maps compared by shape and size alone."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze.fixations import Fixations
from gaze_lightning.gaze.similarity.gaze_similarity import GazeSimilarity
from gaze_lightning.gaze.similarity.maps import MapWeight, check_weight, constant, finish, small_maps
from gaze_lightning.gaze.similarity.prepared_gaze import PreparedGaze, limits

Array = npt.NDArray[np.float64]


class Moments(GazeSimilarity):
    """Likeness of two image moments of the gaze map; McGIP's measure for images whose place means little.

    With the raw moment ``m = M00`` and the first Hu invariant ``h = (mu20 + mu02) / M00^2`` of the map, maximum 1, and
    the relative difference ``d(a, b) = |a - b| / max(a, b)`` (0 for equal ones)::

        s = 1 - (w_h d(h_i, h_j) + w_m d(m_i, m_j))

    ``m`` carries size, ``h`` shape and number of foci. Where the gaze lies does not matter as long as all of it is on
    the map: on chest films a left and a right lesion are the same. Float64 throughout; blocks are symmetric and do not
    depend on their limits to the last bit.

    Args:
        w_h: weight of the shape; McGIP has 0.5 for mammograms (INbreast), 0.8 for dental films (TDD).
        w_m: weight of the size: 0.5 and 0.2; ``w_h + w_m`` is 1.
        side: height and width of the map in cells; 32 is McGIP's.
        weight: what each fixation counts: ``duration``, ``count`` or ``density``. Our choice; the released code reads
            images. Independent of the maps that training renders: ``data.init_args.gaze_weight`` does not reach this
            measure, so give its weight here as well.

    Raises:
        ConfigurationError: if an argument is out of its range.
    """

    mirror_invariant = True

    def __init__(self, w_h: float = 0.5, w_m: float = 0.5, side: int = 32, weight: MapWeight = "duration") -> None:
        if not min(w_h, w_m) >= 0 or not math.isclose(w_h + w_m, 1.0, abs_tol=1e-6):
            raise ConfigurationError(f"Moments.w_h and w_m must not be negative and sum to 1, got {w_h} and {w_m}")
        if side < 2:
            raise ConfigurationError(f"Moments.side must be at least 2 cells, got {side}")
        check_weight("Moments", weight)
        self.w_h = w_h
        self.w_m = w_m
        self.side = side
        self.weight: MapWeight = weight

    def prepare(self, gaze: Sequence[Fixations], frame: tuple[int, int]) -> "PreparedMoments":
        """Take the moments of all maps; see the base class. Constant maps are not valid.

        Raises:
            ValueError: If the frame has no area.
        """
        maps = small_maps(gaze, frame, (self.side, self.side), self.weight, "max")
        valid = ~constant(maps)
        return PreparedMoments(*hu_and_mass(maps), valid, self.w_h, self.w_m)


class PreparedMoments(PreparedGaze):
    """Two moments per reading.

    Args:
        hu: ``[N]``, first Hu invariant.
        mass: ``[N]``.
        valid: bool ``[N]``.
        w_h: weight of the Hu invariant.
        w_m: weight of the mass.
    """

    def __init__(self, hu: Array, mass: Array, valid: npt.NDArray[np.bool_], w_h: float, w_m: float) -> None:
        super().__init__(valid)
        self._hu, self._mass, self._w_h, self._w_m = hu, mass, w_h, w_m

    def block(self, rows: slice, columns: slice) -> npt.NDArray[np.float32]:
        """Return part of the similarity matrix; see the base class."""
        first, second = limits(rows, len(self)), limits(columns, len(self))
        here, there = slice(*first), slice(*second)
        shape = self._w_h * relative_difference(self._hu[here, None], self._hu[there])
        size = self._w_m * relative_difference(self._mass[here, None], self._mass[there])
        return finish(1.0 - (shape + size), self.valid, first, second)


def hu_and_mass(maps: Array) -> tuple[Array, Array]:
    """Return the first Hu invariant and the mass ``[N]`` of maps ``[N, h, w]``; 0 for a map of zeros."""
    mass = maps.sum(axis=(1, 2))
    divisor = np.where(mass > 0, mass, 1.0)
    second = np.zeros(len(maps))
    for axis in (1, 2):
        profile = maps.sum(axis=3 - axis)
        position = np.arange(maps.shape[axis], dtype=np.float64)
        centre = (profile * position).sum(axis=1) / divisor
        second += (profile * (position - centre[:, None]) ** 2).sum(axis=1)
    return second / divisor**2, mass


def relative_difference(a: Array, b: Array) -> Array:
    """Return ``|a - b| / max(a, b)`` of values that are not negative, broadcast; 0 where they are equal."""
    larger = np.maximum(a, b)
    return np.asarray(np.abs(a - b) / np.where(larger > 0, larger, 1.0))
