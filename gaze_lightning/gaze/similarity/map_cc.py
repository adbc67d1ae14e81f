"""Correlation of gaze maps: where on the anatomy the gaze lies."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze.fixations import Fixations
from gaze_lightning.gaze.similarity.gaze_similarity import GazeSimilarity
from gaze_lightning.gaze.similarity.maps import FLAT, MapWeight, check_weight, constant, finish, small_maps
from gaze_lightning.gaze.similarity.prepared_gaze import PreparedGaze, limits

Array = npt.NDArray[np.float64]

_GRID = 2.0**26
"""Standardised maps are rounded to multiples of 2^-26. Products are then multiples of 2^-52 and no partial sum of a
correlation exceeds 1 by much, so a matrix product is exact in float64, whatever the order in which it adds: entries do
not depend on the limits of the block, on the library or on its threads, to the last bit. The rounding changes a
correlation by about 1e-8, less than float32 can tell."""


class MapCC(GazeSimilarity):
    """Pearson's correlation of the gaze maps, clipped at 0; the project's measure for films with fixed anatomy.

    Maps are rendered with the sigmas of the fixations and sum to 1. Location matters, both axes count. All pairs are
    one matrix product. Constant maps are not valid.

    Args:
        side: height and width of the map in cells: 32, or 64 for narrow sigmas; any from 2 to 64.
        subtract_mean: first subtract the mean map of all readings with gaze, so that the centre bias common to all
            does not dominate. A reading's similarities then depend on which others are given, and their last bit on the
            order.
        weight: what each fixation counts: ``duration``, ``count`` or ``density``. Independent of the maps that training
            renders: ``data.init_args.gaze_weight`` does not reach this measure, so give its weight here as well.

    Raises:
        ConfigurationError: if an argument is out of its range.
    """

    def __init__(self, side: int = 32, subtract_mean: bool = False, weight: MapWeight = "duration") -> None:
        if not 2 <= side <= 64:
            raise ConfigurationError(f"MapCC.side must be from 2 to 64 cells, got {side}")
        check_weight("MapCC", weight)
        self.side = side
        self.subtract_mean = subtract_mean
        self.weight: MapWeight = weight

    def prepare(self, gaze: Sequence[Fixations], frame: tuple[int, int]) -> "PreparedMapCC":
        """Standardise all maps; see the base class.

        Raises:
            ValueError: If the frame has no area.
        """
        maps = small_maps(gaze, frame, (self.side, self.side), self.weight, "sum")
        valid = ~constant(maps)
        flat = maps.reshape(len(maps), self.side**2)
        largest = np.linalg.norm(flat, axis=1)
        if self.subtract_mean and valid.any():
            flat = flat - flat[valid].mean(axis=0)
        flat = flat - flat.mean(axis=1, keepdims=True)
        norm = np.linalg.norm(flat, axis=1)
        valid &= norm > FLAT * largest  # a map that is the mean map says nothing
        standard = flat / np.where(valid, norm, 1.0)[:, None]
        return PreparedMapCC(np.rint(standard * _GRID) / _GRID * valid[:, None], valid)


class PreparedMapCC(PreparedGaze):
    """Standardised maps.

    Args:
        standard: ``[N, cells]``, mean 0 and length 1, multiples of 2^-26; 0 where not valid.
        valid: bool ``[N]``.
    """

    def __init__(self, standard: Array, valid: npt.NDArray[np.bool_]) -> None:
        super().__init__(valid)
        self._standard = standard

    def block(self, rows: slice, columns: slice) -> npt.NDArray[np.float32]:
        """Return part of the similarity matrix; see the base class. Entries do not depend on the block's limits."""
        first, second = limits(rows, len(self)), limits(columns, len(self))
        product = self._standard[slice(*first)] @ self._standard[slice(*second)].T
        return finish(product, self.valid, first, second)
