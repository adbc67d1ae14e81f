import multiprocessing
import os
import pickle

import cv2
import numpy as np
import pytest

from data_modules import cache as cache_module
from data_modules.cache import open_cache
from data_modules.errors import DataError
from data_modules.images import decoder_messages

CANVAS = (12, 10)


def write_films(folder, n=5):
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    paths = [folder / f"film {i}.png" for i in range(n)]
    for path in paths:
        cv2.imwrite(str(path), generator.integers(0, 255, CANVAS, dtype=np.uint8))
    return paths


def build(paths, folder, policy="error", canvas=CANVAS):
    names = [f"table.csv row {i + 2}" for i in range(len(paths))]
    return open_cache(paths, [(0, 0)] * len(paths), canvas, folder, names, policy, progress=False)


def build_in_a_process(job):
    return build(*job).path.stat().st_mtime_ns


def test_the_cache_holds_the_films_and_is_not_built_again(tmp_path, monkeypatch):
    paths = write_films(tmp_path / "own films")
    first = build(paths, tmp_path / "a cache")
    assert len(first) == 5
    for index, path in enumerate(paths):
        np.testing.assert_array_equal(first[index], cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    monkeypatch.setattr(cache_module, "read_film", lambda *_: pytest.fail("read again"))
    assert build(paths, tmp_path / "a cache").path == first.path


@pytest.mark.parametrize("change", ["content", "time", "canvas", "order", "version", "stated"])
def test_a_cache_of_anything_else_is_not_used(tmp_path, monkeypatch, change):
    paths, canvas, stated = write_films(tmp_path), CANVAS, [(0, 0)] * 5
    first = build(paths, tmp_path / "cache")
    match change:
        case "content":
            cv2.imwrite(str(paths[2]), np.full(CANVAS, 9, np.uint8))
        case "time":
            os.utime(paths[2], ns=(1, 1))
        case "canvas":
            canvas = (10, 12)
        case "order":
            paths = paths[::-1]
        case "version":
            monkeypatch.setattr(cache_module, "CACHE_VERSION", 99)
        case "stated":
            stated = [CANVAS] * 5
    second = open_cache(paths, stated, canvas, tmp_path / "cache", ["row"] * 5, progress=False)
    assert second.path != first.path
    if change == "content":
        assert (second[2] == 9).all()


def test_two_processes_at_once_build_it_once(tmp_path):
    paths = write_films(tmp_path / "films", 40)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        times = pool.map(build_in_a_process, [(paths, tmp_path / "cache")] * 2, chunksize=1)
    assert times[0] == times[1]
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1
    assert not list((tmp_path / "cache").glob("*.partial"))


def test_an_interrupted_build_leaves_nothing_that_looks_complete(tmp_path, monkeypatch):
    paths = write_films(tmp_path / "films")
    real = cache_module.read_film

    def fail(path, *rest):
        if path == paths[3]:
            raise KeyboardInterrupt
        return real(path, *rest)

    monkeypatch.setattr(cache_module, "read_film", fail)
    with pytest.raises(KeyboardInterrupt):
        build(paths, tmp_path / "cache")
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} <= {".lock"}
    monkeypatch.setattr(cache_module, "read_film", real)
    assert len(build(paths, tmp_path / "cache")) == 5


def test_all_unreadable_films_are_named_by_their_row_and_by_nothing_else(tmp_path):
    paths = write_films(tmp_path / "p10000001")
    paths[1].write_bytes(b"")
    paths[4].unlink()
    with pytest.raises(DataError, match="2 of 5 films") as error:
        build(paths, tmp_path / "cache")
    assert "table.csv row 3: The image is empty" in str(error.value)
    assert "table.csv row 6: The image is missing" in str(error.value)
    assert "10000001" not in str(error.value)


def damaged_films(folder):
    """Five JPEGs; the bytes in the middle of number 1 and of number 3 are zero, their ends are whole."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    paths = [folder / f"film {i}.jpg" for i in range(5)]
    for path in paths:
        cv2.imwrite(str(path), cv2.GaussianBlur(generator.integers(0, 255, (160, 130), dtype=np.uint8), (0, 0), 2))
    for index in (1, 3):
        data = bytearray(paths[index].read_bytes())
        third = len(data) // 3
        data[third : 2 * third] = bytes(third)
        paths[index].write_bytes(data)
        assert cv2.imread(str(paths[index])) is not None, "the fault that must not slip through"
    return paths


def test_films_damaged_in_the_middle_are_unreadable_although_they_decode(tmp_path, capfd):
    paths = damaged_films(tmp_path / "films")
    capfd.readouterr()
    with pytest.raises(DataError, match=r"2 of 5 films.*\n.*row 3: The image is damaged.*\n.*row 5: The"):
        build(paths, tmp_path / "cache")
    assert list(build(paths, tmp_path / "cache", "drop").unreadable) == [1, 3]
    os.write(2, b"standard error works again")
    assert capfd.readouterr().err == "standard error works again"


def test_standard_error_is_restored_after_an_error(capfd):
    with pytest.raises(KeyboardInterrupt), decoder_messages():
        raise KeyboardInterrupt
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_policy_drop_records_them_and_policy_error_still_refuses(tmp_path):
    paths = write_films(tmp_path / "films")
    paths[1].write_bytes(b"")
    cache = build(paths, tmp_path / "cache", "drop")
    assert list(cache.unreadable) == [1]
    with pytest.raises(DataError, match="1 of 5 films"):
        build(paths, tmp_path / "cache", "error")


def test_constant_films_are_recorded(tmp_path):
    paths = write_films(tmp_path / "films")
    cv2.imwrite(str(paths[2]), np.full(CANVAS, 40, np.uint8))
    assert build(paths, tmp_path / "cache").constant == [2]


def test_a_full_disk_is_a_clear_error_and_leaves_no_partial_file(tmp_path, monkeypatch):
    paths = write_films(tmp_path / "films")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.npy, "write_array_header_1_0", full)
    with pytest.raises(DataError, match=r"No space left.*cache_dir"):
        build(paths, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.partial"))


def test_the_memory_map_does_not_travel_to_other_processes(tmp_path):
    cache = build(write_films(tmp_path / "films", 40), tmp_path / "cache", canvas=(100, 100))
    before = cache[3]
    assert len(pickle.dumps(cache)) < 10_000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cache))[3], before)  # noqa: S301


def test_reading_gives_a_copy_that_may_be_changed(tmp_path):
    cache = build(write_films(tmp_path / "films"), tmp_path / "cache")
    cache[0][:] = 0
    assert cache[0].any()
