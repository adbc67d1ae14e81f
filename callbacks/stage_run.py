"""What happened in a stage: the part of a training's state that stages add."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class StageRun:
    """What happened in a stage so far.

    Attributes:
        index: of the stage in the plan, from 0.
        name: of the stage.
        start: its first epoch, counted through the whole training from 0.
        start_step: optimiser steps before it.
        trained: number of parameters that it trains.
        monitor: value by which its epochs are compared; ``None``: the last epoch is the best.
        mode: ``min`` or ``max``.
        epochs: how many it has finished.
        stopped: first epoch after it, if its patience ended it.
        best_epoch: counted like ``start``; ``None`` before the first one was judged.
        best: its monitored value; infinite where that was NaN.
        measured: the last epoch with a validation.
        had_nan: the monitored value has been NaN.
        values: all validation values of the best epoch.
        path: its checkpoint, once the stage is over.
        seconds: wall-clock time of training and validation.
        finished: it came to its end, by its epochs, its patience or another rule; not cut off by time or steps.
    """

    index: int
    name: str
    start: int
    start_step: int
    trained: int
    monitor: str | None
    mode: str
    epochs: int = 0
    stopped: int | None = None
    best_epoch: int | None = None
    best: float = math.nan
    measured: int | None = None
    had_nan: bool = False
    values: dict[str, float] = field(default_factory=dict)
    path: str = ""
    seconds: float = 0.0
    finished: bool = False

    def improves(self, value: float) -> bool:
        """Whether an epoch with this value is the best so far: the rule of Lightning's ``ModelCheckpoint``."""
        if self.best_epoch is None or self.monitor is None:
            return True
        return value < self.best if self.mode == "min" else value > self.best

    def keep(self, epoch: int, value: float, values: dict[str, float]) -> None:
        """Take an epoch as the best one."""
        worst = math.inf if self.mode == "min" else -math.inf
        self.best_epoch, self.best, self.values = epoch, worst if math.isnan(value) else value, values

    def stale(self, epoch: int) -> int:
        """How many epochs up to this one went by without a better value."""
        return 0 if self.best_epoch is None else epoch - self.best_epoch

    def state(self) -> dict[str, Any]:
        """As plain numbers, strings and dicts, which a checkpoint may hold."""
        return asdict(self)
