"""The files of one image cache: what they are called, how large they become, whether they are complete."""

import hashlib
import io
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from data_modules.films.intensity import Intensity
from data_modules.geometry import FilmFit

CACHE_VERSION = 4
"""Raise it when `read_film` changes its result: older caches are then left alone and new ones built."""

_RECORD_BYTES = 200  # of journal and index per film, generously

Stated = Sequence[tuple[int, int]] | npt.NDArray[np.integer]
"""(height, width) of each film according to its table, pixels; 0 = not stated."""


@dataclass(frozen=True)
class CacheFiles:
    """Where one cache lies.

    Finished are ``<name>.npy`` (all films, uint8 ``[n, H, W]``) and ``<name>.npz`` (sizes and flags), which appears
    last. On the way there are ``<name>.partial`` (the films so far) and ``<name>.journal`` (which are complete).

    Attributes:
        folder: where caches live.
        name: holds canvas, number of films and the `fingerprint`, so that two caches never share a file.
        n: number of films.
        canvas: ``(H, W)``, pixels.
    """

    folder: Path
    name: str
    n: int
    canvas: tuple[int, int]

    @classmethod
    def of(
        cls,
        films: Sequence[str | Path],
        stated: Stated,
        canvas: tuple[int, int],
        folder: Path,
        intensity: Intensity = "stored",
        fits: Sequence[FilmFit | None] | None = None,
    ) -> Self:
        """Name the cache of these films; every file is looked at (size and time of change), none is read."""
        key = fingerprint(films, stated, canvas, intensity, fits)
        return cls(folder, f"films_{canvas[0]}x{canvas[1]}_n{len(films)}_{key}", len(films), canvas)

    @property
    def pixels(self) -> Path:
        """The finished films."""
        return self.folder / f"{self.name}.npy"

    @property
    def index(self) -> Path:
        """Sizes and flags of the finished films; its presence says that the cache is complete."""
        return self.folder / f"{self.name}.npz"

    @property
    def partial(self) -> Path:
        """The films of an unfinished build."""
        return self.folder / f"{self.name}.partial"

    @property
    def journal(self) -> Path:
        """What of ``partial`` is complete."""
        return self.folder / f"{self.name}.journal"

    @property
    def lock(self) -> Path:
        """Held by the process that builds."""
        return self.folder / f"{self.name}.lock"

    @cached_property
    def header(self) -> bytes:
        """First bytes of ``pixels``."""
        file = io.BytesIO()
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (self.n, *self.canvas)})
        return file.getvalue()

    @property
    def film_bytes(self) -> int:
        """Size of one film on disk."""
        return self.canvas[0] * self.canvas[1]

    @property
    def total_bytes(self) -> int:
        """Size of ``pixels`` when it is complete."""
        return len(self.header) + self.n * self.film_bytes

    def offset(self, film: int) -> int:
        """Where a film begins in ``pixels`` and ``partial``."""
        return len(self.header) + film * self.film_bytes

    def needed_bytes(self, missing: int) -> int:
        """Space that ``missing`` more films take, with their share of journal and index."""
        return missing * (self.film_bytes + _RECORD_BYTES)

    def is_complete(self) -> bool:
        """Whether both finished files are there and none was cut off."""
        try:
            return self.index.is_file() and self.pixels.stat().st_size == self.total_bytes
        except OSError:
            return False


def fingerprint(
    films: Sequence[str | Path],
    stated: Stated,
    canvas: tuple[int, int],
    intensity: Intensity = "stored",
    fits: Sequence[FilmFit | None] | None = None,
) -> str:
    """Hash of everything the cache depends on.

    These are the version, canvas, intensity, and every film's path, file size, time of change, stated size and, where
    films are not all placed whole, its place on the canvas.

    Args:
        films: the files; a missing one counts as such.
        stated: ``(height, width)`` of each film according to its table, pixels; 0 = not stated.
        canvas: ``(H, W)``, pixels.
        intensity: how stored values become grey.
        fits: where each film lies on the canvas, None for a whole film; None: all films whole.

    Returns:
        20 hexadecimal digits.
    """
    digest = hashlib.sha256(f"{CACHE_VERSION} {canvas} {intensity}".encode())
    for path, (height, width) in zip(films, stated, strict=True):
        try:
            status = os.stat(path)
            facts = (status.st_size, status.st_mtime_ns)
        except OSError:
            facts = (-1, -1)
        digest.update(f"\n{os.path.abspath(path)}\t{facts}\t{height} {width}".encode(errors="surrogateescape"))
    for fit in fits or ():  # after the films: caches of whole films keep their names
        digest.update(f"\nplaced {fit}".encode())
    return digest.hexdigest()[:20]


def size_text(n: float) -> str:
    """A number of bytes for people: ``19.2 GB``, ``54.3 MB``."""
    size, unit = (1e9, "GB") if n >= 1e9 else (1e6, "MB") if n >= 1e6 else (1e3, "kB")
    return f"{n / size:,.1f} {unit}"


def free_bytes(folder: Path) -> int:
    """Free space on the disk where a folder is, or will be made."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
