"""MIMIC-CXR as a table of readings: one per film, labels of its study, gaze where somebody was recorded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from data_modules.errors import DataError, refuse
from data_modules.gaze_sources import GazeWeight
from data_modules.readings import ReadingTable
from data_modules.sources.csv_tables import ROW, masked
from data_modules.sources.gaze_points import keep
from data_modules.sources.mimic_cxr import FilmIndex, Missing, keep_present
from data_modules.sources.mimic_gaze import attach_gaze
from data_modules.sources.mimic_labels import (
    MIMIC_LABELS,
    RADIOLOGIST,
    Blank,
    Labeller,
    Uncertain,
    label_indices,
    labeller_table,
    read_study_labels,
    targets,
)
from data_modules.sources.mimic_tables import METADATA
from data_modules.sources.paths import find_table

TestLabels = Literal["labeller", "radiologist"]
Unlabelled = Literal["keep", "drop"]

_REMEDY = "Point data.init_args.tables_root to a folder with the tables of MIMIC-CXR-JPG"


def read_mimic_cxr(
    films: FilmIndex,
    *,
    labeller: Labeller = "chexpert",
    labels: Sequence[str] | None = None,
    uncertain: Uncertain = "ignore",
    blank: Blank = "ignore",
    views: Sequence[str] | None = ("PA", "AP"),
    test_labels: TestLabels = "labeller",
    unlabelled: Unlabelled = "drop",
    missing: Missing = "error",
    gaze: Mapping[str, ReadingTable] | None = None,
    gaze_weight: GazeWeight = "duration",
) -> ReadingTable:
    """Read MIMIC-CXR (``spec/datasets.md`` section 3). One reading per film; ``sample_id`` is the film's id.

    Labels belong to studies; every film of a study gets them. What -1, blank and No Finding become: see `targets`.
    Films of other views, of studies without labels and of missing files are left out and counted, the former two
    before the files are looked for.

    Args:
        films: the index of the films.
        labeller: the tool that read the reports.
        labels: the classes, out of `MIMIC_LABELS`; None for all of them.
        uncertain: what -1 becomes.
        blank: what a label becomes that the report does not mention.
        views: values of ViewPosition to keep; None for all films.
        test_labels: whose labels the official test part gets: the ``labeller``'s, or those that one radiologist gave
            to some of its reports (version 2.1.0); test films of other reports are then left out.
        unlabelled: what to do about films whose study is not in the labeller's table: leave them out, or keep them
            with unknown labels (for pre-training; the table itself may then be absent).
        missing: what to do about films that are not on disk.
        gaze: name -> readings of other sources on the same films, whose gaze is attached; see `attach_gaze`.
        gaze_weight: what a fixation counts for where several readers' gaze is merged.

    Returns:
        Multi-label table, float32 in {0, 1, NaN}; ``split`` is the official one.

    Raises:
        DataError: if tables lack columns, have cells or ids that cannot be right or contradict each other, if no film
            has one of the views, or if films are missing (``missing = "error"``).
        ValueError: if a label is unknown or repeated.
    """
    chosen = label_indices(labels)
    counts: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    rows_read = dict(films.rows_read)
    if not films.has_metadata and (views is not None or test_labels == "radiologist"):
        raise DataError(
            f"The record list of MIMIC-CXR states neither views nor the official split. {_REMEDY}, or set "
            "data.init_args.views to null and data.init_args.test_labels to labeller."
        )
    listed = films.listed()
    if views is not None:
        listed = _of_views(listed, views, counts)
    table = labeller_table(labeller)
    notes: list[str] = []
    if unlabelled == "keep" and find_table(films.table_folder, table) is None:
        notes.append(f"there is no {table}: no label of it is known")
        values, known = np.full((len(listed), len(MIMIC_LABELS)), np.nan), np.zeros(len(listed), dtype=np.bool_)
    else:
        studies, rows_read[table] = read_study_labels(films.table_folder, table)
        listed = _of_same_patient(listed, studies, table)
        values, known = _of_study(listed, studies)
    if test_labels == "radiologist":
        judged, rows_read[RADIOLOGIST] = read_study_labels(films.table_folder, RADIOLOGIST)
        test = (listed["split"] == "test").to_numpy(dtype=np.bool_)
        expert, has_expert = _of_study(listed, judged)
        values[test], known[test] = expert[test], has_expert[test]
        usable = ~test | has_expert
        listed = keep(listed, usable, "test films without a radiologist's labels", counts)
        values, known = values[usable], known[usable]
        notes.append(f"labels of {int((test & has_expert).sum())} test film(s) are a radiologist's, of the reports")
        if other := int((has_expert & ~test).sum()):
            notes.append(f"a radiologist's labels of {other} film(s) outside the test part are not used")
    if unlabelled == "drop":
        listed, values = keep(listed, known, f"films of studies without {labeller} labels", counts), values[known]
    elif not known.all():
        notes.append(f"{int((~known).sum())} film(s) of studies without {labeller} labels: all labels unknown")
    listed = listed.reset_index(drop=True)
    found, present = films.lookup(listed["dicom_id"].tolist(), listed["place"].tolist(), missing)
    listed = keep_present(listed, found, "films", counts).reset_index(drop=True)
    found = found[present].reset_index(drop=True)
    frame = pd.DataFrame(
        {
            "sample_id": listed["dicom_id"],
            "image_id": listed["dicom_id"],
            "subject": listed["subject"],
            "image_path": found["image_path"],
            "height": found["height"].astype(np.int64),
            "width": found["width"].astype(np.int64),
            "split": listed["split"],
            "source_row": listed["place"],
        }
    )
    target, contradicting = targets(values[present], uncertain, blank)
    target = target[:, chosen]
    if contradicting.any():
        notes.append(
            f"No Finding contradicts a stated finding on {int(contradicting.sum())} film(s): the finding stands, No "
            "Finding is unknown there"
        )
    if unknown := int(np.isnan(target).all(axis=1).sum()):
        notes.append(f"none of the labels is known of {unknown} film(s)")
    fixations, gaze_notes, scan_paths = attach_gaze(frame, gaze or {}, gaze_weight, lost)
    for readings in (gaze or {}).values():
        rows_read = {**readings.rows_read, **rows_read}
    return ReadingTable(
        frame,
        target,
        tuple(MIMIC_LABELS[n] for n in chosen),
        "multi",
        fixations,
        {},
        dict(counts),
        dict(lost),
        (*notes, *gaze_notes),
        rows_read=rows_read,
        scan_paths=scan_paths,
    )


def _of_views(listed: pd.DataFrame, views: Sequence[str], counts: Counter[str]) -> pd.DataFrame:
    """Keep the films of some views; count the others per view."""
    good = listed["view"].isin(views).to_numpy(dtype=np.bool_)
    others = listed.loc[~good, "view"].value_counts()
    if not good.any():
        raise DataError(
            f"{METADATA}: no film has ViewPosition {' or '.join(views)}. The table has: "
            f"{', '.join(masked(str(view)) or 'blank' for view in others.index)}. Correct data.init_args.views."
        )
    for view, number in others.items():
        counts[f"films of view {masked(str(view))}" if view else "films without a view"] += int(number)
    return listed[good]


def _of_same_patient(listed: pd.DataFrame, studies: pd.DataFrame, table: str) -> pd.DataFrame:
    """Refuse films whose study belongs to another patient in the label table."""
    at = pd.Index(studies["study_id"]).get_indexer(pd.Index(listed["study"]))
    subject = studies["subject_id"].astype("str").to_numpy()
    wrong = at >= 0
    wrong[wrong] = subject[at[wrong]] != listed["subject"].to_numpy()[wrong]
    if wrong.any():
        rows = studies[ROW].to_numpy()[at[wrong]].tolist()
        refuse(
            DataError(
                f"{METADATA} and {table} disagree about the patient of {int(wrong.sum())} film(s). Restore the files:",
                [f"{place}, {table} row {row}" for place, row in zip(listed.loc[wrong, "place"], rows, strict=True)],
            )
        )
        listed = listed[~wrong]
    return listed


def _of_study(listed: pd.DataFrame, studies: pd.DataFrame) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return the labels of each film's study ``[n, 14]`` (NaN where the table lacks it), and whether it has it."""
    at = pd.Index(studies["study_id"]).get_indexer(pd.Index(listed["study"]))
    known = at >= 0
    values = np.full((len(listed), len(MIMIC_LABELS)), np.nan)
    values[known] = studies[list(MIMIC_LABELS)].to_numpy(dtype=np.float64)[at[known]]
    return values, known
