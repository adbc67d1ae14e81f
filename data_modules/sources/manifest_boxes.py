"""Chest boxes of anybody's own films."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from data_modules.errors import DataError, refuse
from data_modules.sources.csv_tables import ROW

Box = tuple[float, float, float, float]


def read_boxes(images: pd.DataFrame, columns: Sequence[str], table: str) -> tuple[pd.DataFrame, dict[int, Box]]:
    """Take the chest boxes out of the table of images.

    Args:
        images: a row per image, numbered from 0, with ``height`` and ``width`` (pixels) and the columns (float64).
        columns: left, upper, right and lower edge, image pixels; none: there are no boxes.
        table: its name, for messages.

    Returns:
        The images (where faults are collected: without the faulty rows, numbered anew), and row -> x0, y0, x1, y1, cut
        to the image. Rows with four blanks have none.

    Raises:
        DataError: naming the rows of boxes that are filled in part, have no area or lie outside their image.
    """
    if not columns:
        return images, {}
    boxes = images[list(columns)].to_numpy(dtype=np.float64)
    size = images[["width", "height", "width", "height"]].to_numpy(dtype=np.float64)
    blank = np.isnan(boxes).all(axis=1)
    inside = np.clip(boxes, 0, size)
    good = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])  # false for NaN
    bad = ~(blank | good)
    if bad.any():
        refuse(
            DataError(
                f"{table}: a chest box ({', '.join(columns)}) is four blanks or left < right and upper < lower in "
                "pixels of its image. Correct it, or leave data.init_args.chest_box_columns out:",
                [f"row {row}" for row in images.loc[bad, ROW]],
            )
        )
    left = ~bad
    found = {
        row: (x0, y0, x1, y1)
        for row, (known, (x0, y0, x1, y1)) in enumerate(zip(good[left].tolist(), inside[left].tolist(), strict=True))
        if known
    }
    return images[left].reset_index(drop=True), found
