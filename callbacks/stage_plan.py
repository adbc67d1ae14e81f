"""How many epochs each stage has, and which stage an epoch belongs to."""

from pytorch_lightning.utilities import rank_zero_warn

from callbacks.stage import Stage
from callbacks.stage_run import StageRun


class StagePlan:
    """The lengths of all stages, and where they end.

    A stage may end early, therefore the start of a stage is not arithmetic but what happened: a ``StageRun``.

    Args:
        stages: the stages in order.
        lengths: their numbers of epochs; stages of 0 epochs are skipped.
    """

    def __init__(self, stages: list[Stage], lengths: list[int]) -> None:
        self.stages, self.lengths = stages, lengths

    def end(self, run: StageRun) -> int:
        """First epoch after a stage."""
        planned = run.start + self.lengths[run.index]
        return planned if run.stopped is None else min(planned, run.stopped)

    def last_end(self, run: StageRun) -> int:
        """First epoch after all stages, if no further one ends early."""
        return self.end(run) + sum(self.lengths[run.index + 1 :])

    def due(self, run: StageRun | None, epoch: int) -> int:
        """Index of the stage of an epoch; after the last stage it stays the last.

        Args:
            run: the stage that is under way, ``None`` before the first one.
            epoch: this one or the next.
        """
        filled = [index for index, length in enumerate(self.lengths) if length] or [0]
        if run is None:
            begun = [index for index in filled if self.planned_start(index) <= epoch]
            return max(begun or filled[:1])
        following = [index for index in filled if index > run.index]
        return following[0] if following and epoch >= self.end(run) else run.index

    def planned_start(self, index: int) -> int:
        """First epoch of a stage if none before it ends early."""
        return sum(self.lengths[:index])


def stage_lengths(stages: list[Stage], max_epochs: int) -> list[int]:
    """Number of epochs of every stage.

    Args:
        stages: the stages in order.
        max_epochs: of the training; -1: as many as the stages have together.

    Raises:
        ValueError: a stage's epochs are unusable, or the stages do not fill the training exactly.
    """
    for stage in stages:
        share = isinstance(stage.epochs, float)
        if stage.epochs is not None and not 0 <= stage.epochs <= (1 if share else float("inf")):
            raise ValueError(
                f"stage {stage.name!r}: epochs is {stage.epochs}, not a number of epochs or a share of all"
            )
        if max_epochs < 0 and (share or stage.epochs is None):
            raise ValueError(
                f"stage {stage.name!r}: epochs is {stage.epochs}, which depends on trainer.max_epochs, and that is not "
                "set: give the stage a number of epochs, or set trainer.max_epochs"
            )
    given = [round(stage.epochs * max_epochs) if isinstance(stage.epochs, float) else stage.epochs for stage in stages]
    known = sum(length for length in given if length is not None)
    if given.count(None) > 1:
        raise ValueError("only one stage can take the rest of the epochs (epochs: null)")
    lengths = [max_epochs - known if length is None else length for length in given]
    plan = ", ".join(f"{stage.name} {length}" for stage, length in zip(stages, lengths, strict=True))
    if min(lengths) < 0 or (max_epochs >= 0 and sum(lengths) != max_epochs):
        raise ValueError(
            f"the stages ask for {known} epochs ({plan}), trainer.max_epochs is {max_epochs}: change one of them, or "
            "set trainer.max_epochs to -1 and let the stages say when"
        )
    if 0 in lengths:
        rank_zero_warn(f"a stage without an epoch: {plan}")
    return lengths
