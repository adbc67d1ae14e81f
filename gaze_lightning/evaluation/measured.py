"""One number of a table of results, and how it is measured over patients."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gaze_lightning.metrics.statistics import Interval, mean_interval

Array = npt.NDArray[np.float64]
UNDEFINED = Interval(math.nan, math.nan)


@dataclass(frozen=True)
class Reference:
    """What something else than the model gets on the readings of a row.

    Attributes:
        value: mean over the readings where both the model's value and this one are defined.
        n: their number.
        own: the model's mean over these readings.
    """

    value: float
    n: int
    own: float


@dataclass(frozen=True)
class Measured:
    """One number of the table.

    Attributes:
        value: NaN where undefined.
        low: lower end of the interval over patients.
        high: upper end.
        n: samples with a defined value.
        n_positive: of these, how many have the class (AUROC of one class only).
        chance: what a model without knowledge gets, NaN where that has no meaning: AUROC 0.5; accuracy, always the
            commonest class; F1, the same guess; negative log-likelihood, the class frequencies of this set; pointing
            game, a random point of the film.
        reason: why the value is undefined; empty otherwise.
        references: what else is to be read beside it, by name; of a map's agreement with gaze those of
            :func:`gaze_lightning.metrics.gaze_references`.
    """

    value: float
    low: float
    high: float
    n: int
    n_positive: int | None = None
    chance: float = math.nan
    reason: str = ""
    references: dict[str, Reference] = field(default_factory=dict)

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> "Measured":
        """Read one entry of a ``results.json``; ``references`` may be absent, as in older files.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is not one.
        """
        numbers = {name: _number(given[name]) for name in ("value", "low", "high", "chance")}
        references = {
            name: Reference(_number(other["value"]), int(other["n"]), _number(other["own"]))
            for name, other in given.get("references", {}).items()
        }
        return cls(
            **numbers, n=given["n"], n_positive=given["n_positive"], reason=given["reason"], references=references
        )


@dataclass(frozen=True)
class Bootstrap:
    """The settings that all intervals of a table share.

    Attributes:
        subject: the patient of each sample.
        n_boot: resamples of patients.
        seed: of the resampling.
        level: coverage.
    """

    subject: list[str]
    n_boot: int
    seed: int
    level: float

    def mean(self, values: Array, reason: str) -> Measured:
        """Mean of per-sample values ``[n]`` over the defined ones with its interval; ``reason`` where there is none."""
        known = np.isfinite(values)
        if not known.any():
            return Measured(math.nan, *UNDEFINED, n=0, reason=reason)
        interval = mean_interval(values, self.subject, self.n_boot, self.seed, self.level)
        return Measured(float(values[known].mean()), *interval, n=int(known.sum()))


def _number(given: float | None) -> float:
    return math.nan if given is None else float(given)
