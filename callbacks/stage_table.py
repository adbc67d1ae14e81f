"""What the stages of a training reached: a table and a file."""

import json
import math
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from callbacks.stage_run import StageRun
from callbacks.throughput import readable_time


def stage_table(runs: list[StageRun]) -> Table:
    """The table that is printed at the end: one row per stage that ran; ``at``: its best epoch, counted from 1."""
    table = Table(title="Stages", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("stage")
    for column in ("epochs", "trained", "best by"):
        table.add_column(column, justify="right")
    table.add_column("value")
    for column in ("at", "time"):
        table.add_column(column, justify="right")
    for run in runs:
        judged = run.monitor is not None and run.best_epoch is not None
        value = f"{run.best:.4g}" if math.isfinite(run.best) else "NaN"
        table.add_row(
            run.name,
            f"{run.epochs}{'' if run.stopped is None else ' (early)'}",
            readable_count(run.trained),
            (run.monitor or "").removeprefix("val/"),
            f"{value} {'↓' if run.mode == 'min' else '↑'}" if judged else "",
            "" if run.best_epoch is None or not judged else str(run.best_epoch - run.start + 1),
            readable_time(run.seconds),
        )
    return table


def readable_count(parameters: int) -> str:
    """Write a number of parameters for people, e.g. ``18.1 M``."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if parameters >= size:
            return f"{parameters / size:.1f} {unit}"
    return str(parameters)


def write_stages(runs: list[StageRun], path: Path) -> None:
    """Write ``stages.json``: the same with all validation values of each stage's best epoch; NaN becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([_row(run) for run in runs], indent=2) + "\n")


def _row(run: StageRun) -> dict[str, Any]:
    return {
        "stage": run.name,
        "epochs": run.epochs,
        "first_epoch": run.start,
        "ended_early": run.stopped is not None,
        "finished": run.finished,
        "trained_parameters": run.trained,
        "monitor": run.monitor,
        "mode": run.mode,
        "best": _number(run.best) if run.monitor is not None else None,
        "best_epoch": run.best_epoch,
        "best_epoch_of_stage": None if run.best_epoch is None else run.best_epoch - run.start + 1,
        "checkpoint": Path(run.path).name,
        "seconds": round(run.seconds, 1),
        "values": {name: _number(value) for name, value in sorted(run.values.items())},
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
