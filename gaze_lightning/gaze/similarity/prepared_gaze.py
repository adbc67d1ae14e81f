"""Readings made ready for the comparison of all pairs."""

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt


class PreparedGaze(ABC):
    """What a measure keeps of ``N`` readings; gives any part of their similarity matrix.

    The matrix ``S`` is symmetric, has values from 0 to 1 without NaN, and is 1 on its diagonal, also for readings that
    are not valid; the other entries of their rows and columns are 0.

    Args:
        valid: bool ``[N]``: whether each reading has gaze enough to be compared.
    """

    def __init__(self, valid: npt.NDArray[np.bool_]) -> None:
        self.valid = valid

    def __len__(self) -> int:
        return len(self.valid)

    @abstractmethod
    def block(self, rows: slice, columns: slice) -> npt.NDArray[np.float32]:
        """Return part of the similarity matrix; may be called from several threads at once.

        Exchanging ``rows`` and ``columns`` transposes the block, bit for bit. An entry may differ in its last bit
        between blocks of other limits, so a matrix is tiled once and its other triangle mirrored.

        Args:
            rows: Readings of the block's rows, step 1.
            columns: Readings of its columns, step 1.

        Returns:
            ``[r, c]`` from 0 to 1.

        Raises:
            ValueError: If a slice has a step other than 1.
        """


def limits(part: slice, length: int) -> tuple[int, int]:
    """Return first and last + 1 index of a slice of ``length`` readings.

    Raises:
        ValueError: If the slice has a step other than 1.
    """
    start, stop, step = part.indices(length)
    if step != 1:
        raise ValueError(f"a block of similarities needs slices of step 1, got {part}")
    return start, max(start, stop)
