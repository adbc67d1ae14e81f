"""The course of the learning rate within a stage."""

import math

from callbacks.stage import Stage


def has_course(stage: Stage) -> bool:
    """Whether the learning rate changes within the stage."""
    return stage.schedule != "constant" or stage.warmup > 0


def group_rate(lr: float, own: float, first: float) -> float:
    """Rate of a parameter group in a stage with this ``lr``: groups keep the ratios of their initial rates.

    Args:
        lr: rate of the first group.
        own: initial rate of the group; a group that starts like the first one gets exactly ``lr``.
        first: initial rate of the first group; not 0 where ``own`` is another one.
    """
    return lr if own == first else own * (lr / first)


def rate_factor(stage: Stage, step: int, steps: int) -> float:
    """Factor of the stage's learning rate in one of its steps.

    With ``r = round(warmup * steps)``: ``(step + 1) / (r + 1)`` in the first ``r`` steps, then 1 (``constant``) or
    ``(1 + cos(pi (step - r) / (steps - r))) / 2`` (``cosine``), the form of the tasks' own schedule.

    Args:
        stage: the stage.
        step: optimiser steps that it has made.
        steps: how many it makes if it does not end early.
    """
    rising = round(stage.warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    if stage.schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising)))) / 2
