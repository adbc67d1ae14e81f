"""The phantom in the layout of MIMIC-CXR-JPG 2.1.0: the films, and the tables that name them."""

from pathlib import Path

import numpy as np

from data_modules.phantom.cases import Case
from data_modules.phantom.film import Film
from data_modules.phantom.labels import CHEXPERT
from data_modules.phantom.tables import csv_text, write_gz, write_jpg

ROOT = Path("physionet.org/files/mimic-cxr-jpg/2.1.0")

METADATA_COLUMNS = (
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)
SPLIT_COLUMNS = ("dicom_id", "study_id", "subject_id", "split")
CHEXPERT_COLUMNS = ("subject_id", "study_id", *CHEXPERT)

TABLES = {
    "metadata": ("mimic-cxr-2.0.0-metadata.csv.gz", METADATA_COLUMNS),
    "split": ("mimic-cxr-2.0.0-split.csv.gz", SPLIT_COLUMNS),
    "chexpert": ("mimic-cxr-2.0.0-chexpert.csv.gz", CHEXPERT_COLUMNS),
}


def write_film(
    root: Path, case: Case, film: Film, labels: dict[str, float | None], rng: np.random.Generator
) -> dict[str, str]:
    """Write one film; return its rows of the tables.

    Args:
        root: folder that holds ``physionet.org``.
        case: the film's ids.
        film: the drawn film.
        labels: CheXpert label -> 1, 0, -1 or None.
        rng: for date and time of the study.

    Returns:
        Key of ``TABLES`` -> CSV rows as text.
    """
    write_jpg(root / ROOT / "files" / case.folder / f"{case.dicom_id}.jpg", film.image)
    height, width = film.image.shape
    upright = film.view == "PA"
    procedure = "CHEST (PA AND LAT)" if upright else "CHEST (PORTABLE AP)"
    month, day = rng.integers(1, 13), rng.integers(1, 29)
    seconds = f"{rng.integers(24):02d}{rng.integers(60):02d}{rng.integers(60):02d}.{rng.integers(1000):03d}"
    metadata = (
        case.dicom_id,
        case.subject_id,
        case.study_id,
        procedure,
        film.view,
        height,
        width,
        f"{rng.integers(2110, 2200)}{month:02d}{day:02d}",
        seconds,
        procedure,
        "postero-anterior" if upright else "antero-posterior",
        "Erect" if upright else "Recumbent",
    )
    return {
        "metadata": csv_text([metadata]),
        "split": csv_text([(case.dicom_id, case.study_id, case.subject_id, case.split)]),
        "chexpert": csv_text([(case.subject_id, case.study_id, *(labels[name] for name in CHEXPERT))]),
    }


def write_tables(root: Path, rows: dict[str, str]) -> None:
    """Write the three compressed tables from the rows of all films."""
    for key, (name, columns) in TABLES.items():
        write_gz(root / ROOT / name, csv_text([columns]) + rows[key])
