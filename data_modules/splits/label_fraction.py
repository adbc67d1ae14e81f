"""Training with a share of the patients: what a method needs in labels."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from data_modules.errors import DataError
from data_modules.readings import ReadingTable
from data_modules.splits.by_patient import patients_by_class
from data_modules.splits.kinds import Parts


def keep_fraction(table: ReadingTable, parts: Parts, fraction: float, seed: int) -> tuple[Parts, int]:
    """Keep a share of the training patients; nobody else changes.

    Of each class's patients the share is kept, rounded, and at least one; a multi-label patient counts for the rarest
    class found among the training patients. Whatever the rounding, every class that any of them shows is shown by one
    who is kept. A smaller fraction keeps a part of what a larger one keeps. Who is kept depends on a hash of (seed,
    patient), which is not that of the split.

    Args:
        table: all readings.
        parts: part of each.
        fraction: of the training patients, above 0, at most 1.
        seed: of the hash.

    Returns:
        The parts, empty where a reading was taken out, and the number of these readings.

    Raises:
        DataError: if there is no such fraction.
    """
    if checked_fraction(fraction) == 1:
        return parts, 0
    rows = np.flatnonzero(parts == "train")
    labels = None if table.labels is None else table.labels[rows]
    trained = replace(table, frame=table.frame.iloc[rows], labels=labels)
    subjects = trained.frame["subject"].to_numpy(dtype=object)
    members = patients_by_class(trained, f"label_fraction {seed}")
    firsts = _first_of_each_class(subjects, labels, [name for names in members.values() for name in names])
    kept: set[str] = set()
    for patients in members.values():
        needed = [name for name in patients if name in firsts]
        number = max(len(needed), 1, int(fraction * len(patients) + 0.5))
        kept.update([*needed, *(name for name in patients if name not in firsts)][:number])
    removed = np.zeros(len(parts), dtype=np.bool_)
    removed[rows] = [name not in kept for name in subjects]
    return np.where(removed, "", parts), int(removed.sum())


def checked_fraction(fraction: float) -> float:
    """Return the fraction.

    Raises:
        DataError: if it is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise DataError(f"data.init_args.label_fraction must be above 0 and at most 1, got {fraction}.")
    return float(fraction)


def _first_of_each_class(
    subjects: npt.NDArray[np.object_],
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float32] | None,
    order: list[str],
) -> set[str]:
    """For each class that anyone shows, the first in the order who does."""
    if labels is None:
        return set()
    shown = labels[:, None] == np.unique(labels) if labels.ndim == 1 else np.equal(labels, 1)
    place = {name: n for n, name in enumerate(order)}
    return {min(set(subjects[column]), key=lambda name: place[name]) for column in shown.T if column.any()}
