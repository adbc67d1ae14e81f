"""Processes with the environment that srun gives its tasks, and a stand-in for scontrol; importable by the tasks."""

import atexit
import multiprocessing
import os
import signal
import socket
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Self

import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_only

CALLBACKS = "--trainer.callbacks=[tests.interruption.Interruption,tests.interruption.Digest,tests.slurm_tasks.Hold]"
_OF_OTHERS = (
    *("SLURM_", "TORCHELASTIC_", "GAZE_LIGHTNING_", "WANDB_", "PL_", "MASTER_"),
    *("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE"),
)
_ROOT = str(Path(__file__).parent.parent)


class Hold(Callback):
    """In epoch 2, say that batch 1 begins and wait for word; before batch 2 wait for the end, which SIGTERM brings.

    Only where ``HOLD_IN`` names a folder; neither comes later than five minutes.
    """

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        folder = os.environ.get("HOLD_IN")
        if folder is None or trainer.current_epoch != 2 or batch_idx == 0:
            return
        (Path(folder) / f"batch_{batch_idx}_{trainer.global_rank}").touch()
        deadline = time.monotonic() + 300
        while not ((Path(folder) / "go_on").exists() if batch_idx == 1 else trainer.received_sigterm):
            if time.monotonic() > deadline:
                raise TimeoutError(f"batch {batch_idx} of epoch 2 was not let go")
            time.sleep(0.02)


def environment(job: str, rank: int = 0, tasks: int = 1, **more: str) -> dict[str, str]:
    """What srun gives a task of the first step of a job on one node."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OF_OTHERS)}
    return own | {
        "SLURM_JOB_ID": job,
        "SLURM_JOB_NAME": "training",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": str(tasks),
        "SLURM_NTASKS_PER_NODE": str(tasks),
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_STEP_ID": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": _ROOT,
        **more,
    }


def task(arguments: list[str], log: str, variables: dict[str, str]) -> None:
    """The whole life of a task: the command line in a process group of its own, with its output in a file.

    It comes from a server that has imported everything, with the rank of a process that was none.
    """
    os.setsid()
    with open(log, "ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.environ.clear()
    os.environ.update(variables)
    multiprocessing.set_start_method("fork", force=True)  # of loading processes, as in a process that a shell starts
    rank_zero_only.rank = int(variables["SLURM_PROCID"])
    torch.set_num_threads(1)
    from gaze_lightning.main import main

    try:
        main(arguments)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out; by one of them W&B ends its run


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Step:
    """A step of a job: the same command in every task, as SLURM's daemon on the node starts and signals it.

    As a context it leaves no process behind. Its port is free, and not that which Lightning makes of the job's number:
    two sessions of tests on a machine have the same jobs.
    """

    context = multiprocessing.get_context("forkserver")

    def __init__(self, arguments: list[str], log: Path, job: str, tasks: int = 2, **more: str) -> None:
        self.context.set_forkserver_preload(["tests.slurm_tasks", "gaze_lightning.commands.run", "timm"])
        self.logs = [log.with_name(f"{log.name}_{rank}.txt") for rank in range(tasks)]
        self.processes: list[ForkServerProcess] = []
        more = {"MASTER_PORT": str(free_port()), **more}
        for rank, path in enumerate(self.logs):
            path.touch()
            variables = environment(job, rank, tasks, **more)
            self.processes.append(self.context.Process(target=task, args=(arguments, str(path), variables)))
        for process in self.processes:
            process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def send(self, number: signal.Signals) -> None:
        """As slurmstepd does: to every process of the step, those that load data as well."""
        for process in self.processes:
            os.killpg(process.pid, number)

    def wait_for(self, *paths: Path) -> None:
        deadline = time.monotonic() + 600
        while not all(path.exists() for path in paths):
            if any(process.exitcode is not None for process in self.processes) or time.monotonic() > deadline:
                raise AssertionError(self.text()[-8000:])
            time.sleep(0.02)

    def end(self, timeout: float = 600) -> list[int | None]:
        """Exit statuses; those that have not ended by themselves are killed."""
        deadline = time.monotonic() + timeout
        for process in self.processes:
            process.join(max(deadline - time.monotonic(), 0.1))
        statuses = [process.exitcode for process in self.processes]
        self.kill()
        return statuses

    def kill(self) -> None:
        for process in self.processes:
            if process.exitcode is None:
                process.kill()
            process.join()

    def text(self) -> str:
        return "\n\n".join(path.read_text() for path in self.logs)


def stand_in_scontrol(folder: Path, status: int = 0, output: str = "") -> Path:
    """Make a program ``scontrol`` that writes down what it was asked for; returns the file.

    Its folder has to be the first of ``PATH``.
    """
    folder.mkdir(exist_ok=True)
    program, record = folder / "scontrol", folder / "asked.txt"
    program.write_text(f'#!/bin/sh\necho "$@" >> "{record}"\necho "{output}" >&2\nexit {status}\n')
    program.chmod(0o755)
    return record
