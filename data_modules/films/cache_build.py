"""Building an image cache: film by film, so that a killed build goes on where it stopped."""

import os
import time
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pytorch_lightning.utilities import rank_zero_info

from data_modules.errors import DataError
from data_modules.films.access import FilmAccessError
from data_modules.films.cache_files import CacheFiles, Stated, free_bytes, size_text
from data_modules.films.cache_index import publish_index
from data_modules.films.cache_journal import FilmRecord, checksum_of, line_of
from data_modules.films.cache_progress import film_progress
from data_modules.films.cache_refusals import (
    refuse_changed,
    refuse_hopeless,
    refuse_small_disk,
    refuse_unreached,
    refuse_unreadable,
    refuse_vanished,
)
from data_modules.films.cache_state import FilmStates, check, recall
from data_modules.films.intensity import Intensity
from data_modules.films.reading import read_films
from data_modules.geometry import FilmFit

_PIECE = 1024  # films handed to the readers at a time: what is planned for them takes memory


def build_cache(
    files: CacheFiles,
    films: Sequence[str | Path],
    stated: Stated,
    intensity: Intensity,
    names: Sequence[str],
    unreadable: Literal["error", "drop"],
    progress: bool,
    fits: Sequence[FilmFit | None] | None = None,
) -> None:
    """Build a cache, or finish the one that another process began; only one process should do so at a time.

    A film's pixels are written first and its line of the journal after them, with a checksum of the pixels. Whatever
    the moment of a kill, the next build checks every film that the journal names and reads only the others; the
    finished files are the same as those of one undisturbed build. Films that could not be read are tried again.

    Before the files are published, all pixels are read again and compared with their checksums. Two builders at once
    (on a network disk whose lock does not reach other machines) write the same bytes to the same places.

    Args:
        files: where it is built.
        films: one path per film.
        stated: ``(height, width)`` of each film according to its table, pixels; 0 = not stated.
        intensity: how stored values become grey.
        names: what to call each film in messages.
        unreadable: whether films whose content cannot be used are an error or recorded in the cache.
        progress: show a bar.
        fits: where each film lies on the canvas, None for a whole film; None: all films whole.

    Raises:
        DataError: if the disk is too small; naming every film that cannot be used (policy ``error``) or that could not
            be reached now (either policy); or if no film can be used. The readable ones stay in the unfinished files.
        OSError: if the folder cannot be written.
    """
    start = time.monotonic()
    known, was_there = FilmStates(files.n), files.is_complete()  # there, though its index may be damaged
    place = files.partial if files.partial.is_file() else files.pixels
    if place.is_file():
        recall(files, place, known, progress)
    pending = np.flatnonzero(~known.done)
    if place == files.partial or len(pending) or not _has_frame(files):
        if files.is_complete() and not was_there:  # by a builder that the lock did not keep away
            return
        if place == files.pixels and place.is_file():  # killed between its two last steps, and then damaged
            os.replace(files.pixels, files.partial)
        refuse_small_disk(files, len(pending))
        _announce(files, len(pending))
        with FileIO(files.partial, "r+", opener=_or_new) as pixels, files.journal.open("ab", buffering=0) as journal:
            journal.write(b"\n")  # ends a line that a kill tore off
            _write_at(pixels, 0, files.header)
            left = len(pending)
            placed = [None] * files.n if fits is None else fits
            for piece in _read_pending(
                files, known, pending, films, stated, placed, intensity, pixels, journal, progress
            ):
                left -= len(piece)
                refuse_hopeless(files, known, piece, left, names, unreadable)
            pixels.truncate(files.total_bytes)
            os.fsync(pixels.fileno())
    refuse_unreached(known, names, unreadable)
    if known.reasons and unreadable == "error":
        refuse_unreadable(dict(sorted(known.reasons.items())), names)
    refuse_vanished(files, known, films, stated, intensity, names, fits)
    _publish(files, known, progress)
    seconds = time.monotonic() - start
    rank_zero_info(
        f"Image cache: {files.n:,} films, {size_text(files.total_bytes)}, {len(pending):,} of them resized in "
        f"{seconds:,.1f} s ({len(pending) / seconds:,.0f} films/s): {files.pixels}"
    )


def _announce(files: CacheFiles, missing: int) -> None:
    done = f", {files.n - missing:,} others are finished" if missing < files.n else ""
    rank_zero_info(
        f"Image cache: {missing:,} films are to be resized to {files.canvas[0]} x {files.canvas[1]}{done}; "
        f"{size_text(files.needed_bytes(missing))} in {files.folder}, {size_text(free_bytes(files.folder))} free."
    )


def _or_new(path: str, flags: int) -> int:
    """Open without cutting anything off: another builder may be at work."""
    return os.open(path, flags | os.O_CREAT, 0o666)


def _has_frame(files: CacheFiles) -> bool:
    """Whether the finished pixels are there with their header and their full length."""
    if not files.pixels.is_file() or files.pixels.stat().st_size != files.total_bytes:
        return False
    with files.pixels.open("rb") as pixels:
        return pixels.read(len(files.header)) == files.header


def _publish(files: CacheFiles, known: FilmStates, progress: bool) -> None:
    """Give the files their names, after a last look at every pixel.

    Raises:
        DataError: if pixels have changed since they were written.
    """
    what = "Checking all films"
    try:
        check(files, files.partial, known, what, progress)
        refuse_changed(known)
        os.replace(files.partial, files.pixels)
    except FileNotFoundError:  # finished before, or by a builder that the lock did not keep away
        check(files, files.pixels, known, what, progress)
        refuse_changed(known)
    publish_index(files, known.sizes, known.constant, known.checksums, known.reasons)
    files.journal.unlink(missing_ok=True)


def _read_pending(
    files: CacheFiles,
    known: FilmStates,
    pending: npt.NDArray[np.int64],
    films: Sequence[str | Path],
    stated: Stated,
    fits: Sequence[FilmFit | None],
    intensity: Intensity,
    pixels: FileIO,
    journal: FileIO,
    progress: bool,
) -> Iterator[list[int]]:
    """Read what is missing; yields the films of each piece."""
    with film_progress("Resizing films", files.n, files.n - len(pending), progress) as advance:
        for start in range(0, len(pending), _PIECE):
            piece = pending[start : start + _PIECE].tolist()
            sizes = [(int(stated[index][0]), int(stated[index][1])) for index in piece]
            paths, placed = [Path(films[index]) for index in piece], [fits[index] for index in piece]
            results = read_films(paths, sizes, files.canvas, intensity, fits=placed)
            for index, result in zip(piece, results, strict=True):
                advance()
                if isinstance(result, FilmAccessError):
                    known.unreached[index] = str(result)
                    continue
                if isinstance(result, DataError):
                    data, facts, reason = bytes(files.film_bytes), (0, 0, False), str(result)
                else:
                    data, reason = result.pixels.tobytes(), ""
                    facts = (result.height, result.width, result.constant)
                record = FilmRecord(index, *facts, checksum_of(data), reason)
                _write_at(pixels, files.offset(index), data)
                _write_at(journal, None, line_of(record))
                known.note(record)
            yield piece


def _write_at(file: FileIO, offset: int | None, data: bytes) -> None:
    """Write all of it: a system call may take a part only, on a disk that is nearly full."""
    if offset is not None:
        file.seek(offset)
    rest = memoryview(data)
    while len(rest):
        rest = rest[file.write(rest) :]
