"""Which readings are used, in which part, and why the others are not."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data_modules.readings import ReadingTable
from data_modules.splits import Parts, hold_out, keep_fraction


class PartsInUse(NamedTuple):
    """Readings in use."""

    parts: Parts
    """Part of each reading; empty for one that is not used, and where there is no split."""
    usable: npt.NDArray[np.bool_]
    """Whether it is used, ``[n]``."""
    removed: dict[str, int]
    """Reason -> number of readings that are not."""
    could_train: npt.NDArray[np.bool_]
    """Whether it trains, or would if all training patients did, ``[n]``."""


def parts_in_use(
    table: ReadingTable,
    readable: npt.NDArray[np.bool_],
    assigned: Parts | None,
    held_out: Sequence[str],
    label_fraction: float,
    seed: int,
) -> PartsInUse:
    """Leave out, in this order, what cannot be read, has no part, is tested elsewhere, or is beyond the fraction.

    Args:
        table: all readings.
        readable: whether the film of each can be read.
        assigned: part of each; None: no split.
        held_out: split files of other runs (`hold_out`).
        label_fraction: share of the training patients that train (`keep_fraction`).
        seed: of the share.

    Raises:
        DataError: if a split file cannot be used.
    """
    removed = Counter(table.excluded)
    removed["readings of films that cannot be read"] += int((~readable).sum())
    if assigned is None:
        none: Parts = np.full(len(readable), "", dtype="<U8")
        return PartsInUse(none, readable, dict(+removed), np.zeros(len(readable), dtype=np.bool_))
    removed["readings that the split does not name"] += int((readable & (assigned == "")).sum())
    parts: Parts = np.where(readable, assigned, "")
    if held_out:
        parts, count = hold_out(table.frame, parts, [Path(file) for file in held_out])
        removed["readings of patients whom another run tests"] += count
    could_train = parts == "train"
    parts, count = keep_fraction(table, parts, label_fraction, seed)
    removed[f"training readings beyond label_fraction {label_fraction:g}"] += count
    return PartsInUse(parts, parts != "", dict(+removed), could_train)
