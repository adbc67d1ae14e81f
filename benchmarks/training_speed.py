"""The speed of a training through the command line; shared by `benchmarks.ddp_scaling` and `benchmarks.gpu`."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_SPEED = re.compile(r"Training at ([0-9.]+) images/s")
_TOTAL = re.compile(r"Trained on (\d+) images")


class TrainingError(RuntimeError):
    """A training ended with an error; the message holds the end of what it said.

    Args:
        message: what it said.
        refused: the command ended with status 2: what it was asked for does not exist or does not go together.
    """

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


def train(arguments: Sequence[str], threads: int = 1, limit: float = 1800) -> tuple[list[float], int]:
    """Run ``fit`` in a process (or processes) of its own.

    Args:
        arguments: of the command line.
        threads: of each process.
        limit: seconds.

    Returns:
        Images per second, all processes together, of each stage (one without stages), and the images trained on in all.

    Raises:
        TrainingError: the command failed, took too long, or said no speed.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GAZE_LIGHTNING_RUN")}
    command = [sys.executable, "-m", "gaze_lightning", "fit", *arguments]
    try:
        done = subprocess.run(
            command,
            env=clean | {"OMP_NUM_THREADS": str(threads), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TrainingError(f"took longer than {limit:.0f} s") from error
    speeds, totals = _SPEED.findall(done.stdout), _TOTAL.findall(done.stdout)
    if done.returncode or not speeds or not totals:
        raise TrainingError(done.stdout[-3000:], refused=done.returncode == 2)
    return [float(speed) for speed in speeds], sum(map(int, totals))


def phantom(root: Path, n_train: int, height: int, width: int) -> list[str]:
    """Arguments that select a phantom of this size, in a folder that the runs of a benchmark share."""
    options = {
        "root": root / "phantom",
        "cache_dir": root / "cache",
        "n_train": n_train,
        "n_validate": 12,
        "n_test": 12,
        "height": height,
        "width": width,
    }
    return ["--config=data/phantom", *(f"--data.init_args.{name}={value}" for name, value in options.items())]
