"""The one table that every source is read into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from data_modules.errors import DataError
from gaze_lightning.gaze import Fixations

LabelType = Literal["single", "multi"]
Split = Literal["train", "validate", "test"]


class Region(Protocol):
    """An outline on one film that belongs to one class."""

    @property
    def class_index(self) -> int:
        """Index of the class that it belongs to."""

    @property
    def kind(self) -> Literal["lesion", "anatomy"]:
        """Whether the class's finding lies here, or the anatomy in which it is expected."""

    def mask(self, scale: float, offset_x: float, offset_y: float, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Rasterise at network resolution.

        Args:
            scale: network pixels per film pixel.
            offset_x: network x of the film's left edge.
            offset_y: network y of the film's upper edge.
            size: (H, W) of the network image.

        Returns:
            bool ``[H, W]``.
        """


@dataclass(frozen=True)
class ReadingTable:
    """One row per reading (one reader, one film); everything a dataset needs, nothing of the source's format.

    Attributes:
        frame: columns ``sample_id`` (unique), ``image_id``, ``subject``, ``image_path`` (all str), ``height`` and
            ``width`` (int, original film pixels, 0 = not stated by the source), ``split`` (``train``/``validate``/
            ``test`` as the source says, or empty), ``source_row`` (line of the source's table, for messages).
        labels: int64 ``[n]`` class index (single-label) or float32 ``[n, K]`` in {0, 1, NaN} (multi-label), or None.
        class_names: names of the classes, in the order of the labels.
        label_type: ``"single"`` (exclusive classes) or ``"multi"``.
        fixations: ``sample_id`` -> fixations in original film pixels; a reading without usable gaze is absent or empty.
        regions: ``sample_id`` -> lesion and anatomy outlines, where the source has them.
        excluded: reason -> number of readings left out on the way.
        excluded_points: reason -> number of gaze points and outlines left out, and of readings kept without theirs.
        notes: what else a person should know about the data, one line each, without ids.
        chest_boxes: ``sample_id`` -> x0, y0, x1, y1 of the chest, film pixels, where the source has it.
        rows_read: name of a table of the source -> its number of data rows.
        sources: name of the source of each reading ``[n]`` where several are joined, else None.
        scan_paths: whether each reading's fixations are one row in time with durations of their own; False where those
            of several readers are joined: they give a map, no scan path.
    """

    frame: pd.DataFrame
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float32] | None
    class_names: tuple[str, ...]
    label_type: LabelType
    fixations: Mapping[str, Fixations]
    regions: Mapping[str, Sequence[Region]] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)
    excluded_points: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    chest_boxes: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)
    rows_read: Mapping[str, int] = field(default_factory=dict)
    sources: npt.NDArray[np.str_] | None = None
    scan_paths: bool = True

    def __post_init__(self) -> None:
        """Refuse a table in which two readings share an id: they would share gaze and outlines."""
        twice = self.frame.loc[self.frame["sample_id"].duplicated(keep=False), "source_row"]
        if len(twice):
            raise DataError("Several readings have the same sample_id. Rename the images or readers:", list(twice))
