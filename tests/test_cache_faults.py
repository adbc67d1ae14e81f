"""Films that cannot be read, disks that are full, folders that cannot be written."""

import os
import stat
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_modules.errors import DataError, collected_faults
from data_modules.films import cache_build
from data_modules.films import reading as film_reading
from data_modules.films.access import FilmAccessError
from data_modules.films.images import decoder_messages
from tests.small_caches import CANVAS, build, contents, give_disk, in_a_process, write_films


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
    assert capfd.readouterr().err.endswith("standard error works again")


def test_standard_error_is_restored_after_an_error(capfd):
    with pytest.raises(KeyboardInterrupt), decoder_messages():
        raise KeyboardInterrupt
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_policy_drop_records_them_and_policy_error_still_refuses(tmp_path):
    paths = write_films(tmp_path / "films")
    paths[1].write_bytes(b"")
    cache = build(paths, tmp_path / "cache", "drop")
    assert cache.unreadable == {1: "The image is empty (0 bytes); replace the file."}
    assert cache.sizes.tolist() == [[12, 10], [0, 0], [12, 10], [12, 10], [12, 10]]
    assert not cache[1].any()
    with pytest.raises(DataError, match="1 of 5 films"):
        build(paths, tmp_path / "cache", "error")


def test_refused_films_do_not_cost_the_readable_ones_and_are_tried_again(tmp_path, decoded, monkeypatch):
    paths = write_films(tmp_path / "films")
    counted = film_reading.read_film

    def away(path, *rest):
        if path == paths[2]:
            raise DataError("The image is truncated.")
        return counted(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(film_reading, "read_film", away)
        with pytest.raises(DataError, match="1 of 5 films"):
            build(paths, tmp_path / "cache")
    assert len(decoded()) == 4
    cache = build(paths, tmp_path / "cache")
    assert decoded() == [path.name for path in paths]
    assert cache.unreadable == {}
    build(paths, tmp_path / "whole")
    assert contents(tmp_path / "cache") == contents(tmp_path / "whole")


def test_a_setting_with_which_no_film_can_be_read_is_refused_before_all_are_tried(tmp_path, monkeypatch):
    paths = write_films(tmp_path / "films", 20)
    monkeypatch.setattr(cache_build, "_PIECE", 6)
    with pytest.raises(DataError, match="None of the first 6 of 20 films can be used") as error:
        build(paths, tmp_path / "cache", intensity="window")
    assert "intensity" in error.value.rows[0]
    with pytest.raises(DataError, match="None of the first 6 of 20 films can be used"):
        build(paths, tmp_path / "cache", "drop", intensity="window")
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_under_drop_a_cache_without_any_usable_film_is_refused(tmp_path):
    paths = write_films(tmp_path / "films")
    with pytest.raises(DataError, match="None of the 5 films can be used") as error:
        build(paths, tmp_path / "cache", "drop", intensity="window")
    assert len(error.value.rows) == 5
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_of_a_part_of_a_data_set_the_first_films_may_be_missing(tmp_path, monkeypatch):
    paths = write_films(tmp_path / "films", 10)
    monkeypatch.setattr(cache_build, "_PIECE", 3)
    for path in paths[:7]:
        path.unlink()
    assert list(build(paths, tmp_path / "cache", "drop").unreadable) == list(range(7))
    with pytest.raises(DataError, match="None of the first 3 of 10 films"):
        build(paths, tmp_path / "other")


def test_a_resumed_build_goes_on_although_the_first_films_fail_again(tmp_path, monkeypatch):
    paths = write_films(tmp_path / "films", 12)
    monkeypatch.setattr(cache_build, "_PIECE", 4)
    for path in paths[2:]:
        path.write_bytes(b"")
    healed = set()
    real = film_reading.read_film
    monkeypatch.setattr(
        film_reading, "read_film", lambda path, *rest: real(paths[0] if path in healed else path, *rest)
    )
    with pytest.raises(DataError, match="10 of 12 films"):
        build(paths, tmp_path / "cache")
    healed.update(paths[2:6])
    with pytest.raises(DataError, match="6 of 12 films"):
        build(paths, tmp_path / "cache")


def test_failures_of_an_earlier_build_do_not_count_against_its_usable_films(tmp_path, monkeypatch):
    paths = write_films(tmp_path / "films", 3)
    monkeypatch.setattr(cache_build, "_PIECE", 1)
    for path in paths[1:]:
        path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DataError, match="2 of 3 films cannot be used"):
            build(paths, tmp_path / "cache")


def out_of_reach(monkeypatch, *paths):
    """Reading these films fails as if their network share were away."""
    real = film_reading.read_film

    def read_film(path, *rest):
        if path in paths:
            raise FilmAccessError("The image cannot be read (Stale file handle).")
        return real(path, *rest)

    monkeypatch.setattr(film_reading, "read_film", read_film)


@pytest.mark.parametrize("policy", ["error", "drop"])
def test_films_out_of_reach_are_never_published_and_the_others_are_kept(tmp_path, decoded, monkeypatch, policy):
    paths = write_films(tmp_path / "films")
    paths[0].write_bytes(b"")
    with monkeypatch.context() as patch:
        out_of_reach(patch, paths[2], paths[4])
        with pytest.raises(DataError, match=r"2 of 5 films could not be read now\. That.*network share.*kept") as error:
            build(paths, tmp_path / "cache", policy)
    named = ["table.csv row 2"] * (policy == "error") + ["table.csv row 4", "table.csv row 6"]
    assert [row.partition(":")[0] for row in error.value.rows] == named
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".lock", ".partial", ".journal"}
    before = decoded()
    assert before == ["film 0.png", "film 1.png", "film 3.png"]
    cache = build(paths, tmp_path / "cache", "drop")
    assert list(cache.unreadable) == [0]
    assert len(decoded()) - len(before) == 3
    assert cache[2].any()
    assert cache.digest == build(paths, tmp_path / "whole", "drop").digest


def test_a_share_that_goes_away_in_the_middle_stops_the_build(tmp_path, decoded, monkeypatch):
    paths = write_films(tmp_path / "films", 20)
    monkeypatch.setattr(cache_build, "_PIECE", 5)
    out_of_reach(monkeypatch, *paths[4:])
    with pytest.raises(DataError, match="6 of 20 films could not be read now, 10 others were not tried") as error:
        build(paths, tmp_path / "cache", "drop")
    assert len(error.value.rows) == 6
    assert len(decoded()) == 4


@pytest.mark.parametrize("back", [True, False])
def test_films_that_vanish_during_the_build_are_not_published_as_missing(tmp_path, monkeypatch, back):
    paths = write_films(tmp_path / "films")
    content, times = paths[2].read_bytes(), paths[2].stat()
    real = film_reading.read_film

    def read_film(path, *rest):
        if path == paths[2]:
            path.unlink()
        try:
            return real(path, *rest)
        finally:
            if path == paths[2] and back:
                path.write_bytes(content)
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    with monkeypatch.context() as patch:
        patch.setattr(film_reading, "read_film", read_film)
        with pytest.raises(DataError, match="1 films were missing when they were to be read") as error:
            build(paths, tmp_path / "cache", "drop")
    assert error.value.rows == ("table.csv row 4: The image is missing.",)
    assert not list((tmp_path / "cache").glob("*.npy"))
    assert list(build(paths, tmp_path / "cache", "drop").unreadable) == ([] if back else [2])


def test_where_faults_are_collected_unreadable_films_are_noted_once_and_the_rest_is_usable(tmp_path):
    paths = write_films(tmp_path / "films")
    paths[1].write_bytes(b"")
    with collected_faults() as faults:
        cache = build(paths, tmp_path / "cache")
    assert [len(fault.rows) for fault in faults] == [1]
    assert cache[0].any()


def test_constant_films_are_recorded(tmp_path):
    paths = write_films(tmp_path / "films")
    cv2.imwrite(str(paths[2]), np.full(CANVAS, 40, np.uint8))
    assert build(paths, tmp_path / "cache").constant == [2]


def test_a_disk_that_is_too_small_is_refused_before_anything_is_read(tmp_path, monkeypatch, decoded):
    paths = write_films(tmp_path / "films")
    give_disk(monkeypatch, 2_100_000)
    with pytest.raises(DataError) as error:
        build(paths, tmp_path / "cache", canvas=(1000, 1000))
    message = str(error.value)
    assert "needs 5.0 MB" in message
    assert "2.1 MB are free" in message
    assert str(tmp_path / "cache") in message
    assert "cache_dir" in message
    assert "image_size" in message
    assert decoded() == []
    assert not contents(tmp_path / "cache")


def test_what_is_finished_counts_when_the_disk_is_judged(tmp_path, monkeypatch):
    paths = write_films(tmp_path / "films")
    real = film_reading.read_film

    def fail(path, *rest):
        if path == paths[3]:
            raise KeyboardInterrupt
        return real(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(film_reading, "read_film", fail)
        patch.setattr(film_reading, "_chunk", lambda *_: 1)
        with pytest.raises(KeyboardInterrupt):
            build(paths, tmp_path / "cache", canvas=(1000, 1000))
    give_disk(monkeypatch, 1_900_000)
    with pytest.raises(DataError, match=r"needs 2.0 MB .* \(3 are there already\)"):
        build(paths, tmp_path / "cache", canvas=(1000, 1000))
    give_disk(monkeypatch, 2_100_000)
    assert len(build(paths, tmp_path / "cache", canvas=(1000, 1000))) == 5


def test_a_disk_that_fills_up_meanwhile_is_a_clear_error_and_the_restart_goes_on(tmp_path, monkeypatch, decoded):
    paths = write_films(tmp_path / "films")
    real, count = cache_build._write_at, iter(range(100))

    def full(file, offset, data):
        if next(count) == 5:
            real(file, offset, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        real(file, offset, data)

    with monkeypatch.context() as patch:
        patch.setattr(cache_build, "_write_at", full)
        with pytest.raises(
            DataError, match=r"The disk was full \(No space left.*it goes on where it stopped.*cache_dir"
        ):
            build(paths, tmp_path / "cache")
    before = len(decoded())
    cache = build(paths, tmp_path / "cache")
    assert len(decoded()) - before == 3
    assert cache.digest == build(paths, tmp_path / "whole").digest


@pytest.fixture
def locked_folder():
    """A folder in which this user may not write once it is locked; removed afterwards."""
    with tempfile.TemporaryDirectory() as name:  # not below pytest's folder, which other users may not enter
        os.chmod(name, 0o755)
        folder = Path(name) / "cache"
        folder.mkdir()
        yield folder
        folder.chmod(0o755)


def without_rights(function, *args):
    """Run in a process that may write nowhere, even if the tests run as root; 0 if it succeeded."""

    def run():
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        function(*args)

    return in_a_process(run)


def test_a_finished_cache_works_from_a_read_only_folder(locked_folder):
    paths = write_films(locked_folder.parent / "films")
    cache = build(paths, locked_folder)
    for path in locked_folder.glob("*.lock"):
        path.unlink()
    locked_folder.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
    before = {path: path.stat().st_mtime_ns for path in locked_folder.iterdir()}

    def use():
        with pytest.raises(PermissionError):
            (locked_folder / "file").touch()
        again = build(paths, locked_folder)
        assert again.digest == cache.digest
        np.testing.assert_array_equal(again[3], cache[3])

    assert without_rights(use) == 0
    assert {path: path.stat().st_mtime_ns for path in locked_folder.iterdir()} == before


def test_a_cache_that_must_be_built_in_a_read_only_folder_is_a_clear_error(locked_folder):
    paths = write_films(locked_folder.parent / "films")
    locked_folder.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)

    def use():
        with pytest.raises(DataError, match=r"no image cache of exactly these films in .*cannot be written.*cache_dir"):
            build(paths, locked_folder)

    assert without_rights(use) == 0
