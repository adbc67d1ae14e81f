"""A small table of readings with films on disk, as a source would make it; every id is made up."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from data_modules.base import GazeDataModule
from data_modules.readings import ReadingTable
from data_modules.regions import EllipseRegion
from gaze_lightning.gaze import Fixations


def spot(height: int, width: int, x: float, y: float, sigma: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.rint(255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))).astype(np.uint8)


def make_table(folder: Path, n: int = 40, label_type: str = "single", visible: bool = False) -> ReadingTable:
    """Films that show one spot where their only fixation lies.

    Every third film is landscape, every fifth reading has no gaze, patients 0, 3, 6, ... have two films.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    subjects, rows, fixations, regions = [], [], {}, {}
    while len(subjects) < n:
        subjects += [f"1{len(subjects):07d}"] * (2 if len(subjects) % 3 == 0 else 1)
    parts = dict(zip(dict.fromkeys(subjects), ["train", "train", "train", "validate", "test"] * n, strict=False))
    for i, subject in enumerate(subjects[:n]):
        height, width = (50, 60) if i % 3 == 0 else (60, 50)
        x, y, sigma = generator.uniform(15, 35), generator.uniform(15, 35), 4.0
        path = folder / f"film {i}.png"
        cv2.imwrite(str(path), spot(height, width, x, y, sigma))
        rows.append((f"s{i}", f"i{i}", subject, str(path), height, width, parts[subject], f"made_up.csv row {i + 2}"))
        if i % 5:
            shown = np.array([[x - 9, y - 9, x + 9, y + 9]]) if visible and i % 2 else None
            fixations[f"s{i}"] = Fixations([x], [y], [0.3], [sigma], [sigma], [0.0], shown)
        regions[f"s{i}"] = [
            EllipseRegion(i % 2, "lesion", x - 5, y - 5, x + 5, y + 5),
            EllipseRegion(1, "anatomy", 0, 0, width, height),
        ]
    columns = ["sample_id", "image_id", "subject", "image_path", "height", "width", "split", "source_row"]
    labels: Any = np.array([i % 2 for i in range(n)], dtype=np.int64)
    if label_type == "multi":
        labels = (generator.random((n, 2)) < 0.5).astype(np.float32)
        labels[::5, 1] = np.nan
    return ReadingTable(
        pd.DataFrame(rows, columns=columns), labels, ("a", "b"), label_type, fixations, regions, {"made up": 3}
    )


def with_readers(table: ReadingTable, visible: bool = False) -> ReadingTable:
    """Every film has one to four readings; each fifth reading, in another order than the films, has no gaze."""
    generator = np.random.default_rng(1)
    rows = np.repeat(np.arange(len(table.frame)), np.resize([3, 1, 4, 2], len(table.frame)))
    frame = table.frame.iloc[rows].reset_index(drop=True)
    frame["sample_id"] = [f"{film}#{n}" for n, film in enumerate(frame["image_id"])]
    fixations = {}
    for n, name in enumerate(frame["sample_id"]):
        if n % 5:
            count = int(generator.integers(1, 7))
            at = generator.uniform(-2, 52, (2, count))
            shown = np.stack([at[0] - 9, at[1] - 12, at[0] + 11, at[1] + 8], axis=1) if visible and n % 2 else None
            sigmas = generator.uniform(2, 8, (2, count))
            fixations[name] = Fixations(*at, generator.random(count) + 0.1, *sigmas, np.arange(count), shown)
    return replace(
        table,
        frame=frame,
        labels=None if table.labels is None else table.labels[rows],
        fixations=fixations,
        regions={},
    )


class MadeUpDataModule(GazeDataModule):
    """A data module over a table that a test made."""

    def __init__(self, table: ReadingTable, cache_dir: Path, **options: Any) -> None:
        defaults: dict[str, Any] = {
            "intensity": "stored",
            "image_size": (48, 40),
            "saliency_size": (12, 10),
            "batch_size": 4,
            "eval_batch_size": 4,
            "num_workers": 0,
            "split": "official",
            "split_seed": 0,
            "split_file": None,
            "folds": 5,
            "fold": 0,
            "held_out": None,
            "gaze_source": "own",
            "gaze_weight": "duration",
            "augmentation": "none",
            "sampling": "shuffled",
            "seed": 0,
            "missing": "error",
        }
        super().__init__(
            class_names=list(table.class_names),
            label_type=table.label_type,
            open_data=True,
            cache_dir=str(cache_dir),
            **defaults | options,
        )
        self.made_up = table

    def read_table(self) -> ReadingTable:
        return self.made_up
