"""Anybody's own films: a table of images, or a table of fixations, or both."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from data_modules.errors import DataError, refuse
from data_modules.readings import LabelType, ReadingTable
from data_modules.sources.csv_tables import ROW, merge_duplicates, read_csv, require_shape
from data_modules.sources.manifest_boxes import read_boxes
from data_modules.sources.manifest_fixations import FixationColumns, clean_points, group_points, read_points
from data_modules.sources.manifest_images import check_images, real_paths, spell_alike
from data_modules.sources.mimic_cxr import Missing
from gaze_lightning.gaze import Fixations


def read_manifest(
    root: Path,
    images_csv: Path | None = None,
    fixations_csv: Path | None = None,
    *,
    image_column: str = "image",
    subject_column: str | None = None,
    split_column: str | None = None,
    label_columns: Sequence[str] = (),
    class_column: str | None = None,
    class_names: Sequence[str] | None = None,
    fixation_columns: FixationColumns | None = None,
    readers: Literal["separate", "merged"] = "separate",
    sigma_px: float | None = None,
    chest_box_columns: Sequence[str] = (),
    missing: Missing = "error",
) -> ReadingTable:
    """Read images, labels and gaze from CSV tables.

    Fixations are left out, and counted, if their image is not listed, a number is blank, the position lies outside the
    image, or the duration is not positive.

    Args:
        root: the folder that the image paths are relative to.
        images_csv: one row per image, or None to take the images that the fixations name (no labels then). Relative
            paths of both tables are taken from ``root``.
        fixations_csv: one row per fixation, or None for no gaze.
        image_column: column of ``images_csv`` with the image's path below ``root``.
        subject_column: column with the patient; None: every image is a patient of its own (leakage cannot be checked).
        split_column: column with ``train``, ``validate`` or ``test`` (or blank).
        label_columns: one column per class: 1, 0, blank (unknown) or -1 (uncertain, treated as unknown). Multi-label.
        class_column: one column with the name of the class. Single-label; not together with ``label_columns``.
        class_names: the names in ``class_column``, in the order wanted; None: those that occur, sorted.
        fixation_columns: the layout of ``fixations_csv``.
        readers: ``"separate"``: one sample per image and reader; ``"merged"``: one per image with all fixations.
        sigma_px: standard deviation of the Gaussian per fixation in image pixels; None: `scaled_sigma`.
        chest_box_columns: columns of ``images_csv`` with the left, upper, right and lower edge of the chest, pixels of
            the image; blank where it is not known.
        missing: what to do about images that are not there or cannot be opened.

    Returns:
        The table. ``sample_id`` is the image's path, with ``#<reader>`` when readers are separate; images without any
        reader have one sample. Height and width come from the image files.

    Raises:
        DataError: if tables lack columns, hold cells or labels that cannot be right or contradict themselves, if paths
            leave ``root`` or several lead to one file, if units are evidently wrong, if fixations and images have no
            image in common, or if images are missing (``missing = "error"``).
        ValueError: if the arguments contradict each other.
    """
    if images_csv is None and fixations_csv is None:
        raise ValueError("give images_csv, fixations_csv, or both")
    if class_column is not None and label_columns:
        raise ValueError("give label_columns (multi-label) or class_column (single-label), not both")
    if images_csv is None and (subject_column or split_column or class_column or label_columns or chest_box_columns):
        raise ValueError("subject, split, label and chest box columns are columns of images_csv, which is not given")
    if chest_box_columns and len(set(chest_box_columns)) != 4:
        raise ValueError(f"chest_box_columns must be four different columns, got {list(chest_box_columns)}")
    if sigma_px is not None and not sigma_px > 0:
        raise ValueError(f"sigma_px must be positive, got {sigma_px}")
    layout = fixation_columns or FixationColumns()
    counts: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    rows_read: dict[str, int] = {}
    points = None
    if fixations_csv is not None:
        points = read_points(root / fixations_csv, layout)
        rows_read[fixations_csv.name] = len(points)
    extra = [column for column in (subject_column, split_column, class_column) if column is not None]
    if images_csv is not None:
        table = root / images_csv
        images = read_csv(
            table, text=list(dict.fromkeys([image_column, *extra])), numeric=[*label_columns, *chest_box_columns]
        )
        rows_read[table.name] = len(images)
        images, repeated = merge_duplicates(images, image_column, table.name)
        counts.update({"repeated rows of the images": repeated} if repeated else {})
    else:
        assert points is not None
        assert fixations_csv is not None
        table, image_column = root / fixations_csv, layout.image
        images = points[[layout.image, ROW]].drop_duplicates(layout.image).astype({layout.image: "str"})
        files = images[layout.image].map(real_paths(root, images[layout.image]))
        images = images[~files.duplicated()].reset_index(drop=True)
    if points is not None:
        points = spell_alike(points, layout.image, images[image_column], root)
    images = check_images(root, images, image_column, table.name, missing, counts)
    if split_column is not None:
        images = require_shape(
            images, split_column, "train|validate|test|", "train, validate, test or blank", table.name
        )
    if subject_column is not None:
        images = _require_subjects(images, subject_column, table.name)
    images = _require_labels(images, table.name, label_columns, class_column, class_names).reset_index(drop=True)
    images, boxes = read_boxes(images, chest_box_columns, table.name)
    labels, names, label_type = _labels(images, label_columns, class_column, class_names)
    frame = pd.DataFrame(
        {
            "image_id": images[image_column],
            "subject": images[image_column if subject_column is None else subject_column],
            "image_path": [str(root / name) for name in images[image_column]],
            "height": images["height"],
            "width": images["width"],
            "split": "" if split_column is None else images[split_column],
            "source_row": [f"{table.name} row {row}" for row in images[ROW]],
        }
    )
    notes: tuple[str, ...] = ()
    if subject_column is None:
        notes = ("no subject column: every image counts as a patient, leakage between parts cannot be checked",)
    frame["image_index"] = np.arange(len(frame))
    fixations: dict[str, Fixations] = {}
    if points is None:
        frame.insert(0, "sample_id", frame["image_id"])
    else:
        assert fixations_csv is not None
        points = clean_points(points, layout, frame, (root / fixations_csv).name, lost)
        frame, fixations = group_points(points, layout, frame, readers, sigma_px)
    if labels is not None:
        labels = labels[frame["image_index"].to_numpy()]
    boxes_of = zip(frame["sample_id"], frame["image_index"].tolist(), strict=True)
    chest_boxes = {name: boxes[image] for name, image in boxes_of if image in boxes}
    frame = frame.drop(columns="image_index").reset_index(drop=True)
    return ReadingTable(
        frame,
        labels,
        names,
        label_type,
        fixations,
        excluded=dict(counts),
        excluded_points=dict(lost),
        notes=notes,
        chest_boxes=chest_boxes,
        rows_read=rows_read,
        scan_paths=readers == "separate" or layout.reader is None,
    )


def _require_subjects(images: pd.DataFrame, column: str, table: str) -> pd.DataFrame:
    """Refuse rows without a patient, and patients whom a spreadsheet may have made two; blanks around ids go."""
    images = images.assign(**{column: images[column].str.strip()})
    blank = (images[column] == "").to_numpy(dtype=np.bool_)
    if blank.any():
        refuse(DataError(f"{table}: blank {column}; fill it in:", [f"row {row}" for row in images.loc[blank, ROW]]))
        images = images[~blank]
    bare = images[column].str.replace(r"\.0$", "", regex=True).str.lstrip("0")
    alike = (images.groupby(bare)[column].transform("nunique") > 1).to_numpy(dtype=np.bool_)
    if alike.any():
        refuse(
            DataError(
                f"{table}: {column} has ids that differ only in leading zeros or a final .0, as spreadsheets make "
                "them: one patient could train and be tested. Spell every patient alike:",
                [f"row {row}" for row in images.loc[alike, ROW]],
            )
        )
        images = images[~alike]
    return images


def _require_labels(
    images: pd.DataFrame,
    table: str,
    label_columns: Sequence[str],
    class_column: str | None,
    class_names: Sequence[str] | None,
) -> pd.DataFrame:
    """Refuse rows with a class or a label that does not exist."""
    if class_column is not None:
        names = sorted(set(images[class_column]) - {""}) if class_names is None else class_names
        unknown = ~images[class_column].isin(names).to_numpy(dtype=np.bool_)
        if unknown.any():
            refuse(
                DataError(
                    f"{table}: {class_column} must be one of {', '.join(names)} (data.init_args.class_names); it is "
                    "not in:",
                    [f"row {row}" for row in images.loc[unknown, ROW]],
                )
            )
            images = images[~unknown]
    values = images[list(label_columns)].to_numpy(dtype=np.float64)
    bad = ~(np.isnan(values) | np.isin(values, [-1.0, 0.0, 1.0]))
    if bad.any():
        refuse(
            DataError(
                f"{table}: labels must be 1, 0, -1 or blank. Correct them, or leave the column out of "
                "data.init_args.label_columns:",
                [
                    f"row {images[ROW].iloc[row]}, {label_columns[k]}: {values[row, k]:g}"
                    for row, k in np.argwhere(bad).tolist()
                ],
            )
        )
        images = images[~bad.any(axis=1)]
    return images


def _labels(
    images: pd.DataFrame,
    label_columns: Sequence[str],
    class_column: str | None,
    class_names: Sequence[str] | None,
) -> tuple[npt.NDArray[np.int64] | npt.NDArray[np.float32] | None, tuple[str, ...], LabelType]:
    if class_column is not None:
        names = tuple(class_names if class_names is not None else sorted(set(images[class_column]) - {""}))
        return np.array([names.index(name) for name in images[class_column]], dtype=np.int64), names, "single"
    if not label_columns:
        return None, (), "multi"
    values = images[list(label_columns)].to_numpy(dtype=np.float32)
    return np.where(values == -1, np.float32(np.nan), values), tuple(label_columns), "multi"
