"""Pre-training on all 377,110 films of MIMIC-CXR with eight GPUs: what can be measured without them, the rest computed.

Run ``python -m benchmarks.scaling [--json PATH]``. The first table is measured here, as time of one core, which other
programs on the machine change little; the second one is the formulas of ``docs/scaling.md`` on these constants, and on
assumptions that it names: films per second of a GPU, which nobody could measure here, and cores of the node. The third
one counts pairs by gaze per step, by formula and by simulation with the library's sampler, relations and queue. Exit
code 1 if the two differ by more than chance, or two views of a film are not what they must be.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before numpy starts its threads
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"

import cv2
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.ending import finish
from benchmarks.scaling_pairs import QUEUE
from benchmarks.scaling_setup import SIDE, WORLD, measure_setup
from benchmarks.scaling_step import BATCH, measure_building, measure_loading, measure_step
from data_modules.films.cache_files import CacheFiles

FILMS, READINGS = 377_110, 3_700
"""Films of MIMIC-CXR, and those with gaze (EyeGaze and REFLACX, several readings of a film merged)."""

RATES = (250, 500, 1000, 2000, 4000)
"""Assumed: films per second of one GPU, two views each."""

CORES = (16, 64, 128)
"""Assumed: cores of the node."""


def setup_in_its_own_process(folder: Path, n: int, readings: int) -> dict[str, Any]:
    """`measure_setup` in a new process."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--part", str(folder), str(n), str(readings)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def plan(loading: dict[str, float], step: dict[str, float]) -> list[dict[str, float]]:
    """What follows for each assumed speed of a GPU; see ``docs/scaling.md`` for the formulas."""
    per_worker = 1 / loading["film_s_2"]
    reduced = 2 * (WORLD - 1) / WORLD * step["gradient_bytes"]
    gathered = (WORLD - 1) * BATCH * (step["images_sent_per_film"] + step["rest_sent_per_film"])
    rows = []
    for rate in RATES:
        epoch = FILMS / (WORLD * rate)
        rows.append(
            {
                "rate": rate,
                "tflops": rate * step["flops_per_film"] / 1e12,
                "step_s": BATCH / rate,
                "epoch_s": epoch,
                "hours_100": 100 * epoch / 3600,
                "hours_200": 200 * epoch / 3600,
                "workers": math.ceil(rate / per_worker),
                "read_bytes_per_s": WORLD * rate * SIDE * SIDE,
                "received_bytes_per_s": (reduced + gathered) * rate / BATCH,
            }
        )
    return rows


def measured_table(building: dict[str, float], loading: dict[str, float], step: dict[str, float], setup: Any) -> Table:
    """Lay out the constants."""
    table = Table(title="Measured here: time of one core", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = [
        (
            f"film of full size ({building['film_bytes'] / 1e6:.1f} MB) into the cache",
            f"{1e3 * building['film_s']:.1f} ms",
        ),
        *(
            (f"a loading process, {views} view(s)", f"{1e3 * loading[f'film_s_{views}']:.2f} ms per film")
            for views in (1, 2)
        ),
        (f"the training process, to receive {BATCH} films", f"{1e3 * loading['batch_s_2']:.1f} ms"),
        (f"table of {setup['n']:,} readings", f"{setup['table_bytes'] / 1e6:.0f} MB"),
        ("setup, a process: seconds, growth", f"{setup['setup_s']:.1f} s, {setup['setup_bytes'] / 1e6:.0f} MB"),
        ("first training loader", f"{setup['loader_s']:.2f} s"),
        ("fingerprint; split.csv (once per run)", f"{setup['fingerprint_s']:.2f} s; {setup['split_csv_s']:.2f} s"),
        *(
            (f"order of an epoch, {name}", f"{order['seconds']:.2f} s, {order['bytes'] / 1e6:.0f} MB at most")
            for name, order in setup["orders"].items()
        ),
        ("re-ordering prepared, once", f"{setup['related_order_made_s']:.2f} s"),
        ("order of an evaluation of all films, 8 processes", f"{1e3 * setup['test_order_s']:.1f} ms"),
        (f"gaze of {setup['readings']:,} readings on one frame", f"{setup['gaze_s']:.1f} s"),
        (
            "similarities of all pairs (MapCC)",
            f"{setup['similarity_s']:.1f} s, {setup['similarity_bytes'] / 1e6:.0f} MB file",
        ),
        ("threshold and sparse matrix", f"{setup['threshold_s']:.1f} s, {setup['matrix_bytes'] / 1e6:.1f} MB"),
        (
            "relations in the task: on the device; ids",
            f"{setup['positives_bytes'] / 1e6:.1f}; {setup['rows_bytes'] / 1e6:.1f} MB",
        ),
        (f"identities of {BATCH} films", f"{1e6 * setup['identities_s']:.0f} µs"),
        (f"positives of {BATCH} anchors in a queue of {QUEUE:,}", f"{1e3 * setup['queue_s']:.1f} ms"),
        (f"positives among {WORLD * BATCH:,} films of all processes", f"{1e3 * setup['batch_s']:.1f} ms"),
        ("MoCo, ResNet50: operations per film, forward and backward", f"{step['flops_per_film'] / 1e9:.1f} GFLOP"),
        ("gradients", f"{step['gradient_bytes'] / 1e6:.1f} MB"),
        ("queue", f"{step['queue_bytes'] / 1e6:.1f} MB"),
        ("checkpoint: weights, momentum copy, queue, optimiser", f"{step['checkpoint_bytes'] / 1e6:.0f} MB"),
        (
            "a process sends, per film",
            f"{step['images_sent_per_film'] / 1e3:.1f} kB of film, {step['rest_sent_per_film'] / 1e3:.2f} kB else",
        ),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def plan_table(rows: list[dict[str, float]]) -> Table:
    """Lay out what follows."""
    table = Table(title=f"Computed: 8 GPUs, {BATCH} films each in a step", title_justify="left")
    heads = ("films/s per GPU (assumed)", "TFLOP/s", "step", "epoch", "100 epochs", "200 epochs")
    for head in (*heads, "loading processes per GPU", "read from the cache", "received per GPU"):
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(
            f"{row['rate']:,.0f}",
            f"{row['tflops']:.0f}",
            f"{1e3 * row['step_s']:.0f} ms",
            f"{row['epoch_s'] / 60:.1f} min",
            f"{row['hours_100']:.1f} h",
            f"{row['hours_200']:.1f} h",
            f"{row['workers']:.0f}",
            f"{row['read_bytes_per_s'] / 1e6:,.0f} MB/s",
            f"{row['received_bytes_per_s'] / 1e9:.2f} GB/s",
        )
    return table


def pairs_table(rows: list[dict[str, Any]]) -> Table:
    """Lay out the simulation."""
    table = Table(title="Pairs by gaze per step, simulated and (in random order) by formula", title_justify="left")
    for head in ("order", "films in a step", "pairs in it", "formula", "steps with any", "formula"):
        table.add_column(head, justify="left" if head == "order" else "right")
    for head in (f"pairs with a queue of {QUEUE:,}", "formula", "steps with any"):
        table.add_column(head, justify="right")
    for row in rows:
        formula = row["order"] == "random"
        table.add_row(
            row["order"],
            str(row["batch"]),
            f"{row['pairs_batch']:.3g}",
            f"{row['pairs_batch_expected']:.3g}" if formula else "",
            f"{row['pairs_batch_any']:.1%}",
            f"{row['pairs_batch_any_expected']:.1%}" if formula else "",
            f"{row['pairs_queue']:.3g}",
            f"{row['pairs_queue_expected']:.3g}" if formula else "",
            f"{row['pairs_queue_any']:.1%}",
        )
    return table


def main(arguments: list[str] | None = None) -> int:
    """Run everything, print the tables, write the JSON; 0, or 1 as the module says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="Cost of all films of MIMIC-CXR.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results there")
    parser.add_argument("--runs", type=int, default=5, help="timed runs, the fastest counts (default: %(default)s)")
    parser.add_argument("--films", type=int, default=FILMS, help="of the made-up table (default: %(default)s)")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    if options.part:
        folder, n, readings = options.part
        print(json.dumps(measure_setup(Path(folder), int(n), int(readings))))
        return 0
    readings = min(READINGS, options.films // 20)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        (base / "films").mkdir()
        building = measure_building(base, options.runs)
        loading = measure_loading(base / "films", options.runs)
        step = measure_step(QUEUE)
        setup = setup_in_its_own_process(base / "made up", options.films, readings)
    follows = plan(loading, step)
    console = Console(width=None if sys.stdout.isatty() else 150)
    for table in (
        measured_table(building, loading, step, setup),
        plan_table(follows),
        pairs_table(setup["pairs_per_step"]),
    ):
        console.print(table)
    size = CacheFiles(Path(), "", FILMS, (SIDE, SIDE)).total_bytes
    hours = ", ".join(f"{FILMS * building['film_s'] / cores / 3600:.2f} h on {cores} cores" for cores in CORES)
    console.print(f"Cache of {FILMS:,} films: {size / 1e9:.1f} GB at {SIDE} x {SIDE}; built in {hours}.")
    per_worker = 1 / loading["film_s_2"]
    limits = ", ".join(f"{cores * per_worker / WORLD:,.0f} on {cores} cores" for cores in CORES)
    console.print(f"The loader is the limit above so many films/s per GPU: {limits} (one core per loading process).")
    agree = all(row.get("right", True) for row in setup["pairs_per_step"])
    checks = {
        "two views of a film differ, and are the same when asked for again": loading["right"] == 1,
        "simulated pairs per step agree with the formula in random order": agree,
    }
    parts = {"building": building, "loading": loading, "step": step, "setup": setup, "plan": follows}
    return finish(console, checks, parts, options.json)


if __name__ == "__main__":
    sys.exit(main())
