"""From one long table of gaze points to fixations per reading, with every loss counted."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from gaze_lightning.gaze import Fixations


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
    if not len(sample):
        return {}
    order = np.argsort(sample, kind="stable")
    present, first = np.unique(sample[order], return_index=True)
    ends = [*first[1:].tolist(), len(order)]
    ordered = {name: values[order] for name, values in points.items()}
    return {
        sample_ids[index]: Fixations(**{name: values[start:end] for name, values in ordered.items()})
        for index, start, end in zip(present.tolist(), first.tolist(), ends, strict=True)
    }
