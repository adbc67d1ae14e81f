"""Where a run lives."""

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

_ENVIRONMENT = "GAZE_LIGHTNING_RUN_DIR"


def is_first_process() -> bool:
    """False in the processes that a run starts for its other devices."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def new_run_folder(parent: Path) -> Path:
    """Make a fresh folder ``<parent>/<date>-<time>-<four hex digits>`` that did not exist before.

    The first process of a run makes it and leaves its path in the environment, where the processes that it starts for
    the other devices find it: one run, one folder.

    Args:
        parent: e.g. ``runs/ggcam_resnet50``.

    Returns:
        Path of the folder.
    """
    given = os.environ.get(_ENVIRONMENT)
    if given and not is_first_process():
        return Path(given)
    while True:
        stamp = datetime.now(UTC).astimezone().strftime("%Y%m%d-%H%M%S")
        folder = parent / f"{stamp}-{secrets.token_hex(2)}"
        if not folder.exists():
            break
    folder.mkdir(parents=True)
    os.environ[_ENVIRONMENT] = str(folder)
    return folder


def remove_empty_run_folder() -> None:
    """Remove the folder that `new_run_folder` made, if the run came to nothing before it wrote anything."""
    folder = os.environ.get(_ENVIRONMENT)
    if folder and is_first_process() and Path(folder).is_dir() and not any(Path(folder).iterdir()):
        Path(folder).rmdir()


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
