"""Reading many films: in order, in threads, with the damage that only a decoder's own words tell."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data_modules.errors import DataError
from data_modules.films.images import FittedFilm, decoder_messages, read_film
from data_modules.films.intensity import Intensity
from data_modules.geometry import FilmFit

_MOST_WORKERS = 16  # a film of 16 bits takes about 65 MB while it is decoded; disks give no more from there on
_CHUNK_BYTES = 2**26  # of finished films
_DAMAGE = ("corrupt jpeg data", "premature end", "tiff_error")

_Job = tuple[Path, tuple[int, int], tuple[int, int], Intensity, FilmFit | None]


def read_films(
    paths: Sequence[Path],
    stated: Sequence[tuple[int, int]],
    canvas: tuple[int, int],
    intensity: Intensity = "stored",
    workers: int | None = None,
    fits: Sequence[FilmFit | None] | None = None,
) -> Iterator[FittedFilm | DataError]:
    """Read films and fit them into the canvas, see `read_film`.

    Memory does not grow with their number: up to 16 films per thread (64 MB of pixels) are read, handed out and
    forgotten. While they are read, what the process writes to file descriptor 2 is kept aside: JPEG and TIFF decoders
    report damage nowhere else. No thread works while films are handed out, so that the caller's own words, and those
    of an error that ends it, are never kept aside.

    Args:
        paths: the files.
        stated: ``(height, width)`` of each film according to its table, pixels; 0 = not stated.
        canvas: ``(H, W)`` of the network's image, pixels.
        intensity: how stored values become grey.
        workers: threads; None for one per CPU core that this process may use, 16 at most.
        fits: where each film lies on the canvas, None for a whole film; None: all films whole.

    Yields:
        For every path, in order: the film, or the error that says why there is none (without naming the file).

    Raises:
        ValueError: if ``paths``, ``stated`` and ``fits`` differ in length.
    """
    placed = [None] * len(paths) if fits is None else fits
    jobs: list[_Job] = [
        (path, canvas, size, intensity, fit) for path, size, fit in zip(paths, stated, placed, strict=True)
    ]
    workers = workers or min(_cores(), _MOST_WORKERS)
    step = _chunk(workers, canvas)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for start in range(0, len(jobs), step):  # in pieces, so that finished films do not pile up in memory
            yield from _read_chunk(pool, jobs[start : start + step])


def _chunk(workers: int, canvas: tuple[int, int]) -> int:
    """Films per piece: many per thread, for at its end some threads wait for the last one."""
    return max(4 * workers, min(16 * workers, _CHUNK_BYTES // max(canvas[0] * canvas[1], 1)))


def _read_chunk(pool: ThreadPoolExecutor, jobs: list[_Job]) -> list[FittedFilm | DataError]:
    with decoder_messages() as messages:
        results = list(pool.map(_read, jobs))
    return _sorted_out(pool, jobs, results) if _damaged(messages) else results


def _sorted_out(
    pool: ThreadPoolExecutor, jobs: list[_Job], results: list[FittedFilm | DataError]
) -> list[FittedFilm | DataError]:
    """Find the damaged ones among films that caused a message, which names none: by halves, read again."""
    if len(jobs) == 1:
        damage = DataError("The image is damaged inside (the decoder complains); copy or download it again.")
        return [result if isinstance(result, DataError) else damage for result in results]
    middle = len(jobs) // 2
    found: list[FittedFilm | DataError] = []
    for half in (slice(0, middle), slice(middle, len(jobs))):
        with decoder_messages() as messages:
            again = list(pool.map(_read, jobs[half]))
        found += _sorted_out(pool, jobs[half], again) if _damaged(messages) else results[half]
    return found


def _damaged(messages: Sequence[str]) -> bool:
    return any(sign in message.lower() for message in messages for sign in _DAMAGE)


def _read(job: _Job) -> FittedFilm | DataError:
    try:
        return read_film(*job)
    except DataError as error:
        return error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
