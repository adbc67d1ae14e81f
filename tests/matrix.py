"""Experiments on two processes and on one: are the ranks the same, the numbers, and the pictures?

``python -m tests.matrix`` does it for every experiment file with its own network (``make matrix``), the tests do it for
one experiment per task with a tiny one. Two processes train and test; then one process tests the same checkpoint and
validates it, which on two processes was done after the epoch of that checkpoint.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from gaze_lightning.layers import available, task_of
from tests.interruption import digests
from tests.made_up_table import make_table
from tests.matrix_cases import N_TEST, PRETRAINING, TASKS, arguments_of
from tests.two_processes import Call, once, run_together

TWO = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]
ONE = ["--trainer.devices=1", "--trainer.strategy=auto"]
TOLERANCE = 1e-4
"""Of values: batches of another size round differently in float32, which can swap neighbours where ranks count."""


@dataclass
class Row:
    """What one experiment showed.

    Attributes:
        name: of the row.
        experiment: its file.
        epochs: after which the ranks were compared.
        unlike: those after which parameters or buffers of the two ranks differ.
        n: readings that the test counted on two processes, and on one.
        n_values: values of the test.
        difference: the largest absolute difference of a value between two processes and one, and the value's name.
        validation: values of the validation by name, on two processes and on one.
        probability: the largest difference of a reading's probability.
        pictures: CAM pages of the test.
        pixels: the largest difference of their pixels, 0 to 255.
        seconds: training and test on two processes.
        faults: what is wrong, in words.
    """

    name: str
    experiment: str
    epochs: int = 0
    unlike: list[int] = field(default_factory=list)
    n: tuple[int, int] = (0, 0)
    n_values: int = 0
    difference: tuple[float, str] = (math.inf, "")
    validation: dict[str, tuple[float, float]] = field(default_factory=dict)
    probability: float = math.inf
    pictures: int = 0
    pixels: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def train(arguments: list[str], run: str) -> None:
    """Train and test in this process, which is one of two; the first one notes the seconds."""
    from gaze_lightning.main import main

    start = time.monotonic()
    main(["train", *arguments, *TWO, f"--run_dir={run}"])
    if os.environ["RANK"] == "0":
        _seconds(Path(run)).write_text(f"{time.monotonic() - start}")


def _seconds(run: Path) -> Path:
    """Beside the run, whose folder holds what any run's does."""
    return run.with_name(f"{run.name}.seconds")


def calls_of(names: dict[str, str], folder: Path, tiny: bool = True, more: Sequence[str] = ()) -> list[Call]:
    """Calls of `train` for experiments, into ``runs/<name>`` of a folder.

    Args:
        names: experiments by the name of their row.
        folder: for runs and the data that they share.
        tiny: see `arguments_of`.
        more: arguments that all of them have.
    """
    runs = folder / "runs"
    start = str(runs / "moco") if "moco" in names else "scratch"
    return [
        ("tests.matrix:train", {"arguments": [*arguments_of(one, folder, start, tiny), *more], "run": str(runs / name)})
        for name, one in names.items()
    ]


def alone(name: str, folder: Path) -> None:
    """Test and validate in this process, into ``one/<name>`` of the folder, what two have trained."""
    from gaze_lightning.main import main

    run = folder / "runs" / name
    main(["test", "--run", str(run), *ONE, f"--run_dir={folder / 'one' / name}"])
    main(["validate", "--run", str(run), *ONE, f"--run_dir={folder / 'one' / name}.validated"])


def matrix_of_tasks(factory: pytest.TempPathFactory) -> Path:
    """The folder with the runs of `TASKS`, made once in a session of tests; ``one`` has those of one process.

    The processes that train them also note the samples that they are shown (`sampler_ranks`).
    """

    def make(folder: Path) -> None:
        make_table(folder / "films", 40)
        draws = ("tests.sampler_ranks:record", {"folder": str(folder), "devices": 2})
        run_together(folder, [draws, *calls_of(TASKS, folder)])
        for name in TASKS:
            alone(name, folder)

    return once(factory, "matrix", make)


def compare(name: str, experiment: str, folder: Path) -> Row:
    """Compare what two processes left in ``runs/<name>`` with what one left in ``one/<name>``."""
    row, two, one = Row(name, experiment), folder / "runs" / name, folder / "one" / name
    row.seconds = float(_seconds(two).read_text())
    first, second = (digests(two, rank) for rank in range(2))
    row.epochs = len(first)
    row.unlike = [epoch for epoch in {**first, **second} if first.get(epoch) != second.get(epoch)]
    if row.unlike:
        row.faults.append(f"the ranks differ after epochs {', '.join(map(str, row.unlike))}")
    if not first or len(set(first.values())) < len(first):
        row.faults.append("an epoch changed nothing")
    _compare_results(row, two, one)
    _compare_validation(row, two, one.with_name(f"{name}.validated"))
    _compare_pictures(row, two / "cams" / "test", one / "cams" / "test")
    return row


def _compare_results(row: Row, two: Path, one: Path) -> None:
    results = [json.loads((run / "results.json").read_text()) for run in (two, one)]
    row.n = (results[0]["n"], results[1]["n"])
    if row.n != (N_TEST, N_TEST):
        row.faults.append(f"{row.n[0]} and {row.n[1]} readings were counted, and there are {N_TEST}")
    first, second = ({name: value["value"] for name, value in result["metrics"].items()} for result in results)
    row.n_values = len(first)
    row.difference = max((_difference(first.get(name), second.get(name)), name) for name in {**first, **second})
    if not row.difference[0] <= TOLERANCE:
        row.faults.append(f"{row.difference[1]} differs by {row.difference[0]:.2g}")
    split = pd.read_csv(two / "split.csv", dtype=str)
    wanted = sorted(split.loc[split["split"] == "test", "sample_id"])
    tables = [pd.read_csv(run / "predictions.csv", dtype={"sample_id": str}) for run in (two, one)]
    for table, processes in zip(tables, ("two processes", "one process"), strict=True):
        if sorted(table["sample_id"]) != wanted:
            row.faults.append(f"on {processes} the predictions are not of the test readings, each once")
            return
    columns = [name for name in tables[0] if name.startswith("prob_")]
    both = [table.set_index("sample_id").loc[wanted, columns].to_numpy(dtype=float) for table in tables]
    row.probability = float(np.abs(both[0] - both[1]).max(initial=0.0))
    if not row.probability <= TOLERANCE:
        row.faults.append(f"a reading's probability differs by {row.probability:.2g}")


def _compare_validation(row: Row, two: Path, one: Path) -> None:
    epoch = torch.load(two / "checkpoints" / "best.ckpt", weights_only=True)["epoch"]
    tables = [pd.read_csv(run / "metrics.csv") for run in (two, one)]
    tables[0] = tables[0].loc[tables[0]["epoch"] == epoch]
    first, second = (
        {name: float(table[name].dropna().iloc[-1]) for name in table if name.startswith("val/") and table[name].any()}
        for table in tables
    )
    names = sorted({**first, **second})
    if task_of(row.experiment) == "Cooperative":  # after a stage only its terms are validated, and summed
        names = sorted({*first} - {"val/loss"})
    row.validation = {name: (first.get(name, math.inf), second.get(name, math.inf)) for name in names}
    for name, (a, b) in row.validation.items():
        if not abs(a - b) <= TOLERANCE:
            row.faults.append(f"{name} of epoch {epoch} is {a:.6g} on two processes and {b:.6g} on one")


def _difference(a: float | None, b: float | None) -> float:
    if a is None or b is None:
        return 0.0 if a is b else math.inf
    return abs(a - b)


def _compare_pictures(row: Row, two: Path, one: Path) -> None:
    files = [sorted(path.name for path in folder.glob("*.png")) for folder in (two, one)]
    row.pictures = len(files[0])
    if files[0] != files[1]:
        row.faults.append(f"CAM pages {files[0]} and {files[1]}")
        return
    for name in files[0]:
        first, second = (cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED) for folder in (two, one))
        same = first is not None and second is not None and first.shape == second.shape
        row.pixels = max(row.pixels, int(cv2.absdiff(first, second).max()) if same else 255)
    if row.pixels:
        row.faults.append(f"CAM pages differ by up to {row.pixels} of 255")
    if not row.pictures and task_of(row.experiment) not in PRETRAINING:
        row.faults.append("there are no CAM pages")


def table_of(rows: list[Row]) -> str:
    """The rows as a Markdown table, and below it what is wrong."""
    lines = [
        "| experiment | task | ranks identical | n on 2, on 1 | values: difference | probabilities | CAM pages | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        alike = f"{row.epochs - len(row.unlike)} of {row.epochs} epochs"
        pages = "none" if not row.pictures else f"{row.pictures}, {'different' if row.pixels else 'identical'}"
        lines.append(
            f"| {row.experiment} | {task_of(row.experiment)} | {alike} | {row.n[0]}, {row.n[1]} "
            f"| {row.n_values}: {row.difference[0]:.1e} | {row.probability:.1e} | {pages} | {row.seconds:.0f} |"
        )
    return "\n".join([*lines, *(f"\n{row.experiment}: {fault}" for row in rows for fault in row.faults)])


def _rows(names: dict[str, str], tiny: bool, more: Sequence[str]) -> Iterator[Row]:
    """Some experiments per start of processes; one that fails ends them, and those behind it start anew."""
    waiting = dict(names)
    while waiting:
        batch = dict(list(waiting.items())[: len(TASKS) if tiny else 6])
        with tempfile.TemporaryDirectory(prefix="gaze_lightning_matrix_") as temporary:
            folder, reason = Path(temporary), ""
            try:
                run_together(folder, calls_of(batch, folder, tiny, more), limit=900)
            except RuntimeError as error:
                reason = str(error)
            for name, experiment in batch.items():
                del waiting[name]
                if not _seconds(folder / "runs" / name).exists():
                    yield Row(name, experiment, faults=[reason])
                    break  # those behind it have not had their turn
                try:
                    alone(name, folder)
                    row = compare(name, experiment, folder)
                except (Exception, SystemExit) as error:  # what a command says when it ends with an error
                    traceback.print_exc()
                    row = Row(name, experiment, faults=[f"{type(error).__name__} on one process: {error}"])
                yield row


def main(args: list[str] | None = None) -> int:
    """Print the table and write the rows; status 1 where something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.matrix",
        allow_abbrev=False,
        description=__doc__,
        epilog="Further arguments go to every training.",
    )
    parser.add_argument("--only", nargs="*", default=[], help="names of experiments; all of them by default")
    parser.add_argument("--tasks", action="store_true", help="one experiment per task, tiny, as in the tests")
    parser.add_argument("--json", type=Path, default=Path("runs/matrix.json"), help="file for the rows")
    given, more = parser.parse_known_args(args)
    names = TASKS if given.tasks else {name: name for name in available()}
    if unknown := sorted(set(given.only) - set(names.values())):
        parser.error(f"no experiment is called {', '.join(unknown)}; there are {', '.join(names.values())}")
    given.json.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    chosen = {name: one for name, one in names.items() if one in (given.only or names.values())}
    for row in _rows(chosen, given.tasks, more):
        rows.append(row)
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(f"\n{table_of(rows)}")  # noqa: T201
    return int(any(row.faults for row in rows))


if __name__ == "__main__":
    sys.exit(main())
