"""A learning-rate schedule that goes on where it was when an epoch has got another number of steps."""

import math
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.types import LRSchedulerConfig
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR


class RescaledSchedule(Callback):
    """Keep a schedule's place in the training when a run goes on with another number of processes.

    Schedules count optimiser steps, and an epoch then has another number of them: a schedule would end too early, or go
    on beyond its end, which torch refuses for ``one_cycle``. Its count is multiplied by the ratio of the steps of the
    whole training now and before; the same share of the epochs is behind it. With the same number of processes nothing
    is touched, so that such a run is resumed bit for bit. Schedules that stages have of their own are not concerned
    (docs/devices.md).
    """

    def __init__(self) -> None:
        super().__init__()
        self._now: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the steps of the whole training, before an early end of one of its stages makes it shorter."""
        steps = trainer.estimated_stepping_batches if _stepwise(trainer) else math.inf
        self._now = {"processes": trainer.world_size, "steps": int(steps)} if 0 < steps < math.inf else {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the schedules where they belong."""
        before, self._before = self._before, {}
        if not before or not self._now or before["processes"] == trainer.world_size:
            return
        if before["steps"] == self._now["steps"]:
            return
        for config in _stepwise(trainer):
            if isinstance(config.scheduler, LRScheduler):
                rescale(config.scheduler, before["steps"], self._now["steps"])
        rank_zero_info(
            f"The training has {self._now['steps']} steps instead of {before['steps']}; the learning-rate schedule "
            "goes on at the same share of the way."
        )

    def state_dict(self) -> dict[str, Any]:
        """Processes, and steps of the whole training; empty without a schedule."""
        return dict(self._now)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember them until the training starts."""
        self._before = dict(state_dict)


def _stepwise(trainer: Trainer) -> list[LRSchedulerConfig]:
    return [config for config in trainer.lr_scheduler_configs if config.interval == "step"]


def rescale(scheduler: LRScheduler, before: int, now: int) -> None:
    """Move a schedule to the same share of another number of steps.

    Args:
        scheduler: of torch; what it computes from its count alone follows, and ``OneCycleLR``, which keeps the number.
        before: steps of the whole training as it was, positive.
        now: as it is.
    """
    scheduler.last_epoch = round(scheduler.last_epoch * now / before)
    scheduler._step_count = scheduler.last_epoch + 1  # as after so many calls of `step`
    if isinstance(scheduler, OneCycleLR):
        for phase in scheduler._schedule_phases:
            phase["end_step"] = (phase["end_step"] + 1) * now / before - 1
        scheduler.total_steps = now
