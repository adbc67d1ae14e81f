"""How many processes take part in a run, and what changes when it goes on with another number of them."""

import json
import os
from pathlib import Path
from typing import Any

import yaml

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.launch import launcher, started_processes
from gaze_lightning.run_folder import current_run_folder, is_named_by_chance


def refuse_other_number(devices: int, num_nodes: int) -> None:
    """Refuse processes that were started for a run that does not take them: each would be a run of its own.

    Args:
        devices: of the trainer, per node.
        num_nodes: of the trainer.

    Raises:
        ConfigurationError: if torchrun or srun has started another number of processes, or ``LOCAL_RANK`` is set by
            hand and the others would be waited for, which cannot know the run folder.
    """
    run = current_run_folder()
    waits = launcher() == "lightning" and "LOCAL_RANK" in os.environ and devices * num_nodes > 1
    if waits and run is not None and is_named_by_chance(run):
        raise ConfigurationError(
            "LOCAL_RANK is set, so Lightning starts no processes and waits for those that are started by hand: unset "
            "LOCAL_RANK; or give all of them the same folder, --run_dir runs/<experiment>/<name>"
        )
    started = started_processes()
    if started is not None and started != devices * num_nodes:
        raise ConfigurationError(
            f"{launcher()} has started {started} process(es), but the trainer takes {devices} device(s) on each of "
            f"{num_nodes} node(s). Set --trainer.num_nodes, --trainer.devices (processes on each node) and "
            "--trainer.strategy=ddp as they were started, or start as many as the trainer takes"
        )


def note_of_other_number(run: Path, config: Any, processes: int) -> str | None:
    """What to know when an interrupted run goes on with another number of processes.

    Args:
        run: its folder, with ``provenance.json`` and ``config.yaml``.
        config: the configuration with which it goes on.
        processes: with which it goes on.

    Returns:
        One line with the films per step before and now and how to keep them, as far as the data module has a
        ``batch_size``; None: the number is the same.
    """
    provenance = run / "provenance.json"
    entries = json.loads(provenance.read_text(encoding="utf-8"))["entries"] if provenance.is_file() else []
    fits = [entry["hardware"]["processes"] for entry in entries if entry["stage"] == "fit"]
    if not fits or fits[-1] == processes:
        return None
    stored = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    note = f"The run had {fits[-1]} process(es) and goes on with {processes}"
    sizes = [
        getattr(getattr(config.data, "init_args", None), "batch_size", None),
        (stored["data"].get("init_args") or {}).get("batch_size"),
    ]
    if not all(sizes):  # a data module with other options
        return f"{note} (docs/devices.md)."
    per_process = sizes[0] * config.trainer.accumulate_grad_batches
    before = sizes[1] * stored["trainer"]["accumulate_grad_batches"] * fits[-1]
    note += ": "
    if per_process * processes == before:
        return f"{note}{before} films per step, as before (docs/devices.md)."
    size, rest = divmod(before, processes * config.trainer.accumulate_grad_batches)
    remedy = f" To keep {before}: --data.init_args.batch_size={size}" if not rest else ""
    staged = config.staged_training
    if remedy and any(own.batch_size for own in (*(staged.stages or ()), *(staged.sizes or {}).values())):
        remedy += ", and the batch sizes of stages in the same proportion"
    return f"{note}{per_process * processes} films per step instead of {before}.{remedy} (docs/devices.md)"
