"""Where a run's numbers come from."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

import gaze_lightning
from gaze_lightning.evaluation.files import replacing

_PACKAGES = (
    "gaze-lightning",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "timm",
    "numpy",
    "scipy",
    "pandas",
    "albumentations",
    "opencv-python-headless",
    "jsonargparse",
)
_SECRET = re.compile(r"(?i)(token|key|secret|passw)")


class Provenance(Callback):
    """Write ``provenance.json`` into the run folder: one entry per call of ``fit``, ``test`` and the like.

    An entry is written when the call starts (state ``running``) and again when it ends, with the wall time and the
    state ``finished``, ``stopped by <error>`` or what another callback has noted (``pre-empted in epoch 3``). Earlier
    entries stay, so a resumed run shows each of its parts. ``fit`` also asks the data module for ``split.csv``, if it
    offers ``write_split(path)``. Process of rank zero only.
    """

    def __init__(self) -> None:
        super().__init__()
        self._entry: dict[str, Any] | None = None
        self._entries: list[Any] = []
        self._since = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the entry of this call."""
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._since = time.monotonic()
        datamodule = getattr(trainer, "datamodule", None)
        fingerprint = getattr(datamodule, "fingerprint", None)
        self._entry = {
            "stage": stage,
            "state": "running",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_time_s": None,
            "command": without_secrets(sys.argv),
            "seed": int(os.environ["PL_GLOBAL_SEED"]) if "PL_GLOBAL_SEED" in os.environ else None,
            "git": git_state(Path(gaze_lightning.__file__).resolve().parents[1]),
            "versions": installed_versions(),
            "hardware": _hardware(trainer),
            "data": {
                "module": type(datamodule).__name__ if datamodule is not None else None,
                "fingerprint": fingerprint() if callable(fingerprint) else fingerprint,
            },
        }
        root = Path(trainer.default_root_dir)
        self._entries = _earlier_entries(root / "provenance.json")
        self._write(root)
        if stage == "fit" and datamodule is not None and hasattr(datamodule, "write_split"):
            datamodule.write_split(root / "split.csv")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write how long it took."""
        self._end(trainer, "finished")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write what stopped the run: the error's class, not its text, which may hold ids; what was noted stays."""
        noted = self._entry is not None and self._entry["state"] != "running"
        self._end(trainer, self._entry["state"] if noted and self._entry else f"stopped by {type(exception).__name__}")

    def note(self, trainer: Trainer, state: str) -> int:
        """Write a state before the end of the call, which may not be reached; the call may yet finish.

        Args:
            trainer: whose run this is.
            state: e.g. ``pre-empted in epoch 3``.

        Returns:
            How many earlier calls of this kind were left in the same state; 0 on processes that write nothing.
        """
        if self._entry is None:
            return 0
        self._entry |= {"state": state, "wall_time_s": round(time.monotonic() - self._since, 3)}
        self._write(Path(trainer.default_root_dir))
        return sum((one["stage"], one["state"]) == (self._entry["stage"], state) for one in self._entries)

    def _end(self, trainer: Trainer, state: str) -> None:
        if self._entry is None:
            return
        self._entry["state"] = state
        self._entry["wall_time_s"] = round(time.monotonic() - self._since, 3)
        self._write(Path(trainer.default_root_dir))
        self._entry = None

    def _write(self, root: Path) -> None:
        with replacing(root / "provenance.json") as temporary:
            text = json.dumps({"format": 1, "entries": [*self._entries, self._entry]}, indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide about results; packages that are absent are left out."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of a git checkout and whether its files differ from it.

    Args:
        folder: top folder of the checkout.

    Returns:
        ``{"commit": ..., "dirty": ...}``; ``commit`` is None before the first one; None: no checkout, or no git.
    """
    if not (folder / ".git").exists():
        return None
    try:
        status = _git(folder, "status", "--porcelain")
        head = _git(folder, "rev-parse", "--verify", "HEAD")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"commit": head.strip() if head else None, "dirty": bool(status)}


def without_secrets(arguments: list[str]) -> list[str]:
    """Hide the values of arguments whose name speaks of a token, key, secret or password.

    Args:
        arguments: a command line.

    Returns:
        The same with ``***`` in place of such values.
    """
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        secret = name.startswith("-") and bool(_SECRET.search(name))
        if hide_next and not argument.startswith("--"):
            shown.append("***")
        else:
            shown.append(f"{name}=***" if secret and equals else argument)
        hide_next = secret and not equals
    return shown


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout if done.returncode == 0 else None


def _hardware(trainer: Trainer) -> dict[str, Any]:
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "processes": trainer.world_size,
        "strategy": type(trainer.strategy).__name__,
        "precision": str(trainer.precision),
    }


def _earlier_entries(path: Path) -> list[Any]:
    if not path.is_file():
        return []
    return list(json.loads(path.read_text(encoding="utf-8"))["entries"])
