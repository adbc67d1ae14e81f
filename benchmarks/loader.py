"""The loader from the cache of resized films against the same loader that decodes every film again.

Run ``python -m benchmarks.loader [--json PATH]``. Both paths are the real data set, sampler, loader and collate
function, light augmentation, and the batch's last step (float image, rendered saliency map at a quarter of the image's
side) in the main process; they differ in one object, which hands out a film's pixels. Films have the size of real ones
(2544 x 3056 pixels, JPEG quality 95, texture and noise), readings 45 fixations. Before a number is printed both paths
must give the same samples, and two workers the same batches as none; otherwise the run ends with exit code 1.

Rates are per core in use: one without workers, else as many as there are workers and cores. The limit printed beside
them is augmentation alone, in a plain loop over films in memory. A second table compares reading one film from the
cache with a plain copy of as many bytes.
"""

import argparse
import os
import statistics
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
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.ending import finish, machine
from benchmarks.saliency import speedup
from data_modules.augment import PRESETS, Augmenter
from data_modules.collate import collate
from data_modules.dataset import GazeDataset
from data_modules.films.cache import FilmCache, open_cache
from data_modules.films.images import read_film
from data_modules.loading import LateLoader, finish_batch, start_worker
from data_modules.samplers import TrainingSampler
from gaze_lightning.gaze import Fixations

SIZES = (224, 512)
WORKERS = (0, 2)
BATCH = 32
FIXATIONS = 45
FILM = (3056, 2544)
"""Height and width of the films, pixels."""

N_FILES, N_FILMS = 6, 96
"""Different files, and films in the cache: every file occurs often, so that the benchmark starts soon."""

LENGTHS = {"cached": 20 * BATCH, "uncached": 4 * BATCH}
"""Samples per timed epoch."""


class DecodedAgain:
    """Stands in for the cache: decodes the film whenever it is asked for."""

    def __init__(self, films: Sequence[Path], canvas: tuple[int, int]) -> None:
        self.films, self.canvas = films, canvas
        self.sizes = np.tile(np.array(FILM, dtype=np.int32), (len(films), 1))

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        return read_film(self.films[index], self.canvas, FILM).pixels


def write_film(path: Path, seed: int) -> None:
    """Write one film: soft shapes, ribs, texture and noise that cost as many bytes as a real one."""
    generator = np.random.default_rng(seed)
    coarse = cv2.resize(generator.random((12, 10), dtype=np.float32), FILM[::-1], interpolation=cv2.INTER_CUBIC)
    rows = np.arange(FILM[0], dtype=np.float32)[:, None]
    film = 40 + 130 * coarse + 12 * np.sin(rows / 45)
    noise = generator.standard_normal(FILM, dtype=np.float32)
    film += 5 * cv2.GaussianBlur(noise, (0, 0), 1.0) / 0.28 + 1.5 * noise
    cv2.imwrite(str(path), np.clip(film, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95])


def films_in(folder: Path) -> list[Path]:
    """Write the files; return the path of every film."""
    files = [folder / f"film {i}.jpg" for i in range(N_FILES)]
    for seed, path in enumerate(files):
        write_film(path, seed)
    return [files[i % N_FILES] for i in range(N_FILMS)]


def data_set(pixels: Any, side: int, n: int) -> GazeDataset:
    """Make ``n`` readings over the films that ``pixels`` hands out."""
    generator = np.random.default_rng(1)
    height, width = FILM
    gaze = [
        Fixations(
            generator.uniform(0, width, FIXATIONS),
            generator.uniform(0, height, FIXATIONS),
            generator.gamma(2.0, 0.15, FIXATIONS),
            *generator.uniform(60, 90, (2, FIXATIONS)),
            np.arange(FIXATIONS),
        )
        for _ in range(n)
    ]
    return GazeDataset(
        sample_ids=[f"reading {i}" for i in range(n)],
        subjects=[f"patient {i}" for i in range(n)],
        films=np.arange(n) % N_FILMS,
        cache=pixels,
        gaze=gaze,
        weight="duration",
        image_size=(side, side),
        labels=np.arange(n) % 3,
        augmenter=Augmenter(PRESETS["light"], (side, side), 0),  # type: ignore[arg-type]
    )


class Epochs:
    """One loader; every call runs it through one epoch."""

    def __init__(self, dataset: GazeDataset, side: int, workers: int) -> None:
        self.sampler = TrainingSampler(dataset, seed=0)
        self.side, self.epoch = side, 0
        self.loader = LateLoader(
            dataset,
            batch_size=BATCH,
            sampler=self.sampler,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=start_worker,
            persistent_workers=workers > 0,
        )

    def batches(self) -> list[Any]:
        """The next epoch's batches."""
        self.sampler.set_epoch(self.epoch)
        self.epoch += 1
        return [finish_batch(batch, (self.side // 4, self.side // 4)) for batch in self.loader]

    def __call__(self) -> float:
        """Samples per second over the next epoch; batches are made and forgotten."""
        self.sampler.set_epoch(self.epoch)
        self.epoch += 1
        start = time.perf_counter()
        n = sum(len(finish_batch(batch, (self.side // 4, self.side // 4))["image"]) for batch in self.loader)
        return n / (time.perf_counter() - start)


def same_samples(a: GazeDataset, b: GazeDataset) -> bool:
    """Whether two data sets give the same first samples in two epochs, bit by bit."""
    return all(
        all(np.array_equal(one[key], other[key]) for key in one)  # type: ignore[literal-required]
        for one, other in ((a[epoch, i], b[epoch, i]) for epoch in (0, 1) for i in range(2 * N_FILES))
    )


def same_batches(a: Epochs, b: Epochs) -> bool:
    """Whether two loaders give the same next epoch."""
    return all(
        torch.equal(one[key], other[key])
        for one, other in zip(a.batches(), b.batches(), strict=True)
        for key in ("image", "saliency", "fixations", "label")
    )


def augmentation_alone(cache: FilmCache, dataset: GazeDataset) -> Callable[[], float]:
    """Samples per second of augmentation, in a loop over films in memory."""
    films = np.stack([cache[i] for i in range(N_FILMS)])
    gaze, box = dataset.gaze[0], (0.0, 0.0, float(films.shape[2]), float(films.shape[1]))

    def run() -> float:
        start = time.perf_counter()
        for i in range(4 * BATCH):
            dataset.augmenter(films[i % N_FILMS], gaze, box, 0, i)  # type: ignore[misc]
        return 4 * BATCH / (time.perf_counter() - start)

    return run


def copies(cache: FilmCache) -> dict[str, Callable[[], float]]:
    """Microseconds per film: read from the cache, and copied from memory to memory."""
    source = np.stack([cache[i] for i in range(N_FILMS)])
    target = np.empty_like(source[0])
    order = np.random.default_rng(0).integers(0, N_FILMS, 500).tolist()

    def read() -> float:
        start = time.perf_counter()
        for i in order:
            cache[i]
        return 1e6 * (time.perf_counter() - start) / len(order)

    def copy() -> float:
        start = time.perf_counter()
        for i in order:
            np.copyto(target, source[i])
        return 1e6 * (time.perf_counter() - start) / len(order)

    return {"cache": read, "memcpy": copy}


def in_turns(functions: dict[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    """Call every function ``runs`` times in turns, after a warm-up, so that a busy machine slows all of them."""
    for function in functions.values():
        function()
    result: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(runs):
        for name, function in functions.items():
            result[name].append(function())
    return result


def measure(side: int, films: Sequence[Path], folder: Path, runs: int) -> dict[str, Any]:
    """Time one image size: rates per core, ratios of runs made in the same turn."""
    names = [f"film {i}" for i in range(N_FILMS)]
    cache = open_cache(films, [FILM] * N_FILMS, (side, side), folder, names, progress=False)
    sources = {"cached": cache, "uncached": DecodedAgain(films, (side, side))}
    data = {name: data_set(source, side, LENGTHS[name]) for name, source in sources.items()}
    right = same_samples(data["cached"], data["uncached"])
    rates: dict[str, Callable[[], float]] = {"limit": augmentation_alone(cache, data["cached"])}
    for workers in WORKERS:
        cores = max(1, min(workers, os.cpu_count() or 1))
        for name, dataset in data.items():
            epochs = Epochs(dataset, side, workers)
            if workers and name == "cached":
                right = right and same_batches(epochs, Epochs(dataset, side, 0))
            rates[f"{name} {workers}"] = lambda epochs=epochs, cores=cores: epochs() / cores  # type: ignore[misc]
    times = in_turns(rates, runs)
    rows = [
        {
            "workers": workers,
            "cached": statistics.median(times[f"cached {workers}"]),
            "uncached": statistics.median(times[f"uncached {workers}"]),
            "spread": [min(times[f"cached {workers}"]), max(times[f"cached {workers}"])],
            "ratio": speedup(times[f"cached {workers}"], times[f"uncached {workers}"]),
            "share_of_limit": speedup(times[f"cached {workers}"], times["limit"]),
        }
        for workers in WORKERS
    ]
    read = in_turns(copies(cache), max(runs, 15))
    copy = {name: statistics.median(values) for name, values in read.items()}
    ratio = speedup(read["cache"], read["memcpy"])
    return {
        "side": side,
        "right": right,
        "rows": rows,
        "limit": statistics.median(times["limit"]),
        **copy,
        "copy": ratio,
    }


def tables(cases: list[dict[str, Any]]) -> list[Table]:
    """Lay out the results."""
    loader = Table(title="Samples per second and core: read, augmented, collated, rendered", title_justify="left")
    columns = (
        "image",
        "workers",
        "from the cache",
        "min - max",
        "decoded again",
        "ratio",
        "augmentation alone",
        "share",
    )
    for column in columns:
        loader.add_column(column, justify="right")
    for case in cases:
        for row in case["rows"]:
            low, high = row["spread"]
            loader.add_row(
                f"{case['side']}²",
                str(row["workers"]),
                f"{row['cached']:,.0f}",
                f"{low:,.0f} - {high:,.0f}",
                f"{row['uncached']:,.1f}",
                f"{row['ratio']:,.1f} x",
                f"{case['limit']:,.0f}",
                f"{row['share_of_limit']:.0%}",
            )
        loader.add_section()
    reading = Table(title="One film, microseconds", title_justify="left")
    for column in ("image", "from the cache", "plain copy", "ratio"):
        reading.add_column(column, justify="right")
    for case in cases:
        reading.add_row(f"{case['side']}²", f"{case['cache']:.1f}", f"{case['memcpy']:.1f}", f"{case['copy']:.1f} x")
    return [loader, reading]


def main(arguments: list[str] | None = None) -> int:
    """Run all sizes, print the tables, write the JSON; 0, or 1 if the two paths differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description="Time and check the loader.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results there")
    parser.add_argument("--runs", type=int, default=5, help="timed runs per path, at least 5 (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.runs < 5:
        parser.error("--runs must be at least 5")
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    console = Console(width=None if sys.stdout.isatty() else 130)
    with tempfile.TemporaryDirectory() as name:
        films = films_in(Path(name))
        size = statistics.mean(path.stat().st_size for path in films)
        cases = [measure(side, films, Path(name) / "cache", options.runs) for side in SIZES]
    facts = {**machine(), "film_megabytes": round(size / 1e6, 2), "batch": BATCH, "fixations": FIXATIONS}
    for table in tables(cases):
        console.print(table)
    right = all(case["right"] for case in cases)
    checks = {"both paths give the same samples, workers the same batches as none": right}
    return finish(console, checks, {"cases": cases}, options.json, facts)


if __name__ == "__main__":
    sys.exit(main())
