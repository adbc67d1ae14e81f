"""Training on two processes against one, through the real command: images per second.

Run ``make bench BENCH=ddp_scaling``. Two cores; two processes talk through gloo (loopback); one thread and batches of 8
films each. The ideal is 2, but two cores share caches and memory, and DDP exchanges gradients in every step. So two
things stand beside it: what a training reaches while an unrelated one runs on the other core (twice its speed is the
most that this machine gives), and which share of that is left to a bare loop of torch's DDP with the same network
(`benchmarks.bare_ddp`). A share of ours well below that would be the library making processes wait for each other. Runs
are made in turns and the fastest of each kind counts. **It says nothing of GPUs**, where gradients travel by NCCL while
they are computed, and a step takes milliseconds. Exit code 1 if a training took another number of steps than asked for.
About twenty minutes on a free machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.ending import finish
from benchmarks.training_speed import beside, phantom, train


class Case(NamedTuple):
    """What is trained: experiment and backbone, films of ``side`` x ``side`` pixels, for so many measured steps."""

    experiment: str
    backbone: str
    side: int
    steps: int


CASES = {
    "timm's smallest ResNet": Case("baseline_resnet18", "test_resnet.r160_in1k", 48, 34),
    "ResNet18": Case("baseline_resnet18", "resnet18", 96, 15),
    "ResNet18, MoCo": Case("ssl_moco_resnet18", "resnet18", 96, 15),
}
KINDS = ("1 process", "1 beside another", "2 processes")
N_TRAIN, BATCH, WARM_UP = 640, 8, 4


def arguments(root: Path, case: Case, devices: int, run: Path, epochs: int = 1) -> list[str]:
    """Of the command line."""
    return [
        f"--config={case.experiment}",
        *phantom(root, N_TRAIN, 120, 120),
        f"--data.init_args.image_size=[{case.side},{case.side}]",
        f"--data.init_args.saliency_size=[{case.side // 4},{case.side // 4}]",
        f"--data.init_args.batch_size={BATCH}",
        "--data.init_args.num_workers=0",
        f"--model.init_args.backbone={case.backbone}",
        f"--trainer.max_epochs={epochs}",
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
        right, bare = True, []
        for run in range(runs):
            for kind in KINDS:
                devices, folder = (2 if kind == "2 processes" else 1), root / f"run {number} {run} {kind}"
                endless = arguments(root, case, 1, root / f"beside {number} {run}", epochs=10_000)
                with beside(endless, root / "beside.txt") if kind == "1 beside another" else nullcontext():
                    of_stages, images = train(arguments(root, case, devices, folder))
                speeds[kind].append(of_stages[0])
                right &= images == (WARM_UP + case.steps + 1) * BATCH * devices
            if case.experiment == "baseline_resnet18":  # a bare loop of the other would be MoCo once more
                bare.append(bare_share(case))
        best = {kind: max(values) for kind, values in speeds.items()}
        rows.append({"case": name, "best": best, "all": speeds, "bare": bare, "right": right})
    return rows


def bare_share(case: Case) -> float:
    """Share of the speed that torch's DDP leaves to two processes."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "benchmarks.bare_ddp"]
    command = [sys.executable, *launch, case.backbone, str(case.side), str(BATCH), str(case.steps)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found["alone"] / found["joined"]


def table(rows: list[dict[str, Any]]) -> Table:
    """Lay out the results."""
    result = Table(title="Images per second, through the command line", title_justify="left")
    for column in ("network", *KINDS, "ratio", "share", "bare share"):
        result.add_column(column, justify="left" if column == "network" else "right")
    for row in rows:
        one, apart, two = (row["best"][kind] for kind in KINDS)
        shares = f"{two / one:.2f} x", f"{two / apart / 2:.0%}", f"{max(row['bare']):.0%}" if row["bare"] else "-"
        result.add_row(row["case"], f"{one:,.1f}", f"{apart:,.1f}", f"{two:,.1f}", *shares)
    return result


def main(options: list[str] | None = None) -> int:
    """Run all cases, print the table, write the JSON; 0, or 1 if a training took another number of steps."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ddp_scaling", description="One process against two.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results there")
    parser.add_argument("--runs", type=int, default=3, help="of each kind; the fastest counts (default: %(default)s)")
    given = parser.parse_args(options)
    with tempfile.TemporaryDirectory() as name:
        rows = measure(Path(name), given.runs)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table(rows))
    console.print(
        "ratio: 2 processes to 1. share: 2 processes of twice the speed beside another. bare share: what torch's DDP "
        "leaves to a bare loop with the same network."
    )
    load = os.getloadavg()[1]
    console.print(f"Two cores, gloo over loopback, one thread per process; mean load of the last 5 minutes {load:.1f}.")
    checks = {"every training took the steps that were asked for": all(row["right"] for row in rows)}
    return finish(console, checks, {"load": load, "rows": rows}, given.json)


if __name__ == "__main__":
    sys.exit(main())
