"""Anybody's own films: a table of images, or a table of fixations, or both."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from data_modules.errors import DataError
from data_modules.images import image_size
from data_modules.readings import LabelType, ReadingTable
from data_modules.sources.csv_tables import ROW, merge_duplicates, read_csv, require_shape
from data_modules.sources.gaze_points import keep
from data_modules.sources.locate import is_inside
from data_modules.sources.manifest_fixations import FixationColumns, clean_points, group_points, read_points
from data_modules.sources.mimic_cxr import Missing
from gaze_lightning.gaze import Fixations

logger = logging.getLogger(__name__)


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
    if images_csv is None and (subject_column or split_column or class_column or label_columns):
        raise ValueError("subject, split and label columns are columns of images_csv, which is not given")
    if sigma_px is not None and not sigma_px > 0:
        raise ValueError(f"sigma_px must be positive, got {sigma_px}")
    layout = fixation_columns or FixationColumns()
    counts: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    points = None if fixations_csv is None else read_points(root / fixations_csv, layout)
    extra = [column for column in (subject_column, split_column, class_column) if column is not None]
    if images_csv is not None:
        table = root / images_csv
        images = read_csv(table, text=list(dict.fromkeys([image_column, *extra])), numeric=label_columns)
        images, repeated = merge_duplicates(images, image_column, table.name)
        counts.update({"repeated rows of the images": repeated} if repeated else {})
    else:
        assert points is not None
        assert fixations_csv is not None
        table, image_column = root / fixations_csv, layout.image
        images = points[[layout.image, ROW]].drop_duplicates(layout.image).astype({layout.image: "str"})
        files = images[layout.image].map(lambda name: os.path.realpath(root / name))
        images = images[~files.duplicated()].reset_index(drop=True)
    if points is not None:
        points = _spell_alike(points, layout.image, images[image_column], root)
    images = _check_images(root, images, image_column, table.name, missing, counts)
    labels, names, label_type = _labels(images, table.name, label_columns, class_column, class_names)
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
    if split_column is not None:
        require_shape(images, split_column, "train|validate|test|", "train, validate, test or blank", table.name)
    if subject_column is None:
        logger.warning("%s: no subject column, every image counts as a patient; leakage cannot be checked", table.name)
    elif (frame["subject"] == "").any():
        blank = images.loc[images[subject_column] == "", ROW]
        raise DataError(f"{table.name}: blank {subject_column}; fill it in:", [f"row {row}" for row in blank])
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
    frame = frame.drop(columns="image_index").reset_index(drop=True)
    return ReadingTable(frame, labels, names, label_type, fixations, {}, dict(counts), dict(lost))


def _spell_alike(points: pd.DataFrame, column: str, images: pd.Series, root: Path) -> pd.DataFrame:
    """Give images in the fixation table the spelling of the table of images (``./a.png`` is ``a.png``)."""
    spelt = {os.path.realpath(root / name): name for name in images}
    names = points[column].astype("str")
    alike = {name: spelt.get(os.path.realpath(root / name), name) for name in names.unique()}
    return points.assign(**{column: names.map(alike)})


def _check_images(
    root: Path, images: pd.DataFrame, column: str, table: str, missing: Missing, counts: Counter[str]
) -> pd.DataFrame:
    """Add height and width; refuse paths that leave the root; refuse or drop images that cannot be opened."""
    outside = [not name or Path(name).is_absolute() or not is_inside(root / name, root) for name in images[column]]
    if any(outside):
        raise DataError(
            f"{table}: {column} must be a path below {root}; it is blank, absolute or leads elsewhere in:",
            [f"row {row}" for row in images.loc[outside, ROW]],
        )
    files = pd.Series([os.path.realpath(root / name) for name in images[column]], index=images.index)
    twice = files.duplicated(keep=False)
    if twice.any():
        raise DataError(
            f"{table}: several rows name the same image file in different ways. List every image once:",
            [f"rows {', '.join(map(str, rows))}" for _, rows in images[twice].groupby(files[twice], sort=False)[ROW]],
        )
    sizes = [image_size(root / name) for name in images[column]]
    faults = [f"row {row}: {size}" for row, size in zip(images[ROW], sizes, strict=True) if not isinstance(size, tuple)]
    if faults and missing == "error":
        raise DataError(
            f"{table}: {len(faults)} image(s) below {root} cannot be used. Restore them, correct {column}, or set "
            "data.init_args.missing to drop to go on without them:",
            faults,
        )
    good = np.array([isinstance(size, tuple) for size in sizes], dtype=np.bool_)
    images = keep(images, good, "images missing or unreadable", counts).reset_index(drop=True)
    images["height"] = np.array([size[0] for size in sizes if isinstance(size, tuple)], dtype=np.int64)
    images["width"] = np.array([size[1] for size in sizes if isinstance(size, tuple)], dtype=np.int64)
    return images


def _labels(
    images: pd.DataFrame,
    table: str,
    label_columns: Sequence[str],
    class_column: str | None,
    class_names: Sequence[str] | None,
) -> tuple[npt.NDArray[np.int64] | npt.NDArray[np.float32] | None, tuple[str, ...], LabelType]:
    if class_column is not None:
        names = tuple(class_names if class_names is not None else sorted(set(images[class_column]) - {""}))
        unknown = ~images[class_column].isin(names)
        if unknown.any():
            raise DataError(
                f"{table}: {class_column} must be one of {', '.join(names)}; it is not in:",
                [f"row {row}" for row in images.loc[unknown, ROW]],
            )
        return np.array([names.index(name) for name in images[class_column]], dtype=np.int64), names, "single"
    if not label_columns:
        return None, (), "multi"
    values = np.array(images[list(label_columns)], dtype=np.float32)
    bad = ~(np.isnan(values) | np.isin(values, [-1.0, 0.0, 1.0]))
    if bad.any():
        raise DataError(
            f"{table}: labels must be 1, 0, -1 or blank:",
            [
                f"row {images[ROW].iloc[row]}, {label_columns[k]}: {values[row, k]:g}"
                for row, k in np.argwhere(bad).tolist()
            ],
        )
    values[values == -1] = np.nan
    return values, tuple(label_columns), "multi"
