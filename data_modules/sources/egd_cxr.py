"""EGD-CXR 1.0.0 ("EyeGaze"): one radiologist, three exclusive classes, films from MIMIC-CXR."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from data_modules.errors import DataError
from data_modules.readings import ReadingTable, Region
from data_modules.regions import MaskFileRegion
from data_modules.sources.csv_tables import ROW, merge_duplicates, read_csv, read_header, require_shape
from data_modules.sources.gaze_points import PAPER_SIGMA, elapsed, group_fixations, keep, log_summary
from data_modules.sources.locate import GAZE_TABLES, PointSource, is_inside
from data_modules.sources.mimic_cxr import DICOM_ID, DICOM_ID_TEXT, FilmIndex, Missing
from gaze_lightning.gaze import Fixations

logger = logging.getLogger(__name__)

EGD_CLASSES = ("Normal", "CHF", "pneumonia")
AUTHORS_SIGMA_PX = 150.0
"""``sigma_px`` of the data set's authors' heat maps, in pixels of full-size films."""

ANATOMY: dict[str, tuple[str, ...]] = {"CHF": ("mediastanum",), "pneumonia": ("left_lung", "right_lung")}
"""Where the signs of a class lie (file names of the source, its spelling): heart and mediastinum, either lung."""

_SHEET = "master_sheet.csv"
_SEGMENTS = "audio_segmentation_transcripts"
_CALIBRATION_LENGTH = 39
_SAMPLE_SECONDS = 1 / 60


def read_egd_cxr(
    root: Path,
    films: FilmIndex,
    *,
    point_source: PointSource = "fixations",
    sigma_px: float | None = None,
    missing: Missing = "error",
    lesion_root: Path | None = None,
) -> ReadingTable:
    """Read EGD-CXR (``spec/datasets.md`` section 1). One reading per film; ``sample_id`` is the film's id.

    Gaze rows are left out, and counted, if they belong to calibration pictures (ids of 39 characters that the sheet
    does not know) or to other films, if a number is blank, if the source marks them as no fixation (``FPOGV == 0``;
    fixations only), if any coordinate is negative or beyond the film, or if the duration is not positive. Coordinates
    are whole pixels in the source; 0.5 is added once. Start times are as the source gives them.

    Args:
        root: the folder with ``master_sheet.csv``.
        films: the index of the MIMIC-CXR-JPG films.
        point_source: ``"fixations"`` (``fixations.csv``, durations in seconds from FPOGD) or ``"raw_samples"``
            (``eye_gaze.csv``, each sample 1/60 s, as MT-UNet and GG-CAM use them).
        sigma_px: standard deviation of the Gaussian per point in film pixels; None for 75.5 px per 3,072 lines.
        missing: what to do about films that are not on disk.
        lesion_root: folder with ``truth.csv`` and lesion masks (the phantom has one; the real data set does not).

    Returns:
        Single-label table over `EGD_CLASSES`; ``split`` is MIMIC-CXR's official one; regions are the anatomy masks of
        the film's class where the files exist, and lesions.

    Raises:
        DataError: if a table lacks columns or has cells, ids or labels that cannot be right, if a film does not have
            exactly one class, if the patient differs from MIMIC-CXR's, if no gaze row belongs to a film of the sheet,
            or if films are missing (``missing = "error"``).
        ValueError: if ``sigma_px`` is not positive.
    """
    if sigma_px is not None and not sigma_px > 0:
        raise ValueError(f"sigma_px must be positive, got {sigma_px}")
    counts: Counter[str] = Counter()
    sheet = read_csv(root / _SHEET, text=["dicom_id", "patient_id"], numeric=EGD_CLASSES)
    require_shape(sheet, "dicom_id", DICOM_ID, DICOM_ID_TEXT, _SHEET)
    sheet, repeated = merge_duplicates(sheet, "dicom_id", _SHEET)
    if repeated:
        counts["repeated rows of the sheet"] = repeated
    sheet["class"] = _classes(sheet)
    known = sheet["dicom_id"]
    places = [f"{_SHEET} row {row}" for row in sheet[ROW]]
    found, present = films.lookup(known.tolist(), places, missing)
    differing = present & (found["subject"] != sheet["patient_id"]).to_numpy()
    if differing.any():
        raise DataError(
            f"{_SHEET} and MIMIC-CXR-JPG disagree about the patient of {int(differing.sum())} film(s). Restore "
            "the files:",
            [place for place, wrong in zip(places, differing, strict=True) if wrong],
        )
    if not present.all():
        counts["films missing on disk"] = int((~present).sum())
    sheet, found = sheet[present].reset_index(drop=True), found[present].reset_index(drop=True)
    frame = pd.DataFrame(
        {
            "sample_id": sheet["dicom_id"],
            "image_id": sheet["dicom_id"],
            "subject": found["subject"],
            "image_path": found["image_path"],
            "height": found["height"].astype(np.int64),
            "width": found["width"].astype(np.int64),
            "split": found["split"],
            "source_row": [place for place, here in zip(places, present, strict=True) if here],
        }
    )
    labels = np.array(sheet["class"], dtype=np.int64)
    fixations = _read_gaze(root / GAZE_TABLES[point_source], point_source, frame, known, sigma_px, counts)
    regions = _anatomy(root, frame, labels)
    if lesion_root is not None:
        for sample_id, region in _lesions(lesion_root, frame, labels).items():
            regions.setdefault(sample_id, []).append(region)
    log_summary("EGD-CXR", frame, fixations, counts)
    return ReadingTable(frame, labels, EGD_CLASSES, "single", fixations, regions, dict(counts))


def _classes(sheet: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the class index per row; refuse rows that do not have exactly one class."""
    values = sheet[list(EGD_CLASSES)].to_numpy(dtype=np.float64)
    bad = ~np.isin(values, [0.0, 1.0]).all(axis=1) | (values.sum(axis=1) != 1)
    if bad.any():
        raise DataError(
            f"{_SHEET}: exactly one of {', '.join(EGD_CLASSES)} must be 1 and the others 0; {int(bad.sum())} row(s) "
            "differ. Restore the original file:",
            [
                f"row {row}: " + ", ".join(f"{name} {value:g}" for name, value in zip(EGD_CLASSES, cells, strict=True))
                for row, cells in zip(sheet.loc[bad, ROW], values[bad], strict=True)
            ],
        )
    return np.asarray(values.argmax(axis=1), dtype=np.int64)


def _read_gaze(
    path: Path,
    point_source: PointSource,
    frame: pd.DataFrame,
    known: pd.Series,
    sigma_px: float | None,
    counts: Counter[str],
) -> dict[str, Fixations]:
    numeric = ["X_ORIGINAL", "Y_ORIGINAL"]
    if point_source == "fixations":
        numeric += ["FPOGS", "FPOGD", "FPOGV"]
    elif "Time (in secs)" in read_header(path):
        numeric.append("Time (in secs)")
    rows = read_csv(path, repeated=["DICOM_ID"], numeric=numeric)
    if len(rows) and not rows["DICOM_ID"].isin(known).any():
        raise DataError(
            f"{path}: no DICOM_ID of this table occurs in {_SHEET}. Both must come from the same release; restore them."
        )
    film_ids, sheet_ids = {name: n for n, name in enumerate(frame["sample_id"])}, set(known)
    ids = [str(name) for name in rows["DICOM_ID"].cat.categories]
    codes = rows["DICOM_ID"].cat.codes.to_numpy()
    # per distinct id: the reading it belongs to, or -1 calibration, -2 unknown, -3 film left out above
    target = np.array(
        [film_ids.get(name, -3 if name in sheet_ids else _stranger(name)) for name in ids], dtype=np.int64
    )
    rows["sample"] = target[codes] if len(ids) else np.zeros(0, dtype=np.int64)
    rows = keep(rows, (rows["sample"] != -1).to_numpy(), "calibration rows", counts)
    rows = keep(rows, (rows["sample"] != -2).to_numpy(), "gaze rows of films not in the sheet", counts)
    rows = keep(rows, (rows["sample"] != -3).to_numpy(), "gaze rows of missing films", counts)
    rows = keep(rows, np.isfinite(rows[numeric].to_numpy()).all(axis=1), "gaze rows with a blank or NaN", counts)
    if point_source == "fixations":
        rows = keep(rows, (rows["FPOGV"] != 0).to_numpy(), "gaze rows without a valid fixation", counts)
    sample = rows["sample"].to_numpy()
    height, width = frame["height"].to_numpy()[sample], frame["width"].to_numpy()[sample]
    x, y = rows["X_ORIGINAL"].to_numpy(), rows["Y_ORIGINAL"].to_numpy()
    rows = keep(rows, (x >= 0) & (y >= 0) & (x < width) & (y < height), "gaze rows off the film", counts)
    if point_source == "fixations":
        rows = keep(rows, (rows["FPOGD"] > 0).to_numpy(), "gaze rows without a duration", counts)
    sample = rows["sample"].to_numpy()
    if point_source == "fixations":
        duration, start = rows["FPOGD"].to_numpy(), rows["FPOGS"].to_numpy()
    else:
        duration = np.full(len(rows), _SAMPLE_SECONDS)
        start = rows["Time (in secs)"].to_numpy() if "Time (in secs)" in rows else elapsed(duration, sample)
    sigma = PAPER_SIGMA * frame["height"].to_numpy()[sample] if sigma_px is None else np.full(len(rows), sigma_px)
    points = {
        "x": rows["X_ORIGINAL"].to_numpy() + 0.5,
        "y": rows["Y_ORIGINAL"].to_numpy() + 0.5,
        "duration": duration,
        "sigma_x": sigma,
        "sigma_y": sigma,
        "start": start,
    }
    return group_fixations(points, sample, frame["sample_id"].tolist())


def _stranger(name: str) -> int:
    return -1 if len(name) == _CALIBRATION_LENGTH else -2


def _anatomy(root: Path, frame: pd.DataFrame, labels: npt.NDArray[np.int64]) -> dict[str, list[Region]]:
    regions: dict[str, list[Region]] = {}
    incomplete = 0
    for sample_id, height, width, label in zip(
        frame["sample_id"], frame["height"], frame["width"], labels.tolist(), strict=True
    ):
        names = ANATOMY.get(EGD_CLASSES[label], ())
        paths = tuple(path for name in names if (path := root / _SEGMENTS / sample_id / f"{name}.png").is_file())
        if paths and len(paths) == len(names):
            regions[sample_id] = [MaskFileRegion(label, "anatomy", paths, (int(height), int(width)))]
        elif names:
            incomplete += 1
    if incomplete:
        logger.warning("EGD-CXR: %d film(s) without the anatomy masks of their class", incomplete)
    return regions


def _lesions(folder: Path, frame: pd.DataFrame, labels: npt.NDArray[np.int64]) -> dict[str, Region]:
    """Return the mask of all signs of each film's class: the rows of ``truth.csv`` whose finding is ``class``."""
    table = folder / "truth.csv"
    truth = read_csv(table, text=["dicom_id", "diagnosis", "finding", "file"])
    truth = truth[truth["finding"] == "class"]
    films = {
        sample_id: (label, (int(height), int(width)))
        for sample_id, label, height, width in zip(
            frame["sample_id"], labels.tolist(), frame["height"], frame["width"], strict=True
        )
    }
    paths: dict[str, list[Path]] = {}
    wrong: list[str] = []
    for sample_id, diagnosis, file, row in zip(
        truth["dicom_id"], truth["diagnosis"], truth["file"], truth[ROW], strict=True
    ):
        if sample_id not in films:
            continue
        wrong += _truth_faults(folder, file, diagnosis, EGD_CLASSES[films[sample_id][0]], row)
        paths.setdefault(sample_id, []).append(folder / file)
    if wrong:
        raise DataError(f"{table} does not fit the films. Write the data set again:", wrong)
    return {
        sample_id: MaskFileRegion(films[sample_id][0], "lesion", tuple(files), films[sample_id][1])
        for sample_id, files in paths.items()
    }


def _truth_faults(folder: Path, file: str, diagnosis: str, expected: str, row: int) -> Sequence[str]:
    if diagnosis != expected:
        return [f"row {row}: diagnosis {diagnosis!r}, the master sheet says {expected!r}"]
    if not is_inside(folder / file, folder):
        return [f"row {row}: the mask lies outside the folder"]
    return [] if (folder / file).is_file() else [f"row {row}: no mask file"]
