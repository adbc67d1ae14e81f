"""Training on two processes against one, through the real command: images per second.

Run ``make bench BENCH=ddp_scaling``. Two cores, the processes talk through gloo (loopback), one thread and one batch
of 8 films each, so the ideal is 2. Runs are made in turns and the fastest of each kind counts: on a shared machine
whatever else runs slows both, and two processes more than one. **What it can show is that nothing in the library makes
processes wait for each other; it says nothing of GPUs**, where gradients travel by NCCL while they are computed, and a
step takes milliseconds. Exit code 1 if a training did not see all its films. About five minutes on a free machine.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.saliency import machine
from benchmarks.training_speed import phantom, train

CASES: dict[str, tuple[str, str, int]] = {
    "timm's smallest ResNet": ("baseline_resnet18", "test_resnet.r160_in1k", 48),
    "ResNet18": ("baseline_resnet18", "resnet18", 96),
    "ResNet18, MoCo (keys are gathered)": ("ssl_moco_resnet18", "resnet18", 96),
}
"""What -> experiment, backbone, side of the square films, pixels."""

N_TRAIN, BATCH, WARM_UP, STEPS = 320, 8, 4, 15


def arguments(root: Path, case: tuple[str, str, int], devices: int, run: Path) -> list[str]:
    """Of the command line for one epoch."""
    experiment, backbone, side = case
    return [
        f"--config={experiment}",
        *phantom(root, N_TRAIN, 120, 120),
        f"--data.init_args.image_size=[{side},{side}]",
        f"--data.init_args.saliency_size=[{side // 4},{side // 4}]",
        f"--data.init_args.batch_size={BATCH}",
        "--data.init_args.num_workers=0",
        f"--model.init_args.backbone={backbone}",
        "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu",
        f"--trainer.devices={devices}",
        "--threads=1",
        "--cam_logger.every_n_epochs=0",
        f"--throughput.warm_up={WARM_UP}",
        f"--throughput.steps={STEPS}",
        "--trainer.enable_progress_bar=false",
        f"--run_dir={run}",
    ]


def measure(root: Path, runs: int) -> list[dict[str, Any]]:
    """All cases, with one and two processes in turns."""
    rows = []
    for number, (name, case) in enumerate(CASES.items()):
        speeds: dict[int, list[float]] = {1: [], 2: []}
        images = []
        for run in range(runs):
            for devices, found in speeds.items():
                speed, seen = train(arguments(root, case, devices, root / f"run {number} {run} {devices}"))
                found.append(speed[0])
                images.append(seen)
        one, two = (max(found) for found in speeds.values())
        rows.append({"case": name, "one": one, "two": two, "ratio": two / one, "all": speeds, "images": images})
    return rows


def main(options: list[str] | None = None) -> int:
    """Run all cases, print the table, write the JSON; 0, or 1 if a training did not see all its films."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ddp_scaling", description="One process against two.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results there")
    parser.add_argument("--runs", type=int, default=3, help="of each kind; the fastest counts (default: %(default)s)")
    given = parser.parse_args(options)
    with tempfile.TemporaryDirectory() as name:
        rows = measure(Path(name), given.runs)
    table = Table(title="Images per second, through the command line", title_justify="left")
    for column in ("network", "1 process", "2 processes", "ratio", "of 2"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for row in rows:
        values = (f"{row['one']:,.1f}", f"{row['two']:,.1f}", f"{row['ratio']:.2f} x", f"{row['ratio'] / 2:.0%}")
        table.add_row(row["case"], *values)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    facts = machine()
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()), style="dim")
    load = os.getloadavg()[1]
    console.print(f"Two cores, gloo over loopback, one thread per process; mean load of the last 5 minutes {load:.1f}.")
    right = all(len(set(row["images"])) == 1 for row in rows)
    console.print(f"{'ok  ' if right else 'FAIL'} one and two processes train on as many images")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({"machine": facts, "load": load, "rows": rows}, indent=2) + "\n")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
