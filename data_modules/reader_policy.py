"""What becomes of several readings of one film: samples of their own, their mean map, or one drawn per epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr

from data_modules.errors import DataError, refuse
from data_modules.gaze_sources import GazeWeight
from data_modules.readings import ReadingTable, Region
from gaze_lightning.gaze import Fixations

ReaderPolicy = Literal["separate", "mean_map", "random_reader"]
"""``separate``: every reading is a sample; ``mean_map``: one sample per film, see `mean_readers`; ``random_reader``: in
training one reading per film and epoch, drawn by (seed, epoch), while evaluation sees all."""

_FILM = ["subject", "image_path", "height", "width", "split"]


def mean_weight(weight: GazeWeight) -> GazeWeight:
    """Return the weight with which a table that went through ``mean_readers(table, weight)`` has to be rendered.

    It is the weight itself, but ``duration`` for ``count``: a fixation of a reader with many counts for less than one,
    which only a duration can say.
    """
    return "duration" if weight == "count" else weight


def mean_readers(table: ReadingTable, weight: GazeWeight) -> ReadingTable:
    """Make one sample of all readings of a film.

    Its saliency map is the mean of the readers' normalised maps: their fixations are joined, reader after reader, with
    durations scaled so that every reader's Gaussians have the same mass on the film (inside what was on screen, where
    that is known). The mass is a product of differences of normal distribution functions, hence exact for maps that
    integrate over their cells; sampling at cell centres cuts rectangles at whole cells. Render with `mean_weight`; for
    ``count`` all durations of the table, those of single readings included, are replaced. Readers of whose gaze nothing
    falls on the film take no part. Durations add up to about the mean reader's seconds; starts stay each reader's own.

    A film with several readings gets ``sample_id = image_id``, others keep theirs. A multi-label finding is positive if
    at least half of the readers who were asked found it (a tie is positive, as one of two radiologists saw it), NaN if
    nobody was asked. Classes must agree. Outlines are those of all readers together, the chest box is the mean.

    Args:
        table: any table; readings of one film share ``image_id``.
        weight: what a fixation counts for in every reader's own map.

    Returns:
        A table with one row per film, in the order of the films' first readings; what was left out before stays
        counted. It has ``scan_paths`` only if no readings were joined and no durations replaced.

    Raises:
        DataError: if readings of one film differ in patient, file, size or part of the split, or in their class
            (single-label); all rows at once.
    """
    table = _agreeing(table)
    frame, labels = table.frame, table.labels
    at: dict[str, list[int]] = {}
    for row, film in enumerate(frame["image_id"].tolist()):
        at.setdefault(film, []).append(row)
    groups = list(at.values())
    first = np.array([rows[0] for rows in groups], dtype=np.int64)
    several = np.array([len(rows) > 1 for rows in groups], dtype=np.bool_)
    joined = frame.iloc[first].reset_index(drop=True)
    joined["sample_id"] = joined["image_id"].where(several, joined["sample_id"])
    joined["source_row"] = [
        place if len(rows) == 1 else f"{place} (and {len(rows) - 1} more of this film)"
        for place, rows in zip(joined["source_row"], groups, strict=True)
    ]
    fixations: dict[str, Fixations] = {}
    regions: dict[str, Sequence[Region]] = {}
    boxes: dict[str, tuple[float, float, float, float]] = {}
    for name, rows, height, width in zip(
        joined["sample_id"], groups, joined["height"].tolist(), joined["width"].tolist(), strict=True
    ):
        members = frame["sample_id"].iloc[rows].tolist()
        gaze = [table.fixations[member] for member in members if member in table.fixations]
        if weight == "count":
            gaze = [replace(own, duration=np.ones(len(own))) for own in gaze]
        if gaze:
            fixations[name] = gaze[0] if len(members) == 1 else join_fixations(gaze, (height, width), weight)
        if outlines := [region for member in members for region in table.regions.get(member, ())]:
            regions[name] = outlines
        if box := _mean_box(table.chest_boxes, members):
            boxes[name] = box
    note = (
        f"{int(several.sum())} film(s) have several readings ({len(frame) - int((~several).sum())} in all): each is "
        "one sample with the mean of its readers' maps"
    )
    notes = (*table.notes, note) if several.any() else table.notes
    return replace(
        table,
        frame=joined,
        labels=None if labels is None else _labels(labels, groups, table.label_type == "multi"),
        fixations=fixations,
        regions=regions,
        chest_boxes=boxes,
        notes=notes,
        sources=None if table.sources is None else table.sources[first],
        scan_paths=table.scan_paths and not several.any() and weight != "count",
    )


def join_fixations(readers: Sequence[Fixations], film: tuple[int, int], weight: GazeWeight) -> Fixations:
    """Join the gaze of several readers of one film; every reader's map has the same mass in the map of the result.

    Args:
        readers: fixations of each, film pixels.
        film: (height, width) of the film, pixels; 0 where unknown, then nothing is cut at the film's edges.
        weight: ``duration`` or ``density``, for which the masses are made equal. With ``count`` masses are not: give
            durations of one and ``duration``.

    Returns:
        All their fixations, reader after reader, also in time: the next reader starts when the one before has ended.
        Empty if nothing of anybody's gaze falls on the film.
    """
    kind: GazeWeight = mean_weight(weight)
    masses = [_mass(own, film, kind) for own in readers]
    seen = [(own, mass) for own, mass in zip(readers, masses, strict=True) if mass > 0]
    if not seen:
        return Fixations.empty()
    share = sum(mass for _, mass in seen) / len(seen) ** 2
    visible = None
    if any(own.visible is not None for own, _ in seen):
        visible = np.concatenate([_everywhere(own, film) if own.visible is None else own.visible for own, _ in seen])
    return Fixations(
        x=np.concatenate([own.x for own, _ in seen]),
        y=np.concatenate([own.y for own, _ in seen]),
        duration=np.concatenate([own.duration * (share / mass) for own, mass in seen]),
        sigma_x=np.concatenate([own.sigma_x for own, _ in seen]),
        sigma_y=np.concatenate([own.sigma_y for own, _ in seen]),
        start=np.concatenate(_one_after_another([own for own, _ in seen])),
        visible=visible,
    )


def _one_after_another(readers: Sequence[Fixations]) -> list[npt.NDArray[np.float64]]:
    """Start times of each reader, shifted behind the end of the one before, seconds."""
    starts, end = [], float(readers[0].start.min())
    for own in readers:
        shift = end - float(own.start.min())
        starts.append(own.start + shift)
        end = float((own.start + own.duration).max()) + shift
    return starts


def _mass(gaze: Fixations, film: tuple[int, int], weight: GazeWeight) -> float:
    """Integral of a reader's Gaussians over the film and what was on screen, up to a constant factor."""
    box = _everywhere(gaze, film)
    if gaze.visible is not None:
        low = np.maximum(box[:, :2], gaze.visible[:, :2])
        box = np.concatenate([low, np.maximum(low, np.minimum(box[:, 2:], gaze.visible[:, 2:]))], axis=1)
    wide = ndtr((box[:, 2] - gaze.x) / gaze.sigma_x) - ndtr((box[:, 0] - gaze.x) / gaze.sigma_x)
    high = ndtr((box[:, 3] - gaze.y) / gaze.sigma_y) - ndtr((box[:, 1] - gaze.y) / gaze.sigma_y)
    return float(gaze.weights(weight) @ (gaze.sigma_x * gaze.sigma_y * wide * high))


def _everywhere(gaze: Fixations, film: tuple[int, int]) -> npt.NDArray[np.float64]:
    """The whole film as the visible part ``[N, 4]``; where its size is unknown, ten sigmas around each fixation."""
    if min(film) > 0:
        return np.tile(np.array([0.0, 0.0, film[1], film[0]]), (len(gaze), 1))
    reach = 10 * np.stack([gaze.sigma_x, gaze.sigma_y], axis=1)
    at = np.stack([gaze.x, gaze.y], axis=1)
    return np.concatenate([at - reach, at + reach], axis=1)


def _agreeing(table: ReadingTable) -> ReadingTable:
    """Refuse films of which the readings contradict each other."""
    frame = table.frame
    checked = frame if table.label_type == "multi" or table.labels is None else frame.assign(class_=table.labels)
    what = {column: column.replace("image_path", "file").rstrip("_") for column in [*_FILM, "class_"]}
    differing = pd.DataFrame(
        {
            column: checked.groupby("image_id")[column].transform("nunique") > 1
            for column in what
            if column in checked.columns
        }
    )
    bad = differing.any(axis=1).to_numpy(dtype=np.bool_)
    if bad.any():
        order = frame[bad].groupby("image_id", sort=False).ngroup().sort_values(kind="stable").index
        rows = [
            f"{frame.loc[n, 'source_row']}: {', '.join(what[c] for c in differing.columns[differing.loc[n]])}"
            for n in order
        ]
        refuse(DataError("Readings of one film disagree, so they cannot become one sample. Correct the tables:", rows))
        table = _select(table, ~bad)
    return table


def _select(table: ReadingTable, good: npt.NDArray[np.bool_]) -> ReadingTable:
    return replace(
        table,
        frame=table.frame[good].reset_index(drop=True),
        labels=None if table.labels is None else table.labels[good],
        sources=None if table.sources is None else table.sources[good],
    )


def _labels(
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float32], groups: Sequence[Sequence[int]], multi: bool
) -> npt.NDArray[np.int64] | npt.NDArray[np.float32]:
    """The first reading's class, or per finding whether at least half of the readers who were asked found it."""
    if not multi:
        return labels[[rows[0] for rows in groups]]
    result = np.full((len(groups), labels.shape[1]), np.nan, dtype=np.float32)
    for n, rows in enumerate(groups):
        asked = ~np.isnan(labels[rows])
        found = np.equal(labels[rows], 1).sum(axis=0)
        result[n] = np.where(asked.any(axis=0), 2 * found >= asked.sum(axis=0), np.nan)
    return result


def _mean_box(
    boxes: Mapping[str, tuple[float, float, float, float]], members: Sequence[str]
) -> tuple[float, float, float, float] | None:
    here = [boxes[member] for member in members if member in boxes]
    if not here:
        return None
    x0, y0, x1, y1 = np.mean(here, axis=0).tolist()
    return x0, y0, x1, y1
