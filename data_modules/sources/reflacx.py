"""REFLACX 1.0.0: readings with certainties per label, ellipses, and zooming readers; films from MIMIC-CXR."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from data_modules.errors import DataError
from data_modules.readings import ReadingTable, Region
from data_modules.regions import EllipseRegion
from data_modules.sources.csv_tables import ROW, flags, merge_duplicates, read_csv, require_shape
from data_modules.sources.gaze_points import group_fixations, keep
from data_modules.sources.many_csv import FILE, read_many
from data_modules.sources.mimic_cxr import FilmIndex, Missing
from data_modules.sources.reflacx_labels import PHASE_LABELS, REFLACX_LABELS, label_columns
from gaze_lightning.gaze import REFLACX_SIGMA_DEGREES, Fixations

_POSITION = ["x_position", "y_position"]
_TIME = ["timestamp_start_fixation", "timestamp_end_fixation"]
_RESOLUTION = ["angular_resolution_x_pixels_per_degree", "angular_resolution_y_pixels_per_degree"]
_SHOWN = [f"{end}_shown_from_image" for end in ("xmin", "ymin", "xmax", "ymax")]
_ELLIPSE = ["xmin", "ymin", "xmax", "ymax", "certainty"]
_NEAR_DEGREES = 0.5


def read_reflacx(
    root: Path,
    films: FilmIndex,
    *,
    phases: Sequence[int] = (1, 2, 3),
    labels: Sequence[str] | None = None,
    certainty_threshold: float = 3,
    sigma_degrees: float = REFLACX_SIGMA_DEGREES,
    missing: Missing = "error",
) -> ReadingTable:
    """Read REFLACX (``spec/datasets.md`` section 2). Several readings of one film stay separate samples.

    Readings whose eye tracking was discarded are left out. Fixations are left out, and counted, if a number is blank,
    if they do not end after their start, if the position lies outside the film, if nothing of the film was on screen,
    or if the position is more than half a degree beyond the part on screen (the authors' filter,
    ``filter_fixations.py`` in ``ricbl/eyetracking``). Positions are whole pixels in the source; 0.5 is added once. The
    shown rectangle is cut to the film. Starts are seconds from the start of the dictation and can be negative.

    Args:
        root: the folder with ``main_data``.
        films: the index of the MIMIC-CXR-JPG films.
        phases: the phases to read.
        labels: the classes, out of `REFLACX_LABELS` and ``"Support devices"``; None for all of `REFLACX_LABELS`.
        certainty_threshold: a label is positive from this certainty on (0..5; the authors take 3, "about 50 %").
        sigma_degrees: standard deviation of the Gaussian per fixation in degrees of visual angle (the authors take 1).
        missing: what to do about films, and tables of readings, that are not on disk.

    Returns:
        Multi-label table, float32 in {0, 1, NaN}; NaN where a phase did not ask for a label (see `reflacx_labels`).
        ``split`` is the source's own (MIMIC-CXR's). Lesions are the ellipses with at least ``certainty_threshold``.

    Raises:
        DataError: if a table lacks columns or has cells, ids or certainties that cannot be right, if patient, film
            size or split differ from MIMIC-CXR's, or if films or tables are missing (``missing = "error"``).
        ValueError: if an argument names an unknown phase or label, or is out of its range.
    """
    classes = tuple(REFLACX_LABELS if labels is None else labels)
    _check_arguments(phases, classes, certainty_threshold, sigma_degrees)
    counts: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    readings = pd.concat(
        [_read_phase(root, phase, classes, certainty_threshold, counts) for phase in phases], ignore_index=True
    )
    usable = ~readings["discarded"].to_numpy(dtype=np.bool_)
    readings = keep(readings, usable, "readings with discarded eye tracking", counts).reset_index(drop=True)
    found, present = films.lookup(readings["dicom_id"].tolist(), readings["place"].tolist(), missing)
    _compare_with_mimic(readings, found, present)
    readings, found = (
        keep(readings, present, "readings of films missing on disk", counts).reset_index(drop=True),
        found[present].reset_index(drop=True),
    )
    frame = pd.DataFrame(
        {
            "sample_id": readings["id"],
            "image_id": readings["dicom_id"],
            "subject": found["subject"],
            "image_path": found["image_path"],
            "height": found["height"].astype(np.int64),
            "width": found["width"].astype(np.int64),
            "split": readings["split"],
            "source_row": readings["place"],
        }
    )
    fixations = _read_fixations(root, frame, sigma_degrees, missing, lost)
    regions = _read_ellipses(root, frame, classes, certainty_threshold, missing, lost)
    target = np.array(readings[list(classes)], dtype=np.float32)
    return ReadingTable(frame, target, classes, "multi", fixations, regions, dict(counts), dict(lost))


def _check_arguments(phases: Sequence[int], classes: Sequence[str], threshold: float, sigma: float) -> None:
    if not phases or len(set(phases)) != len(phases) or not set(phases) <= {1, 2, 3}:
        raise ValueError(f"phases must be out of 1, 2, 3, each once; got {list(phases)}")
    known = [*REFLACX_LABELS, "Support devices"]
    unknown = [name for name in classes if name not in known]
    if unknown or not classes or len(set(classes)) != len(classes):
        raise ValueError(
            f"unknown, repeated or no labels {unknown or list(classes)}; choose out of: {', '.join(known)}"
        )
    if not (0 < threshold <= 5 and sigma > 0):
        raise ValueError(f"certainty_threshold must be in (0, 5] and sigma_degrees positive; got {threshold}, {sigma}")


def _read_phase(root: Path, phase: int, classes: Sequence[str], threshold: float, counts: Counter[str]) -> pd.DataFrame:
    """Return id, split, discarded, dicom_id, subject_id, image sizes, place, and one float column per class."""
    table = f"metadata_phase_{phase}.csv"
    columns = {name: label_columns(phase, name) for name in classes}
    certainties = sorted({c for names in columns.values() for c in names} - {"Support devices"})
    devices = ["Support devices"] if "Support devices" in classes else []
    frame = read_csv(
        root / "main_data" / table,
        text=["id", "split", "eye_tracking_data_discarded", "dicom_id", "subject_id", *devices],
        numeric=["image_size_x", "image_size_y", *certainties],
    )
    require_shape(frame, "id", rf"P{phase}[0-9]{{2}}R[0-9]{{6}}", f"P{phase}, two digits, R, six digits", table)
    require_shape(frame, "split", "train|validate|test", "train, validate or test", table)
    frame, repeated = merge_duplicates(frame, "id", table)
    if repeated:
        counts["repeated rows of the metadata"] += repeated
    frame["discarded"] = flags(frame, "eye_tracking_data_discarded", table)
    frame["place"] = [f"{table} row {row}" for row in frame[ROW]]
    values = frame[certainties].to_numpy(dtype=np.float64)
    bad = ~(np.isnan(values) | ((values >= 0) & (values <= 5)))
    if bad.any():
        raise DataError(
            f"{table}: certainties must lie in 0..5:",
            [
                f"row {frame[ROW].iloc[row]}, {certainties[column]}: {values[row, column]:g}"
                for row, column in np.argwhere(bad)
            ],
        )
    targets: dict[str, npt.NDArray[np.float64]] = {}
    for name, sources in columns.items():
        if name == "Support devices":
            targets[name] = flags(frame, name, table).astype(np.float64)
        elif sources:
            certainty = np.fmax.reduce(frame[sources].to_numpy(dtype=np.float64), axis=1)
            targets[name] = np.where(np.isnan(certainty), np.nan, certainty >= threshold)
        else:
            targets[name] = np.full(len(frame), np.nan)
    kept = frame[["id", "split", "discarded", "dicom_id", "subject_id", "image_size_x", "image_size_y", "place"]]
    return pd.concat([kept, pd.DataFrame(targets, index=frame.index)], axis=1)


def _compare_with_mimic(readings: pd.DataFrame, found: pd.DataFrame, present: npt.NDArray[np.bool_]) -> None:
    said = readings[["image_size_x", "image_size_y"]].to_numpy(dtype=np.float64)
    listed = found[["width", "height"]].to_numpy(dtype=np.float64)
    patient = present & (found["subject"] != readings["subject_id"]).to_numpy()
    size = present & (said != listed).any(axis=1)
    stated = found["split"].isin(["train", "validate", "test"])
    split = present & (stated & (found["split"] != readings["split"])).to_numpy()
    if patient.any() or size.any() or split.any():
        raise DataError(
            "REFLACX and MIMIC-CXR-JPG disagree about a film's patient, size (fixations would be shifted) or split. "
            "Restore the metadata files:",
            [f"{readings['place'].iloc[n]}: another patient" for n in np.flatnonzero(patient)]
            + [
                f"{readings['place'].iloc[n]}: {said[n, 0]:g} x {said[n, 1]:g} there, {listed[n, 0]:g} x "
                f"{listed[n, 1]:g} in MIMIC-CXR-JPG"
                for n in np.flatnonzero(size)
            ]
            + [
                f"{readings['place'].iloc[n]}: {readings['split'].iloc[n]} there, {found['split'].iloc[n]} in "
                "MIMIC-CXR-JPG"
                for n in np.flatnonzero(split)
            ],
        )


def _tables(
    root: Path, frame: pd.DataFrame, name: str, missing: Missing, counts: Counter[str]
) -> tuple[list[int], list[Path], list[str]]:
    """Return the readings that have the table, its paths, and what to call them (never by id)."""
    paths = [root / "main_data" / sample_id / name for sample_id in frame["sample_id"]]
    here = [n for n, path in enumerate(paths) if path.is_file()]
    if len(here) < len(paths):
        absent = [f"{name} ({frame['source_row'].iloc[n]})" for n in sorted(set(range(len(paths))) - set(here))]
        if missing == "error":
            raise DataError(
                f"REFLACX: {len(absent)} reading(s) below {root / 'main_data'} lack {name}. Complete the download, or "
                "set data.init_args.missing to drop to go on without them:",
                absent,
            )
        counts[f"readings without {name} (kept)"] += len(absent)
    return here, [paths[n] for n in here], [f"{name} ({frame['source_row'].iloc[n]})" for n in here]


def _read_fixations(
    root: Path, frame: pd.DataFrame, sigma_degrees: float, missing: Missing, counts: Counter[str]
) -> dict[str, Fixations]:
    here, paths, names = _tables(root, frame, "fixations.csv", missing, counts)
    numbers = [*_TIME, *_POSITION, *_RESOLUTION]
    rows = read_many(paths, names, numeric=[*numbers, *_SHOWN])
    rows["sample"] = np.asarray(here, dtype=np.int64)[rows[FILE].to_numpy()]
    rows = keep(rows, np.isfinite(rows[numbers].to_numpy()).all(axis=1), "fixations with a blank or NaN", counts)
    start, end = (rows[column].to_numpy() for column in _TIME)
    rows = keep(rows, end > start, "fixations that do not end after their start", counts)
    rows = keep(rows, (rows[_RESOLUTION] > 0).all(axis=1).to_numpy(), "fixations without angular resolution", counts)
    width, height = (frame[side].to_numpy()[rows["sample"].to_numpy()] for side in ("width", "height"))
    x, y = (rows[column].to_numpy() + 0.5 for column in _POSITION)
    rows = keep(rows, (x >= 0) & (x < width) & (y >= 0) & (y < height), "fixations off the film", counts)
    rows = keep(rows, *_on_screen(rows, frame), counts)
    sample = rows["sample"].to_numpy()
    shown = _shown(rows, frame)
    x, y = (rows[column].to_numpy() + 0.5 for column in _POSITION)
    per_degree = rows[_RESOLUTION].to_numpy()
    beyond_x = np.maximum(np.maximum(shown[:, 0] - x, x - shown[:, 2]), 0) / per_degree[:, 0]
    beyond_y = np.maximum(np.maximum(shown[:, 1] - y, y - shown[:, 3]), 0) / per_degree[:, 1]
    near = np.hypot(beyond_x, beyond_y) <= _NEAR_DEGREES
    rows = keep(rows, near, "fixations beside the part on screen", counts)
    points = {
        "x": x[near],
        "y": y[near],
        "duration": (rows[_TIME[1]] - rows[_TIME[0]]).to_numpy(),
        "sigma_x": sigma_degrees * per_degree[near, 0],
        "sigma_y": sigma_degrees * per_degree[near, 1],
        "start": rows[_TIME[0]].to_numpy(),
        "visible": shown[near],
    }
    return group_fixations(points, sample[near], frame["sample_id"].tolist())


def _shown(rows: pd.DataFrame, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return the part of the film on screen ``[n, 4]`` (x0, y0, x1, y1), whole pixels as the authors round it."""
    width, height = (frame[side].to_numpy()[rows["sample"].to_numpy()] for side in ("width", "height"))
    limit = np.stack([width, height, width, height], axis=1)
    return np.asarray(np.clip(np.round(rows[_SHOWN].to_numpy(dtype=np.float64)), 0, limit), dtype=np.float64)


def _on_screen(rows: pd.DataFrame, frame: pd.DataFrame) -> tuple[npt.NDArray[np.bool_], str]:
    shown = _shown(rows, frame)
    good = (shown[:, 2] > shown[:, 0]) & (shown[:, 3] > shown[:, 1])
    return good, "fixations while nothing of the film was on screen"


def _read_ellipses(
    root: Path, frame: pd.DataFrame, classes: Sequence[str], threshold: float, missing: Missing, counts: Counter[str]
) -> dict[str, list[Region]]:
    regions: dict[str, list[Region]] = {}
    wrong: list[str] = []
    here, paths, names = _tables(root, frame, "anomaly_location_ellipses.csv", missing, counts)
    for phase in (1, 2, 3):
        members = [n for n, index in enumerate(here) if frame["sample_id"].iloc[index][1] == str(phase)]
        flagged = {name: label_columns(phase, name) for name in classes if name != "Support devices"}
        columns = [column for column in PHASE_LABELS[phase] if any(column in names for names in flagged.values())]
        rows = read_many([paths[n] for n in members], [names[n] for n in members], numeric=_ELLIPSE, text=columns)
        certainty = rows["certainty"].to_numpy(dtype=np.float64)
        bad = ~(np.isnan(certainty) | ((certainty >= 0) & (certainty <= 5)))
        wrong += [
            f"{names[members[rows[FILE].iloc[n]]]} row {rows[ROW].iloc[n]}: {certainty[n]:g}"
            for n in np.flatnonzero(bad)
        ]
        rows = keep(rows, ~np.isnan(certainty), "ellipses without a certainty", counts)
        rows = keep(rows, (rows["certainty"] >= threshold).to_numpy(), "ellipses below the certainty threshold", counts)
        box = rows[_ELLIPSE[:4]].to_numpy(dtype=np.float64)
        good = np.isfinite(box).all(axis=1) & (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
        rows = keep(rows, good, "ellipses without area", counts)
        index = np.array([here[n] for n in members], dtype=np.int64)[rows[FILE].to_numpy()]
        box = rows[_ELLIPSE[:4]].to_numpy(dtype=np.float64)
        width, height = frame["width"].to_numpy()[index], frame["height"].to_numpy()[index]
        on_film = (box[:, 2] > 0) & (box[:, 3] > 0) & (box[:, 0] < width) & (box[:, 1] < height)
        rows = keep(rows, on_film, "ellipses off the film", counts)
        reading = [frame["sample_id"].iloc[n] for n in index[on_film]]
        places = [f"{names[members[file]]} row {row}" for file, row in zip(rows[FILE], rows[ROW], strict=True)]
        marked = {column: flags(rows, column, "damaged tables", places.__getitem__) for column in columns}
        corners = box[on_film].tolist()
        for name, sources in flagged.items():
            chosen = np.logical_or.reduce([marked[column] for column in sources], axis=0) if sources else np.zeros(0)
            for n in np.flatnonzero(chosen):
                regions.setdefault(reading[n], []).append(EllipseRegion(classes.index(name), "lesion", *corners[n]))
    if wrong:
        raise DataError("anomaly_location_ellipses.csv: certainty must lie in 0..5. Restore the tables:", wrong)
    return regions
