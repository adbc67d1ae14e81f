"""The similarity of all pairs of readings as a file: built block by block, in threads, and continued after a kill."""

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze.similarity.prepared_gaze import PreparedGaze
from gaze_lightning.relations.progress import pair_progress

Scores = npt.NDArray[np.float32]
_Block = tuple["slice[int, int, None]", "slice[int, int, None]"]

SIDE, SIDE_OF_PRODUCTS = 128, 1024
"""Readings per side of a block: about a second of work where a pair takes 50 microseconds; matrix products, which have
threads of their own, gain from larger ones."""


def similarity_scores(
    prepared: PreparedGaze,
    path: Path,
    *,
    parallel: bool = False,
    jobs: int = 0,
    what: str = "Comparing gaze",
    progress: bool = True,
    side: int | None = None,
) -> Scores:
    """Compare all pairs and return the matrix, read-only; where the file is complete, only open it.

    Blocks on and above the diagonal are computed, and mirrored. Finished ones are written into ``<name>.part`` and a
    journal with a checksum of each, so that whatever is interrupted goes on where it stopped and ends with the same
    bytes. Whoever calls this holds a lock: two processes must not build one file.

    Args:
        prepared: ``N`` readings.
        path: the ``.npy`` file.
        parallel: whether blocks gain from several threads.
        jobs: number of threads; 0: one per core that this process may use.
        what: is said beside the progress bar.
        progress: whether it is shown.
        side: of a block, readings; another one begins anew. None: 128, or 1024 where threads gain nothing.

    Returns:
        float32 memory map ``[N, N]``.

    Raises:
        ValueError: a block of the measure has another shape, NaN, or values outside [0, 1].
        ConfigurationError: the disk is too small.
    """
    if path.is_file():
        return opened_scores(path, len(prepared))
    side = side or (SIDE if parallel else SIDE_OF_PRODUCTS)
    part, journal = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.journal")
    scores, missing = _begun(part, journal, len(prepared), side)
    total, left = len(prepared) * (len(prepared) - 1) // 2, sum(map(_pairs, missing))
    workers = (jobs or available_cores()) if parallel else 1
    with (
        journal.open("a") as file,
        pair_progress(what, total, total - left, progress) as advance,
    ):
        for block, values in _computed(prepared, missing, workers):
            rows, columns = block
            scores[rows, columns] = values
            scores[columns, rows] = values.T
            file.write(_line(block, values))
            file.flush()
            advance(_pairs(block))
    scores.flush()
    del scores
    part.replace(path)
    journal.unlink()
    return opened_scores(path, len(prepared))


def opened_scores(path: Path, n: int) -> Scores:
    """Open finished scores read-only.

    Raises:
        ConfigurationError: the file is not a matrix of ``n`` readings.
    """
    try:
        scores = np.load(path, mmap_mode="r", allow_pickle=False)
        found = f"{scores.dtype} {scores.shape}"
    except (OSError, ValueError) as error:
        scores, found = None, str(error)
    if scores is None or scores.dtype != np.float32 or scores.shape != (n, n):
        raise ConfigurationError(
            f"{path} does not hold the similarities of {n} readings ({found}): delete it, and it is built again"
        )
    return scores  # type: ignore[no-any-return]


def opened_valid(path: Path, n: int) -> npt.NDArray[np.bool_]:
    """Read which readings can be compared, bool ``[n]``.

    Raises:
        ConfigurationError: the file is not that of ``n`` readings.
    """
    try:
        valid = np.load(path, allow_pickle=False)
        found = f"{valid.dtype} {valid.shape}"
    except (OSError, ValueError, EOFError) as error:
        valid, found = None, str(error)
    if valid is None or valid.dtype != np.bool_ or valid.shape != (n,):
        raise ConfigurationError(
            f"{path} does not say which of {n} readings can be compared ({found}): delete it, and it is made again"
        )
    return valid  # type: ignore[no-any-return]


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _blocks(n: int, side: int) -> Iterator[_Block]:
    parts = [slice(start, min(start + side, n), None) for start in range(0, n, side)]
    for i, rows in enumerate(parts):
        for columns in parts[i:]:
            yield rows, columns


def _pairs(block: _Block) -> int:
    """Number of pairs of two readings in a block."""
    rows, columns = (part.stop - part.start for part in block)
    return rows * (rows - 1) // 2 if block[0] == block[1] else rows * columns


def _computed(prepared: PreparedGaze, blocks: list[_Block], workers: int) -> Iterator[tuple[_Block, Scores]]:
    """Blocks as they are finished; few enough wait that memory does not fill."""
    if workers == 1:
        for block in blocks:
            yield block, _checked(prepared, block)
        return
    left = iter(blocks)
    pool = ThreadPoolExecutor(workers)
    try:
        running: dict[Future[Scores], _Block] = {}
        while True:
            while len(running) < 2 * workers and (following := next(left, None)) is not None:
                running[pool.submit(_checked, prepared, following)] = following
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _checked(prepared: PreparedGaze, block: _Block) -> Scores:
    values = prepared.block(*block)
    rows, columns = (part.stop - part.start for part in block)
    name = type(prepared).__name__
    if values.shape != (rows, columns) or values.dtype != np.float32:
        raise ValueError(f"{name}.block gave {values.dtype} {values.shape}, expected float32 ({rows}, {columns})")
    if not (values.min() >= 0 and values.max() <= 1):  # false for NaN as well
        raise ValueError(f"{name}.block gave {values.min()} to {values.max()}: similarities lie in [0, 1], without NaN")
    return values


def _begun(
    part: Path, journal: Path, n: int, side: int
) -> tuple["np.memmap[tuple[int, int], np.dtype[np.float32]]", list[_Block]]:
    """The matrix of a build that was interrupted, or a new one, and the blocks that are missing or not sound."""
    head = json.dumps({"n": n, "side": side})
    if part.is_file() and journal.is_file():
        lines = journal.read_text().splitlines()
        try:
            scores = np.lib.format.open_memmap(part, mode="r+")
        except (ValueError, OSError):  # cut off while it was made
            scores = None
        if scores is not None and lines[:1] == [head] and scores.shape == (n, n) and scores.dtype == np.float32:
            recorded = set(lines[1:])
            missing = [block for block in _blocks(n, side) if not _is_sound(scores, block, recorded)]
            if journal.read_bytes()[-1:] != b"\n":  # the last line was torn: the next one starts on its own
                with journal.open("a") as file:
                    file.write("\n")
            return scores, missing
    part.parent.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(part.parent).free, 4 * n * n
    if free < needed:  # writing to a memory map without room would end the process without a word
        raise ConfigurationError(
            f"The similarities of {n:,} readings take {needed / 1e9:.1f} GB in {part.parent}, where "
            f"{free / 1e9:.1f} GB are free: choose another folder"
        )
    journal.unlink(missing_ok=True)
    scores = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=(n, n))
    journal.write_text(head + "\n")
    return scores, list(_blocks(n, side))


def _is_sound(scores: Scores, block: _Block, recorded: set[str]) -> bool:
    rows, columns = block
    values = scores[rows, columns]
    return _line(block, values).rstrip("\n") in recorded and np.array_equal(values, scores[columns, rows].T)


def _line(block: _Block, values: Scores) -> str:
    """The block as a line of the journal."""
    return f"{block[0].start} {block[1].start} {zlib.crc32(np.ascontiguousarray(values).tobytes()):08x}\n"
