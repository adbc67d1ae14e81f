"""Training on two processes against one, through the real command: images per second.

Run ``make bench BENCH=ddp_scaling``. Two cores; two processes talk through gloo (loopback); one thread and batches of 8
films each. The ideal is 2, but two cores share caches and memory: what two trainings reach that have nothing to do with
each other, run at the same time, is the most that this machine gives, and stands beside it. What is missing to that is
the price of taking part in one training. Runs are made in turns and the fastest of each kind counts: on a shared
machine whatever else runs slows all, and two processes more than one. **It can show whether the library makes processes
wait for each other; it says nothing of GPUs**, where gradients travel by NCCL while they are computed, and a step takes
milliseconds. Exit code 1 if two processes did not train on twice as many films as one in as many steps. About ten
minutes on a free machine.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.ending import finish
from benchmarks.training_speed import phantom, train


class Case(NamedTuple):
    """What is trained: experiment and backbone, films of ``side`` x ``side`` pixels, for so many measured steps."""

    experiment: str
    backbone: str
    side: int
    steps: int


CASES = {
    "timm's smallest ResNet": Case("baseline_resnet18", "test_resnet.r160_in1k", 48, 34),
    "ResNet18": Case("baseline_resnet18", "resnet18", 96, 15),
    "ResNet18, MoCo (keys are gathered)": Case("ssl_moco_resnet18", "resnet18", 96, 15),
}
KINDS = {"1 process": (1, 1), "2 trainings at once": (1, 2), "2 processes": (2, 1)}
"""Kind -> processes of a training, and trainings at the same time."""
N_TRAIN, BATCH, WARM_UP = 640, 8, 4


def arguments(root: Path, case: Case, devices: int, run: Path) -> list[str]:
    """Of the command line for one epoch."""
    return [
        f"--config={case.experiment}",
        *phantom(root, N_TRAIN, 120, 120),
        f"--data.init_args.image_size=[{case.side},{case.side}]",
        f"--data.init_args.saliency_size=[{case.side // 4},{case.side // 4}]",
        f"--data.init_args.batch_size={BATCH}",
        "--data.init_args.num_workers=0",
        f"--model.init_args.backbone={case.backbone}",
        "--trainer.max_epochs=1",
        f"--trainer.limit_train_batches={WARM_UP + case.steps + 1}",
        "--trainer.accelerator=cpu",
        f"--trainer.devices={devices}",
        "--threads=1",
        "--cam_logger.every_n_epochs=0",
        f"--throughput.warm_up={WARM_UP}",
        f"--throughput.steps={case.steps}",
        "--trainer.enable_progress_bar=false",
        f"--run_dir={run}",
    ]


def measure(root: Path, runs: int) -> list[dict[str, Any]]:
    """All cases, with the kinds in turns."""
    rows = []
    for number, (name, case) in enumerate(CASES.items()):
        speeds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        images: dict[str, list[int]] = {kind: [] for kind in KINDS}
        for run in range(runs):
            for kind, (devices, at_once) in KINDS.items():
                folders = [root / f"run {number} {run} {kind} {i}" for i in range(at_once)]
                with ThreadPoolExecutor(at_once) as pool:
                    calls = [pool.submit(train, arguments(root, case, devices, folder)) for folder in folders]
                found = [call.result() for call in calls]
                speeds[kind].append(sum(of_stages[0] for of_stages, _ in found))
                images[kind].append(sum(seen for _, seen in found))
        best = {kind: max(values) for kind, values in speeds.items()}
        rows.append({"case": name, "best": best, "all": speeds, "images": images})
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    """Lay out the results."""
    result = Table(title="Images per second, through the command line", title_justify="left")
    for column in ("network", *KINDS, "2 processes / 1", "/ 2 trainings at once"):
        result.add_column(column, justify="left" if column == "network" else "right")
    for row in rows:
        one, apart, two = (row["best"][kind] for kind in KINDS)
        result.add_row(
            row["case"], f"{one:,.1f}", f"{apart:,.1f}", f"{two:,.1f}", f"{two / one:.2f} x", f"{two / apart:.0%}"
        )
    return result


def main(options: list[str] | None = None) -> int:
    """Run all cases, print the table, write the JSON; 0, or 1 if a training did not see all its films."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ddp_scaling", description="One process against two.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results there")
    parser.add_argument("--runs", type=int, default=3, help="of each kind; the fastest counts (default: %(default)s)")
    given = parser.parse_args(options)
    with tempfile.TemporaryDirectory() as name:
        rows = measure(Path(name), given.runs)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table(rows))
    load = os.getloadavg()[1]
    console.print(f"Two cores, gloo over loopback, one thread per process; mean load of the last 5 minutes {load:.1f}.")
    every = [[one, apart / 2, two / 2] for row in rows for one, apart, two in zip(*row["images"].values(), strict=True)]
    right = all(len(set(images)) == 1 for images in every)
    checks = {"two processes train on twice as many images as one in as many steps": right}
    return finish(console, checks, {"load": load, "rows": rows}, given.json)


if __name__ == "__main__":
    sys.exit(main())
