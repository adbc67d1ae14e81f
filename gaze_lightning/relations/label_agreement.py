"""Which readings have the same class, block by block and without torch: the rule of `gaze_lightning.losses`."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32]


class LabelAgreement(NamedTuple):
    """Relations between some readings and all; a pair of which neither is known is in none of them.

    Attributes:
        same: bool ``[r, N]``: the labels agree; true for a reading with itself where its label is known.
        different: bool ``[r, N]``: the labels disagree.
    """

    same: npt.NDArray[np.bool_]
    different: npt.NDArray[np.bool_]


def label_agreement(labels: Labels, rows: slice) -> LabelAgreement:
    """Compare some labels with all.

    Single-label: equal or unequal, below 0 unknown. Multi-label: two readings agree if they show a finding in common or
    if both show none, and else disagree; where that depends on an unknown entry, neither.

    Args:
        labels: int64 ``[N]`` or float32 ``[N, K]`` in {0, 1, NaN = unknown}.
        rows: the readings that are compared with all.
    """
    if labels.ndim == 1:
        known = (labels >= 0)[rows, None] & (labels >= 0)[None, :]
        equal = labels[rows, None] == labels[None, :]
        return LabelAgreement(known & equal, known & ~equal)
    present, possible = (labels == 1).astype(np.float32), (labels != 0).astype(np.float32)
    shows_one, may_show_one = present.any(axis=1), possible.any(axis=1)
    both_clear = ~(may_show_one[rows, None] | may_show_one[None, :])
    same = (present[rows] @ present.T > 0) | both_clear
    different = (possible[rows] @ possible.T == 0) & (shows_one[rows, None] | shows_one[None, :])
    return LabelAgreement(same, different)
