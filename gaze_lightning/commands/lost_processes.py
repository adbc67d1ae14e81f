"""How a command ends when another process of its run has gone."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed

from gaze_lightning.run_folder import checkpoint_of, current_run_folder

# What the transports say when the other end does not answer. An error of this process itself says none of it.
_SIGNS = (
    "gloo/transport",  # closed by peer, reset by peer, broken pipe, timed out
    "monitoredBarrier",
    "remote process exited or there was a network error",  # NCCL
    "collective operation timeout",  # NCCL's watchdog, where TORCH_NCCL_BLOCKING_WAIT lets Python hear of it
)


@contextmanager
def lost_processes_end_the_command() -> Iterator[None]:
    """Say in a few lines that another process of the run has gone and how to go on, and exit with status 1.

    Only errors by which the processes' connections report that (`lost_process`); all others pass with their traceback,
    and the process that failed by itself shows its own.

    Raises:
        SystemExit: status 1.
    """
    try:
        yield
    except RuntimeError as error:
        if not lost_process(error):
            raise
        print(f"\n{_message(error)}", file=sys.stderr, flush=True)  # noqa: T201
        raise SystemExit(1) from None


def lost_process(error: RuntimeError) -> bool:
    """Whether an error says that another process does not answer any more."""
    if isinstance(error, torch.distributed.DistNetworkError):
        return "failed to listen" not in str(error)  # the port is taken: nobody has been asked yet
    return any(sign in str(error) for sign in _SIGNS)


def _short(error: RuntimeError) -> str:
    """First sentence of an error, without the line of gloo's source in front of it."""
    return re.sub(r"^\[[^]]*\] ", "", str(error).strip()).partition(". ")[0].splitlines()[0]


def _message(error: RuntimeError) -> str:
    lines = [
        "Another process of this run has gone: it failed (its own messages say why), it was killed, it hangs, or its "
        "machine cannot be reached.",
        f"  noticed as: {_short(error)}",
    ]
    run = current_run_folder()
    if run is None:
        return "\n".join(lines)
    shown = os.path.relpath(run)
    try:
        last = checkpoint_of(run, "last")
    except FileNotFoundError:
        return "\n".join([*lines, "  No epoch was complete: nothing is lost by starting anew."])
    epoch = torch.load(last, weights_only=True, map_location="cpu", mmap=True)["epoch"]
    return "\n".join(
        [
            *lines,
            f"  Safe: everything up to the end of epoch {epoch} ({Path(shown) / 'checkpoints' / last.name}).",
            f"  To go on, also with another number of devices (docs/devices.md): gaze-lightning resume --run {shown}",
        ]
    )
