"""The learning-rate schedule of the released GG-CAM code."""

import math
from typing import Any, Literal

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from callbacks.stage import Stage


class ReloadOnPlateau(Callback):
    """Cut the learning rate on a plateau, starting each time from the best weights and optimiser state.

    As in the released code of GG-CAM (arXiv 2202.07107): after more than ``patience`` epochs without improvement the
    best weights, buffers and optimiser state so far are reloaded and the learning rates are multiplied by ``factor``.
    (The rates in force before the reload are cut, not those stored with the best state: otherwise two cuts without an
    improvement between them would give the same rate.) Training ends instead of a cut to rates that are all below
    ``min_lr``, and after ``stop_patience`` epochs without improvement.

    The decision falls at the end of validation, the reload at the start of the next epoch, so that no checkpoint pairs
    one epoch's score with another's weights. Counts are epochs, however often validation runs: several validations in
    one epoch count once, one in two epochs counts for both. The best state is kept on the CPU and in checkpoints, which
    makes those about twice as large but lets a resumed run continue the same way. That the rule has ended the training
    is kept there as well: what is resumed after that ends again before its first batch.

    In a training of several stages (``StagedTraining``) it starts afresh in every selecting stage and watches the value
    that the stage names. Only in the last of them does it end the training; the others end by their own rules.

    Args:
        monitor: name of the logged validation value, unless a stage names another; NaN counts as no improvement.
        mode: ``min`` or ``max``.
        factor: of the learning rate at each cut.
        patience: epochs without improvement (since the best one or the last cut) that are tolerated.
        min_lr: training ends when all learning rates are below.
        stop_patience: training ends after this many epochs since the best one; 83 is ``2 * 40 + 3``.
    """

    _best: float
    _counted: int | None
    _weights: dict[str, Any] | None
    _optimizers: list[dict[str, Any]]

    def __init__(
        self,
        monitor: str,
        mode: Literal["min", "max"],
        factor: float = 0.1,
        patience: int = 40,
        min_lr: float = 1e-8,
        stop_patience: int = 83,
    ) -> None:
        if mode not in ("min", "max") or not 0 < factor < 1:
            raise ValueError(f"mode is {mode!r} (min or max), factor is {factor} (between 0 and 1)")
        self.monitor, self.mode, self.factor, self.patience = monitor, mode, factor, patience
        self.min_lr, self.stop_patience = min_lr, stop_patience
        self._select = self._may_end = True
        self._own = (monitor, mode)
        self._forget()

    def start_stage(self, stage: Stage, *, final: bool, fresh: bool) -> None:
        """Called by ``StagedTraining``."""
        monitor, mode = self._own
        self.monitor, self.mode = stage.monitor or monitor, stage.mode or mode
        self._select, self._may_end = stage.select, final
        if fresh:
            self._forget()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a second authority over the learning rate.

        Raises:
            ValueError: the task has a schedule.
        """
        if trainer.lr_scheduler_configs:
            raise ValueError("ReloadOnPlateau sets the learning rate: set the task's schedule to constant")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a resumed training again that the rule has ended before: Lightning does not remember that."""
        if self._ended:
            rank_zero_info(f"plateau of {self.monitor} (best {self._best:g}): the training has ended before")
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the epoch.

        Raises:
            ValueError: ``monitor`` was not logged.
        """
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or not self._select:
            return
        if self.monitor not in trainer.callback_metrics:
            names = ", ".join(sorted(trainer.callback_metrics))
            raise ValueError(f"ReloadOnPlateau: {self.monitor!r} is not logged; there are {names}")
        value = float(trainer.callback_metrics[self.monitor])
        passed = 1 if self._counted is None else trainer.current_epoch - self._counted
        self._counted = trainer.current_epoch
        if value < self._best if self.mode == "min" else value > self._best:
            self._best, self._since_best, self._since_cut = value, 0, 0
            self._weights = _to_cpu(pl_module.state_dict())
            self._optimizers = [_to_cpu(optimizer.state_dict()) for optimizer in trainer.optimizers]
            return
        self._since_best += passed
        self._since_cut += passed
        if self._since_best >= self.stop_patience and self._may_end:
            self._end(trainer, f"no better {self.monitor} in {self._since_best} epochs")
        elif self._since_cut > self.patience:
            self._since_cut, self._cut = 0, True
            rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
            if max(rates) * self.factor < self.min_lr:
                self._cut = self._may_end
                if self._may_end:
                    self._end(trainer, f"the learning rate would fall below {self.min_lr:g}")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Carry out a cut that the last validation decided."""
        if not self._cut:
            return
        self._cut = False
        rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers]
        if self._weights is not None:
            pl_module.load_state_dict(self._weights)
            for optimizer, state in zip(trainer.optimizers, self._optimizers, strict=True):
                optimizer.load_state_dict(_to_cpu(state))
        for optimizer, lrs in zip(trainer.optimizers, rates, strict=True):
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr * self.factor
        rank_zero_info(f"plateau of {self.monitor} (best {self._best:g}): best state reloaded, lr {rates[0][0]:g} cut")

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {name: getattr(self, f"_{name}") for name in _STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Counterpart of ``state_dict``."""
        state = {"counted": None, "ended": False} | state_dict
        for name in _STATE:
            setattr(self, f"_{name}", state[name])

    def _end(self, trainer: Trainer, reason: str) -> None:
        rank_zero_info(f"{reason}: training ends")
        self._ended = trainer.should_stop = True

    def _forget(self) -> None:
        self._best = math.inf if self.mode == "min" else -math.inf
        self._since_best = self._since_cut = 0
        self._counted = None
        self._cut = self._ended = False
        self._weights = None
        self._optimizers = []


_STATE = ("best", "since_best", "since_cut", "counted", "cut", "ended", "weights", "optimizers")


def _to_cpu(state: Any) -> Any:
    """A copy of nested dicts and lists with their tensors on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _to_cpu(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_to_cpu(value) for value in state]
    return state
