"""The curves of a run that was interrupted: its logger starts a new ``metrics.csv`` when it goes on."""

from pathlib import Path

import pandas as pd
from pytorch_lightning.utilities import rank_zero_only

from gaze_lightning.evaluation.files import replacing

_BEFORE = "metrics_before_resume.csv"


@rank_zero_only
def set_aside(run: Path, before_step: int) -> None:
    """Move the rows of ``metrics.csv`` that a resumed run does not write again to a file beside it.

    Args:
        run: folder of the run.
        before_step: number of optimiser steps in the checkpoint; later rows are left out.
    """
    parts = [pd.read_csv(run / name) for name in (_BEFORE, "metrics.csv") if (run / name).is_file()]
    if not parts:
        return
    rows = pd.concat(parts, ignore_index=True)
    _write(rows[rows["step"] < before_step], run / _BEFORE)
    (run / "metrics.csv").unlink(missing_ok=True)


@rank_zero_only
def put_together(run: Path) -> None:
    """Make one ``metrics.csv`` of what was set aside and what was written since."""
    before, after = run / _BEFORE, run / "metrics.csv"
    if not before.is_file():
        return
    parts = [pd.read_csv(path) for path in (before, after) if path.is_file()]
    _write(pd.concat(parts, ignore_index=True), after)
    before.unlink()


def _write(rows: pd.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        rows.to_csv(temporary, index=False)
