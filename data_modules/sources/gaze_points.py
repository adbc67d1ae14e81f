"""From one long table of gaze points to fixations per reading, with every loss counted."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from gaze_lightning.gaze import Fixations

logger = logging.getLogger(__name__)

PAPER_SIGMA = 75.5 / 3072
"""Standard deviation of the Gaussian per point, as a share of the film's height: MT-UNet and GG-CAM use 75.5 px on
films of 3,072 lines (released code; ``spec/datasets.md`` section 6)."""


def keep(frame: pd.DataFrame, good: npt.NDArray[np.bool_], reason: str, counts: Counter[str]) -> pd.DataFrame:
    """Return the rows where ``good`` (bool ``[n]``) is true; count the others under ``reason``."""
    lost = int((~good).sum())
    if lost == 0:
        return frame
    counts[reason] += lost
    return frame[good]


def elapsed(duration: npt.NDArray[np.float64], group: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return start times ``[n]`` in seconds for points without one: the durations before, within each group.

    Args:
        duration: seconds ``[n]``.
        group: reading of each point ``[n]``; the points of a reading follow each other in time but need not be
            adjacent.
    """
    return (pd.Series(duration).groupby(group).cumsum().to_numpy() - duration).astype(np.float64)


def group_fixations(
    points: Mapping[str, npt.NDArray[np.float64]],
    sample: npt.NDArray[np.int64],
    sample_ids: Sequence[str],
) -> dict[str, Fixations]:
    """Cut arrays of points into one `Fixations` per reading, order kept.

    Args:
        points: ``x, y, duration, sigma_x, sigma_y, start`` ``[n]`` in film pixels and seconds, optionally ``visible``
            ``[n, 4]``.
        sample: index of each point's reading in ``sample_ids`` ``[n]``.
        sample_ids: ids of all readings.

    Returns:
        ``sample_id`` -> fixations; readings without points are absent.
    """
    order = np.argsort(sample, kind="stable")
    present, first = np.unique(sample[order], return_index=True)
    ends = [*first[1:].tolist(), len(order)]
    ordered = {name: values[order] for name, values in points.items()}
    return {
        sample_ids[index]: Fixations(**{name: values[start:end] for name, values in ordered.items()})
        for index, start, end in zip(present.tolist(), first.tolist(), ends, strict=True)
    }


def log_summary(
    source: str, frame: pd.DataFrame, fixations: Mapping[str, Fixations], counts: Mapping[str, int]
) -> None:
    """Log one line: what was read and what was left out (counts only, no ids)."""
    points = sum(len(reading) for reading in fixations.values())
    without = len(frame) - sum(len(reading) > 0 for reading in fixations.values())
    lost = ", ".join(f"{reason} {count}" for reason, count in counts.items()) or "nothing"
    logger.info(
        "%s: %d readings of %d films, %d patients; %d gaze points; %d readings without gaze (kept); left out: %s",
        source, len(frame), frame["image_id"].nunique(), frame["subject"].nunique(), points, without, lost,
    )  # fmt: skip
