"""The global map of a finished run."""

import json
import math
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor


class MapRun(NamedTuple):
    """What ``GlobalMapLogger`` wrote in the test of one run."""

    name: str
    """Of the run's folder."""
    values: Tensor
    """``[H, W]``: the map."""
    compared: Tensor
    """bool ``[H, W]``: the pixels that at least half of the training films cover."""
    gaze_cc: float
    """Correlation with the mean training gaze; NaN without gaze and where undefined."""
    data: str
    """Where the films come from, in one line."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a run.

        Args:
            folder: of the run, with ``attention/map.npy``, ``compared.npy`` and ``comparison.json``.

        Raises:
            ValueError: a file beside ``map.npy`` is absent.
        """
        attention = folder / "attention"
        absent = [name for name in ("compared.npy", "comparison.json") if not (attention / name).is_file()]
        if absent:
            raise ValueError(f"{attention} has a map, but no {' and no '.join(absent)}: test the run again")
        found = json.loads((attention / "comparison.json").read_text(encoding="utf-8"))
        cc = None if found["mean_gaze"] is None else found["mean_gaze"]["cc"]
        values, compared = (torch.from_numpy(np.load(attention / f"{name}.npy")) for name in ("map", "compared"))
        return cls(folder.name, values, compared, math.nan if cc is None else float(cc), found["data"])
