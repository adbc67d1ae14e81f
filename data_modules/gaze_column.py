"""The gaze of many readings, of which most may have none."""

from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from gaze_lightning.gaze import Fixations


class GazeColumn(Sequence[Fixations]):
    """Fixations per reading; readings without gaze share one empty object, see `CompactTexts` for the reason.

    Args:
        gaze: fixations of each reading.
    """

    def __init__(self, gaze: Sequence[Fixations]) -> None:
        self._gaze = [Fixations.empty()]
        self._place = np.zeros(len(gaze), dtype=np.int32)
        """Where each reading's fixations are in ``_gaze``."""
        for index, own in enumerate(gaze):
            if len(own):
                self[index] = own

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Bool ``[n]``: readings that have any fixations."""
        present: npt.NDArray[np.bool_] = self._place > 0
        return present

    def __len__(self) -> int:
        return len(self._place)

    @overload
    def __getitem__(self, index: int) -> Fixations: ...

    @overload
    def __getitem__(self, index: slice) -> list[Fixations]: ...

    def __getitem__(self, index: int | slice) -> Fixations | list[Fixations]:
        """Return the fixations of one reading, or a list of them."""
        if isinstance(index, slice):
            return [self._gaze[place] for place in self._place[index].tolist()]
        return self._gaze[int(self._place[index])]

    def __setitem__(self, index: int, own: Fixations) -> None:
        """Give a reading other fixations."""
        if len(own):
            self._place[index] = len(self._gaze)
            self._gaze.append(own)
        else:
            self._place[index] = 0
