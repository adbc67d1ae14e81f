"""Where a run lives."""

import json
import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.launch import is_first_process, launcher, slurm_run_name, started_processes

_ENVIRONMENT = "GAZE_LIGHTNING_RUN_DIR"
_PATIENCE = timedelta(minutes=30)  # processes import at different speeds from a busy file system

_made: list[Path] = []
_drawn: list[Path] = []
_stores: list[Any] = []  # kept: a store that this process serves ends with its object, and the others still ask it


def new_run_folder(parent: Path, num_nodes: int = 1) -> Path:
    """Choose the folder of a run; the process of rank zero makes it, and all processes have the same one.

    It is called ``<date>-<time>-<four hex digits>`` and did not exist before. The processes that Lightning starts find
    its path in the environment, those of torchrun in their agents' store. Below ``srun`` it is called after the job
    (`gaze_lightning.launch.slurm_run_name`), and may exist if the job was requeued. All nodes must see ``parent``.

    Args:
        parent: e.g. ``runs/ggcam_resnet50``.
        num_nodes: of the trainer.

    Returns:
        Path of the folder.

    Raises:
        ConfigurationError: where nothing tells the processes each other's folder.
    """
    given = os.environ.get(_ENVIRONMENT)
    match launcher():
        case "torchrun" if started_processes() != 1:
            folder = _told_by_store(parent)
        case "srun" if name := slurm_run_name():
            folder = parent / name
        case "lightning" if given and not is_first_process():
            return Path(given)
        case "lightning" | "alone" if num_nodes > 1 or not is_first_process():
            raise ConfigurationError(
                "Processes that are started by hand on several nodes cannot agree on a fresh run folder: give all of "
                "them the same one, --run_dir runs/<experiment>/<name>, on a file system that all nodes see; or start "
                "them with torchrun or srun (docs/devices.md)"
            )
        case "srun" if started_processes() != 1:
            raise ConfigurationError(
                f"SLURM has {started_processes()} tasks for this job, and this process was not started by srun: the "
                "others would be waited for in vain. Put srun before the command"
            )
        case _:
            folder = _fresh(parent)
    return take(folder)


def take(folder: Path) -> Path:
    """Run in this folder; the process of rank zero makes it if it is not there."""
    if is_first_process() and not folder.exists():
        folder.mkdir(parents=True)
        _made.append(folder)
    os.environ[_ENVIRONMENT] = str(folder)
    return folder


def current_run_folder() -> Path | None:
    """The folder that this process's run has taken, if it has come so far."""
    given = os.environ.get(_ENVIRONMENT)
    return Path(given) if given else None


def is_named_by_chance(folder: Path) -> bool:
    """Whether this process has drawn the folder's name, so that the same command, given again, has another folder."""
    return folder in _drawn


def remove_empty_run_folder() -> None:
    """Remove the folder that was made for this run if it came to nothing before it wrote anything."""
    while _made:
        folder = _made.pop()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _fresh(parent: Path) -> Path:
    while True:
        stamp = datetime.now(UTC).astimezone().strftime("%Y%m%d-%H%M%S")
        folder = parent / f"{stamp}-{secrets.token_hex(2)}"
        if not folder.exists():
            _drawn.append(folder)
            return folder


def _told_by_store(parent: Path) -> Path:
    """The folder that rank zero makes, or its failure, through the store in which torchrun's processes find each other.

    The restart counts of several agents differ, and with them the names under which one looks for an answer.
    """
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1" and os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        raise ConfigurationError(
            "torchrun --max-restarts on several nodes would begin anew in another folder: leave it out, and go on with "
            "resume (docs/devices.md); or choose the folder, --run_dir runs/<experiment>/<name>"
        )
    from torch.distributed.rendezvous import rendezvous

    store = next(iter(rendezvous("env://", timeout=_PATIENCE)))[0]
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    key = f"gaze_lightning/run_folder/{os.environ['TORCHELASTIC_RUN_ID']}/{attempt}/{len(_stores)}"
    _stores.append(store)
    if is_first_process():
        try:
            folder = take(_fresh(parent))
        except OSError as error:
            store.set(key, json.dumps({"error": f"on the first process: {error}"}))
            raise
        store.set(key, json.dumps({"folder": str(folder)}))
        return folder
    answer = json.loads(store.get(key))
    if "error" in answer:
        raise ConfigurationError(answer["error"])
    return Path(answer["folder"])


def checkpoint_of(run: Path, name: str = "best") -> Path:
    """Path of a checkpoint of a finished run.

    Args:
        run: the run's folder.
        name: ``best`` or ``last``.

    Raises:
        FileNotFoundError: the folder or the checkpoint does not exist; the message lists what is there.
    """
    path = run / "checkpoints" / f"{name}.ckpt"
    if not path.is_file():
        there = sorted(file.name for file in run.glob("checkpoints/*.ckpt"))
        found = f"checkpoints there: {', '.join(there)}" if there else "no checkpoint in this run"
        raise FileNotFoundError(
            f"{path} does not exist ({found}); give the folder of a finished run, e.g. RUN=runs/<experiment>/<run id>"
        )
    return path
