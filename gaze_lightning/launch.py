"""Which process of a run this is, told by the environment alone, as Lightning tells it; nothing heavy is imported."""

import os
from typing import Literal

Launcher = Literal["alone", "lightning", "torchrun", "srun"]

_NOT_A_STEP = 0xFFFFFFF0  # from here on SLURM numbers its own steps: batch scripts, interactive shells


def launcher() -> Launcher:
    """What has started this process, in the order in which Lightning looks for it.

    Returns:
        ``torchrun``; ``srun`` (a SLURM job that is no interactive shell); ``lightning`` where variables of Lightning's
        own launch are set, by Lightning or by hand; otherwise ``alone``.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    if "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return "srun"
    return "lightning" if {"LOCAL_RANK", "NODE_RANK", "GROUP_RANK"} & os.environ.keys() else "alone"


def is_first_process() -> bool:
    """Whether this is the process of global rank zero, which alone writes, and speaks for all."""
    match launcher():
        case "torchrun":
            return _number("RANK") == 0
        case "srun":
            return _number("SLURM_PROCID") == 0
    return local_rank() == 0 and _number("NODE_RANK", _number("GROUP_RANK")) == 0


def local_rank() -> int:
    """Number of this process on its machine, from 0."""
    return _number("SLURM_LOCALID" if launcher() == "srun" else "LOCAL_RANK")


def started_processes() -> int | None:
    """How many processes the launcher has started; None: Lightning starts them, as many as ``devices`` says."""
    match launcher():
        case "torchrun":
            return _number("WORLD_SIZE", 1)
        case "srun":
            return _number("SLURM_NTASKS", 1)
    return None


def slurm_run_name() -> str | None:
    """Name of the run of a step that ``srun`` has started: the same in all its processes, and after a requeue.

    Returns:
        ``slurm-<job>``, ``slurm-<array job>_<task>``, with ``.<step>`` from the second step of the job on and with
        ``-<trial>`` below an agent of a sweep, which runs several trials in one step. None outside a step: the commands
        of a batch script that are not started by ``srun`` share one job.
    """
    step = _number("SLURM_STEP_ID", _NOT_A_STEP)
    if launcher() != "srun" or step >= _NOT_A_STEP:
        return None
    job, array = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_ARRAY_JOB_ID")
    name = f"slurm-{job}" if array is None else f"slurm-{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    trial = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
    return name + (f".{step}" if step else "") + (f"-{trial}" if trial else "")


def _number(name: str, default: int = 0) -> int:
    return int(os.environ.get(name, default))
