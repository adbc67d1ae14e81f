"""Features of many films from many processes, in one array on the disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from torch import Tensor

from gaze_lightning.evaluation.files import replacing

_ROWS = 4096
"""Rows that are copied at a time."""


class FeaturePart:
    """The features of one process, written to the run folder as they come: they never lie in memory all at once.

    Args:
        folder: the run folder, the same for all processes.
        rank: of this process.

    Attributes:
        shape: ``(n, C)`` written so far; ``(0, 0)`` before.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._path = _path_of(folder, rank)
        self._file: BinaryIO | None = None
        self.shape = (0, 0)

    def add(self, features: Tensor) -> None:
        """Append features ``[B, C]`` as float32.

        Raises:
            ValueError: another shape, or another ``C`` than before.
        """
        n, length = self.shape
        if features.ndim != 2 or (self._file is not None and features.shape[1] != length):
            raise ValueError(f"features must be [B, {length or 'C'}], got {tuple(features.shape)}")
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
        self._file.write(features.detach().float().cpu().contiguous().numpy().tobytes())
        self.shape = (n + len(features), features.shape[1])

    def close(self) -> None:
        """Finish writing; from then on the file is complete."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Delete what was written."""
        self.close()
        if self._file is not None:
            self._path.unlink(missing_ok=True)


def join_parts(folder: Path, shapes: Sequence[tuple[int, int]], rows: Sequence[int]) -> Path:
    """Write ``features.npy`` from the parts of all processes, and delete them.

    Args:
        folder: the run folder.
        shapes: of the parts, by rank; ``(0, 0)``: that process had no film.
        rows: which rows of all parts, one after the other, in the order in which they are to stand.

    Returns:
        The path of the file: float32 ``[len(rows), C]``.

    Raises:
        RuntimeError: parts that cannot be seen from here or are incomplete, or with features of different lengths.
    """
    lengths = {length for n, length in shapes if n}
    if len(lengths) != 1:
        raise RuntimeError(f"the processes' features have different lengths: {sorted(lengths)}")
    length = lengths.pop()
    parts: list[np.memmap] = []
    for rank, (n, _) in enumerate(shapes):
        path = _path_of(folder, rank)
        if n and (not path.is_file() or path.stat().st_size != 4 * n * length):
            raise RuntimeError(
                f"the features of process {rank} are not complete in {folder}: all processes must write to the same"
                " folder. Predict on one machine, or put the run folder on a shared disk."
            )
        if n:
            parts.append(np.memmap(path, dtype=np.float32, mode="r", shape=(n, length)))
    starts = np.cumsum([0, *(len(part) for part in parts)])
    wanted = np.asarray(rows, dtype=np.int64)
    owner = np.searchsorted(starts, wanted, side="right") - 1
    target = folder / "features.npy"
    with replacing(target) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=(len(wanted), length))
        for begin in range(0, len(wanted), _ROWS):
            for index, part in enumerate(parts):
                places = begin + np.flatnonzero(owner[begin : begin + _ROWS] == index)
                array[places] = part[wanted[places] - starts[index]]
        array.flush()
    for rank in range(len(shapes)):
        _path_of(folder, rank).unlink(missing_ok=True)
    return target


def _path_of(folder: Path, rank: int) -> Path:
    return folder / f".features.{rank}.part"
