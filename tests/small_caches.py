"""Small caches of films, and processes that build them."""

import multiprocessing
import shutil

import cv2
import numpy as np

from data_modules.films import cache_files
from data_modules.films.cache import open_cache

CANVAS = (12, 10)
FORK = multiprocessing.get_context("fork")


def write_films(folder, n=5):
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    paths = [folder / f"film {i}.png" for i in range(n)]
    for path in paths:
        cv2.imwrite(str(path), generator.integers(0, 255, CANVAS, dtype=np.uint8))
    return paths


def build(paths, folder, policy="error", canvas=CANVAS, **options):
    names = [f"table.csv row {i + 2}" for i in range(len(paths))]
    return open_cache(paths, [(0, 0)] * len(paths), canvas, folder, names, policy, progress=False, **options)


def contents(folder):
    """Name -> bytes of every file but the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


def in_a_process(function, *args):
    """Run in a forked process; its exit status, negative for the signal that killed it."""
    process = FORK.Process(target=function, args=args)
    process.start()
    process.join(60)
    return process.exitcode


def give_disk(monkeypatch, free):
    real = shutil.disk_usage
    monkeypatch.setattr(cache_files.shutil, "disk_usage", lambda path: real(path)._replace(free=free))
