"""What the phantom writes on request only: 1000 Hz samples, DICOM films."""

import csv
import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from data_modules.errors import DataError
from data_modules.phantom import PhantomKnobs, is_complete, write_phantom
from tests.test_phantom_formats import EGD, MIMIC, REFLACX, REFLACX_FIXATIONS


def header(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return next(csv.reader(file))


@pytest.fixture(scope="module")
def fixations(phantom_root: Path) -> pd.DataFrame:
    return pd.read_csv(phantom_root / EGD / "fixations.csv")


SMALL = PhantomKnobs(n_train=6, n_validate=3, n_test=3, height=90, width=80, seed=11)


GAZE_DATA = "physionet.org/files/reflacx-xray-localization/1.0.0/gaze_data"


DICOM = "physionet.org/files/mimic-cxr/2.0.0"


def hashes(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plain") / "phantom"
    write_phantom(root, SMALL, workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same phantom with everything that is written on request."""
    pytest.importorskip("pydicom")
    root = tmp_path_factory.mktemp("full") / "phantom"
    write_phantom(root, replace(SMALL, reflacx_gaze=True, dicom=True), workers=1, progress=False)
    return root


def test_extra_files_change_no_byte_of_what_the_default_knobs_write(plain: Path, full: Path) -> None:
    one, other = hashes(plain), hashes(full)
    told = {"phantom_truth/knobs.json", "README.txt"}  # they say what is there
    assert {name for name in one if one[name] != other.get(name)} == told
    extra = set(other) - set(one)
    assert extra
    assert all(name.startswith((GAZE_DATA, DICOM)) for name in extra)


def test_the_record_of_version_1_does_not_name_later_extras(plain: Path, full: Path) -> None:
    record = json.loads((plain / "phantom_truth" / "knobs.json").read_text())
    assert list(record)[-1] == "raw_gaze"
    assert not {"reflacx_gaze", "dicom"} & set(record)
    assert "no gaze_data" in (plain / "README.txt").read_text()
    assert "mimic-cxr/2.0.0" in (full / "README.txt").read_text()
    assert is_complete(full, SMALL)
    assert not is_complete(plain, replace(SMALL, dicom=True))
    with pytest.raises(DataError, match="dicom: not stated there, True asked for"):
        write_phantom(plain, replace(SMALL, dicom=True), workers=1, progress=False)


def gaze_tables(root: Path) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Samples and fixations of every reading."""
    folders = sorted(path.parent for path in (root / GAZE_DATA).glob("P*/gaze.csv"))
    return [(pd.read_csv(f / "gaze.csv"), pd.read_csv(root / REFLACX / f.name / "fixations.csv")) for f in folders]


def test_reflacx_samples_come_at_a_thousand_hertz_with_blanks_where_the_eye_is_lost(full: Path) -> None:
    folders = {path.name for path in (full / GAZE_DATA).iterdir()}
    assert folders == {path.parent.name for path in (full / REFLACX).glob("P*/fixations.csv")}
    first = next((full / GAZE_DATA).iterdir()) / "gaze.csv"
    assert header(first) == ["timestamp_sample", *REFLACX_FIXATIONS[2:]]
    assert first.read_bytes().count(b"\r\n") == first.read_bytes().count(b"\n")
    blank = [*REFLACX_FIXATIONS[2:7]]
    lost = []
    for samples, fixations in gaze_tables(full):
        assert np.allclose(np.diff(samples.timestamp_sample), 0.001, atol=2e-6)
        assert samples.timestamp_sample.iloc[0] < 0
        assert samples.timestamp_sample.iloc[-1] > fixations.timestamp_end_fixation.iloc[-1]
        nothing = samples[blank].isna()
        assert (nothing.any(axis=1) == nothing.all(axis=1)).all()
        assert samples.drop(columns=blank).notna().all(axis=None)
        lost.append(nothing.all(axis=1).mean())
    assert 0.005 < np.mean(lost) < 0.2


def test_reflacx_samples_stay_near_their_fixation_and_share_its_display(full: Path) -> None:
    state = [name for name in REFLACX_FIXATIONS if "shown" in name or "screen" in name or "window" in name]
    checked = zooms = 0
    for samples, fixations in gaze_tables(full):
        for fixation in fixations.to_dict("records"):
            time = samples.timestamp_sample
            during = (time > fixation["timestamp_start_fixation"]) & (time < fixation["timestamp_end_fixation"])
            own = samples[during & samples.x_position.notna()]
            for axis in "xy":
                spread = (own[f"{axis}_position"] - fixation[f"{axis}_position"]).abs()
                per_degree = fixation[f"angular_resolution_{axis}_pixels_per_degree"]
                assert (spread <= 0.5 * per_degree + 1).all()  # half a degree
            for column in state:
                assert (own[column] == fixation[column]).all()
            checked += len(own)
        zooms += samples.xmin_shown_from_image.nunique() > 1
    assert checked > 10_000
    assert zooms > 0


def test_films_as_dicom_are_the_same_films_with_more_grey_levels(full: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    with gzip.open(full / DICOM / "cxr-record-list.csv.gz", "rt") as file:
        records = pd.read_csv(file)
    assert list(records.columns) == ["subject_id", "study_id", "dicom_id", "path"]
    kinds, windows, levels = set(), 0, 0
    for row in records.itertuples():
        film = pydicom.dcmread(full / DICOM / row.path)
        jpg = full / MIMIC / Path(row.path).with_suffix(".jpg")
        grey = cv2.imread(str(jpg), cv2.IMREAD_UNCHANGED).astype(float)
        pixels = film.pixel_array.astype(float)
        if film.PhotometricInterpretation == "MONOCHROME1":
            pixels = 4095 - pixels
        assert film.BitsStored == 12
        assert np.abs(np.floor(pixels / 16) - grey).mean() < 2  # JPEG's own error
        kinds.add(film.PhotometricInterpretation)
        windows += "WindowCenter" in film
        levels = max(levels, len(np.unique(pixels)))
    assert kinds == {"MONOCHROME1", "MONOCHROME2"}
    assert 0 < windows < len(records)
    assert levels > 256
