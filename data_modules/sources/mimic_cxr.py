"""MIMIC-CXR-JPG: where the films are, how large, whose, and in which official split."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from data_modules.errors import DataError
from data_modules.sources.csv_tables import ROW, attach, merge_duplicates, read_csv, require_shape
from data_modules.sources.locate import METADATA, SPLIT, find_table, is_inside

Missing = Literal["error", "drop"]
DICOM_ID = r"[0-9a-f]{8}(-[0-9a-f]{8}){4}"
DICOM_ID_TEXT = "five groups of eight hexadecimal digits (44 characters)"
SUBJECT_ID = r"1[0-9]{7}"
STUDY_ID = r"5[0-9]{7}"


@dataclass(frozen=True)
class FilmIndex:
    """The films of a MIMIC-CXR-JPG folder.

    Attributes:
        root: the folder with ``files/`` and the metadata and split tables.
    """

    root: Path

    @cached_property
    def _metadata(self) -> pd.DataFrame:
        path = find_table(self.root, METADATA) or self.root / METADATA
        frame = read_csv(path, text=["dicom_id", "subject_id", "study_id"], numeric=["Rows", "Columns"])
        return frame.rename(columns={"Rows": "height", "Columns": "width"})

    @cached_property
    def _split(self) -> pd.DataFrame:
        path = find_table(self.root, SPLIT) or self.root / SPLIT
        return read_csv(path, text=["dicom_id", "subject_id", "split"])

    def lookup(
        self, dicom_ids: Sequence[str], places: Sequence[str], missing: Missing = "error"
    ) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
        """Find films by id, one row per id asked for, in that order.

        Args:
            dicom_ids: the ids ``[n]``; repetitions are fine.
            places: where each id comes from ``[n]``, e.g. ``"master_sheet.csv row 17"``, for messages.
            missing: what to do about films without a file: refuse, or leave them out.

        Returns:
            Columns ``image_path, height, width, subject, study, split`` (split as the official table says, or empty)
            and bool ``[n]``, true where the film exists (columns are undefined elsewhere).

        Raises:
            DataError: if an id is not shaped as it must be, tables repeat a film with conflicting values or disagree
                about its patient, a size is not a positive whole number, a path leaves the folder, or (``missing =
                "error"``) a film is absent from the table or the disk; all rows at once.
        """
        wanted = pd.DataFrame({"dicom_id": pd.Series(list(dicom_ids), dtype="str"), ROW: list(places)})
        bad = wanted.loc[~wanted["dicom_id"].str.fullmatch(DICOM_ID), ROW]
        if len(bad):
            raise DataError(f"film ids must be {DICOM_ID_TEXT}:", [str(place) for place in bad])
        films = self._films(set(dicom_ids))
        found = attach(wanted, films, "dicom_id", METADATA)
        listed = found["image_path"].notna().to_numpy(dtype=np.bool_)
        present = listed.copy()
        present[listed] = [_size_on_disk(path) > 0 for path in found.loc[listed, "image_path"]]
        if missing == "error" and not present.all():
            rows = [
                f"{place}: {'no file, or an empty one' if known else f'not in {METADATA}'}"
                for place, known, here in zip(places, listed, present, strict=True)
                if not here
            ]
            raise DataError(
                f"{len(rows)} film(s) are missing below {self.root / 'files'}. Complete the download, or set "
                "data.init_args.missing to drop to go on without them:",
                rows,
            )
        return found.drop(columns=[ROW, "dicom_id"]), present

    def _films(self, wanted: set[str]) -> pd.DataFrame:
        """Check and return the wanted films: dicom_id, image_path, height, width, subject, study, split."""
        films = self._metadata[self._metadata["dicom_id"].isin(wanted)]
        films, _ = merge_duplicates(films, "dicom_id", METADATA)
        require_shape(films, "subject_id", SUBJECT_ID, "eight digits that start with 1", METADATA)
        require_shape(films, "study_id", STUDY_ID, "eight digits that start with 5", METADATA)
        size = films[["height", "width"]].to_numpy(dtype=np.float64)
        bad = ~((size > 0) & (size == np.floor(size))).all(axis=1)
        if bad.any():
            raise DataError(
                f"{METADATA}: Rows and Columns must be positive whole numbers:",
                [f"row {r}" for r in films.loc[bad, ROW]],
            )
        split = self._split[self._split["dicom_id"].isin(wanted)]
        split, _ = merge_duplicates(split, "dicom_id", SPLIT)
        unknown = ~split["split"].isin(["train", "validate", "test"])
        if unknown.any():
            raise DataError(
                f"{SPLIT}: split must be train, validate or test:", [f"row {row}" for row in split.loc[unknown, ROW]]
            )
        split = split.rename(columns={"subject_id": "split_subject", ROW: "split_row"})
        films = attach(films, split, "dicom_id", SPLIT)
        films["split"] = films["split"].fillna("")
        other = films["split_subject"].notna() & (films["split_subject"] != films["subject_id"])
        if other.any():
            raise DataError(
                f"{METADATA} and {SPLIT} disagree about the patient of {int(other.sum())} film(s). Restore the files:",
                [f"row {a} of the former" for a in films.loc[other, ROW]],
            )
        base = self.root / "files"
        films["image_path"] = [
            str(base / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{dicom_id}.jpg")
            for dicom_id, subject, study in zip(films["dicom_id"], films["subject_id"], films["study_id"], strict=True)
        ]
        real_base = Path(os.path.realpath(base))
        escaping = [not is_inside(Path(path), real_base) for path in films["image_path"]]
        if any(escaping):
            raise DataError(
                f"{sum(escaping)} film(s) are links to places outside {base}. Copy them there, or point "
                "data.init_args.films_root to the folder that really holds them:",
                [f"{METADATA} row {row}" for row in films.loc[escaping, ROW]],
            )
        return films.rename(columns={"subject_id": "subject", "study_id": "study"})[
            ["dicom_id", "image_path", "height", "width", "subject", "study", "split"]
        ]


def _size_on_disk(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
