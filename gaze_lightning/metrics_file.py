"""The curves of a run that was interrupted: its logger starts a new ``metrics.csv`` when it goes on."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gaze_lightning.evaluation.files import replacing

Row = dict[str, str]

_BEFORE = "metrics_before_resume.csv"


@contextmanager
def one_metrics_file(run: Path, before_step: int) -> Iterator[None]:
    """Keep the rows that a resumed run does not write again, and make one ``metrics.csv`` of old and new at the end.

    Meanwhile they are in a file beside it, where they are found if the resumed run is interrupted in its turn. Values
    are handled as text, so none changes in its last digit. If nothing was logged, because the run could not go on,
    everything is as before. For the first process of a run alone.

    Args:
        run: folder of the run.
        before_step: number of optimiser steps in the checkpoint; what was logged from then on is written again.
    """
    metrics, aside = run / "metrics.csv", run / _BEFORE
    old = _without_repeats(_rows(aside) + _rows(metrics))
    kept = [row for row in old if _step(row) < before_step]
    if old:
        _write(kept, aside)
        metrics.unlink(missing_ok=True)  # only now: whenever this is interrupted, no row that is needed is gone
    try:
        yield
    finally:
        new = [row for row in _rows(metrics) if _step(row) >= before_step]
        if old:
            _write(kept + new if new else old, metrics)
        aside.unlink(missing_ok=True)


def _rows(path: Path) -> list[Row]:
    """Complete rows of a file, which need not exist; a process that died may have left half a line at its end."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        text = file.read()
    return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))


def _step(row: Row) -> int:
    return int(row["step"])


def _without_repeats(rows: list[Row]) -> list[Row]:
    """Leave out rows that say nothing that an earlier row of the same step has not said."""
    said: dict[int, list[set[tuple[str, str]]]] = {}
    result = []
    for row in rows:
        values = {(name, value) for name, value in row.items() if value}
        earlier = said.setdefault(_step(row), [])
        if not any(values <= other for other in earlier):
            earlier.append(values)
            result.append(row)
    return result


def _write(rows: list[Row], path: Path) -> None:
    """Write rows as the logger does: all columns in alphabetical order."""
    columns = sorted({name for row in rows for name, value in row.items() if value})
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
