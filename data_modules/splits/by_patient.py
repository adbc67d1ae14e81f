"""Splits that keep patients together and spread the classes."""

import hashlib

import numpy as np
import numpy.typing as npt

from data_modules.readings import ReadingTable, Split
from data_modules.splits.kinds import Parts

FRACTIONS = (0.7, 0.1, 0.2)
"""Shares of training, validation and test patients of the stratified split (spec/datasets.md section 1)."""


def stratified(table: ReadingTable, seed: int) -> Parts:
    """Cut each class's patients, in the order of their hashes, at 70 and 80 %.

    Args:
        table: all readings; a multi-label patient counts for the rarest class found.
        seed: of the hash.

    Returns:
        Part of each reading.
    """
    part: dict[str, Split] = {}
    for patients in patients_by_class(table, seed).values():
        for rank, subject in enumerate(patients):
            place = (rank + 0.5) / len(patients)
            within = place < FRACTIONS[0], place < FRACTIONS[0] + FRACTIONS[1]
            part[subject] = "train" if within[0] else "validate" if within[1] else "test"
    return np.array([part[subject] for subject in table.frame["subject"]], dtype=str)


def kfold(table: ReadingTable, seed: int, folds: int, fold: int) -> Parts:
    """Test one of several parts, validate on the next one, train on the rest.

    Each class's patients, in the order of their hashes, are cut into runs of equal length (to one patient). Which run
    is fold 0 moves on by one from class to class, so that rare classes do not all meet in one fold. Over all folds
    every patient is tested once and validates once.

    Args:
        table: all readings; a multi-label patient counts for the rarest class found.
        seed: of the hash.
        folds: number of parts, at least 3.
        fold: the tested one, from 0.

    Returns:
        Part of each reading.

    Raises:
        ValueError: if there are fewer than three folds, or no fold of this number.
    """
    if folds < 3:
        raise ValueError(f"folds must be at least 3 (one tests, one validates, the rest train), got {folds}")
    if not 0 <= fold < folds:
        raise ValueError(f"fold must be 0 to {folds - 1}, got {fold}")
    part: dict[str, Split] = {}
    for stratum, patients in patients_by_class(table, seed).items():
        for rank, subject in enumerate(patients):
            own = ((2 * rank + 1) * folds // (2 * len(patients)) + stratum) % folds
            part[subject] = "test" if own == fold else "validate" if own == (fold + 1) % folds else "train"
    return np.array([part[subject] for subject in table.frame["subject"]], dtype=str)


def patients_by_class(table: ReadingTable, seed: int | str) -> dict[int, list[str]]:
    """Patients of each class in the order of their hashes; the order of rows plays no part.

    Args:
        table: all readings; a multi-label patient counts for the rarest class found, the last group is of those of
            none.
        seed: of the hash.
    """
    stratum: dict[str, int] = {}
    for subject, value in zip(table.frame["subject"].tolist(), _strata(table).tolist(), strict=True):
        stratum[subject] = min(value, stratum.get(subject, value))
    members: dict[int, list[str]] = {}
    for subject in sorted(stratum, key=lambda name: _hash(seed, name)):
        members.setdefault(stratum[subject], []).append(subject)
    return members


def _strata(table: ReadingTable) -> npt.NDArray[np.int64]:
    """The class that each reading counts for: the lower, the rarer; ``K`` where there is none."""
    labels = table.labels
    if labels is None:
        return np.zeros(len(table.frame), dtype=np.int64)
    if table.label_type == "single":
        return labels.astype(np.int64)
    positive = np.equal(labels, 1)
    by_rarity = np.argsort(positive.sum(axis=0), kind="stable")
    found = positive[:, by_rarity]
    rank: npt.NDArray[np.int64] = found.argmax(axis=1).astype(np.int64)
    rank[~found.any(axis=1)] = positive.shape[1]
    return rank


def _hash(seed: int | str, subject: str) -> str:
    return hashlib.sha256(f"{seed}:{subject}".encode()).hexdigest()
