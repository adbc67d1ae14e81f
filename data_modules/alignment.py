"""Alignment of films: by their whole, or by the box of the chest."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from data_modules.errors import DataError
from data_modules.geometry import FilmFit
from data_modules.readings import ReadingTable

Align = Literal["film", "chest_box"]
"""``film``: every film is placed whole; ``chest_box``: so that its chest box fills the canvas."""


def chest_fits(table: ReadingTable, canvas: tuple[int, int], margin: float) -> list[FilmFit | None]:
    """Place every film so that its chest box, enlarged on each side, fills the canvas (`FilmFit.onto`).

    A film has one box: the mean of those that its readers drew.

    Args:
        table: the readings.
        canvas: (H, W), pixels.
        margin: what is added on each side, as a fraction of the box's width and height.

    Returns:
        Fit of each film in the order of the films' first readings; None for films without a box, to be placed whole.

    Raises:
        DataError: if no film has a box, or the margin is not a number of at least 0.
    """
    if not (np.isfinite(margin) and margin >= 0):
        raise DataError(
            f"data.init_args.chest_margin must be at least 0 (a fraction of the chest box on each side), got {margin}."
        )
    boxes: dict[str, list[Sequence[float]]] = {path: [] for path in table.frame["image_path"]}
    for path, name in zip(table.frame["image_path"], table.frame["sample_id"], strict=True):
        if name in table.chest_boxes:
            boxes[path].append(table.chest_boxes[name])
    if not any(boxes.values()):
        raise DataError(
            "data.init_args.align: chest_box needs chest boxes, but no film has one. REFLACX: restore "
            "chest_bounding_box.csv of the readings. Own films: name the four columns with "
            "data.init_args.chest_box_columns. Or place films whole with data.init_args.align: film."
        )
    fits: list[FilmFit | None] = []
    for found in boxes.values():
        x0, y0, x1, y1 = np.mean(found, axis=0).tolist() if found else (0.0, 0.0, 0.0, 0.0)
        fits.append(FilmFit.onto((x0, y0, x1, y1), canvas, margin) if found else None)
    return fits


def with_alignment_note(table: ReadingTable, fits: Sequence[FilmFit | None]) -> ReadingTable:
    """Say in the table's notes how many films are aligned, and how many have no box."""
    without = sum(fit is None for fit in fits)
    rest = f"; {without} without one are placed whole and are not aligned" if without else ""
    note = f"films aligned by their chest boxes: {len(fits) - without} of {len(fits)}{rest}"
    return replace(table, notes=(*table.notes, note))
