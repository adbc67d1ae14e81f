"""The cache of resized films: time and memory of building, resuming and opening it, up to the 377,000 of MIMIC-CXR.

Run ``python -m benchmarks.cache [--json PATH]``. Every measurement of memory is a process of its own, whose growth
counts from the moment when the list of films is there:

- building: small JPEGs at 224 x 224, and, to compare two numbers of films, at 32 x 32; a second one is killed on the
  way and resumed, and its files must be those of the first;
- opening: the finished cache again;
- 377,000 films: the index, a data set of as many readings, the order of one epoch, and what a loading process copies of
  the data set's ids when it has looked at all of them, beside a list of strings;
- decoding: films of full size (2544 x 3056 pixels; JPEG quality 95, and DICOM of 12 bits, uncompressed), from which the
  hours for 377,000 follow.

Exit code 1 if a resumed cache differs, or if memory grows by more than 200 bytes per film. Two to three minutes.
"""

import argparse
import gc
import json
import multiprocessing
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before numpy starts its threads
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.ending import finish
from benchmarks.loader import FILM, write_film
from benchmarks.saliency import speedup
from data_modules.dataset import GazeDataset
from data_modules.errors import DataError
from data_modules.films.cache import FilmCache, open_cache
from data_modules.films.cache_files import CacheFiles, fingerprint
from data_modules.films.cache_index import publish_index
from data_modules.films.dicom import dicom_pixels, open_dicom
from data_modules.films.intensity import Intensity
from data_modules.films.reading import read_films
from data_modules.phantom.dicom import write_dicom
from data_modules.samplers import TrainingSampler
from gaze_lightning.gaze import Fixations

BUILDS = ((10_000, 224), (10_000, 32), (40_000, 32))
"""Number of films, side of the canvas in pixels."""

INDEXES = (40_000, 377_000)
"""Numbers of films of the measurements without pixels."""

ALL = 377_000
LIMIT = 200.0
"""Bytes per film that memory may grow by."""


def memory(key: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most (where Linux tells; else the most so far)."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(key))


def private_bytes() -> int:
    """Bytes that this process has written to and shares with nobody; 0 where Linux does not tell."""
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.is_file():
        return 0
    return 1024 * next(int(line.split()[1]) for line in rollup.read_text().splitlines() if "Private_Dirty" in line)


def small_films(folder: Path, n: int) -> list[str]:
    """Paths of ``n`` small JPEGs: a hundred files, each under many names."""
    generator = np.random.default_rng(0)
    for i in range(100):
        path = folder / f"{i}.jpg"
        if not path.is_file():
            cv2.imwrite(str(path), generator.integers(0, 255, (48, 40), dtype=np.uint8))
    return [str(folder / f".{'/.' * (i // 100 % 30)}/{i % 100}.jpg") for i in range(n)]


def build(folder: Path, cache: Path, n: int, side: int, times: int = 1) -> dict[str, float]:
    """Build a cache in this process, or open it several times: median of the seconds, growth of memory."""
    films = small_films(folder, n)
    names, stated = [f"row {i}" for i in range(n)], [(48, 40)] * n
    gc.collect()
    before, seconds = memory("VmRSS"), []
    for _ in range(times):
        start = time.perf_counter()
        opened = open_cache(films, stated, (side, side), cache, names, progress=False)
        seconds.append(time.perf_counter() - start)
        assert len(opened) == n
    return {"seconds": statistics.median(seconds), "growth": memory("VmHWM") - before}


def index(folder: Path, n: int) -> dict[str, float]:
    """Open an index of ``n`` films, make a data set of it, and the order of an epoch."""
    films = [f"/films/files/p1{i % 10}/p1{i:07d}/s5{i:07d}/{i:08x}-made-up-made-up-{i:012x}.jpg" for i in range(n)]
    files = CacheFiles(folder, f"films_of_{n}", n, (1, 1))
    sizes = np.tile(np.array(FILM, dtype=np.int32), (n, 1))
    start = time.perf_counter()
    fingerprint(films, sizes, (1, 1))
    result = {"fingerprint": time.perf_counter() - start}
    files.folder.mkdir(exist_ok=True)
    files.pixels.write_bytes(files.header + bytes(n))
    publish_index(files, sizes, np.zeros(n, dtype=bool), np.zeros((n, 16), dtype=np.uint8), {})
    del sizes
    ids = [f"{i:08x}-made-up-made-up-{i:012x}" for i in range(n)]
    subjects = [f"1{i // 6:07d}" for i in range(n)]
    gaze = [Fixations.empty()] * n
    rows, labels = np.arange(n), np.zeros((n, 14), dtype=np.float32)
    gc.collect()
    before, start = memory("VmRSS"), time.perf_counter()
    cache = FilmCache(files.pixels)
    result |= {"open": time.perf_counter() - start, "cache": memory("VmRSS") - before}
    before, start = memory("VmRSS"), time.perf_counter()
    dataset = GazeDataset(ids, subjects, rows, cache, gaze, "duration", (1, 1), labels)
    gc.collect()
    result |= {"make": time.perf_counter() - start, "dataset": memory("VmRSS") - before}
    before, start = memory("VmRSS"), time.perf_counter()
    seen = sum(1 for _ in TrainingSampler(dataset, seed=0))
    assert seen == n
    result |= {"draw": time.perf_counter() - start, "order": memory("VmHWM") - before}
    result |= {"copied": copied_by_a_worker(dataset.sample_ids), "copied_list": copied_by_a_worker(list(ids))}
    return result


def copied_by_a_worker(texts: Sequence[str]) -> int:
    """Bytes that a forked process copies by looking at every text."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def look() -> None:
        gc.freeze()
        before = private_bytes()
        for i in range(len(texts)):
            texts[i]
        theirs.send(private_bytes() - before)

    process = context.Process(target=look)
    process.start()
    result: int = ours.recv()
    process.join()
    return result


def decode(folder: Path, runs: int) -> dict[str, Any]:
    """Films of full size per second with one thread and with all, and the time of decoding alone."""
    films = [folder / f"full {i}.jpg" for i in range(4)]
    for seed, path in enumerate(films):
        write_film(path, seed)
    data = [np.frombuffer(path.read_bytes(), np.uint8) for path in films]
    return rates(films, "stored", 16, runs, lambda i: cv2.imdecode(data[i], cv2.IMREAD_REDUCED_GRAYSCALE_4))


def decode_dicom(folder: Path, runs: int) -> dict[str, Any]:
    """The same for uncompressed DICOM films of 12 bits, shown through their window."""
    films = [folder / f"full {i}.dcm" for i in range(2)]
    for seed, path in enumerate(films):
        pixels = np.random.default_rng(seed).integers(0, 4096, FILM, dtype=np.uint16)
        write_dicom(path, pixels, window=(2048.0, 3000.0))
    data = [path.read_bytes() for path in films]
    return rates(films, "window", 8, runs, lambda i: dicom_pixels(open_dicom(data[i])))


def rates(
    films: list[Path], intensity: Intensity, many: int, runs: int, decoder: Callable[[int], object]
) -> dict[str, Any]:
    """Time per film of the decoder alone, and of `read_films` with one thread and, for ``many`` films, with all."""
    stated, canvas = [FILM] * many, (224, 224)
    several = (films * many)[:many]
    times: dict[str, list[float]] = {"decoder alone": [], "one thread": [], "all threads": []}
    for run in range(runs + 1):
        start = time.perf_counter()
        for i in range(len(films)):
            decoder(i)
        alone = (time.perf_counter() - start) / len(films)
        start = time.perf_counter()
        found = list(read_films(films, stated[: len(films)], canvas, intensity, workers=1))
        one = (time.perf_counter() - start) / len(films)
        assert not any(isinstance(film, DataError) for film in found)
        start = time.perf_counter()
        assert sum(1 for _ in read_films(several, stated, canvas, intensity)) == many
        every = (time.perf_counter() - start) / many
        if run:  # the first one warms up
            for name, value in zip(times, (alone, one, every), strict=True):
                times[name].append(value)
    return {
        "megabytes": statistics.mean(path.stat().st_size for path in films) / 1e6,
        "ms": {name: 1e3 * statistics.median(values) for name, values in times.items()},
        "over_decoder": speedup(times["one thread"], times["decoder alone"]),
        "threads_gain": speedup(times["one thread"], times["all threads"]),
        "hours": ALL * statistics.median(times["all threads"]) / 3600,
    }


def child(*arguments: object, kill_at: Path | None = None) -> dict[str, float]:
    """Run one measurement in a process of its own; kill it when half of a megabyte stands in ``kill_at``."""
    command = [sys.executable, "-m", "benchmarks.cache", "--part", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if kill_at is not None:
        while process.poll() is None and not (kill_at.is_file() and kill_at.stat().st_size > 500_000):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    if kill_at is not None:
        return {}
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    result: dict[str, float] = json.loads(output)
    return result


def same_files(one: Path, other: Path) -> bool:
    """Whether two caches have the same finished files."""
    names = [sorted(path.name for path in folder.glob("*.np*")) for folder in (one, other)]
    return names[0] == names[1] != [] and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in names[0]
    )


def measure(base: Path, runs: int) -> dict[str, Any]:
    """Run everything."""
    films = base / "films"
    films.mkdir()
    builds = []
    for n, side in BUILDS:
        cache = base / f"{n} {side}"
        row: dict[str, Any] = {"n": n, "side": side, "build": child("build", films, cache, n, side)}
        row["open"] = child("build", films, cache, n, side, 3)
        builds.append(row)
    n, side = BUILDS[1]
    paths = small_films(films, n)
    files = CacheFiles.of(paths, [(48, 40)] * n, (side, side), base / "killed")
    child("build", films, files.folder, n, side, kill_at=files.journal)
    was_killed = files.partial.is_file() and not files.is_complete()
    resumed = child("build", films, files.folder, n, side)
    return {
        "builds": builds,
        "resumed": {"right": was_killed and same_files(files.folder, base / f"{n} {side}"), **resumed},
        "indexes": [{"n": n, **child("index", base / "index", n)} for n in INDEXES],
        "decode": decode(films, runs),
        "decode_dicom": decode_dicom(films, runs),
    }


def tables(result: dict[str, Any]) -> list[Table]:
    """Lay out the results."""
    building = Table(title="Small films: building and opening again", title_justify="left")
    for column in ("films", "canvas", "build", "films/s", "memory", "per 10,000", "open", "memory", "per 10,000"):
        building.add_column(column, justify="right")
    for row in result["builds"]:
        made, opened, share = row["build"], row["open"], row["n"] / 10_000
        building.add_row(
            f"{row['n']:,}",
            f"{row['side']}²",
            f"{made['seconds']:.1f} s",
            f"{row['n'] / made['seconds']:,.0f}",
            f"{made['growth'] / 1e6:.1f} MB",
            f"{made['growth'] / 1e6 / share:.1f} MB",
            f"{opened['seconds']:.2f} s",
            f"{opened['growth'] / 1e6:.1f} MB",
            f"{opened['seconds'] / share:.2f} s",
        )
    large = Table(title="Films without pixels: what is kept in memory", title_justify="left")
    for column in ("films", "look at files", "open", "cache", "make", "data set", "draw", "order"):
        large.add_column(column, justify="right")
    for column in ("worker copies: ids", "list of ids"):
        large.add_column(column, justify="right")
    for row in result["indexes"]:
        seconds = {key: f"{row[key]:.2f} s" for key in ("fingerprint", "open", "make", "draw")}
        size = {key: f"{row[key] / 1e6:.1f} MB" for key in ("cache", "dataset", "order", "copied", "copied_list")}
        large.add_row(
            f"{row['n']:,}",
            *(seconds["fingerprint"], seconds["open"], size["cache"], seconds["make"], size["dataset"]),
            *(seconds["draw"], size["order"], size["copied"], size["copied_list"]),
        )
    return [building, large]


def bytes_per_film(result: dict[str, Any]) -> dict[str, float]:
    """How memory grows with the number of films: building, and the index with its data set."""
    _, few, many = result["builds"]
    small, large = result["indexes"]
    kept = [row["cache"] + row["dataset"] for row in (small, large)]
    return {
        "building": (many["build"]["growth"] - few["build"]["growth"]) / (many["n"] - few["n"]),
        "index and data set": (kept[1] - kept[0]) / (large["n"] - small["n"]),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run everything, print the tables, write the JSON; 0, or 1 if a resumed cache differs or memory is not flat."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description="Time and check the film cache.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results there")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of decoding, at least 5 (default: %(default)s)")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part:
        name, folder, *rest = options.part
        if name == "build":
            print(json.dumps(build(Path(folder), Path(rest[0]), *map(int, rest[1:]))))
        else:
            print(json.dumps(index(Path(folder), int(rest[0]))))
        return 0
    if options.runs < 5:
        parser.error("--runs must be at least 5")
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as name:
        result = measure(Path(name), options.runs)
    console = Console(width=None if sys.stdout.isatty() else 130)
    for table in tables(result):
        console.print(table)
    growth = bytes_per_film(result)
    for kind, decoding in (("JPEG", result["decode"]), ("DICOM, 12 bits", result["decode_dicom"])):
        console.print(
            f"Films of full size ({kind}, {decoding['megabytes']:.1f} MB): "
            + ", ".join(f"{name} {ms:.1f} ms" for name, ms in decoding["ms"].items())
            + f"; reading costs {decoding['over_decoder']:.2f} times the decoder, threads gain "
            f"{decoding['threads_gain']:.2f} times; {ALL:,} films: {decoding['hours']:.1f} hours."
        )
    grown = ", ".join(f"{name} {value:.0f}" for name, value in growth.items())
    checks = {
        "a build that was killed and resumed has the same files": result["resumed"]["right"],
        f"memory per film in bytes: {grown}; limit {LIMIT:.0f}": max(growth.values()) < LIMIT,
    }
    return finish(console, checks, {**result, "bytes_per_film": growth}, options.json)


if __name__ == "__main__":
    sys.exit(main())
