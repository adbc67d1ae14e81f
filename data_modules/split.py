"""Splits: every patient is in one part only."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from pytorch_lightning.utilities import rank_zero_warn

from data_modules.errors import DataError
from data_modules.readings import ReadingTable, Split
from data_modules.sources.csv_tables import ROW, masked, read_csv, read_header

SplitKind = Literal["official", "stratified", "file"]
SPLITS: tuple[Split, ...] = get_args(Split)
FRACTIONS = (0.7, 0.1, 0.2)
"""Shares of training, validation and test patients of the stratified split (spec/datasets.md section 1)."""

Parts = npt.NDArray[np.str_]


def assign_split(table: ReadingTable, kind: SplitKind, seed: int = 0, file: Path | None = None) -> Parts:
    """Put every reading into a part.

    - ``official``: the part that the source's own table states.
    - ``stratified``: 70 / 10 / 20 % of the patients, stratified by class. The order of patients is a hash of (seed,
      patient), so neither the order of rows nor other patients change it much. A multi-label patient counts for the
      rarest class found.
    - ``file``: a CSV with a column ``split`` and ``sample_id`` or ``subject`` (the first wins; a ``split.csv`` of an
      earlier run will do).

    Args:
        table: all readings.
        kind: see above.
        seed: of the stratified split.
        file: of the file split.

    Returns:
        One of ``train``, ``validate``, ``test`` per row; empty where a file split does not name the reading.

    Raises:
        DataError: if a row has no official part, or the file is missing, lacks a column, repeats an id with another
            part, or names a part that does not exist.
    """
    frame = table.frame
    if kind == "official":
        parts = frame["split"].to_numpy(dtype=str)
        unknown = ~np.isin(parts, SPLITS)
        if unknown.any():
            raise DataError(
                f"{int(unknown.sum())} readings have no official split. Choose split: stratified or split: file.",
                [str(row) for row in frame["source_row"][unknown]],
            )
        return parts
    if kind == "file":
        if file is None:
            raise DataError("split: file needs split_file, a CSV with columns sample_id (or subject) and split.")
        return _from_file(frame, file)
    return _stratified(frame["subject"].to_numpy(dtype=str), _strata(table), seed)


def assert_disjoint(frame: pd.DataFrame, parts: Parts) -> None:
    """Refuse a split in which a patient, or a film, is in two parts; links to one file are one film.

    Args:
        frame: columns ``subject``, ``image_id``, ``image_path``, ``source_row``.
        parts: part of each row; empty ones do not count.

    Raises:
        DataError: with the rows concerned (never their ids).
    """
    used = frame.assign(part=parts, file=frame["image_path"].map(os.path.realpath))[parts != ""]
    for column, what in (("subject", "patients"), ("image_id", "films"), ("file", "films")):
        spread = used.groupby(column)["part"].transform("nunique") > 1
        if spread.any():
            rows = used[spread].sort_values(column)
            raise DataError(
                f"{rows[column].nunique()} {what} are in more than one part of the split: a model would be tested on "
                f"{what} that it was trained on. Correct the split.",
                [f"{row}: {part}" for row, part in zip(rows["source_row"], rows["part"], strict=True)],
            )


def assert_filled(parts: Parts, needed: tuple[Split, ...], removed: Mapping[str, int]) -> None:
    """Refuse a split with an empty part.

    Args:
        parts: part of each row.
        needed: the parts that must have readings.
        removed: reason -> number of readings that filters left out before.

    Raises:
        DataError: naming the empty parts and the filter that removed the most.
    """
    empty = [part for part in needed if not (parts == part).any()]
    if not empty:
        return
    if any(removed.values()):
        reason, count = max(removed.items(), key=lambda item: item[1])
        cause = f"The filter that removed the most: {reason} ({count} readings)."
    else:
        cause = "No filter removed any reading: there are too few patients, or the split does not name this part."
    raise DataError(f"No reading is left in {' and '.join(empty)} ({len(parts)} readings in all). {cause}")


def split_summary(frame: pd.DataFrame, parts: Parts) -> str:
    """One line: patients and readings of each part."""
    counts = [
        f"{part} {frame['subject'][parts == part].nunique()} patients / {int((parts == part).sum())} readings"
        for part in SPLITS
    ]
    return "no patient is in two parts: " + ", ".join(counts)


def write_split(table: pd.DataFrame, path: Path) -> None:
    """Write the split as a CSV with columns ``sample_id, subject, split``; it can be read with split: file.

    It holds real ids: keep it in the run's folder.

    Args:
        table: with these columns.
        path: the file; its folder must exist.
    """
    table[["sample_id", "subject", "split"]].to_csv(path, index=False)


def _stratified(subjects: Parts, strata: npt.NDArray[np.int64], seed: int) -> Parts:
    """Cut each class's patients, in the order of their hashes, at 70 and 80 %."""
    stratum: dict[str, int] = {}
    for subject, value in zip(subjects.tolist(), strata.tolist(), strict=True):
        stratum[subject] = min(value, stratum.get(subject, value))
    members: dict[int, list[str]] = {}
    for subject in sorted(stratum, key=lambda name: _hash(seed, name)):
        members.setdefault(stratum[subject], []).append(subject)
    part: dict[str, Split] = {}
    for patients in members.values():
        for rank, subject in enumerate(patients):
            place = (rank + 0.5) / len(patients)
            within = place < FRACTIONS[0], place < FRACTIONS[0] + FRACTIONS[1]
            part[subject] = "train" if within[0] else "validate" if within[1] else "test"
    return np.array([part[subject] for subject in subjects.tolist()], dtype=str)


def _strata(table: ReadingTable) -> npt.NDArray[np.int64]:
    """The class that each reading counts for; ``K`` where there is none."""
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


def _hash(seed: int, subject: str) -> str:
    return hashlib.sha256(f"{seed}:{subject}".encode()).hexdigest()


def _from_file(frame: pd.DataFrame, file: Path) -> Parts:
    if not file.is_file():
        raise DataError(f"{file}: no such file. Set split_file to a CSV with columns sample_id (or subject) and split.")
    header = read_header(file)
    key = next((name for name in ("sample_id", "subject") if name in header), None)
    if key is None or "split" not in header:
        raise DataError(
            f"{file}: needs the columns sample_id (or subject) and split; it has {masked(', '.join(header))}."
        )
    given = read_csv(file, text=[key, "split"])
    unknown = given[~given["split"].isin(SPLITS)]
    if len(unknown):
        rows = [f"row {row}: {masked(part)!r}" for row, part in zip(unknown[ROW], unknown["split"], strict=True)]
        raise DataError(f"{file}: split must be one of {', '.join(SPLITS)}.", rows)
    given = given.drop_duplicates([key, "split"])
    twice = given[given[key].duplicated(keep=False)]
    if len(twice):
        raise DataError(f"{file}: {key}s stand in more than one part.", [f"row {row}" for row in twice[ROW]])
    strange = given.loc[~given[key].isin(frame[key]), ROW]
    if len(strange) == len(given):
        raise DataError(f"{file}: no {key} of this file is among the readings. Use the split file of these data.")
    if len(strange):
        shown = ", ".join(map(str, strange[:20])) + (", ..." if len(strange) > 20 else "")
        rank_zero_warn(f"{file}: {len(strange)} {key}(s) match no reading and are without effect: rows {shown}.")
    return frame[key].map(dict(zip(given[key], given["split"], strict=True))).fillna("").to_numpy(dtype=str)
