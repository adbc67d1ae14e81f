import contextlib
import errno
import json
import logging
import os
import pickle
import shutil
import signal
import tempfile
import time
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_modules.errors import DataError
from data_modules.films import cache as cache_module
from data_modules.films import cache_build, cache_files
from data_modules.films import reading as film_reading
from data_modules.films.cache import FilmCache, open_cache
from data_modules.films.cache_files import CacheFiles
from data_modules.films.cache_index import publish_index
from data_modules.films.cache_journal import checksum_of
from tests.small_caches import CANVAS, FORK, build, contents, give_disk, in_a_process, write_films


def test_the_cache_holds_the_films_and_is_not_built_again(tmp_path, decoded):
    paths = write_films(tmp_path / "own films")
    first = build(paths, tmp_path / "a cache")
    assert len(first) == 5
    for index, path in enumerate(paths):
        np.testing.assert_array_equal(first[index], cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    assert decoded() == [path.name for path in paths]
    assert build(paths, tmp_path / "a cache").path == first.path
    assert len(decoded()) == 5
    assert {path.suffix for path in (tmp_path / "a cache").iterdir()} <= {".npy", ".npz", ".lock"}


def test_sizes_are_an_array_of_whole_numbers(tmp_path):
    cache = build(write_films(tmp_path), tmp_path / "cache", canvas=(24, 20))
    assert (cache.sizes.dtype, cache.sizes.shape) == (np.int32, (5, 2))
    assert (cache.sizes == CANVAS).all()


@pytest.mark.parametrize(
    "change", ["content", "time", "canvas", "order", "version", "stated", "intensity", "path", "film size"]
)
def test_a_cache_of_anything_else_is_not_used(tmp_path, monkeypatch, change):
    paths, canvas, stated, intensity = write_films(tmp_path / "films"), CANVAS, [(0, 0)] * 5, "stored"
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
            monkeypatch.setattr(cache_files, "CACHE_VERSION", 99)
        case "stated":
            stated = [CANVAS] * 5
        case "intensity":
            intensity = "full_range"
        case "path":
            paths[2] = paths[2].rename(tmp_path / "moved.png")
        case "film size":  # at the same time of change
            times = paths[2].stat()
            paths[2].write_bytes(paths[2].read_bytes() + b" ")
            os.utime(paths[2], ns=(times.st_atime_ns, times.st_mtime_ns))
    files = CacheFiles.of(paths, stated, canvas, tmp_path / "cache", intensity)
    assert files.pixels != first.path
    if change == "intensity":  # the films are none that it is for
        return
    second = open_cache(paths, stated, canvas, tmp_path / "cache", ["row"] * 5, "drop", False, intensity)
    assert second.path == files.pixels
    if change == "content":
        assert (second[2] == 9).all()


def test_three_processes_at_once_build_it_once_and_all_get_it(tmp_path, decoded):
    paths = write_films(tmp_path / "films", 40)
    barrier = FORK.Barrier(3)

    def job(_):
        barrier.wait()
        assert build(paths, tmp_path / "cache")[39].shape == CANVAS

    processes = [FORK.Process(target=job, args=(i,)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(decoded()) == sorted(path.name for path in paths), "every film once"
    assert set(contents(tmp_path / "cache")) == {f"{build(paths, tmp_path / 'cache').path.stem}.np{e}" for e in "yz"}


def test_who_waits_finishes_the_build_of_a_process_that_is_killed(tmp_path, monkeypatch, decoded):
    paths = write_films(tmp_path / "films", 40)
    folder = tmp_path / "cache"
    journal = CacheFiles.of(paths, [(0, 0)] * 40, CANVAS, folder).journal
    slow = film_reading.read_film
    monkeypatch.setattr(film_reading, "_chunk", lambda *_: 4)
    monkeypatch.setattr(film_reading, "read_film", lambda *job: (time.sleep(0.02), slow(*job))[1])
    processes = [FORK.Process(target=build, args=(paths, folder)) for _ in range(2)]
    processes[0].start()
    deadline = time.monotonic() + 60
    while not journal.is_file() or journal.read_bytes().count(b"]") < 8:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    processes[1].start()
    time.sleep(0.1)
    os.kill(processes[0].pid, signal.SIGKILL)
    processes[1].join(60)
    assert processes[1].exitcode == 0
    assert 40 <= len(decoded()) < 40 + 8
    assert build(paths, folder).digest == build(paths, tmp_path / "whole").digest


def test_a_build_that_is_killed_at_any_time_is_finished_to_the_same_bytes(tmp_path, monkeypatch, decoded):
    paths = write_films(tmp_path / "films", 60)
    folder = tmp_path / "cache"
    journal = CacheFiles.of(paths, [(0, 0)] * 60, CANVAS, folder).journal
    monkeypatch.setattr(film_reading, "_chunk", lambda *_: 4)
    slow = film_reading.read_film
    with monkeypatch.context() as patch:
        patch.setattr(film_reading, "read_film", lambda *job: (time.sleep(0.02), slow(*job))[1])
        for films in (5, 20, 40):
            process = FORK.Process(target=build, args=(paths, folder))
            process.start()
            deadline = time.monotonic() + 60
            while not journal.is_file() or journal.read_bytes().count(b"]") < films:
                assert time.monotonic() < deadline
                time.sleep(0.002)
            os.kill(process.pid, signal.SIGKILL)
            process.join(60)
            assert process.exitcode == -signal.SIGKILL
            assert {path.suffix for path in folder.iterdir()} == {".lock", ".partial", ".journal"}
    before = len(decoded())
    assert 40 <= before < 60 + 3 * 8, "a kill costs a few films, not all of them"
    resumed = build(paths, folder)
    assert len(decoded()) - before <= 20
    whole = build(paths, tmp_path / "other")
    assert resumed.digest == whole.digest
    assert contents(folder) == contents(tmp_path / "other")


@pytest.mark.parametrize("moment", ["header", "pixels", "line", "first rename", "second rename", "journal removed"])
def test_a_kill_in_the_middle_of_a_step_costs_nothing_but_that_step(tmp_path, monkeypatch, decoded, moment):
    paths = write_films(tmp_path / "films", 6)
    folder = tmp_path / "cache"
    writes = {"header": 1, "pixels": 8, "line": 9}  # header, then pixels and line of each film
    renames = {"first rename": 1, "second rename": 2}
    count = {"write": 0, "rename": 0}
    real_write, real_rename = cache_build._write_at, os.replace

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    def write(file, offset, data):
        count["write"] += 1
        if count["write"] == writes.get(moment):
            real_write(file, offset, data[: len(data) // 2])
            kill()
        real_write(file, offset, data)

    def rename(source, target):
        count["rename"] += 1
        if count["rename"] == renames.get(moment):
            kill()
        real_rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(cache_build, "_write_at", write)
        patch.setattr(cache_build.os, "replace", rename)
        if moment == "journal removed":
            patch.setattr(Path, "unlink", lambda *_, **__: kill())
        assert in_a_process(build, paths, folder) == -signal.SIGKILL
    assert any(folder.glob("*.npz")) == (moment == "journal removed"), "the index is there when all is"
    whole, before = build(paths, tmp_path / "other"), len(decoded())
    resumed = build(paths, folder)
    assert resumed.digest == whole.digest
    for suffix in ("npy", "npz"):
        assert resumed.path.with_suffix(f".{suffix}").read_bytes() == whole.path.with_suffix(f".{suffix}").read_bytes()
    kept = {"header": 0, "pixels": 3, "line": 3}.get(moment, 6)
    assert len(decoded()) - before == 6 - kept


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Films, the folder of a build that was stopped after five of seven, and the files of a whole build."""
    base = tmp_path_factory.mktemp("interrupted")
    paths = write_films(base / "films", 7)
    real = film_reading.read_film

    def fail(path, *rest):
        if path == paths[5]:
            raise KeyboardInterrupt
        return real(path, *rest)

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(film_reading, "read_film", fail)
        patch.setattr(film_reading, "_chunk", lambda *_: 1)
        build(paths, base / "cache")
    build(paths, base / "whole")
    return paths, base / "cache", contents(base / "whole")


def test_an_interrupted_build_leaves_nothing_that_looks_complete(interrupted):
    _, folder, _ = interrupted
    assert {path.suffix for path in folder.iterdir()} == {".lock", ".partial", ".journal"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".partial", ".journal"]),
    place=st.floats(0, 1, exclude_max=True),
    fault=st.sampled_from(["cut", "flip", "zeros", "longer", "gone"]),
)
def test_whatever_happens_to_unfinished_files_the_cache_becomes_right(interrupted, suffix, place, fault):
    paths, folder, whole = interrupted
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "cache"
        shutil.copytree(folder, copy)
        (victim,) = copy.glob(f"*{suffix}")
        data = bytearray(victim.read_bytes())
        at = int(place * len(data))
        match fault:
            case "cut":
                del data[at:]
            case "flip":
                data[at] ^= 1 + int(place * 254)
            case "zeros":  # what a power cut leaves of blocks that were not written
                data[at:] = bytes(len(data) - at)
            case "longer":
                data += bytes(range(256)) * 8
        victim.unlink() if fault == "gone" else victim.write_bytes(data)
        build(paths, copy)
        assert contents(copy) == whole


def test_a_resumed_build_reads_only_what_is_missing(interrupted, tmp_path, decoded, caplog):
    paths, folder, whole = interrupted
    shutil.copytree(folder, tmp_path / "cache")
    with caplog.at_level(logging.INFO):
        build(paths, tmp_path / "cache")
    assert decoded() == ["film 5.png", "film 6.png"]
    assert contents(tmp_path / "cache") == whole
    assert "2 films are to be resized to 12 x 10, 5 others are finished" in caplog.text
    assert caplog.text.count("7 films, 1.0 kB, 2 of them resized in") == 1


def test_unfinished_files_of_other_films_are_not_used(interrupted, tmp_path, decoded):
    paths, folder, _ = interrupted
    shutil.copytree(folder, tmp_path / "cache")
    changed = [*paths[:6], write_films(tmp_path / "other films", 1)[0]]
    build(changed, tmp_path / "cache")
    assert len(decoded()) == 7


@pytest.mark.parametrize("fault", ["films cut", "index cut", "index gone", "films gone"])
def test_a_finished_cache_that_lost_a_part_is_built_again(tmp_path, fault):
    paths = write_films(tmp_path / "films")
    path = build(paths, tmp_path / "cache").path
    whole = contents(tmp_path / "cache")
    victim = path if "films" in fault else path.with_suffix(".npz")
    victim.unlink() if "gone" in fault else os.truncate(victim, 150)
    build(paths, tmp_path / "cache")
    assert contents(tmp_path / "cache") == whole


def test_a_film_is_entered_in_the_journal_after_its_pixels(tmp_path, monkeypatch):
    paths = write_films(tmp_path / "films")
    files = CacheFiles.of(paths, [(0, 0)] * 5, CANVAS, tmp_path / "cache")
    real, entered = cache_build._write_at, []

    def write(file, offset, data):
        if offset is None:
            film, *_, checksum, _ = json.loads(data.rpartition(b" ")[0])
            there = files.partial.read_bytes()[files.offset(film) :][: files.film_bytes]
            assert checksum_of(there) == checksum
            entered.append(film)
        real(file, offset, data)

    monkeypatch.setattr(cache_build, "_write_at", write)
    build(paths, tmp_path / "cache")
    assert entered == [0, 1, 2, 3, 4]


def test_pixels_that_change_before_they_are_published_are_noticed_and_read_again(tmp_path, monkeypatch, decoded):
    paths = write_films(tmp_path / "films")
    files = CacheFiles.of(paths, [(0, 0)] * 5, CANVAS, tmp_path / "cache")

    def spoil(*_):
        with files.partial.open("r+b") as pixels:
            pixels.seek(files.offset(3))
            pixels.write(bytes(files.film_bytes))

    with monkeypatch.context() as patch:
        patch.setattr(cache_build, "refuse_vanished", spoil)
        with pytest.raises(DataError, match=r"1 of 5 films in the unfinished image cache are not what was written"):
            build(paths, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))
    before = len(decoded())
    cache = build(paths, tmp_path / "cache")
    assert len(decoded()) - before == 1
    assert cache[3].any()


@pytest.mark.parametrize("delay", [0.0, 0.15])
def test_two_builders_whose_locks_do_not_exclude_each_other_publish_the_right_films(tmp_path, monkeypatch, delay):
    paths = write_films(tmp_path / "films", 40)
    folder = tmp_path / "cache"
    real = film_reading.read_film
    monkeypatch.setattr(cache_module, "_locked", lambda files: contextlib.nullcontext())
    monkeypatch.setattr(film_reading, "_chunk", lambda *_: 4)
    monkeypatch.setattr(film_reading, "read_film", lambda *job: (time.sleep(0.02), real(*job))[1])

    def job(wait):
        time.sleep(wait)
        cache = build(paths, folder)
        assert all(cache[film].any() for film in range(40))

    processes = [FORK.Process(target=job, args=(wait,)) for wait in (0.0, delay)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    whole = build(paths, tmp_path / "whole")
    assert build(paths, folder).path.read_bytes() == whole.path.read_bytes()


def test_opening_the_unfinished_films_cuts_nothing_off(tmp_path):
    path = tmp_path / "a.partial"
    path.write_bytes(b"films")
    os.close(cache_build._or_new(str(path), os.O_RDWR))
    assert path.read_bytes() == b"films"


def test_a_builder_that_comes_second_at_the_end_uses_what_the_first_published(tmp_path, monkeypatch):
    paths = write_films(tmp_path / "films")
    whole = build(paths, tmp_path / "first")
    files = CacheFiles.of(paths, [(0, 0)] * 5, CANVAS, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(cache_build, "refuse_vanished", lambda *_: os.replace(files.partial, files.pixels))
        assert build(paths, tmp_path / "cache").digest == whole.digest
    assert contents(tmp_path / "cache") == contents(tmp_path / "first")


@pytest.mark.parametrize("left_behind", [True, False])
def test_a_folder_without_locks_is_refused_instead_of_waited_for(tmp_path, monkeypatch, left_behind):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    paths = write_films(tmp_path / "films")
    files = CacheFiles.of(paths, [(0, 0)] * 5, CANVAS, tmp_path / "cache")
    files.folder.mkdir()
    if left_behind:
        files.lock.write_text("1\nanother-machine\n")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(DataError, match=r"has no locks \(flock\).*cache_dir.*copied"):
        build(paths, files.folder)
    assert not files.partial.exists()


def test_an_older_lock_that_finds_no_locks_is_refused_alike(tmp_path, monkeypatch):
    def acquire(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(cache_module.FileLock, "acquire", acquire)
    with pytest.raises(DataError, match=r"has no locks \(flock\)"):
        build(write_films(tmp_path / "films"), tmp_path / "cache")


def test_who_waits_says_again_and_again_for_what(tmp_path, monkeypatch, caplog):
    paths = write_films(tmp_path / "films")
    files = CacheFiles.of(paths, [(0, 0)] * 5, CANVAS, tmp_path / "cache")
    files.folder.mkdir()
    files.journal.touch()
    os.utime(files.journal, (time.time() - 7200, time.time() - 7200))
    real, words = cache_module._say_who_waits, []
    other = FileLock(files.lock)
    other.acquire()

    def say(*args):
        real(*args)
        words.append(args)
        if len(words) == 3:
            other.release()

    monkeypatch.setattr(cache_module, "_SECONDS", 0.05)
    monkeypatch.setattr(cache_module, "_say_who_waits", say)
    with caplog.at_level(logging.INFO):
        assert len(build(paths, files.folder)) == 5
    assert caplog.text.count("its last film: 120 minutes ago") == 3
    assert f"delete {files.lock}" in caplog.text


def test_other_unfinished_caches_are_named_as_space_to_be_won(interrupted, tmp_path, monkeypatch):
    shutil.copytree(interrupted[1], tmp_path / "cache")
    give_disk(monkeypatch, 1)
    with pytest.raises(DataError, match=r"Other unfinished caches there \(\*\.partial\) hold up to 0.7 kB"):
        build(write_films(tmp_path / "films", 3), tmp_path / "cache")


def test_finished_caches_of_other_films_are_named_as_space_to_be_won(tmp_path, monkeypatch):
    for n in (2, 3):
        build(write_films(tmp_path / f"films {n}", n), tmp_path / "cache")
    give_disk(monkeypatch, 1)
    with pytest.raises(DataError, match=r"Finished caches there .*: 2 of other films, .*, 0\.9 kB; delete") as error:
        build(write_films(tmp_path / "films", 5), tmp_path / "cache")
    assert "unfinished" not in str(error.value)


def test_the_memory_map_does_not_travel_to_other_processes(tmp_path):
    cache = build(write_films(tmp_path / "films", 40), tmp_path / "cache", canvas=(100, 100))
    before = cache[3]
    assert len(pickle.dumps(cache)) < 10_000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cache))[3], before)  # noqa: S301


def test_reading_gives_a_copy_that_may_be_changed(tmp_path):
    cache = build(write_films(tmp_path / "films"), tmp_path / "cache")
    cache[0][:] = 0
    assert cache[0].any()


def test_a_cache_says_nothing_when_it_is_opened_and_what_it_did_when_it_was_built(tmp_path, caplog, capfd):
    paths = write_films(tmp_path / "films")
    with caplog.at_level(logging.INFO):
        build(paths, tmp_path / "cache")
        assert len(caplog.records) == 2
        caplog.clear()
        open_cache(paths, [(0, 0)] * 5, CANVAS, tmp_path / "cache", ["row"] * 5)
    assert not caplog.records
    assert capfd.readouterr().out == ""


def test_an_index_of_many_films_is_small_on_disk_and_in_memory(tmp_path):
    files = CacheFiles(tmp_path, "films", 377_000, (1, 1))
    n = files.n
    reasons = dict.fromkeys(range(0, n, 1000), "The image is missing.")
    sizes, checksums = np.zeros((n, 2), dtype=np.int32), np.zeros((n, 16), dtype=np.uint8)
    publish_index(files, sizes, np.zeros(n, dtype=bool), checksums, reasons)
    assert files.index.stat().st_size < 12 * n
    tracemalloc.start()
    cache = FilmCache(files.pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * n, "arrays, no object per film"
    assert len(cache) == n
    assert cache.unreadable == reasons
