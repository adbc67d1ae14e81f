"""Similarity of gaze: MultiMatch against the ``multimatch_gaze`` package, and the time of whole matrices.

Run ``python -m benchmarks.multimatch [--full] [--json PATH]``. One thread, unless a line says otherwise.

- ``pairs``: both methods on the same pairs in turns, with and without simplification. The scores must be the same
  within 1e-6 before a number is printed. The preparation of the sample's readings counts, compilation does not: it is
  printed by itself;
- ``matrix``: all pairs of 800 readings by MultiMatch, every pair once, and of the same readings by the correlation of
  maps. The readings are those of CXR-P where ``GAZE_OPEN_DATA`` says where the open data are, else simulated;
- ``3,000 readings``: simulated, 4.5 million pairs. The correlation takes all of them. MultiMatch takes every
  eighth row of blocks, and its time is scaled and printed with "about"; ``--full`` takes all, on two threads.

Exit code 1 if scores differ or a comparison is less than 100 times faster. About one minute.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before numpy starts its threads
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from multimatch_gaze import docomparison
from rich.console import Console
from rich.table import Table

from benchmarks.ending import finish
from gaze_lightning.gaze import Fixations, scaled_sigma
from gaze_lightning.gaze.similarity import GazeSimilarity, MapCC, MultiMatch, PreparedGaze

TARGET = 100.0
"""Speed-up over the package that every case must reach."""

TOLERANCE = 1e-6
SIDE, FRAME = 1024, (1024, 1024)
SECONDS = 0.2
"""Taken for one sample of CXR-P, whose rate is not published, so that the simplification has durations to judge."""

SAMPLE, BLOCK, READINGS, MANY = 16, 128, 800, 3000


def reading(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], duration: npt.NDArray[np.float64]) -> Fixations:
    """Return fixations with the sigma of the frame."""
    sigma = np.full(len(x), float(scaled_sigma(SIDE, SIDE)))
    return Fixations(x, y, duration, sigma, sigma, np.cumsum(duration) - duration)


def simulated(n: int) -> list[Fixations]:
    """Readings as long as those of CXR-P: 47 fixations on average, log-normal."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(math.log(40), 0.55, n)).astype(np.int64), 5, 221)
    return [reading(*rng.uniform(0, SIDE, (2, k)), rng.gamma(4, 0.07, k)) for k in lengths]


def readings() -> tuple[str, list[Fixations]]:
    """Return the name and the readings of CXR-P, or simulated ones."""
    if not os.environ.get("GAZE_OPEN_DATA"):
        return "simulated", simulated(READINGS)
    points = pd.read_csv(Path(os.environ["GAZE_OPEN_DATA"]) / "cxr_p_gaze" / "fixations.csv")
    points = points.sort_values(["image_id", "order"], kind="stable")
    groups = [own[["x", "y", "n_samples"]].to_numpy(dtype=np.float64) for _, own in points.groupby("image_id")]
    return "CXR-P", [reading(SIDE * own[:, 0], SIDE * own[:, 1], SECONDS * own[:, 2]) for own in groups]


def package(a: npt.NDArray[Any], b: npt.NDArray[Any], measure: MultiMatch) -> npt.NDArray[np.float64]:
    """Scores of the package."""
    amplitude = measure.amplitude_threshold * math.hypot(*FRAME)
    thresholds = {"TDir": measure.direction_threshold, "TDur": measure.duration_threshold, "TAmp": amplitude}
    scores = docomparison(a, b, [SIDE, SIDE], grouping=measure.simplify, **thresholds)
    return np.array([np.ravel(score)[0] for score in scores], dtype=np.float64)


def table_of(path: Fixations) -> npt.NDArray[Any]:
    """Return what the package takes."""
    result = np.zeros(len(path), dtype=[("start_x", float), ("start_y", float), ("duration", float)])
    result["start_x"], result["start_y"], result["duration"] = path.x, path.y, path.duration
    return result


def seconds(function: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def pairs(gaze: list[Fixations], simplify: bool, runs: int) -> dict[str, Any]:
    """Both methods on all pairs of some readings with some others, in turns."""
    measure, rng = MultiMatch(simplify=simplify), np.random.default_rng(1)
    chosen = [gaze[k] for k in rng.permutation(len(gaze))[: 2 * SAMPLE]]
    tables = [table_of(path) for path in chosen]

    def compiled() -> npt.NDArray[np.float32]:
        return measure.prepare(chosen, FRAME).scores(slice(0, SAMPLE), slice(SAMPLE, None))

    def literal() -> npt.NDArray[np.float64]:
        return np.array([[package(a, b, measure) for b in tables[SAMPLE:]] for a in tables[:SAMPLE]])

    error = float(np.abs(compiled() - literal()).max())
    times: dict[str, list[float]] = {"package": [], "compiled": []}
    for _ in range(runs):
        times["package"].append(seconds(literal) / SAMPLE**2)
        times["compiled"].append(statistics.median(seconds(compiled) for _ in range(20)) / SAMPLE**2)
    return {
        "simplify": simplify,
        "pairs": SAMPLE**2,
        "fixations": statistics.mean(map(len, chosen)),
        "package_s": statistics.median(times["package"]),
        "compiled_s": statistics.median(times["compiled"]),
        "compiled_spread_s": [min(times["compiled"]), max(times["compiled"])],
        "speedup": statistics.median(a / b for a, b in zip(times["package"], times["compiled"], strict=True)),
        "error": error,
    }


def fill(prepared: PreparedGaze, threads: int, every: int = 1) -> float:
    """Compute the blocks at and above the diagonal of every ``every``-th row of blocks; return the seconds."""
    starts = range(0, len(prepared), BLOCK)
    blocks = [(slice(i, i + BLOCK), slice(j, j + BLOCK)) for i in starts[::every] for j in starts if i <= j]
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda block: prepared.block(*block), blocks):
            pass
    return time.perf_counter() - start


def share(n: int, every: int) -> float:
    """Share of the pairs of ``n`` readings that `fill` computes."""
    counts = [min(BLOCK, n - i) * (n - i) for i in range(0, n, BLOCK)]
    return sum(counts[::every]) / sum(counts)


def matrix(gaze: list[Fixations], measure: GazeSimilarity, threads: int, every: int = 1) -> dict[str, Any]:
    """Time the preparation and all pairs."""
    measure.prepare(gaze[:3], FRAME)  # compiles
    start = time.perf_counter()
    prepared = measure.prepare(gaze, FRAME)
    ready, part = time.perf_counter() - start, share(len(gaze), every)
    return {
        "measure": type(measure).__name__ + ("" if measure.parameters.get("simplify", True) else ", not simplified"),
        "readings": len(gaze),
        "threads": threads,
        "prepare_s": ready,
        "pairs_s": fill(prepared, threads, every) / part,
        "scaled_from": part,
    }


def pair_table(name: str, cases: list[dict[str, Any]]) -> Table:
    """Lay out the comparison with the package."""
    result = Table(title=f"MultiMatch, readings: {name}, one thread", title_justify="left")
    for column in ("simplified", "fixations", "pairs", "package", "compiled", "min - max", "ratio", "error"):
        result.add_column(column, justify="right")
    for case in cases:
        low, high = case["compiled_spread_s"]
        result.add_row(
            "yes" if case["simplify"] else "no",
            f"{case['fixations']:.0f}",
            str(case["pairs"]),
            f"{1e3 * case['package_s']:.2f} ms",
            f"{1e6 * case['compiled_s']:.1f} µs",
            f"{1e6 * low:.1f} - {1e6 * high:.1f}",
            f"{case['speedup']:,.0f} x",
            f"{case['error']:.0e}",
        )
    return result


def matrix_table(name: str, cases: list[dict[str, Any]]) -> Table:
    """Lay out the times of matrices."""
    result = Table(title=f"All pairs, 800 readings: {name}, more: simulated", title_justify="left")
    for column in ("measure", "readings", "threads", "preparation", "pairs"):
        result.add_column(column, justify="left" if column == "measure" else "right")
    for case in cases:
        about = "about " if case["scaled_from"] < 1 else ""
        result.add_row(
            case["measure"],
            f"{case['readings']:,}",
            str(case["threads"]),
            f"{case['prepare_s']:.2f} s",
            f"{about}{case['pairs_s']:.2f} s",
        )
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run all cases, print the results, write the JSON; 0, or 1 as the module says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.multimatch", description="Time and check MultiMatch.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results there")
    parser.add_argument("--runs", type=int, default=5, help="timed runs per method, at least 5 (default: %(default)s)")
    parser.add_argument("--full", action="store_true", help="compare all pairs of 3,000 readings by MultiMatch")
    options = parser.parse_args(arguments)
    if options.runs < 5:
        parser.error("--runs must be at least 5")
    torch.set_num_threads(1)
    many = simulated(MANY)
    compilation = seconds(lambda: MultiMatch().prepare(many[:3], FRAME))
    name, gaze = readings()
    compared = [pairs(gaze, simplify, options.runs) for simplify in (True, False)]
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(pair_table(name, compared))
    every, threads = (1, 2) if options.full else (8, 1)
    filled = [matrix(gaze, measure, 1) for measure in (MultiMatch(), MultiMatch(simplify=False), MapCC())]
    filled += [matrix(many, measure, threads, every) for measure in (MultiMatch(), MultiMatch(simplify=False))]
    filled += [matrix(many, MapCC(), 1)]
    console.print(matrix_table(name, filled))
    console.print(f"compilation, once per process: {compilation:.1f} s")
    worst, slowest = max(case["error"] for case in compared), min(case["speedup"] for case in compared)
    checks = {
        f"largest difference of a score {worst:.1e}, limit {TOLERANCE:.0e}": worst < TOLERANCE,
        f"at least {slowest:.0f} times the package, target {TARGET:.0f}": slowest >= TARGET,
    }
    result = {"compilation_s": compilation, "pairs": compared, "matrices": filled}
    return finish(console, checks, result, options.json)


if __name__ == "__main__":
    sys.exit(main())
