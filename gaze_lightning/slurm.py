"""What SLURM tells the tasks that ``srun`` has started; nothing heavy is imported."""

import os

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.launch import slurm_run_name

DEVICES = "slurm"
"""The value of ``trainer.devices`` by which a configuration (``trainer/slurm``) leaves the numbers to SLURM."""


def devices_and_nodes(gpus: int | None) -> dict[str, int]:
    """How many devices of how many nodes a training uses that has one task per device.

    Args:
        gpus: GPUs that this task sees; None for a training on CPUs.

    Returns:
        The trainer's ``devices`` (tasks per node) and ``num_nodes``.

    Raises:
        ConfigurationError: this process was not started by ``srun``, the tasks are not the same number on all nodes, or
            a task has no GPU of its own.
    """
    if slurm_run_name() is None:
        raise ConfigurationError(
            "TRAINER=slurm (trainer.devices: slurm) needs a task that srun has started, and this is none: put srun "
            "before the command, in a batch script (gaze-lightning slurm > train.sbatch) or in an allocation that has "
            "a name (salloc --job-name=training; in jobs called bash or interactive Lightning does not look for "
            "SLURM). Without SLURM: TRAINER=auto, gpu, ddp or cpu (--config trainer/auto)"
        )
    tasks, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", "1"))
    per_node = int(os.environ.get("SLURM_NTASKS_PER_NODE", "1" if tasks == 1 else "0"))
    if per_node * nodes != tasks:
        given = f"--ntasks-per-node={per_node}" if per_node else "no --ntasks-per-node"
        raise ConfigurationError(
            f"SLURM runs {tasks} task(s) on {nodes} node(s), with {given}: there must be equally many on every node. "
            "Give --nodes and --ntasks-per-node (not --ntasks), the latter as many as GPUs per node"
        )
    if gpus is not None and gpus < per_node:
        raise ConfigurationError(
            f"SLURM runs {per_node} task(s) per node, and this one sees {gpus} GPU(s): every task must see all GPUs of "
            f"its node, and take its own. Give --gpus-per-node={per_node}, and neither --gpus-per-task nor --gpu-bind; "
            "for a training on CPUs: --trainer.accelerator=cpu"
        )
    return {"devices": per_node, "num_nodes": nodes}


def restarts() -> int:
    """How often SLURM has put this job back into the queue; 0 outside SLURM."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def job_id() -> str | None:
    """The job, or the task of an array of jobs, as ``scontrol`` calls it; None outside SLURM."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array is not None:
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")
