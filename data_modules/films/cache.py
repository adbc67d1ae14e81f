"""Resized films on disk: decoded once, then read through a memory map."""

import errno
import time
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout
from pytorch_lightning.utilities import rank_zero_info

from data_modules.errors import DataError
from data_modules.films.cache_build import build_cache
from data_modules.films.cache_files import CacheFiles, Stated, size_text
from data_modules.films.cache_refusals import refuse_unreadable
from data_modules.films.intensity import Intensity
from data_modules.geometry import FilmFit

_SECONDS = 60.0  # between two words of a process that waits


class FilmCache:
    """One uint8 array ``[n, H, W]`` of films on the network's canvas, opened lazily in every process.

    Args:
        path: the ``.npy`` file; its index lies beside it as ``.npz``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with np.load(path.with_suffix(".npz")) as index:
            self.digest = str(index["digest"])
            """Hash of all pixels: the same films give the same, wherever they lie."""
            self.sizes: npt.NDArray[np.int32] = index["sizes"]
            """(height, width) of the original films ``[n, 2]``, pixels; 0, 0 where unreadable."""
            self.constant: list[int] = index["constant"].tolist()
            """Films without any contrast."""
            reasons = index["reasons"].tolist()
            failed = zip(index["unreadable"].tolist(), index["reason"].tolist(), strict=True)
            self.unreadable: dict[int, str] = {film: reasons[code] for film, code in failed}
            """Films that could not be read, with the reason."""
        self._array: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        """Copy of one film: uint8 ``[H, W]``."""
        if self._array is None:
            self._array = np.load(self.path, mmap_mode="r").view(np.ndarray)  # slices of a memmap cost more
        film: npt.NDArray[np.uint8] = self._array[index].copy()
        return film

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}


def open_cache(
    films: Sequence[str | Path],
    stated: Stated,
    canvas: tuple[int, int],
    folder: Path,
    names: Sequence[str],
    unreadable: Literal["error", "drop"] = "error",
    progress: bool = True,
    intensity: Intensity = "stored",
    fits: Sequence[FilmFit | None] | None = None,
) -> FilmCache:
    """Open the cache of these films; build it if it is not there yet.

    Any number of processes may call this at once: one builds, the others wait. A build that was killed is finished,
    not begun again. The files appear under their names only when they are complete; from then on nothing is written
    any more, and the folder may be read-only.

    Args:
        films: one path per film.
        stated: ``(height, width)`` of each film according to its table, pixels; 0 = not stated.
        canvas: ``(H, W)`` of the network's image, pixels.
        folder: where caches live; made if absent.
        names: what to call each film in messages, e.g. the line of its table (paths may hold a patient's id).
        unreadable: whether films that cannot be read are an error or recorded in the cache. Films that cannot be
            reached now (the network, a right or a decoder is missing) are an error either way.
        progress: show a bar while building.
        intensity: how stored values become grey.
        fits: where each film lies on the canvas, None for a whole film; None: all films whole.

    Raises:
        DataError: naming every film that cannot be read (policy ``error``); or saying what space the cache needs
            where there is too little, or why it cannot be written; or naming films that cannot be reached now; or where
            the folder's file system has no locks.
    """
    files = CacheFiles.of(films, stated, canvas, folder, intensity, fits)
    cache = _opened(files)
    if cache is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(files):
                if _opened(files) is None:  # another process may have built it meanwhile
                    build_cache(files, films, stated, intensity, names, unreadable, progress, fits)
                    return FilmCache(files.pixels)
        except OSError as error:
            raise DataError(_reason(files, error)) from error
        cache = FilmCache(files.pixels)
    if unreadable == "error":
        refuse_unreadable(cache.unreadable, names)
    return cache


def _opened(files: CacheFiles) -> FilmCache | None:
    """The finished cache, or None where there is none or one of its files was cut off."""
    if not files.is_complete():
        return None
    try:
        return FilmCache(files.pixels)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


@contextmanager
def _locked(files: CacheFiles) -> Iterator[None]:
    """Hold the lock of this cache.

    Raises:
        DataError: if the file system has none that ends with its process.
    """
    lock: BaseFileLock = FileLock(files.lock)
    start, patience = time.monotonic(), 0.0
    try:
        while not _acquired(lock, patience, files):
            _say_who_waits(files, time.monotonic() - start)
            patience = _SECONDS
        yield
    finally:
        lock.release()


def _acquired(lock: BaseFileLock, patience: float, files: CacheFiles) -> bool:
    try:
        with warnings.catch_warnings():  # of the lock's other kind, which is refused
            warnings.simplefilter("ignore", UserWarning)
            lock.acquire(timeout=patience)
        acquired, native = True, True
    except Timeout:
        acquired, native = False, True
    except NotImplementedError:  # older filelock
        acquired, native = False, False
    # the other kind is a file that a killed process leaves behind: one would wait for it in vain
    if not native or isinstance(lock, SoftFileLock):
        raise DataError(
            f"The file system of {files.folder} has no locks (flock), without which two processes may build the image "
            "cache at once. Build it on another disk (cache_dir), e.g. a local one; the finished .npy and .npz may be "
            "copied here afterwards."
        )
    return acquired


def _say_who_waits(files: CacheFiles, waited: float) -> None:
    try:
        last = f"{(time.time() - files.journal.stat().st_mtime) / 60:,.0f} minutes ago"
    except OSError:
        last = "not yet"
    rank_zero_info(
        f"Image cache: another process builds it; waiting ({waited / 60:,.0f} minutes so far; its last film: {last}). "
        f"If none runs on any machine, delete {files.lock}."
    )


def _reason(files: CacheFiles, error: OSError) -> str:
    """Why it could not be built, and what to do."""
    said = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk was full ({said}) before the image cache was complete: it takes "
            f"{size_text(files.total_bytes)} in {files.folder}. Free some space there and start again: it goes on "
            "where it stopped. Or choose another folder with cache_dir, or a smaller image_size."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return (
            f"There is no image cache of exactly these films in {files.folder}, and it cannot be written ({said}). "
            "Build it where the folder is writable (gaze-lightning cache), with the same film paths, image_size, "
            "intensity and align, or choose another folder with cache_dir."
        )
    return (
        f"The image cache {files.pixels} cannot be written ({said}). Choose another folder with cache_dir, or find out "
        "why this one cannot be used."
    )
