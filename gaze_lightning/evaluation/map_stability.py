"""Whether repeated trainings find the same map."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import NamedTuple, Self

import torch
from rich import box
from rich.table import Table
from torch import Tensor

from gaze_lightning.evaluation.map_comparison import map_correlation
from gaze_lightning.evaluation.map_run import MapRun


class MapStability(NamedTuple):
    """The maps of an arm's runs against each other, over the pixels that are compared in every run."""

    runs: tuple[MapRun, ...]
    compared: Tensor
    """bool ``[H, W]``: those pixels."""
    pairs: tuple[float, ...]
    """Correlation of every pair of runs; NaN where a map is constant or not finite."""
    with_others: tuple[float, ...]
    """Correlation of each run's map with the mean map of the arm's other runs; NaN where these are fewer than two."""
    sd: tuple[float, ...]
    """Population standard deviation within each map."""

    @classmethod
    def of(cls, runs: Sequence[MapRun]) -> Self:
        """Compare runs.

        Args:
            runs: at least one.

        Raises:
            ValueError: the maps have different sizes; names the runs.
        """
        if len({run.values.shape for run in runs}) > 1:
            sizes = ", ".join(f"{run.name} {run.values.shape[0]} x {run.values.shape[1]}" for run in runs)
            raise ValueError(f"maps of different sizes cannot be compared: {sizes}. Make them arms of their own")
        compared = torch.stack([run.compared for run in runs]).all(dim=0)
        if not compared.any():
            raise ValueError("no pixel is covered by the training films of every run: the runs have different data")
        return cls(
            runs=tuple(runs),
            compared=compared,
            pairs=tuple(map_correlation(a.values, b.values, compared) for a, b in combinations(runs, 2)),
            with_others=tuple(_with_others(runs, index, compared) for index in range(len(runs))),
            sd=tuple(float(run.values.double()[compared].std(correction=0)) for run in runs),
        )


def _with_others(runs: Sequence[MapRun], index: int, compared: Tensor) -> float:
    others = [run.values.double() for run in (*runs[:index], *runs[index + 1 :])]
    if len(others) < 2:
        return math.nan
    return map_correlation(runs[index].values, torch.stack(others).mean(dim=0), compared)


def stability_table(arms: Mapping[str, MapStability]) -> Table:
    """Make the table that compares arms.

    Args:
        arms: name of the arm -> its maps.

    Returns:
        A table for rich's console: runs, mean correlation of pairs of runs with the lowest and the highest, mean
        standard deviation within a map, mean correlation of the maps with the mean training gaze. Undefined values are
        left out and the number of those that count is added.
    """
    table = Table(box=box.MARKDOWN)
    table.add_column("arm", no_wrap=True)
    for column in ("runs", "run to run", "min to max", "sd in map", "CC gaze"):
        table.add_column(column, justify="right")
    for name, arm in arms.items():
        gaze = [run.gaze_cc for run in arm.runs]
        table.add_row(name, f"{len(arm.runs)}", *_pairs(arm), _mean(arm.sd), _mean(gaze))
    return table


def _pairs(arm: MapStability) -> tuple[str, str]:
    if len(arm.runs) == 1:
        return "n/a", "needs two runs"
    defined = [value for value in arm.pairs if not math.isnan(value)]
    if not defined:
        return "n/a", "constant maps"
    return _mean(arm.pairs), f"{min(defined):.3f} to {max(defined):.3f}"


def _mean(values: Sequence[float]) -> str:
    defined = [value for value in values if not math.isnan(value)]
    if not defined:
        return "n/a"
    text = f"{fmean(defined):.3f}"
    return text if len(defined) == len(values) else f"{text} (of {len(defined)})"
