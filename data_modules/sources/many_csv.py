"""Reading thousands of small CSV files of the same layout in one go."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data_modules.errors import DataError
from data_modules.sources.csv_tables import BLANK, ROW, convert_numbers, require_columns

FILE = "_file"
"""Column added by `read_many`: index of the file that the row comes from."""


def read_many(
    paths: Sequence[Path], names: Sequence[str], *, numeric: Sequence[str], text: Sequence[str] = ()
) -> pd.DataFrame:
    """Read small CSV files of numbers and flags (no quoted cells) into one table.

    The files' bodies are joined and parsed at once: one call of the parser per file costs more than reading the file.

    Args:
        paths: the files.
        names: what to call each of them in messages (no ids).
        numeric: columns of numbers, float64; a blank cell is NaN.
        text: columns kept as text.

    Returns:
        The columns asked for, `FILE` (index into ``paths``) and `ROW` (record of that file, the header is row 1), in
        the order of the files.

    Raises:
        DataError: if files are empty, lack a column, have rows with too many or too few cells, or cells that are not
            numbers; all such rows at once.
    """
    wanted = [*text, *numeric]
    groups: dict[bytes, tuple[list[int], list[int], list[bytes]]] = {}
    ragged: list[str] = []
    for index, (path, name) in enumerate(zip(paths, names, strict=True)):
        header, _, body = path.read_bytes().removeprefix(b"\xef\xbb\xbf").partition(b"\n")
        header = header.rstrip(b"\r")
        lines = [line for line in body.split(b"\n") if line.strip()]
        if header not in groups:
            require_columns(Path(name), header.decode("utf-8", "replace").split(","), wanted)
            groups[header] = ([], [], [])
        cells = header.count(b",")
        ragged += [
            f"{name} row {n}: {line.count(b',') + 1} cells instead of {cells + 1}"
            for n, line in enumerate(lines, start=2)
            if line.count(b",") != cells
        ]
        files, counts, joined = groups[header]
        files.append(index)
        counts.append(len(lines))
        joined += lines
    if ragged:
        raise DataError("damaged tables (interrupted download?); download them again:", ragged)
    parts = []
    for header, (files, counts, joined) in groups.items():
        part = pd.read_csv(
            io.BytesIO(b"\n".join([header, *joined])),
            usecols=wanted,
            dtype=dict.fromkeys(text, "str"),
            keep_default_na=False,
            na_values={column: list(BLANK) for column in numeric},
            index_col=False,
            low_memory=False,
        )[wanted]
        if len(part) != sum(counts):
            raise DataError(f"{names[files[0]]} and tables like it contain quoted line breaks; download them again.")
        part[FILE] = np.repeat(files, counts).astype(np.int64)
        part[ROW] = np.concatenate([np.arange(2, 2 + count) for count in counts]).astype(np.int64)
        at, row = part[FILE].to_numpy(), part[ROW].to_numpy()
        parts.append(
            convert_numbers(
                part,
                numeric,
                "damaged tables",
                lambda n, at=at, row=row: f"{names[at[n]]} row {row[n]}",  # type: ignore[misc]
            )
        )
    if not parts:
        return pd.DataFrame({**{c: [] for c in wanted}, FILE: np.zeros(0, np.int64), ROW: np.zeros(0, np.int64)})
    return pd.concat(parts, ignore_index=True).sort_values(FILE, kind="stable", ignore_index=True)
