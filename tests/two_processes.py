"""Functions that two real processes run together, started once by torchrun for all of them: imports are paid once."""

import faulthandler
import fcntl
import gc
import importlib
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = str(Path(__file__).parent.parent)
_OF_A_RUN = ("GAZE_LIGHTNING_RUN", "PL_", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "RANK", "WORLD_SIZE", "MASTER_")

Call = tuple[str, dict[str, Any]]
"""``"module:function"`` and its keyword arguments, plain values."""


def clean_environment(**more: str) -> dict[str, str]:
    """The environment as a shell has it: without what runs in this process have left there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_RUN)}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT} | more


def run_together(folder: Path, calls: Sequence[Call], limit: float = 300) -> tuple[str, str]:
    """Call functions one after the other in each of two processes, which take part in one another's trainings.

    Args:
        folder: for the list of calls; made if absent.
        calls: what to call.
        limit: seconds after which a call that has not returned is stopped, with the stacks of both processes.

    Returns:
        What both wrote to the standard output and to the standard error.

    Raises:
        RuntimeError: a call failed or took too long; the message ends with what they wrote to the standard error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "calls.json").write_text(json.dumps({"limit": limit, "calls": list(calls)}))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tests.two_processes"]
    process = subprocess.Popen(
        [sys.executable, *launch, str(folder)],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, error = process.communicate(timeout=120 + limit * len(calls))
    except BaseException:
        process.terminate()  # torchrun then ends its processes
        process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"two processes failed:\n{error[-6000:]}")
    return out, error


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Make a folder once in a session of tests, in whichever of its processes first needs it.

    Args:
        factory: pytest's.
        name: of the folder.
        make: fills it.

    Raises:
        RuntimeError: it failed, for an earlier caller, whose error the message repeats. It is not tried again.
    """
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, failed = base / name, base / f"{name}.failed"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if failed.exists():
            raise RuntimeError(f"{name} could not be made:\n{failed.read_text()}")
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                make(folder)
            except BaseException:
                failed.write_text(traceback.format_exc())
                raise
            (folder / "made").touch()
    return folder


def _work(folder: Path) -> None:
    plan = json.loads((folder / "calls.json").read_text())
    for name, options in plan["calls"]:
        faulthandler.dump_traceback_later(plan["limit"], exit=True)
        for left in [key for key in os.environ if key.startswith("GAZE_LIGHTNING_RUN")]:
            del os.environ[left]  # the folder of the run before
        module, _, function = name.partition(":")
        getattr(importlib.import_module(module), function)(**options)
        gc.collect()
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
