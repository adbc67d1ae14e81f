"""EGD-CXR 1.0.0 ("EyeGaze"): one radiologist, three exclusive classes, films from MIMIC-CXR."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from data_modules.errors import DataError
from data_modules.images import image_size
from data_modules.readings import ReadingTable, Region
from data_modules.regions import MaskFileRegion
from data_modules.sources.csv_tables import ROW, masked, merge_duplicates, read_csv, read_header, require_shape
from data_modules.sources.egd_check import PAD_COLUMNS, SCREEN_COLUMNS, screen_agreement
from data_modules.sources.gaze_points import elapsed, group_fixations, keep
from data_modules.sources.locate import GAZE_TABLES, PointSource, is_inside
from data_modules.sources.mimic_cxr import DICOM_ID, DICOM_ID_TEXT, FilmIndex, Missing
from gaze_lightning.gaze import EGD_SIGMA_PX, Fixations, scaled_sigma

EGD_CLASSES = ("Normal", "CHF", "pneumonia")
EgdSigma = Literal["ggcam", "egd"] | float
"""Standard deviation of the Gaussian per point: that of GG-CAM (`scaled_sigma`), that of the data set's authors
(150 px of the original film), or pixels of the original film."""

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
    sigma: EgdSigma = "ggcam",
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
        sigma: standard deviation of the Gaussian per point; see `EgdSigma`.
        missing: what to do about films that are not on disk, and masks that are unreadable or not of their film's size.
        lesion_root: folder with ``truth.csv`` and lesion masks (the phantom has one; the real data set does not).

    Returns:
        Single-label table over `EGD_CLASSES`; ``split`` is MIMIC-CXR's official one; regions are the anatomy masks of
        the film's class where the files exist, and lesions.

    Raises:
        DataError: if a table lacks columns or has cells, ids or labels that cannot be right, if a film does not have
            exactly one class, if the patient differs from MIMIC-CXR's, if no gaze row belongs to a film of the sheet,
            or if films are missing or masks faulty (``missing = "error"``).
        ValueError: if ``sigma`` is neither a known name nor a positive number.
    """
    if sigma not in ("ggcam", "egd") and (isinstance(sigma, str) or not 0 < sigma < np.inf):
        raise ValueError(f"sigma must be ggcam, egd or a positive number of film pixels, got {sigma}")
    counts: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    pads = [name for name in PAD_COLUMNS if name in read_header(root / _SHEET)]
    sheet = read_csv(root / _SHEET, text=["dicom_id", "patient_id"], numeric=[*EGD_CLASSES, *pads])
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
    screens = pd.concat([frame[["height", "width"]], sheet[pads]], axis=1)
    fixations, note = _read_gaze(root / GAZE_TABLES[point_source], point_source, frame, known, screens, sigma, lost)
    outlines = _anatomy(root, frame, labels, lost)
    if lesion_root is not None:
        outlines += _lesions(lesion_root, frame, labels)
    regions = _sound(outlines, missing, lost)
    return ReadingTable(frame, labels, EGD_CLASSES, "single", fixations, regions, dict(counts), dict(lost), (note,))


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
    screens: pd.DataFrame,
    sigma: EgdSigma,
    counts: Counter[str],
) -> tuple[dict[str, Fixations], str]:
    """Return the fixations of each reading, and how well film and screen coordinates agree."""
    numeric, header = ["X_ORIGINAL", "Y_ORIGINAL"], read_header(path)
    if point_source == "fixations":
        numeric += ["FPOGS", "FPOGD", "FPOGV"]
    elif "Time (in secs)" in header:
        numeric.append("Time (in secs)")
    screen = [name for name in SCREEN_COLUMNS if name in header]
    rows = read_csv(path, repeated=["DICOM_ID"], numeric=[*numeric, *screen])
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
    if sigma == "ggcam":
        spread = scaled_sigma(frame["height"], frame["width"])[sample]
    else:
        spread = np.full(len(rows), EGD_SIGMA_PX if sigma == "egd" else sigma, dtype=np.float64)
    points = {
        "x": rows["X_ORIGINAL"].to_numpy() + 0.5,
        "y": rows["Y_ORIGINAL"].to_numpy() + 0.5,
        "duration": duration,
        "sigma_x": spread,
        "sigma_y": spread,
        "start": start,
    }
    return group_fixations(points, sample, frame["sample_id"].tolist()), screen_agreement(rows, screens)


def _stranger(name: str) -> int:
    return -1 if len(name) == _CALIBRATION_LENGTH else -2


def _anatomy(
    root: Path, frame: pd.DataFrame, labels: npt.NDArray[np.int64], counts: Counter[str]
) -> list[tuple[str, str, MaskFileRegion]]:
    """Return sample id, place for messages, and anatomy mask of each film that has those of its class."""
    regions: list[tuple[str, str, MaskFileRegion]] = []
    for sample_id, place, height, width, label in zip(
        frame["sample_id"], frame["source_row"], frame["height"], frame["width"], labels.tolist(), strict=True
    ):
        names = ANATOMY.get(EGD_CLASSES[label], ())
        paths = tuple(path for name in names if (path := root / _SEGMENTS / sample_id / f"{name}.png").is_file())
        if paths and len(paths) == len(names):
            regions.append((sample_id, place, MaskFileRegion(label, "anatomy", paths, (int(height), int(width)))))
        elif names:
            counts["films without the anatomy masks of their class (kept)"] += 1
    return regions


def _sound(
    outlines: Sequence[tuple[str, str, MaskFileRegion]], missing: Missing, counts: Counter[str]
) -> dict[str, list[Region]]:
    """Return the outlines of each sample; refuse, or leave out, those whose files do not fit their films."""
    regions: dict[str, list[Region]] = {}
    faults: list[str] = []
    for sample_id, place, region in outlines:
        found = {path: size for path in region.paths if (size := image_size(path)) != region.film_size}
        for path, size in found.items():
            name = f"{path.stem} mask" if region.kind == "anatomy" else "lesion mask"
            stated = f"{region.film_size[0]} x {region.film_size[1]}"
            seen = size if isinstance(size, str) else f"{size[0]} x {size[1]} pixels, the film {stated}"
            faults.append(f"{place}, {name}: {seen}")
        if found:
            counts["unusable masks"] += 1
        else:
            regions.setdefault(sample_id, []).append(region)
    if faults and missing == "error":
        raise DataError(
            f"{len(faults)} mask file(s) are missing, unreadable or not of their film's size (height x width). Restore "
            "them, or set data.init_args.missing to drop to go on without them:",
            faults,
        )
    return regions


def _lesions(folder: Path, frame: pd.DataFrame, labels: npt.NDArray[np.int64]) -> list[tuple[str, str, MaskFileRegion]]:
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
    places: dict[str, str] = {}
    wrong: list[str] = []
    for sample_id, diagnosis, file, row in zip(
        truth["dicom_id"], truth["diagnosis"], truth["file"], truth[ROW], strict=True
    ):
        if sample_id not in films:
            continue
        wrong += _truth_faults(folder, file, diagnosis, EGD_CLASSES[films[sample_id][0]], row)
        paths.setdefault(sample_id, []).append(folder / file)
        places.setdefault(sample_id, f"{table.name} row {row}")
    if wrong:
        raise DataError(f"{table} does not fit the films. Write the data set again:", wrong)
    return [
        (sample_id, places[sample_id], MaskFileRegion(films[sample_id][0], "lesion", tuple(files), films[sample_id][1]))
        for sample_id, files in paths.items()
    ]


def _truth_faults(folder: Path, file: str, diagnosis: str, expected: str, row: int) -> Sequence[str]:
    if diagnosis != expected:
        return [f"row {row}: diagnosis {masked(diagnosis)!r}, the master sheet says {expected!r}"]
    if not is_inside(folder / file, folder):
        return [f"row {row}: the mask lies outside the folder"]
    return []
