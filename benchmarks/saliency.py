"""Saliency maps: the separable matrix product against per-fixation loops over the full map.

Run ``python -m benchmarks.saliency [--json PATH]``. Float64 against float64 on one thread; every contestant's map is
compared with a loop over ``math.exp`` profiles before a number is printed, and an error of a millionth of the maximum
or more ends the run with exit code 1. Baselines, both re-implemented from their description:

- ``density loop``: what the REFLACX authors publish: per fixation a grid of the full map, a two-dimensional normal
  density evaluated on it (``scipy.stats.multivariate_normal``), and a sum of full-size arrays;
- ``exp loop``: the same loop tuned: grids built once, one vectorised ``np.exp`` over the full map per fixation.

The physical limit printed beside them is the product of the profile matrices alone, ``2 N h w`` operations.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before numpy starts its threads
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import multivariate_normal

from benchmarks.ending import finish
from gaze_lightning.gaze import render_saliency, render_saliency_batch, scaled_sigma

Array = npt.NDArray[np.float64]

CASES = ((224, 45), (224, 150), (512, 45), (512, 150))
"""Map height and width in cells, number of fixations; 45 is a typical reading."""

TARGET = 100.0
"""Speed-up over the published loop that the first case must reach."""

TOLERANCE = 1e-6
BATCH = 32
LIMIT = "product alone"


def fixations(side: int, n: int) -> Array:
    """Return x, y, weight, sigma_x, sigma_y ``[5, n]`` in cells; sigmas spread around the paper's."""
    rng = np.random.default_rng(0)
    sigma = scaled_sigma(side, side) * rng.uniform(0.8, 1.25, (2, n))
    return np.concatenate([rng.uniform(0, side, (2, n)), rng.gamma(2.0, 0.15, (1, n)), sigma])


def normalised(saliency: Array) -> Array:
    """Divide by the sum."""
    saliency /= saliency.sum()
    return saliency


def density_loop(points: Array, side: int) -> Array:
    """Sum full-size normal densities, the heights undone by the weight, as the separable renderer's default."""
    result = np.zeros((side, side))
    for x, y, weight, sigma_x, sigma_y in points.T:
        columns, rows = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)
        grid = np.empty((side, side, 2))
        grid[..., 0], grid[..., 1] = rows, columns
        density = multivariate_normal([y, x], [sigma_y**2, sigma_x**2]).pdf(grid)
        result += weight * 2 * math.pi * sigma_x * sigma_y * density
    return normalised(result)


def exp_loop(points: Array, side: int) -> Array:
    """Sum full-size Gaussians."""
    columns, rows = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)
    result = np.zeros((side, side))
    for x, y, weight, sigma_x, sigma_y in points.T:
        result += weight * np.exp(-((columns - x) ** 2 / (2 * sigma_x**2) + (rows - y) ** 2 / (2 * sigma_y**2)))
    return normalised(result)


def reference(points: Array, side: int) -> Array:
    """Sum cell by cell with ``math.exp`` per axis: slow, literal, independent of numpy's exponential and of BLAS."""
    result = np.zeros((side, side))
    for x, y, weight, sigma_x, sigma_y in points.T:
        row = [math.exp(-((v + 0.5 - x) ** 2) / (2 * sigma_x**2)) for v in range(side)]
        for u in range(side):
            height = weight * math.exp(-((u + 0.5 - y) ** 2) / (2 * sigma_y**2))
            result[u] += [height * value for value in row]
    return normalised(result)


def time_in_turns(functions: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Time every function ``runs`` times in turns, so that a busy machine slows all of them; seconds per call.

    A warm-up comes first; a run repeats the call until it lasts about ten milliseconds.
    """
    repeats = {}
    for name, function in functions.items():
        function()
        start = time.perf_counter()
        function()
        repeats[name] = max(1, math.ceil(0.01 / (time.perf_counter() - start)))
    result: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(runs):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                function()
            result[name].append((time.perf_counter() - start) / repeats[name])
    return result


def measure(side: int, n: int, runs: int) -> dict[str, Any]:
    """Time all methods on one case: milliseconds per map, medians of the speed-ups run by run, error / maximum."""
    points, size = fixations(side, n), (side, side)
    x, y, weight, sigma_x, sigma_y = points
    batch = torch.from_numpy(points.T.copy()).expand(BATCH, -1, -1)
    mask = torch.ones(BATCH, n, dtype=torch.bool)
    profiles = np.random.default_rng(0).random((2, n, side))
    methods: dict[str, Callable[[], Array]] = {
        "density loop": lambda: density_loop(points, side),
        "exp loop": lambda: exp_loop(points, side),
        "separable": lambda: render_saliency(x, y, weight, sigma_x, sigma_y, size),
        f"torch, {BATCH} at once": lambda: render_saliency_batch(batch, mask, size)[0, 0].numpy(),
    }
    expected = reference(points, side)
    error = {name: float(np.abs(method() - expected).max() / expected.max()) for name, method in methods.items()}
    times = time_in_turns({**methods, LIMIT: lambda: profiles[0].T @ profiles[1]}, runs)
    times[f"torch, {BATCH} at once"] = [t / BATCH for t in times[f"torch, {BATCH} at once"]]
    results = [
        {
            "name": name,
            "median_ms": 1e3 * statistics.median(values),
            "spread_ms": [1e3 * min(values), 1e3 * max(values)],
            "speedup_over_density_loop": speedup(times["density loop"], values),
            "speedup_over_exp_loop": speedup(times["exp loop"], values),
            "error": error.get(name),
        }
        for name, values in times.items()
    ]
    return {"side": side, "fixations": n, "results": results}


def speedup(slow: list[float], fast: list[float]) -> float:
    """Return the median ratio of runs made in the same turn."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def table(cases: list[dict[str, Any]]) -> Table:
    """Lay out the results."""
    result = Table(title="Saliency map of one reading, float64, one thread", title_justify="left")
    for column in ("map", "fixations", "method"):
        result.add_column(column, justify="left" if column == "method" else "right")
    for column in ("ms per map", "min - max", "vs density loop", "vs exp loop", "error / max"):
        result.add_column(column, justify="right")
    for case in cases:
        for i, row in enumerate(case["results"]):
            low, high = row["spread_ms"]
            result.add_row(
                f"{case['side']}²" if i == 0 else "",
                str(case["fixations"]) if i == 0 else "",
                row["name"],
                f"{row['median_ms']:.3f}",
                f"{low:.3f} - {high:.3f}",
                f"{row['speedup_over_density_loop']:,.1f} x",
                f"{row['speedup_over_exp_loop']:,.1f} x",
                "" if row["error"] is None else f"{row['error']:.0e}",
                style="bold" if row["name"] == "separable" else "dim" if row["name"] == LIMIT else None,
            )
        result.add_section()
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run all cases, print the table, write the JSON; 0, or 1 if a map is wrong or the target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.saliency", description="Time and check saliency maps.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results there")
    parser.add_argument("--runs", type=int, default=7, help="timed runs per method, at least 5 (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.runs < 5:
        parser.error("--runs must be at least 5")
    torch.set_num_threads(1)
    cases = [measure(side, n, options.runs) for side, n in CASES]
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(table(cases))
    speedup = cases[0]["results"][2]["speedup_over_density_loop"]
    worst = max(row["error"] for case in cases for row in case["results"] if row["error"] is not None)
    checks = {
        f"largest error {worst:.1e} of the maximum, limit {TOLERANCE:.0e}": worst < TOLERANCE,
        f"{speedup:.0f} times the published density loop, target {TARGET:.0f}": speedup >= TARGET,
    }
    return finish(console, checks, {"cases": cases}, options.json)


if __name__ == "__main__":
    sys.exit(main())
