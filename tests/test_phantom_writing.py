"""Writing the phantom: the same bytes with any number of processes, complete or not at all, refusals."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_modules.errors import DataError
from data_modules.phantom import PhantomKnobs, is_complete, write_phantom
from data_modules.phantom import write as write_module
from tests.test_phantom_formats import EYE, header

TINY = PhantomKnobs(n_train=3, n_validate=3, n_test=3, height=80, width=64, raw_gaze=True)
EGD = "physionet.org/files/egd-cxr/1.0.0"


def tree_hash(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny") / "phantom"
    write_phantom(root, TINY, workers=1, progress=False)
    return root


@pytest.mark.slow  # new processes import the package first
def test_two_processes_write_the_same_bytes_as_one(tiny: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path / "two", TINY, workers=2, progress=False)
    assert tree_hash(tmp_path / "two") == tree_hash(tiny)


def test_raw_samples_come_at_sixty_hertz_and_do_not_change_the_rest(tiny: Path, tmp_path: Path) -> None:
    path = tiny / EGD / "eye_gaze.csv"
    assert header(path) == EYE
    gaze = pd.read_csv(path)
    step = gaze.groupby("DICOM_ID")["Time (in secs)"].diff().dropna()
    assert np.allclose(step, 1 / 60, atol=2e-5)
    assert 0.5 < gaze.FPOGV.mean() < 0.98
    write_phantom(tmp_path / "plain", replace(TINY, raw_gaze=False), workers=1, progress=False)
    raw, plain = tree_hash(tiny), tree_hash(tmp_path / "plain")
    assert {name for name in raw if raw[name] != plain.get(name)} == {
        f"{EGD}/eye_gaze.csv",
        "phantom_truth/knobs.json",
    }


def test_gaze_knobs_leave_the_films_as_they_are(tiny: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path / "other", replace(TINY, gaze_lesion_share=0.8), workers=1, progress=False)
    one, other = tree_hash(tiny), tree_hash(tmp_path / "other")
    films = [name for name in one if name.endswith(".jpg")]
    assert films
    assert all(one[name] == other[name] for name in films)
    assert one[f"{EGD}/fixations.csv"] != other[f"{EGD}/fixations.csv"]


def test_a_finished_phantom_is_not_written_again(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_module, "write_case", lambda *_: pytest.fail("drawn again"))
    write_phantom(tiny, TINY, workers=1, progress=False)


def test_another_phantom_is_refused_naming_the_knobs(tiny: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)another phantom.*seed: 0 there, 7 asked for") as error:
        write_phantom(tiny, replace(TINY, seed=7), workers=1, progress=False)
    assert "gaze_noise" not in str(error.value)
    assert "Choose another folder" in str(error.value)
    assert is_complete(tiny, TINY)


def test_a_folder_with_other_content_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="not empty"):
        write_phantom(tmp_path, TINY, workers=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(DataError, match="is a file"):
        write_phantom(tmp_path / "mine.txt", TINY, workers=1, progress=False)


def test_an_interrupted_writer_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = write_module.write_case
    done = []

    def fail_on_third(root: Path, case: object, knobs: PhantomKnobs) -> dict[str, str]:
        done.append(case)
        if len(done) == 3:
            raise KeyboardInterrupt
        return original(root, case, knobs)  # type: ignore[arg-type]

    monkeypatch.setattr(write_module, "write_case", fail_on_third)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path / "phantom", TINY, workers=1, progress=False)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_all_bad_knobs_are_named_at_once() -> None:
    bad = {
        "n_train": 4.0, "n_test": 0, "height": True, "seed": -1, "missing_gaze": 1.5, "shortcut": float("nan"),
        "gaze_noise": -1.0, "chf_contrast": float("inf"), "pneumonia_contrast": "3", "raw_gaze": 1,
    }  # fmt: skip
    with pytest.raises(DataError) as error:
        PhantomKnobs(**bad)  # type: ignore[arg-type]
    assert sorted(row.split(" = ")[0] for row in error.value.rows) == sorted(bad)
    assert "missing_gaze = 1.5: must be a number in 0..1" in str(error.value)


def test_raw_samples_on_top_do_no_harm_but_are_not_made_up(tiny: Path, tmp_path: Path) -> None:
    plain = replace(TINY, raw_gaze=False)
    assert is_complete(tiny, plain)
    write_phantom(tiny, plain, workers=1, progress=False)
    assert (tiny / EGD / "eye_gaze.csv").is_file()
    write_phantom(tmp_path / "plain", plain, workers=1, progress=False)
    assert not is_complete(tmp_path / "plain", TINY)
    with pytest.raises(DataError, match="raw_gaze: False there, True asked for"):
        write_phantom(tmp_path / "plain", TINY, workers=1, progress=False)
