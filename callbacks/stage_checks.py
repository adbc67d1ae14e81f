"""What can be wrong with a plan of stages, found before the first step."""

import re
from typing import NamedTuple

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy, Strategy
from pytorch_lightning.utilities import rank_zero_warn
from torch.utils.data import DataLoader, IterableDataset

from callbacks.reload_on_plateau import ReloadOnPlateau
from callbacks.stage import Stage, StageAware
from callbacks.stage_freezing import StageFreezing
from callbacks.stage_rate import has_course
from callbacks.staged_checkpoint import StagedCheckpoint
from gaze_lightning.protocols import FollowsStages, HasLossTerms, HasSizes, NeedsOneSize


class Monitor(NamedTuple):
    """The value by which a stage compares its epochs; without a name the last epoch is the best."""

    name: str | None
    mode: str


def checkpoint_of(trainer: Trainer) -> StagedCheckpoint | None:
    """The callback that keeps the best epochs."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, StagedCheckpoint)), None)


def monitor_of(stage: Stage, checkpoint: StagedCheckpoint | None) -> Monitor:
    """What a stage watches."""
    name, mode = (None, "min") if checkpoint is None else checkpoint.own_monitor
    if stage.monitor is None and stage.patience is None and not stage.select:
        name = None
    return Monitor(stage.monitor or name, stage.mode or mode)


def check_stages(stages: list[Stage], lengths: list[int], trainer: Trainer, pl_module: LightningModule) -> None:
    """Check the stages that have epochs.

    Raises:
        ValueError: something cannot work; says which stage, what and how to mend it.
    """
    checkpoint = checkpoint_of(trainer)
    names = [stage.name for stage in stages]
    for name in names:
        if not re.fullmatch(r"[\w.-]+", name) or names.count(name) > 1:
            raise ValueError(f"stage {name!r}: names are part of file names; use letters, digits, _ . - and each once")
    for stage, length in zip(stages, lengths, strict=True):
        if length:
            try:
                _check_numbers(stage)
                _check_terms(stage, pl_module)
                _check_monitor(stage, trainer, pl_module, checkpoint)
                _check_start(stage, stages, lengths, trainer, checkpoint)
                _check_files(stage, stages, trainer, checkpoint)
                _check_rate(stage, trainer)
                _check_size(stage, trainer, pl_module)
            except ValueError as error:
                raise ValueError(f"stage {stage.name!r}: {error}") from error
    _warn_of_watchers(stages, trainer)


def check_trained(stages: list[Stage], freezing: StageFreezing, trainer: Trainer, pl_module: LightningModule) -> None:
    """Check patterns, and that every stage trains something.

    Raises:
        ValueError: a pattern matches nothing, or nothing trains.
    """
    optimised = {
        id(parameter)
        for optimizer in trainer.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for stage in stages:
        for pattern in freezing.unmatched(stage):
            children = ", ".join(name for name, _ in pl_module.named_modules() if name and name.count(".") < 2)
            raise ValueError(f"stage {stage.name!r}: nothing is called {pattern!r}; there are {children}")
        if not any(id(parameter) in optimised for parameter in freezing.trained(stage)):
            raise ValueError(
                f"stage {stage.name!r}: nothing trains (train: {stage.train}, freeze: {stage.freeze}): freeze less, or "
                "name among train what configure_optimizers gives to the optimiser"
            )


def check_strategy(stages: list[Stage], strategy: Strategy, unused: bool = False) -> None:
    """Refuse to freeze where processes would not agree, and to leave parts unused where DDP waits for them.

    Args:
        stages: the stages.
        strategy: the trainer's.
        unused: the task leaves parameters without gradient (its ``has_unused_parameters``).

    Raises:
        ValueError: several processes, and not by DDP that looks for parameters without gradient.
    """
    freezes = any(stage.freezes for stage in stages)
    if not (freezes or unused):
        return
    what = "stages that freeze" if freezes else "tasks that leave parameters unused"
    arguments = strategy._ddp_kwargs if isinstance(strategy, DDPStrategy) else {}
    if isinstance(strategy, DDPStrategy):
        if not arguments.get("find_unused_parameters") or arguments.get("static_graph"):
            raise ValueError(
                f"{what} need trainer.strategy: ddp_find_unused_parameters_true under DDP (no static graph)"
            )
    elif getattr(strategy, "world_size", 1) > 1:
        raise ValueError(
            f"{what} work on one process or under DDP, not with {type(strategy).__name__}: set "
            "trainer.strategy: ddp_find_unused_parameters_true"
        )


def _check_numbers(stage: Stage) -> None:
    if not 0 <= stage.warmup < 1:
        raise ValueError(f"warmup is {stage.warmup}: it is a share of the stage's steps, from 0 to below 1")
    if stage.patience is not None and stage.patience < 1:
        raise ValueError(f"patience is {stage.patience}: give a number of epochs from 1, or null for none")
    if stage.lr is not None and stage.lr <= 0:
        raise ValueError(f"lr is {stage.lr}: give a positive number, or null for the task's own")
    if stage.schedule not in ("constant", "cosine"):
        raise ValueError(f"schedule is {stage.schedule!r}: choose constant or cosine")
    if stage.mode not in (None, "min", "max"):
        raise ValueError(f"mode is {stage.mode!r}: choose min or max")


def _check_terms(stage: Stage, pl_module: LightningModule) -> None:
    if isinstance(pl_module, HasLossTerms):
        pl_module.active_loss_terms = terms_of(stage, pl_module)
    elif stage.loss_terms is not None:
        raise ValueError(f"the loss of {type(pl_module).__name__} has no terms to choose from: remove loss_terms")


def terms_of(stage: Stage, task: HasLossTerms) -> frozenset[str]:
    """The active terms of the loss in a stage."""
    return frozenset(task.loss_terms if stage.loss_terms is None else stage.loss_terms)


def _check_monitor(
    stage: Stage, trainer: Trainer, pl_module: LightningModule, checkpoint: StagedCheckpoint | None
) -> None:
    own = None if checkpoint is None else checkpoint.own_monitor[0]
    if stage.monitor not in (None, own) and stage.mode is None:
        raise ValueError(f"monitor {stage.monitor!r} needs mode: min or max")
    name = monitor_of(stage, checkpoint).name
    if stage.patience is not None and name is None:
        raise ValueError("patience needs a monitor")
    if name is None:
        return
    if not trainer.enable_validation and (stage.patience is not None or stage.monitor is not None):
        raise ValueError(f"monitor {name!r}: there is no validation to log it; remove monitor and patience")
    if isinstance(pl_module, HasLossTerms):
        logged = pl_module.logged_values(terms_of(stage, pl_module))
        if name not in logged:
            raise ValueError(
                f"monitor {name!r} is not logged with the terms {', '.join(sorted(terms_of(stage, pl_module)))}; there "
                f"are {', '.join(sorted(logged))}"
            )


def check_logged(stages: list[Stage], lengths: list[int], trainer: Trainer) -> None:
    """Check all monitors against what a validation has logged, for tasks that cannot tell before.

    Raises:
        ValueError: a monitor is not there.
    """
    logged = sorted(trainer.callback_metrics)
    for stage, length in zip(stages, lengths, strict=True):
        name = monitor_of(stage, checkpoint_of(trainer)).name
        if length and name is not None and name not in logged:
            raise ValueError(f"stage {stage.name!r}: monitor {name!r} is not logged; there are {', '.join(logged)}")


def _check_start(
    stage: Stage, stages: list[Stage], lengths: list[int], trainer: Trainer, checkpoint: StagedCheckpoint | None
) -> None:
    if stage.init_from is None:
        return
    earlier = stages[: stages.index(stage)]
    possible = [one.name for one, length in zip(earlier, lengths, strict=False) if length and one.select]
    if stage.init_from not in possible:
        raise ValueError(
            f"init_from is {stage.init_from!r}, which is no earlier stage that has epochs and selects (select: true); "
            f"there are {', '.join(possible) or 'none'}"
        )
    if checkpoint is None or checkpoint.save_top_k == 0:
        raise ValueError("init_from needs a StagedCheckpoint with save_top_k of at least 1 among the callbacks")
    index = [one.name for one in stages].index(stage.init_from)
    every = trainer.check_val_every_n_epoch or 1
    if monitor_of(stages[index], checkpoint).name is not None and (
        not trainer.enable_validation or lengths[index] < every
    ):
        raise ValueError(
            f"init_from {stage.init_from!r}: no validation runs in its {lengths[index]} epochs, so that it has no best "
            "one; validate more often or make that stage longer"
        )


def _check_files(stage: Stage, stages: list[Stage], trainer: Trainer, checkpoint: StagedCheckpoint | None) -> None:
    """Whether the checkpoint callback writes the best epoch of the stage from which this one starts."""
    if stage.init_from is None or checkpoint is None:
        return
    source = next(one for one in stages if one.name == stage.init_from)
    several = trainer.val_check_interval != 1.0 or trainer.check_val_every_n_epoch is None
    if checkpoint.every_n_epochs != 1:
        raise ValueError(
            f"init_from {stage.init_from!r}: the checkpoint callback does not look at every validation, so that the "
            "best epoch may have no file: leave every_n_epochs at 1 and every_n_train_steps and train_time_interval out"
        )
    if not checkpoint.tells_files_apart:
        raise ValueError(
            f"init_from {stage.init_from!r}: the checkpoint callback keeps several files (save_top_k "
            f"{checkpoint.save_top_k}) under one name, {checkpoint.filename!r}, so that the best one is written over: "
            "set save_top_k to 1, enable_version_counter to true, or a filename with {epoch}"
        )
    if checkpoint._save_on_train_epoch_end and several:
        raise ValueError(
            f"init_from {stage.init_from!r}: validation does not only run at the end of an epoch, but checkpoints are "
            "written there alone, so that the best value may have no file: leave save_on_train_epoch_end out"
        )
    if monitor_of(source, checkpoint).name is None and trainer.check_val_every_n_epoch != 1:
        raise ValueError(
            f"init_from {stage.init_from!r}: without a monitor its last epoch is the best, and the checkpoint of an "
            "epoch is written in its validation: name a monitor, or validate in every epoch (check_val_every_n_epoch 1)"
        )


def _check_rate(stage: Stage, trainer: Trainer) -> None:
    if has_course(stage) and stage.lr is None:
        raise ValueError("schedule and warmup are those of the stage's lr: name an lr")
    if trainer.lr_scheduler_configs and (stage.lr is not None or stage.init_from is not None):
        raise ValueError("it sets lr or init_from, but the task has a schedule: set the task's schedule to constant")
    if trainer.lr_scheduler_configs and stage.batch_size is not None:
        raise ValueError(
            "it sets batch_size, but the task's schedule counts the steps of one batch size: set the task's schedule "
            "to constant"
        )
    rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
    if stage.lr is not None and any(rates) and rates[0] == 0:
        raise ValueError(
            "it sets lr, to which parameter groups keep their ratio, and the task's own rate of the first group is 0: "
            "set the task's lr above 0, or leave lr out of the stage"
        )
    if has_course(stage) and any(isinstance(callback, ReloadOnPlateau) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        raise ValueError("its schedule and ReloadOnPlateau both set the learning rate: remove one of them")


def size_of(stage: Stage, trainer: Trainer) -> tuple[int | None, tuple[int, int] | None]:
    """Batch size and (H, W) of the images in a stage, ``None`` for the data module's own.

    Raises:
        ValueError: the data module has no size of which the stage could have a share.
    """
    if stage.image_scale is None:
        size = stage.image_size
        return stage.batch_size, None if size is None else (int(size[0]), int(size[1]))
    own = getattr(trainer.datamodule, "image_size", None)  # type: ignore[attr-defined]
    if own is None or stage.image_size is not None or not 0 < stage.image_scale <= 1:
        raise ValueError(
            f"image_scale is {stage.image_scale}: it is a share (above 0, to 1) of the data module's image_size "
            f"({own}) and excludes image_size ({stage.image_size}) in the stage"
        )
    return stage.batch_size, (round(own[0] * stage.image_scale), round(own[1] * stage.image_scale))


def _check_size(stage: Stage, trainer: Trainer, pl_module: LightningModule) -> None:
    sizes = size_of(stage, trainer)
    if sizes == (None, None):
        return
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, FollowsStages):
        raise ValueError(
            f"{'data given as loaders' if data is None else type(data).__name__} cannot change batch_size or image "
            "size: remove them, or give the data module follow_stage"
        )
    if isinstance(pl_module, NeedsOneSize):
        _check_one_size(sizes, data, pl_module)
    data.follow_stage(*sizes)


def _check_one_size(sizes: tuple[int | None, tuple[int, int] | None], data: FollowsStages, task: NeedsOneSize) -> None:
    """Refuse sizes other than the data module's for tasks that need one; data that do not tell theirs allow none."""
    own = (data.batch_size, tuple(data.image_size)) if isinstance(data, HasSizes) else (None, None)
    for name, size, of_data, needs_one, remove in (
        ("batch_size", sizes[0], own[0], task.one_batch_size, "batch_size"),
        ("image_size", sizes[1], own[1], task.one_image_size, "image_size and image_scale"),
    ):
        if needs_one and size not in (None, of_data):
            raise ValueError(
                f"its {name} is {size}, the data's is {of_data or 'not known'}, and {type(task).__name__} as it is "
                f"set up needs one {name} for the whole training: remove {remove} from the stage and from sizes, or "
                f"change the data's {name}"
            )


def steps_of_epochs(stages: list[Stage], lengths: list[int], trainer: Trainer) -> dict[str, int]:
    """Training batches in an epoch of every stage that runs, where the data module can tell by making a loader.

    Only asked where a stage has a batch size of its own: then the data module makes a loader for every stage anyway. It
    is left with the sizes of the last one.

    Raises:
        ValueError: a batch size does not fit the data; says which stage.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    found: dict[str, int] = {}
    if not isinstance(data, FollowsStages) or all(stage.batch_size is None for stage in stages):
        return found
    for stage, length in zip(stages, lengths, strict=True):
        if not length:
            continue
        data.follow_stage(*size_of(stage, trainer))
        try:
            loader = data.train_dataloader()  # type: ignore[attr-defined]
        except ValueError as error:
            raise ValueError(f"stage {stage.name!r}: {error}") from error
        if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
            limit = trainer.limit_train_batches
            found[stage.name] = min(len(loader), limit) if isinstance(limit, int) else int(len(loader) * limit)
    return found


def check_intervals(stages: list[Stage], lengths: list[int], steps: dict[str, int], trainer: Trainer) -> None:
    """Check validation that is counted in batches against the batches of the stages.

    Args:
        stages: the stages.
        lengths: their epochs.
        steps: batches in an epoch, of the stages where that is known.
        trainer: the trainer.

    Raises:
        ValueError: an epoch is shorter than the interval; or, where the interval does not begin anew in each epoch, a
            stage from which another one starts.
    """
    interval = trainer.val_check_interval
    if not isinstance(interval, int) or isinstance(interval, bool) or not trainer.limit_val_batches:
        return
    sources = {stage.init_from for stage, length in zip(stages, lengths, strict=True) if length}
    for stage, length in zip(stages, lengths, strict=True):
        if not length or stage.name not in steps:
            continue
        batches = steps[stage.name]
        if trainer.check_val_every_n_epoch is not None and interval > batches:
            raise ValueError(
                f"stage {stage.name!r}: an epoch has {batches} training batches, fewer than val_check_interval "
                f"{interval}: choose a smaller interval, or a share of the epoch (1.0)"
            )
        monitored = monitor_of(stage, checkpoint_of(trainer)).name is not None
        if (
            trainer.check_val_every_n_epoch is None
            and stage.name in sources
            and monitored
            and interval > length * batches
        ):
            raise ValueError(
                f"stage {stage.name!r}: its {length} epochs have {length * batches} training batches, fewer than "
                f"val_check_interval {interval}, so that it may have no validation, and a later stage starts from its "
                "best epoch: validate more often or make that stage longer"
            )


def _warn_of_watchers(stages: list[Stage], trainer: Trainer) -> None:
    if len(stages) == 1 and stages[0].select:
        return
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping):
            rank_zero_warn("EarlyStopping ends the whole training, in whichever stage it acts; stages have patience")
        elif isinstance(callback, ModelCheckpoint) and callback.monitor and not isinstance(callback, StageAware):
            rank_zero_warn(f"{type(callback).__name__} compares epochs of all stages; StagedCheckpoint does not")
