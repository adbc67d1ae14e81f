"""The speed of a training through the command line; shared by `benchmarks.ddp_scaling` and `benchmarks.gpu`."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    try:
        done = subprocess.run(
            _command(arguments),
            env=_environment(threads),
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


@contextmanager
def beside(arguments: Sequence[str], log: Path, limit: float = 300) -> Iterator[None]:
    """Within it another training runs in a process of its own: long enough if its arguments say so.

    Args:
        arguments: of the command line of ``fit``.
        log: file for what it says.
        limit: seconds until it must have measured its speed.

    Raises:
        TrainingError: it ended, or had not come so far.
    """
    with log.open("w") as file:
        process = subprocess.Popen(_command(arguments), env=_environment(1), stdout=file, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + limit
        while not _SPEED.search(log.read_text()):
            if process.poll() is not None or time.monotonic() > end:
                raise TrainingError(log.read_text()[-3000:])
            time.sleep(0.2)
        yield
        if process.poll() is not None:
            raise TrainingError(f"it ended too early:\n{log.read_text()[-3000:]}")
    finally:
        process.terminate()
        process.wait()


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "gaze_lightning", "fit", *arguments]


def _environment(threads: int) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GAZE_LIGHTNING_RUN")}
    return clean | {"OMP_NUM_THREADS": str(threads), "COLUMNS": "200"}


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
