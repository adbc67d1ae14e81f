"""Resized films on disk: decoded once, then read through a memory map."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from numpy.lib import format as npy
from rich.progress import track

from data_modules.errors import DataError
from data_modules.images import FittedFilm, decoder_messages, read_film

CACHE_VERSION = 2
"""Raise it when `read_film` changes its result: older caches are then left alone and new ones built."""

_CHUNK = 64
_DAMAGE = ("corrupt jpeg data", "premature end", "tiff_error")


class FilmCache:
    """One uint8 array ``[n, H, W]`` of films on the network's canvas, opened lazily in every process.

    Args:
        path: the ``.npy`` file; its header lies beside it as ``.json``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header = json.loads(path.with_suffix(".json").read_text())
        self.digest: str = header["digest"]
        """Hash of all pixels: the same films give the same, wherever they lie."""
        self.sizes: list[tuple[int, int]] = [(int(h), int(w)) for h, w in header["sizes"]]
        """(height, width) of the original films, pixels; (0, 0) where unreadable."""
        self.constant: list[int] = header["constant"]
        """Films without any contrast."""
        self.unreadable: dict[int, str] = {int(k): v for k, v in header["unreadable"].items()}
        """Films that could not be read, with the reason."""
        self._array: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        """Copy of one film: uint8 ``[H, W]``."""
        if self._array is None:
            self._array = np.load(self.path, mmap_mode="r")
        return np.array(self._array[index])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}


def fingerprint(films: Sequence[Path], stated: Sequence[tuple[int, int]], canvas: tuple[int, int]) -> str:
    """Hash of everything the cache depends on: paths, file sizes, times of change, stated sizes, canvas, version.

    Args:
        films: the files; a missing one counts as such.
        stated: ``(height, width)`` of each film according to its table, pixels; 0 = not stated.
        canvas: ``(H, W)``, pixels.

    Returns:
        20 hexadecimal digits.
    """
    digest = hashlib.sha256(f"{CACHE_VERSION} {canvas}".encode())
    for path, size in zip(films, stated, strict=True):
        try:
            status = os.stat(path)
            facts = (status.st_size, status.st_mtime_ns)
        except OSError:
            facts = (-1, -1)
        digest.update(f"\n{os.path.abspath(path)}\t{facts}\t{size}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:20]


def open_cache(
    films: Sequence[Path],
    stated: Sequence[tuple[int, int]],
    canvas: tuple[int, int],
    folder: Path,
    names: Sequence[str],
    unreadable: Literal["error", "drop"] = "error",
    progress: bool = True,
) -> FilmCache:
    """Open the cache of these films; build it if it is not there yet.

    Any number of processes may call this at once: one builds, the others wait. The files appear under their name only
    when they are complete.

    Args:
        films: one path per film.
        stated: ``(height, width)`` of each film according to its table, pixels; 0 = not stated.
        canvas: ``(H, W)`` of the network's image, pixels.
        folder: where caches live; made if absent.
        names: what to call each film in messages, e.g. the line of its table (paths may hold a patient's id).
        unreadable: whether films that cannot be read are an error or recorded in the cache.
        progress: show a bar while building.

    Raises:
        DataError: naming every film that cannot be read (policy ``error``), or the cache's folder if it cannot be
            written.
    """
    name = f"films_{canvas[0]}x{canvas[1]}_n{len(films)}_{fingerprint(films, stated, canvas)}"
    path = folder / f"{name}.npy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            if not (path.is_file() and path.with_suffix(".json").is_file()):
                _build(path, films, stated, canvas, names, unreadable, progress)
    except OSError as error:
        raise DataError(
            f"The image cache {path} cannot be written ({error.strerror or error}). Free some space there or choose "
            "another folder with cache_dir."
        ) from error
    cache = FilmCache(path)
    if unreadable == "error":
        _refuse(cache.unreadable, names)
    return cache


def _build(
    path: Path,
    films: Sequence[Path],
    stated: Sequence[tuple[int, int]],
    canvas: tuple[int, int],
    names: Sequence[str],
    unreadable: Literal["error", "drop"],
    progress: bool,
) -> None:
    sizes: list[tuple[int, int]] = []
    constant: list[int] = []
    failed: dict[int, str] = {}
    partial = path.with_suffix(f".{os.getpid()}.partial")
    digest = hashlib.sha256()
    blank = FittedFilm(np.zeros(canvas, dtype=np.uint8), 0, 0, constant=False)
    try:
        with partial.open("wb") as file:
            npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (len(films), *canvas)})
            results = _read_all(films, stated, canvas)
            shown = track(results, "Resizing films", len(films), disable=not progress, transient=True)
            for index, result in enumerate(shown):
                if isinstance(result, DataError):
                    failed[index], result = str(result), blank
                if result.constant:
                    constant.append(index)
                sizes.append((result.height, result.width))
                pixels = result.pixels.tobytes()
                digest.update(pixels)
                file.write(pixels)
        if unreadable == "error":
            _refuse(failed, names)
        header = {
            "version": CACHE_VERSION,
            "digest": digest.hexdigest(),
            "sizes": sizes,
            "constant": constant,
            "unreadable": failed,
        }
        os.replace(partial, path)
        partial.write_text(json.dumps(header))
        os.replace(partial, path.with_suffix(".json"))  # last: its presence says that the cache is complete
    finally:
        partial.unlink(missing_ok=True)


def _read_all(
    films: Sequence[Path], stated: Sequence[tuple[int, int]], canvas: tuple[int, int]
) -> Iterator[FittedFilm | DataError]:
    jobs = [(path, canvas, size) for path, size in zip(films, stated, strict=True)]
    with ThreadPoolExecutor(max_workers=_cores()) as pool:
        for start in range(0, len(jobs), _CHUNK):  # in pieces, so that finished films do not pile up in memory
            chunk = jobs[start : start + _CHUNK]
            with decoder_messages() as messages:
                results = list(pool.map(_read, chunk))
            # the messages name no film: where there are any, the films are read again one by one
            yield from map(_read_watched, chunk) if _damaged(messages) else results


def _read_watched(job: tuple[Path, tuple[int, int], tuple[int, int]]) -> FittedFilm | DataError:
    with decoder_messages() as messages:
        result = _read(job)
    if _damaged(messages) and not isinstance(result, DataError):
        return DataError("The image is damaged inside (the decoder complains); copy or download it again.")
    return result


def _damaged(messages: Sequence[str]) -> bool:
    return any(sign in message.lower() for message in messages for sign in _DAMAGE)


def _read(job: tuple[Path, tuple[int, int], tuple[int, int]]) -> FittedFilm | DataError:
    try:
        return read_film(*job)
    except DataError as error:
        return error


def _refuse(failed: dict[int, str], names: Sequence[str]) -> None:
    if failed:
        raise DataError(
            f"{len(failed)} of {len(names)} films cannot be used. Repair them, or leave their readings out with "
            "missing: drop.",
            [f"{names[index]}: {reason}" for index, reason in failed.items()],
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
