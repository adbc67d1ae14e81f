"""Gaze of EGD-CXR and REFLACX on the films of MIMIC-CXR."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from data_modules.gaze_sources import GazeWeight
from data_modules.reader_policy import join_fixations
from data_modules.readings import ReadingTable
from gaze_lightning.gaze import Fixations


def attach_gaze(
    frame: pd.DataFrame, sources: Mapping[str, ReadingTable], weight: GazeWeight, lost: Counter[str]
) -> tuple[dict[str, Fixations], tuple[str, ...], bool]:
    """Return the gaze of each film that somebody has read.

    Several readings of a film, of one source or of two, become one: the mean of the readers' maps
    (`data_modules.reader_policy`), to be rendered with `mean_weight`; ``count`` makes all durations one.

    Args:
        frame: the films: ``sample_id``, which is the film's id, ``height, width``.
        sources: name -> readings whose ``image_id`` is the film's id.
        weight: what a fixation counts for in the map of its reader.
        lost: reason -> number of what was left out; added to.

    Returns:
        ``sample_id`` -> fixations, film pixels; films without gaze are absent. One line per source for the notes.
        Whether each is a scan path: none was joined, no durations were replaced.
    """
    size = {
        name: (height, width)
        for name, height, width in zip(
            frame["sample_id"], frame["height"].tolist(), frame["width"].tolist(), strict=True
        )
    }
    readers: dict[str, list[Fixations]] = {}
    notes = []
    for name, table in sources.items():
        attached: Counter[str] = Counter()
        for sample_id, film in zip(table.frame["sample_id"], table.frame["image_id"], strict=True):
            own = table.fixations.get(sample_id)
            if film not in size:
                lost[f"{name}: readings of films that are not used"] += 1
            elif own is None or not len(own):
                lost[f"{name}: readings without gaze"] += 1
            else:
                attached[film] += 1
                readers.setdefault(film, []).append(own)
        notes.append(f"gaze of {name}: {attached.total()} reading(s) of {len(attached)} film(s)")
        lost.update({f"{name}: {reason}": n for reason, n in (*table.excluded.items(), *table.excluded_points.items())})
    if weight == "count":
        readers = {film: [replace(own, duration=np.ones(len(own))) for own in gaze] for film, gaze in readers.items()}
    joined = {
        film: gaze[0] if len(gaze) == 1 else join_fixations(gaze, size[film], weight) for film, gaze in readers.items()
    }
    if several := sum(len(gaze) > 1 for gaze in readers.values()):
        notes.append(f"{several} film(s) have several readings: their gaze is the mean of the readers' maps")
    scan_paths = not several and weight != "count" and all(table.scan_paths for table in sources.values())
    return joined, tuple(notes), scan_paths
