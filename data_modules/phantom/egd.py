"""The phantom in the layout of EGD-CXR 1.0.0 ("EyeGaze"): one reader, all films, a screen of 1920 x 1080 pixels."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_modules.phantom.boxes import named_boxes
from data_modules.phantom.cases import Case
from data_modules.phantom.film import Film
from data_modules.phantom.gaze import ScanPath
from data_modules.phantom.labels import CHEXPERT, report_phrases, strongest
from data_modules.phantom.screen import SCREEN, Pads, eye_rows
from data_modules.phantom.tables import Cell, csv_text, write_mask, write_text

ROOT = Path("physionet.org/files/egd-cxr/1.0.0")

_CHX = {name: name.lower().replace(" ", "_") + "__chx" for name in CHEXPERT}
_FINDINGS = {
    "consolidation": "Consolidation",
    "enlarged_cardiac_silhouette": "Enlarged cardiac silhouette",
    "linear__patchy_atelectasis": "Atelectasis",
    "lobar__segmental_collapse": None,
    "not_otherwise_specified_opacity___pleural__parenchymal_opacity__": "Groundglass opacity",
    "pleural_effusion_or_thickening": "Pleural abnormality",
    "pulmonary_edema__hazy_opacity": "Pulmonary edema",
    "normal_anatomically": None,
    "elevated_hemidiaphragm": None,
    "hyperaeration": "High lung volume / emphysema",
    "vascular_redistribution": "Interstitial lung disease",
}
MASTER_COLUMNS = (
    "dicom_id",
    "path",
    "study_id",
    "patient_id",
    "stay_id",
    "gender",
    "anchor_age",
    "image_top_pad",
    "image_bottom_pad",
    "image_left_pad",
    "image_right_pad",
    *(name for i in range(1, 10) for name in (f"dx{i}", f"dx{i}_icd")),
    "normal_reports",
    "Normal",
    "CHF",
    "pneumonia",
    *_FINDINGS,
    *_CHX.values(),
    "cxr_exam_indication",
)
"""The 59 columns of ``master_sheet.csv``."""

FIXATION_COLUMNS = (
    "SESSION_ID",
    "MEDIA_ID",
    "DICOM_ID",
    "CNT",
    "Time (in secs)",
    "TIMETICK(f=10000000)",
    "FPOGX",
    "FPOGY",
    "FPOGS",
    "FPOGD",
    "FPOGID",
    "FPOGV",
    "BPOGX",
    "BPOGY",
    "BPOGV",
    "LPCX",
    "LPCY",
    "LPD",
    "LPS",
    "LPV",
    "RPCX",
    "RPCY",
    "RPD",
    "RPS",
    "RPV",
    "BKID",
    "BKDUR",
    "BKPMIN",
    "LPMM",
    "LPMMV",
    "RPMM",
    "RPMMV",
    "SACCADE_MAG",
    "SACCADE_DIR",
    "VID_FRAME",
    "X_ORIGINAL",
    "Y_ORIGINAL",
)
"""The 37 columns of ``fixations.csv`` and ``eye_gaze.csv``."""

BOX_COLUMNS = ("dicom_id", "bbox_name", "x1", "x2", "y1", "y2")
CRITERIA = {"CHF": "CHF", "Normal": "normals", "pneumonia": "pneumonia"}
CRITERIA_COLUMNS = ("dicom_id", "subject_id", "study_id")
SEGMENTS = ("left_lung", "right_lung", "mediastanum", "aortic_knob")

_DIAGNOSES = {
    "Normal": (("Chest pain", "R079"), ("Dizziness and giddiness", "R42"), ("Syncope and collapse", "R55")),
    "CHF": (("Heart failure, unspecified", "I509"), ("Shortness of breath", "R0602"), ("Edema", "R609")),
    "pneumonia": (("Pneumonia, unspecified organism", "J189"), ("Cough", "R05"), ("Fever, unspecified", "R509")),
}
_REASONS = ("chest pain", "shortness of breath", "cough and fever", "weakness", "status post fall", "dyspnea")


def write_film(
    root: Path,
    case: Case,
    film: Film,
    path: ScanPath,
    labels: dict[str, float | None],
    rng: np.random.Generator,
    *,
    raw: bool,
) -> dict[str, str]:
    """Write the files of one film; return its rows of the tables.

    Args:
        root: folder that holds ``physionet.org``.
        case: the film's ids.
        film: the drawn film.
        path: the reading of EGD-CXR's one reader; left out of the tables where ``case.missing_gaze``.
        labels: CheXpert label -> 1, 0, -1 or None.
        rng: for everything else that is written.
        raw: also write the 60 Hz samples, as a part that ``write_tables`` puts into ``eye_gaze.csv``.

    Returns:
        Table (``master``, ``fixations``, ``boxes``, ``criteria/<name>``) -> CSV rows as text.
    """
    height, width = film.image.shape
    pads = Pads.fit(height, width)
    folder = root / ROOT / "audio_segmentation_transcripts" / case.dicom_id
    for name in SEGMENTS:
        write_mask(folder / f"{name}.png", film.anatomy[name])
    write_text(folder / "transcript.json", _transcript(film, path, rng))
    rows: list[Sequence[Cell]] = []
    samples: list[Sequence[Cell]] = []
    raw_rng = rng.spawn(1)[0]  # of its own: the raw samples change nothing else
    if case.calibration:
        head = (case.session, case.media - 1, case.dicom_id[:39])
        dot = _calibration(rng)
        rows += eye_rows(head, dot, Pads(0, 0, 0, 0, *SCREEN), rng)
        if raw:
            samples += eye_rows(head, dot, Pads(0, 0, 0, 0, *SCREEN), raw_rng, raw=True)
    if not case.missing_gaze:
        head = (case.session, case.media, case.dicom_id)
        rows += eye_rows(head, path, pads, rng)
        if raw:
            samples += eye_rows(head, path, pads, raw_rng, raw=True)
    if raw:
        write_text(_part(root, case.index), csv_text(samples))
    boxes = [(case.dicom_id, name, x1, x2, y1, y2) for name, (x1, y1, x2, y2) in named_boxes(film).items()]
    return {
        "master": csv_text([_master_row(case, film, pads, labels, rng)]),
        "fixations": csv_text(rows),
        "boxes": csv_text(boxes),
        f"criteria/{CRITERIA[case.diagnosis]}": csv_text([(case.dicom_id, case.subject_id, case.study_id)]),
    }


def write_tables(
    root: Path, rows: dict[str, str], cases: Sequence[Case], rng: np.random.Generator, *, raw: bool
) -> None:
    """Write the tables from the rows of all films, and the one transcript folder that belongs to no case.

    Args:
        root: folder that holds ``physionet.org``.
        rows: table -> CSV rows of all films, in the order of ``cases``.
        cases: all cases.
        rng: for the id of the extra folder.
        raw: join the parts of ``eye_gaze.csv``.
    """
    base = root / ROOT
    write_text(base / "master_sheet.csv", csv_text([MASTER_COLUMNS]) + rows["master"])
    write_text(base / "fixations.csv", csv_text([FIXATION_COLUMNS]) + rows["fixations"])
    write_text(base / "bounding_boxes.csv", csv_text([BOX_COLUMNS]) + rows["boxes"])
    for name in CRITERIA.values():
        text = csv_text([CRITERIA_COLUMNS]) + rows.get(f"criteria/{name}", "")
        write_text(base / "inclusion_exclusion_criteria_outputs" / f"{name}.csv", text)
    extra = "-".join(f"{part:08x}" for part in rng.integers(2**32, size=5))
    empty = json.dumps({"full_text": "", "time_stamped_text": []})
    write_text(base / "audio_segmentation_transcripts" / extra / "transcript.json", empty)
    if raw:
        with (base / "eye_gaze.csv").open("wb") as file:
            file.write(csv_text([FIXATION_COLUMNS]).encode())
            for case in cases:
                part = _part(root, case.index)
                file.write(part.read_bytes())
                part.unlink()
        _part(root, 0).parent.rmdir()


def _part(root: Path, index: int) -> Path:
    return root / ROOT / "eye_gaze.parts" / f"{index:06d}.csv"


def _calibration(rng: np.random.Generator) -> ScanPath:
    """A few looks at the white dot in the middle of the screen; positions in screen pixels."""
    n = int(rng.integers(3, 7))
    duration = rng.uniform(0.3, 0.8, n)
    start = 0.2 + np.cumsum(duration + 0.05) - duration
    x, y = SCREEN[1] / 2 + 25 * rng.normal(size=n), SCREEN[0] / 2 + 25 * rng.normal(size=n)
    return ScanPath(start, duration, x, y, np.full(n, 3.2), np.full(n, -1), False, float(start[-1] + duration[-1]))


def _transcript(film: Film, path: ScanPath, rng: np.random.Generator) -> str:
    """``transcript.json``: what was dictated, with times in seconds."""
    named = [label for label, severity in strongest(film.findings).items() if severity > 0.2 * rng.random()]
    phrases = report_phrases(named)
    edges = np.linspace(0.15, 0.95, len(phrases) + 1) * path.total
    stamped = [
        {"phrase": phrase, "begin_time": round(float(begin), 2), "end_time": round(float(end) - 0.2, 2)}
        for phrase, begin, end in zip(phrases, edges[:-1], edges[1:], strict=True)
    ]
    return json.dumps({"full_text": ". ".join(phrases) + ".", "time_stamped_text": stamped}, indent=1)


def _master_row(
    case: Case, film: Film, pads: Pads, labels: dict[str, float | None], rng: np.random.Generator
) -> list[Cell]:
    decade = 10 * (case.age // 10)
    row: dict[str, Cell] = {
        "dicom_id": case.dicom_id,
        "path": f"files/{case.folder}/{case.dicom_id}.dcm",
        "study_id": case.study_id,
        "patient_id": case.subject_id,
        "stay_id": int(rng.integers(30_000_000, 40_000_000)),
        "gender": case.sex,
        "anchor_age": f"{decade} - {decade + 10}",
        "image_top_pad": pads.top,
        "image_bottom_pad": pads.bottom,
        "image_left_pad": pads.left,
        "image_right_pad": pads.right,
        "normal_reports": 1 if case.diagnosis == "Normal" else None,
    }
    known = _DIAGNOSES[case.diagnosis]
    for i in range(int(rng.integers(1, len(known) + 1))):
        row[f"dx{i + 1}"], row[f"dx{i + 1}_icd"] = known[i]
    row |= {name: int(name == case.diagnosis) for name in ("Normal", "CHF", "pneumonia")}
    present = strongest(film.findings)
    row |= {column: int(label in present) for column, label in _FINDINGS.items()}
    row["normal_anatomically"] = int(not present)
    row |= {column: None if labels[name] is None else int(labels[name] or 0) for name, column in _CHX.items()}
    person = "woman" if case.sex == "F" else "man"
    indication = f"___ year old {person} with {_REASONS[int(rng.integers(len(_REASONS)))]}"
    if case.index % 3 == 1:  # as in the original, a third of the cells go over two lines
        indication += "\n// please evaluate, patient with prior films"
    row["cxr_exam_indication"] = indication
    return [row.get(column) for column in MASTER_COLUMNS]
