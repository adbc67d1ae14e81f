"""What a stage of a training is, and what callbacks must offer to follow stages."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from pytorch_lightning import Trainer


@dataclass(frozen=True)
class Stage:
    """One stage of a training. What it trains is frozen nowhere else; see ``StagedTraining`` for what frozen means.

    Patterns are compared with the paths of modules and parameters (``model.encoder``, ``model.net.layer[12]``,
    ``*.bn1``). The pattern of a module covers all that it holds; that of a parameter covers this parameter only, so
    that its module stays in training mode.

    Attributes:
        name: shown in log and progress display, part of the file names of its checkpoints.
        epochs: number of epochs (int), share of ``trainer.max_epochs`` (float, rounded), or ``None`` for the rest.
        train: patterns of what trains, all the rest is frozen; ``None``: everything that is not frozen by ``freeze``.
        freeze: patterns of what does not train; wins over ``train``.
        loss_terms: active terms of the task's loss; ``None`` for all.
        lr: learning rate of the first parameter group; groups with a rate of their own keep its ratio to the first
            one's, all others get ``lr`` itself. The optimiser's state is cleared. ``None``: the task's own rates.
        schedule: course of ``lr`` within the stage, per step: ``constant``, or ``cosine`` to zero.
        warmup: share of the stage's steps in which ``lr`` rises, from 0 to below 1.
        monitor: validation value by which the best epoch is chosen; ``None``: that of the checkpoint callback.
        mode: whether a low (``min``) or high (``max``) value is good; belongs to ``monitor``.
        patience: the stage ends when so many epochs (not validations) have gone by since the best ``monitor``, judged
            in epochs that were validated; ``None``: never before its epochs.
        init_from: name of an earlier stage whose best epoch gives the weights at the start, with the optimiser's state
            cleared; ``None``: go on with the weights at hand.
        batch_size: per process, in training; ``None``: that of the data module.
        image_size: (H, W) of the images, pixels; ``None``: that of the data module.
        image_scale: the same as a share of the data module's size, above 0 to 1.
        select: whether the best epoch is looked for, and plateau rules act.
    """

    name: str
    epochs: int | float | None = None
    train: list[str] | None = None
    freeze: list[str] = field(default_factory=list)
    loss_terms: list[str] | None = None
    lr: float | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = 0.0
    monitor: str | None = None
    mode: Literal["min", "max"] | None = None
    patience: int | None = None
    init_from: str | None = None
    batch_size: int | None = None
    image_size: tuple[int, int] | None = None
    image_scale: float | None = None
    select: bool = True

    @property
    def freezes(self) -> bool:
        """Whether anything is frozen."""
        return self.train is not None or bool(self.freeze)

    @property
    def starts_anew(self) -> bool:
        """Whether the optimiser forgets what it has seen."""
        return self.lr is not None or self.init_from is not None


@dataclass(frozen=True)
class StageSize:
    """How large a stage is: the fields of ``Stage`` that a setting (demo, paper) chooses for an experiment's stages.

    ``None``: not chosen here.
    """

    epochs: int | float | None = None
    lr: float | None = None
    schedule: Literal["constant", "cosine"] | None = None
    warmup: float | None = None
    batch_size: int | None = None
    image_size: tuple[int, int] | None = None
    image_scale: float | None = None
    patience: int | None = None


class StagePosition(NamedTuple):
    """Where a training stands.

    Attributes:
        number: of the stage, from 1.
        stages: how many there are.
        name: of the stage.
        epoch: within the stage, from 1.
        epochs: of the stage, if it does not end early.
    """

    number: int
    stages: int
    name: str
    epoch: int
    epochs: int


@runtime_checkable
class StageAware(Protocol):
    """A callback that wants to know the stage."""

    def start_stage(self, stage: Stage, *, final: bool, fresh: bool) -> None:
        """Called before the first step of a stage, and once more when a run resumes inside the stage.

        Args:
            stage: the stage.
            final: it is the last one that selects.
            fresh: it starts now: forget what was seen; false on resume.
        """
        ...


@runtime_checkable
class HasStages(Protocol):
    """A callback that knows the stage."""

    def stage_position(self, trainer: Trainer) -> StagePosition | None:
        """Where the training stands; ``None`` without stages and before the first one."""
        ...


def position_in(trainer: Trainer) -> StagePosition | None:
    """Where a training stands; ``None`` without stages."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, HasStages):
            return callback.stage_position(trainer)
    return None


def with_sizes(stages: list[Stage], sizes: dict[str, StageSize]) -> list[Stage]:
    """The stages with their sizes put in; names without a stage are left out.

    Sizes fill what a stage leaves at its default: whoever writes a field in a stage has the last word. A stage with an
    image size, in pixels or as a share, takes neither.
    """
    return [_sized(stage, sizes.get(stage.name, StageSize())) for stage in stages]


def _sized(stage: Stage, size: StageSize) -> Stage:
    own = {item.name for item in fields(Stage) if getattr(stage, item.name) != item.default}
    if own & {"image_size", "image_scale"}:
        own |= {"image_size", "image_scale"}
    return replace(
        stage, **{name: value for name, value in asdict(size).items() if value is not None and name not in own}
    )
