"""Stages within one training: what is trained, by which terms of the loss, and for how long."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol, runtime_checkable

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from gaze_lightning.protocols import HasLossTerms


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: shown in the log.
        epochs: number of epochs (int), fraction of ``trainer.max_epochs`` (float, rounded), or ``None`` for the rest.
        loss_terms: active terms of the task's loss; ``None`` for all.
        freeze: patterns of module or parameter paths (``model.backbone``, ``model.backbone.net.layer[12]``, ``*.bn1``).
        lr: learning rate of all parameter groups in this stage, ``None`` for the task's own.
        select: whether checkpoint selection and plateau rules act in this stage.
    """

    name: str
    epochs: int | float | None = None
    loss_terms: list[str] | None = None
    freeze: list[str] = field(default_factory=list)
    lr: float | None = None
    select: bool = True


@runtime_checkable
class StageAware(Protocol):
    """A callback that wants to know the stage."""

    def start_stage(self, select: bool, fresh: bool) -> None:
        """Act only if ``select``; forget what was seen if ``fresh`` (false when a run resumes inside the stage)."""
        ...


class StagedTraining(Callback):
    """Train in stages within one ``fit``.

    The stage follows from the epoch number alone, so a resumed run continues in the stage where it stopped. Frozen
    parameters have ``requires_grad=False`` and frozen modules are in ``eval()``: neither weights nor BatchNorm
    statistics change and dropout is off. Freezing happens at the start of the first epoch, after DDP has wrapped the
    model (freezing earlier leaves every rank with weights of its own after unfreezing, Lightning issue 20340); under
    DDP it therefore needs ``strategy: ddp_find_unused_parameters_true``. Switching terms of the loss needs no such
    thing: a task keeps inactive terms in the graph. ``StagedCheckpoint`` and ``ReloadOnPlateau`` start afresh at every
    boundary.

    Args:
        stages: the stages in order; ``None`` or empty: this callback does nothing.
    """

    def __init__(self, stages: list[Stage] | None = None) -> None:
        self.stages = list(stages or [])
        self._starts: list[int] = []
        self._current: Stage | None = None
        self._stored_starts: list[int] | None = None
        self._trainable: dict[str, bool] = {}
        self._training: dict[str, bool] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check all stages before the first step.

        Raises:
            ValueError: epochs do not add up, a pattern matches nothing, a term of the loss is unknown, a learning rate
                is combined with a schedule, or DDP cannot freeze.
        """
        if not self.stages:
            return
        self._current = None
        epochs = -1 if trainer.max_epochs is None else trainer.max_epochs
        quick = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        self._starts = list(range(len(self.stages))) if quick else stage_starts(self.stages, epochs)
        if self._stored_starts not in (None, self._starts):
            rank_zero_warn(f"the checkpoint's stages started at epochs {self._stored_starts}, now {self._starts}")
        self._trainable = {name: p.requires_grad for name, p in pl_module.named_parameters()}
        self._training = {name: m.training for name, m in pl_module.named_modules() if name}
        for stage in self.stages:
            for pattern in stage.freeze:
                if not any(True for _ in _matching(pl_module, pattern)):
                    children = ", ".join(name for name, _ in pl_module.named_modules() if name and name.count(".") < 2)
                    raise ValueError(f"stage {stage.name!r}: nothing is called {pattern!r}; there are {children}")
            self._set_terms(stage, pl_module)
        if any(stage.lr is not None for stage in self.stages) and trainer.lr_scheduler_configs:
            raise ValueError("a stage sets lr, but the task has a schedule: set the task's schedule to constant")
        strategy, freezes = trainer.strategy, any(stage.freeze for stage in self.stages)
        if freezes and isinstance(strategy, DDPStrategy) and not strategy._ddp_kwargs.get("find_unused_parameters"):
            raise ValueError("stages that freeze need trainer.strategy: ddp_find_unused_parameters_true under DDP")
        if not all(stage.select for stage in self.stages):
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                watches = isinstance(callback, EarlyStopping | ModelCheckpoint) and callback.monitor
                if watches and not isinstance(callback, StageAware):
                    rank_zero_warn(f"{type(callback).__name__} acts in every stage, also where select is false")
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Enter the stage of this epoch."""
        if not self.stages:
            return
        epoch = trainer.current_epoch
        index = max(i for i, start in enumerate(self._starts) if start <= epoch)
        stage = self.stages[index]
        if stage is not self._current:
            self._current = stage
            at_start = epoch == self._starts[index]
            self._restore(pl_module)
            self._set_terms(stage, pl_module)
            if at_start and any(one.lr is not None for one in self.stages[: index + 1]):
                for optimizer in trainer.optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = group["initial_lr"] if stage.lr is None else stage.lr
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, StageAware):
                    callback.start_stage(select=stage.select, fresh=at_start and epoch > 0)
            rank_zero_info(self._line(index, trainer, pl_module))
        self._freeze(stage, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the task as it was found."""
        if self.stages:
            self._restore(pl_module)
            if isinstance(pl_module, HasLossTerms):
                pl_module.active_loss_terms = frozenset(pl_module.loss_terms)

    def state_dict(self) -> dict[str, Any]:
        """First epochs of the stages, to notice a changed plan on resume."""
        return {"starts": list(self._starts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Counterpart of ``state_dict``."""
        self._stored_starts = list(state_dict["starts"]) or None

    def _set_terms(self, stage: Stage, pl_module: LightningModule) -> None:
        if isinstance(pl_module, HasLossTerms):
            try:
                pl_module.active_loss_terms = frozenset(
                    pl_module.loss_terms if stage.loss_terms is None else stage.loss_terms
                )
            except ValueError as error:
                raise ValueError(f"stage {stage.name!r}: {error}") from error
        elif stage.loss_terms is not None:
            raise ValueError(
                f"stage {stage.name!r}: the loss of {type(pl_module).__name__} has no terms to choose from"
            )

    def _freeze(self, stage: Stage, pl_module: LightningModule) -> None:
        for pattern in stage.freeze:
            for _, part in _matching(pl_module, pattern):
                for parameter in part.parameters() if isinstance(part, nn.Module) else [part]:
                    parameter.requires_grad = False
                    parameter.grad = None
                if isinstance(part, nn.Module):
                    part.eval()

    def _restore(self, pl_module: LightningModule) -> None:
        for name, parameter in pl_module.named_parameters():
            parameter.requires_grad = self._trainable.get(name, parameter.requires_grad)
        for name, module in pl_module.named_modules():
            module.training = self._training.get(name, module.training)

    def _line(self, index: int, trainer: Trainer, pl_module: LightningModule) -> str:
        stage, end = self.stages[index], (*self._starts[1:], trainer.max_epochs)[index]
        terms = "+".join(sorted(pl_module.active_loss_terms)) if isinstance(pl_module, HasLossTerms) else "all"
        last = "" if end is None or end < 0 else str(end - 1)
        rate = "" if stage.lr is None else f", lr: {stage.lr:g}"
        return (
            f"stage {index + 1}/{len(self.stages)} {stage.name}: epochs {self._starts[index]}-{last}, loss: {terms}, "
            f"frozen: {', '.join(stage.freeze) or 'nothing'}{rate}"
        )


def _matching(pl_module: LightningModule, pattern: str) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    for name, module in pl_module.named_modules():
        if name and fnmatchcase(name, pattern):
            yield name, module
    for name, parameter in pl_module.named_parameters():
        if fnmatchcase(name, pattern):
            yield name, parameter


def stage_starts(stages: list[Stage], max_epochs: int) -> list[int]:
    """First epoch of every stage of a training of ``max_epochs`` (-1: without end).

    Raises:
        ValueError: the stages do not fill the training exactly.
    """
    for stage in stages:
        fraction = isinstance(stage.epochs, float)
        if stage.epochs is not None and not 0 <= stage.epochs <= (1 if fraction else float("inf")):
            raise ValueError(
                f"stage {stage.name!r}: epochs is {stage.epochs}, not a number of epochs or a share of all"
            )
        if max_epochs < 0 and (fraction or (stage.epochs is None and stage is not stages[-1])):
            raise ValueError(f"stage {stage.name!r}: its epochs depend on trainer.max_epochs, which is not set")
    lengths = [
        round(stage.epochs * max_epochs) if isinstance(stage.epochs, float) else stage.epochs for stage in stages
    ]
    known = sum(length for length in lengths if length is not None)
    rest = max_epochs - known if max_epochs >= 0 else 1
    sizes = [rest if length is None else length for length in lengths]
    plan = ", ".join(f"{stage.name} {size}" for stage, size in zip(stages, sizes, strict=True))
    if lengths.count(None) > 1:
        raise ValueError("only one stage can take the rest of the epochs (epochs: null)")
    if min(sizes) < 0 or (max_epochs >= 0 and sum(sizes) != max_epochs):
        raise ValueError(f"the stages ask for {known} epochs ({plan}), trainer.max_epochs is {max_epochs}")
    if 0 in sizes:
        rank_zero_warn(f"a stage without an epoch: {plan}")
    return [sum(sizes[:i]) for i in range(len(sizes))]
