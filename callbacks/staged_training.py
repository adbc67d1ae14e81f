"""Stages within one training: what is trained, by which terms of the loss, how fast, and for how long."""

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from rich import get_console

from callbacks.stage import Stage, StageAware, StagePosition, StageSize, with_sizes
from callbacks.stage_checks import (
    check_intervals,
    check_logged,
    check_stages,
    check_strategy,
    check_trained,
    checkpoint_of,
    monitor_of,
    size_of,
    steps_of_epochs,
    terms_of,
)
from callbacks.stage_freezing import StageFreezing
from callbacks.stage_plan import StagePlan, stage_lengths
from callbacks.stage_rate import group_rate, has_course, rate_factor
from callbacks.stage_run import StageRun
from callbacks.stage_table import stage_table, write_stages
from callbacks.stage_weights import take_weights
from callbacks.staged_checkpoint import epoch_is_complete
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.protocols import FollowsStages, HasLossTerms
from gaze_lightning.same_on_all import same_on_all

_WHY_NAN = "a validation without gaze, or with one outcome only, leaves such a value undefined"


@contextmanager
def _faults_of_the_plan() -> Iterator[None]:
    """Let what is wrong with the stages end a command with its message alone."""
    try:
        yield
    except ConfigurationError:
        raise
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


class StagedTraining(Callback):
    """Train in stages within one ``fit``.

    Frozen parameters have ``requires_grad=False`` and frozen modules are in ``eval()``: neither weights nor BatchNorm
    statistics change and dropout is off. Freezing, epochs and learning rates work for any ``LightningModule``; terms of
    the loss for tasks that have them (``HasLossTerms``), batch and image sizes for data modules that can change them
    (``FollowsStages``).

    Several processes: freezing happens at the start of a stage, after DDP has wrapped the model, and therefore needs
    ``strategy: ddp_find_unused_parameters_true``. (Lightning's ``BackboneFinetuning`` freezes before the wrap and
    leaves every rank with weights of its own after unfreezing, Lightning issue 20340.) At the end of a stage all ranks
    have the same parameters and the same buffers: those of the first process. Switching terms of the loss needs no such
    thing: a task keeps inactive terms in the graph.

    Optimisation starts anew (empty optimiser state) in a stage that names ``lr`` or ``init_from`` and goes on
    otherwise. A stage may end early by its ``patience``; the next one then starts with the next epoch, and the training
    ends after the last stage. ``StagedCheckpoint`` keeps the best epoch of each stage, ``ReloadOnPlateau`` starts
    afresh.

    What happened (starts, best epochs and their files, early ends) is in the checkpoints, so that a resumed run goes on
    in the stage where it stopped. At the end a table is printed, and ``stages.json`` written into
    ``trainer.default_root_dir``; ``stage`` (from 1) is logged per epoch.

    Args:
        stages: the stages in order; ``None`` or empty: this callback does nothing.
        sizes: by name of a stage, fields of it that a setting chooses (how long, how fast, how large). They fill what
            the stage leaves at its default: the experiment or the user who writes a field in a stage wins. Names
            without a stage are passed over.
        freeze_eval: frozen modules are in evaluation mode. ``False`` leaves them in training mode, as released code of
            the field does: statistics of frozen BatchNorm layers then move, and dropout is on.
    """

    def __init__(
        self,
        stages: list[Stage] | None = None,
        sizes: dict[str, StageSize] | None = None,
        freeze_eval: bool = True,
    ) -> None:
        self.stages = with_sizes(list(stages or []), sizes or {})
        self.freeze_eval = freeze_eval
        self._unused = sorted(set(sizes or {}) - {stage.name for stage in self.stages})
        self._runs: list[StageRun] = []
        self._plan = StagePlan(self.stages, [1] * len(self.stages))  # until setup knows better
        self._epoch = 0
        self._clock: float | None = None
        self._entered = False
        self._rehearses = False

    @property
    def unfinished(self) -> str | None:
        """Which stage the last training did not finish, or did not begin; ``None``: it came to its end.

        A training ends by its epochs, by patience, or because a rule like ``ReloadOnPlateau`` says so between two
        epochs; not by ``max_steps``, ``max_time``, a stop in mid-epoch or an error. ``None`` as well without stages
        and after a ``fast_dev_run``.
        """
        if not self.stages or self._rehearses:
            return None
        lengths = self._plan.lengths
        planned = [index for index, length in enumerate(lengths) if length]
        run = self._runs[-1] if self._runs else None
        left = [index for index in planned if run is None or index > run.index]
        if run is not None and not run.finished:
            index, what = run.index, f"not finished: {run.epochs} of its {lengths[run.index]} epochs are done"
        elif left:
            index, what = left[0], "not begun"
        else:
            return None
        return f"stage {index + 1} of {len(self.stages)} ({self.stages[index].name}) was {what}"

    @_faults_of_the_plan()
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fix the number of epochs, before anything asks for it.

        Raises:
            ConfigurationError: the stages do not fill the training.
        """
        if stage != "fit":
            return
        if self._unused and self.stages:
            rank_zero_info(f"sizes of stages that are not in this training: {', '.join(self._unused)}")
        self._runs, self._epoch, self._clock = [], 0, None
        if not self.stages:
            return
        # first in the list: what others do at the start of an epoch, they do in its stage
        trainer.callbacks = [self, *(one for one in trainer.callbacks if one is not self)]  # type: ignore[attr-defined]
        self._max_epochs = -1 if trainer.max_epochs is None else trainer.max_epochs
        self._rehearses = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        lengths = [1] * len(self.stages) if self._rehearses else stage_lengths(self.stages, self._max_epochs)
        self._plan = StagePlan(self.stages, lengths)
        if self._max_epochs < 0:
            trainer.fit_loop.max_epochs = sum(lengths)

    @_faults_of_the_plan()
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check all stages before the first step.

        Raises:
            ConfigurationError: see `check_stages`, `check_trained` and `check_strategy`; or the checkpoint to resume
                from is of other stages, or a file that a later stage starts from is gone.
        """
        if not self.stages:
            return
        self._reload_every = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        self._freezing = StageFreezing(pl_module)
        self._entered = True
        check_strategy(self.stages, trainer.strategy, getattr(pl_module, "has_unused_parameters", False))
        check_stages(self.stages, self._plan.lengths, trainer, pl_module)
        check_trained(self.stages, self._freezing, trainer, pl_module)
        self._steps = steps_of_epochs(self.stages, self._plan.lengths, trainer)
        check_intervals(self.stages, self._plan.lengths, self._steps, trainer)
        self._check_resumed(trainer)
        self._own_rates = [group.setdefault("initial_lr", group["lr"]) for group in _groups(trainer)]
        # the loops have not been restored yet, the stages have
        due = self.stages[self._plan.due(self._runs[-1] if self._runs else None, self._epoch)]
        self._set_terms(due, pl_module)
        self._sizes: tuple[int | None, tuple[int, int] | None] = (None, None)
        if any(size_of(stage, trainer) != (None, None) for stage in self.stages):
            self._follow(due, trainer, force=True)

    @_faults_of_the_plan()
    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check what is monitored, for tasks that could not tell before.

        Raises:
            ConfigurationError: a stage monitors what is never logged.
        """
        if self.stages and not isinstance(pl_module, HasLossTerms):
            check_logged(self.stages, self._plan.lengths, trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Return to the stage of a run that resumes.

        Raises:
            ValueError: see `check_intervals`, for data whose number of batches was not known before.
        """
        if not self.stages:
            return
        if not self._steps and trainer.num_training_batches != math.inf:
            steps = dict.fromkeys((stage.name for stage in self.stages), int(trainer.num_training_batches))
            check_intervals(self.stages, self._plan.lengths, steps, trainer)
        for group, lr in zip(_groups(trainer), self._own_rates, strict=True):
            group.setdefault("initial_lr", lr)  # the optimiser of a checkpoint without stages does not know it
        if self._runs:
            run = self._runs[-1]
            self._enter(run, trainer, pl_module, fresh=False)
            self._set_end(run, trainer)
        elif trainer.ckpt_path is not None:
            rank_zero_warn("the checkpoint knows no stages: the one that the plan has for this epoch starts")
            self._epoch = trainer.current_epoch
            self._cross(self._plan.due(None, self._epoch), trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Enter the stage of this epoch."""
        if not self.stages:
            return
        self._epoch, self._clock = trainer.current_epoch, time.monotonic()
        run = self._runs[-1] if self._runs else None
        due = self._plan.due(run, self._epoch)
        if run is None or due != run.index:
            self._cross(due, trainer, pl_module)
        pl_module.log("stage", due + 1.0, on_step=False, on_epoch=True, batch_size=1, rank_zero_only=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of this step; keep frozen modules in evaluation mode."""
        if not self.stages:
            return
        self._freezing.hold()
        run = self._runs[-1]
        stage = self.stages[run.index]
        if stage.lr is not None and has_course(stage):
            batches = trainer.num_training_batches
            if batches == math.inf:
                raise ValueError(
                    f"stage {stage.name!r}: a schedule needs to know the steps of an epoch, and these loaders do not "
                    "tell: set trainer.limit_train_batches, or schedule: constant"
                )
            steps = math.ceil(batches / trainer.accumulate_grad_batches) * self._plan.lengths[run.index]
            self._set_rate(trainer, stage.lr * rate_factor(stage, trainer.global_step - run.start_step, steps))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the epoch.

        Raises:
            ValueError: the stage's monitor was not logged.
        """
        if not self.stages or trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        run, logged = self._runs[-1], trainer.callback_metrics
        if run.monitor is not None and run.monitor not in logged:
            raise ValueError(
                f"stage {run.name!r}: monitor {run.monitor!r} is not logged; there are {', '.join(sorted(logged))}"
            )
        value = math.nan if run.monitor is None else float(logged[run.monitor])
        run.measured = trainer.current_epoch
        if run.monitor is not None and math.isnan(value) and not run.had_nan:
            run.had_nan = True
            rank_zero_warn(
                f"stage {run.name!r}: its monitor {run.monitor!r} is NaN in epoch {trainer.current_epoch}: {_WHY_NAN}. "
                "Such epochs are never better than others"
            )
        # unanimous, by the rule of ModelCheckpoint: processes may have logged values of their own
        if trainer.strategy.reduce_boolean_decision(run.improves(value)):
            names = {name for name in logged if name.startswith("val")}
            if isinstance(pl_module, HasLossTerms):  # values of other terms are those of an earlier stage
                names &= pl_module.logged_values(pl_module.active_loss_terms)
            run.keep(trainer.current_epoch, value, {name: float(logged[name]) for name in sorted(names)})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide what comes next. May run again for the same epoch when a run resumes."""
        if not self.stages:
            return
        epoch, run = trainer.current_epoch, self._runs[-1]
        stage = self.stages[run.index]
        if self._clock is not None:
            run.seconds += time.monotonic() - self._clock
            self._clock = None
        if run.monitor is None:
            run.best_epoch = epoch
        trainer.reload_dataloaders_every_n_epochs = self._reload_every  # type: ignore[attr-defined]
        if not epoch_is_complete(trainer):  # the training ends here, and a resumed one does the epoch anew
            return
        run.epochs = epoch + 1 - run.start
        stale = run.stale(epoch) if run.measured == epoch else 0
        if stage.patience is not None and run.stopped is None and stale >= stage.patience:
            run.stopped = epoch + 1
            rank_zero_info(
                f"stage {stage.name}: no better {run.monitor} in {stage.patience} epochs (best {run.best:.4g} in epoch "
                f"{run.best_epoch}); it ends"
            )
        self._epoch = epoch + 1
        due = self._plan.due(run, self._epoch)
        if due != run.index:
            self._follow(self.stages[due], trainer)
        run.finished = self._epoch >= self._plan.end(run)
        if run.finished:
            same_on_all(pl_module.buffers())
        self._set_end(run, trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave all processes with the same model, whatever ended the training."""
        if self._runs:
            self._runs[-1].finished |= trainer.should_stop and epoch_is_complete(trainer) and not _out_of_time(trainer)
            same_on_all(pl_module.buffers())

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave everything as it was found."""
        self._leave(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave everything as it was found; say what the stages reached."""
        if not self.stages:
            return
        self._leave(trainer, pl_module)
        if self._runs:
            self._keep_path(self._runs[-1], trainer)
            if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                write_stages(self._runs, Path(trainer.default_root_dir) / "stages.json")
                get_console().print(stage_table(self._runs))

    def stage_position(self, trainer: Trainer) -> StagePosition | None:
        """Where the training stands, for displays."""
        if not self._runs:
            return None
        run = self._runs[-1]
        return StagePosition(
            number=run.index + 1,
            stages=len(self.stages),
            name=run.name,
            epoch=trainer.current_epoch - run.start + 1,
            epochs=self._plan.lengths[run.index],
        )

    def state_dict(self) -> dict[str, Any]:
        """What happened so far."""
        return {"epoch": self._epoch, "runs": [run.state() for run in self._runs]} if self.stages else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Counterpart of ``state_dict``."""
        self._epoch = state_dict.get("epoch", 0)
        self._runs = [StageRun(**run) for run in state_dict.get("runs", [])]

    def _leave(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Undo what stages have done to the task, the data and the trainer, unless it was undone already."""
        if not self._entered:
            return
        self._entered = False
        self._freezing.restore()
        if isinstance(pl_module, HasLossTerms):
            pl_module.active_loss_terms = frozenset(pl_module.loss_terms)
        if any(stage.batch_size or stage.image_size or stage.image_scale for stage in self.stages):
            data = trainer.datamodule  # type: ignore[attr-defined]
            if isinstance(data, FollowsStages):
                data.follow_stage(None, None)
        trainer.reload_dataloaders_every_n_epochs = self._reload_every  # type: ignore[attr-defined]
        trainer.fit_loop.max_epochs = self._max_epochs

    def _check_resumed(self, trainer: Trainer) -> None:
        """Compare what happened with the plan, and look for the files that will be needed."""
        names = [stage.name for stage in self.stages]
        for run in self._runs:
            if names[run.index : run.index + 1] != [run.name]:
                raise ValueError(
                    f"the checkpoint is of a training whose stage {run.index + 1} is {run.name!r}; here the stages are "
                    f"{', '.join(names)}: resume with the stages of that training"
                )
        checkpoint = checkpoint_of(trainer)
        finished = {run.name: run for run in self._runs[:-1]}
        for stage in self.stages[self._runs[-1].index + 1 :] if self._runs else []:
            source = finished.get(stage.init_from or "")
            if source is not None and checkpoint is not None and not Path(checkpoint.find(source.path)).is_file():
                raise ValueError(
                    f"stage {stage.name!r} starts from the best epoch of {source.name!r}, and its file is neither "
                    f"{source.path} nor in {checkpoint.dirpath}: put it there"
                )

    def _cross(self, index: int, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the stage under way, if any, and start another."""
        stage, checkpoint = self.stages[index], checkpoint_of(trainer)
        first = not self._runs
        if not first:
            self._keep_path(self._runs[-1], trainer)
        if stage.init_from is not None:
            source = next(run for run in self._runs if run.name == stage.init_from)
            _refuse_unknown_best(stage, source, trainer)
            path = source.path if checkpoint is None else checkpoint.find(source.path)
            take_weights(trainer, pl_module, path, source.best_epoch, source.name)
        if stage.starts_anew:
            for optimizer in trainer.optimizers:
                optimizer.state.clear()
        if stage.starts_anew or any(one.lr is not None for one in self.stages[:index]):
            self._set_rate(trainer, stage.lr)
        run = StageRun(
            index=index,
            name=stage.name,
            start=self._plan.planned_start(index) if first else self._epoch,
            start_step=trainer.global_step,
            trained=sum(parameter.numel() for parameter in self._freezing.trained(stage)),
            monitor=monitor_of(stage, checkpoint).name,
            mode=monitor_of(stage, checkpoint).mode,
        )
        self._runs.append(run)
        trainer.callback_metrics.pop(run.monitor or "", None)  # that of an earlier stage, should this one not log it
        self._enter(run, trainer, pl_module, fresh=True)

    def _enter(self, run: StageRun, trainer: Trainer, pl_module: LightningModule, fresh: bool) -> None:
        """Do what a stage needs when it starts and when a run resumes inside it."""
        stage = self.stages[run.index]
        self._set_terms(stage, pl_module)
        self._freezing.apply(stage, self.freeze_eval)
        pairs = zip(self.stages, self._plan.lengths, strict=True)
        selecting = [one for one, length in pairs if length and one.select]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, StageAware):
                callback.start_stage(stage, final=stage in selecting[-1:], fresh=fresh)
        rank_zero_info(("" if fresh else "resumed in ") + self._line(run, pl_module))

    def _keep_path(self, run: StageRun, trainer: Trainer) -> None:
        checkpoint = checkpoint_of(trainer)
        if checkpoint is not None and self.stages[run.index].select:
            run.path = checkpoint.best_model_path

    def _set_end(self, run: StageRun, trainer: Trainer) -> None:
        """Let the training end with its last stage, which early ends bring forward."""
        end = self._plan.last_end(run)
        if trainer.fit_loop.max_epochs is not None and 0 <= end < trainer.fit_loop.max_epochs:
            trainer.fit_loop.max_epochs = end
        if self._epoch >= end and run.stopped is not None:
            trainer.should_stop = True

    def _set_rate(self, trainer: Trainer, lr: float | None) -> None:
        groups = _groups(trainer)
        for group in groups:
            own = group["initial_lr"]
            group["lr"] = own if lr is None else group_rate(lr, own, groups[0]["initial_lr"])

    def _set_terms(self, stage: Stage, pl_module: LightningModule) -> None:
        if isinstance(pl_module, HasLossTerms):
            pl_module.active_loss_terms = terms_of(stage, pl_module)

    def _follow(self, stage: Stage, trainer: Trainer, force: bool = False) -> None:
        """Give the data module the sizes of the stage that comes next; new loaders are made where they change."""
        sizes = size_of(stage, trainer)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, FollowsStages) and (force or sizes != self._sizes):
            data.follow_stage(*sizes)
            if not force:
                trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]
            self._sizes = sizes

    def _line(self, run: StageRun, pl_module: LightningModule) -> str:
        stage = self.stages[run.index]
        terms = "+".join(sorted(pl_module.active_loss_terms)) if isinstance(pl_module, HasLossTerms) else "all"
        trained = "" if stage.train is None else f", trained: {', '.join(stage.train)}"
        rate = "" if stage.lr is None else f", lr: {stage.lr:g}"
        return (
            f"stage {run.index + 1}/{len(self.stages)} {stage.name}: epochs {run.start}-{self._plan.end(run) - 1}, "
            f"loss: {terms}{trained}, frozen: {', '.join(stage.freeze) or ('the rest' if stage.train else 'nothing')}"
            f"{rate}"
        )


def _groups(trainer: Trainer) -> list[dict[str, Any]]:
    """Parameter groups of all optimisers."""
    return list(itertools.chain.from_iterable(optimizer.param_groups for optimizer in trainer.optimizers))


def _out_of_time(trainer: Trainer) -> bool:
    """Whether ``max_time`` is over."""
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    return any((left := timer.time_remaining()) is not None and left <= 0 for timer in timers)


def _refuse_unknown_best(stage: Stage, source: StageRun, trainer: Trainer) -> None:
    """On all processes, if one of them cannot tell which epoch of an earlier stage was the best."""
    if trainer.strategy.reduce_boolean_decision(source.monitor is None or math.isfinite(source.best)):
        return
    measured = f"was NaN or infinite in all its validations: {_WHY_NAN}"
    raise ValueError(
        f"stage {stage.name!r}: it starts from the best epoch of {source.name!r}, but the monitor {source.monitor!r} "
        + (measured if source.measured is not None else "was never measured: no validation ran in that stage")
        + ". Choose another monitor there, another validation part, or no init_from"
    )
