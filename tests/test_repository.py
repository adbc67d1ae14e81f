"""What must never be in the repository: films, tables of patients, bulky data."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image, UnidentifiedImageError

ROOT = Path(__file__).parents[1]
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".dcm"}
DATA = {".csv", ".tsv", ".json", ".jsonl", ".gz", ".zip", ".npz", ".npy", ".parquet", ".pkl", ".h5", ".txt", ".xlsx"}
WEIGHTS = {".ckpt", ".pt", ".pth", ".safetensors", ".onnx"}
TABLES = {".csv", ".tsv", ".txt", ".json", ".jsonl"}
IDENTIFIER = re.compile(rb"\b[0-9a-f]{8}(-[0-9a-f]{8}){4}\b|(?<![\w.])p?1[0-9]{7}(?![\w.])")
"""A film's id (five groups of eight hex digits) or a patient's (eight digits, the first a 1)."""


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def too_large_for_an_icon(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return max(image.size) > 64
    except UnidentifiedImageError:
        return True


def test_no_tracked_file_is_a_film_or_weights(tracked: list[Path]) -> None:
    pictures = [path for path in tracked if path.suffix.lower() in IMAGES]
    weights = [path for path in tracked if path.suffix.lower() in WEIGHTS]
    assert [path for path in pictures if too_large_for_an_icon(path)] + weights == []


def test_no_tracked_data_file_is_large(tracked: list[Path]) -> None:
    data = [path for path in tracked if path.suffix.lower() in DATA]
    assert [path for path in data if path.stat().st_size > 200_000] == []


def test_no_tracked_table_holds_ids_of_films_or_patients(tracked: list[Path]) -> None:
    tables = [path for path in tracked if path.suffix.lower() in TABLES]
    assert [path for path in tables if IDENTIFIER.search(path.read_bytes())] == []


def test_the_rules_notice_films_and_ids(tmp_path: Path) -> None:
    Image.new("L", (65, 10)).save(tmp_path / "film.png")
    Image.new("L", (64, 64)).save(tmp_path / "icon.png")
    (tmp_path / "film.dcm").write_bytes(b"DICM")
    assert [too_large_for_an_icon(tmp_path / name) for name in ("film.png", "icon.png", "film.dcm")] == [
        True,
        False,
        True,
    ]
    film = b"-".join([b"0123abcd"] * 5)
    for cell in (film, b"10000032", b"p10000032"):
        assert IDENTIFIER.search(b"id,x\n" + cell + b",3\n")
    assert not IDENTIFIER.search(b"0.10000032,123456789,20240101,1000003\n")
