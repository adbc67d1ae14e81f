"""From one row per sample to the table of results: values, patient-clustered intervals, counts, chance rates."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from gaze_lightning.evaluation.files import replacing
from gaze_lightning.evaluation.outputs import SampleOutputs
from gaze_lightning.metrics.classification import ClassificationReport
from gaze_lightning.metrics.statistics import (
    Interval,
    auroc_interval,
    auroc_intervals,
    clustered_bootstrap,
    mean_interval,
    weighted_auroc,
)

Array = npt.NDArray[np.float64]
_UNDEFINED = Interval(math.nan, math.nan)
_SMALLEST = float(np.finfo(np.float64).eps)


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
            commonest class; negative log-likelihood, the class frequencies of this set; pointing game, a random point
            of the film.
        reason: why the value is undefined; empty otherwise.
    """

    value: float
    low: float
    high: float
    n: int
    n_positive: int | None = None
    chance: float = math.nan
    reason: str = ""


@dataclass(frozen=True)
class Results:
    """All numbers of one evaluation.

    Attributes:
        metrics: by name: ``auroc_macro``, ``auroc/<class>``, ``auroc_pair/<a>_vs_<b>``, ``auroc_ovo``, ``accuracy``,
            ``nll`` (defined in :class:`gaze_lightning.metrics.ClassificationReport`), then the mean of each per-sample
            value over the samples that have it.
        n: samples.
        n_subjects: patients.
        class_names: in the order of the probability columns.
        label_type: ``single`` or ``multi``.
        data: one line that says what the samples are.
        level: coverage of the intervals.
        n_boot: resamples of patients behind each interval.
        seed: of the resampling.
    """

    metrics: dict[str, Measured]
    n: int
    n_subjects: int
    class_names: tuple[str, ...]
    label_type: Literal["single", "multi"]
    data: str = ""
    level: float = 0.95
    n_boot: int = 1000
    seed: int = 0

    def values(self) -> dict[str, float]:
        """The bare values by name, and ``n``."""
        return {name: measured.value for name, measured in self.metrics.items()} | {"n": float(self.n)}

    def to_json(self) -> str:
        """Plain JSON with all digits; undefined numbers are ``null``."""
        content = {"format": 1, **asdict(self)}
        return json.dumps(_without_nan(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def save(self, path: Path) -> None:
        """Write :meth:`to_json`; the file appears complete or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what :meth:`save` wrote.

        Args:
            path: a ``results.json``.

        Raises:
            ValueError: the file is not one of ours; the message names it.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != 1:
                raise ValueError("another format")
            metrics = {name: _measured(given) for name, given in content.pop("metrics").items()}
            class_names = tuple(content.pop("class_names"))
            return cls(metrics=metrics, class_names=class_names, **content)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} is not a results.json of this version ({error}); test the run again") from error


def compute_results(
    outputs: SampleOutputs,
    class_names: Sequence[str],
    label_type: Literal["single", "multi"],
    *,
    data: str = "",
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Results:
    """Compute every number with its interval.

    Args:
        outputs: labelled samples, each once. A value called ``<name>_chance`` becomes the chance rate of ``<name>``.
        class_names: ``K`` names.
        label_type: what ``outputs.label`` holds.
        data: one line that says what the samples are.
        n_boot: resamples of patients.
        seed: of the resampling.
        level: coverage of the intervals.

    Raises:
        ValueError: no labels, probabilities that are NaN or outside [0, 1], or labels that do not fit.
    """
    if outputs.label is None:
        raise ValueError("results need labels: these outputs are predictions")
    report = ClassificationReport(class_names, label_type)
    report.update(torch.from_numpy(outputs.probability), torch.from_numpy(outputs.label))
    computed = {name: float(value) for name, value in report.compute().items()}
    boot = _Bootstrap(outputs.subject, n_boot, seed, level)
    metrics = _ranking(outputs.probability, outputs.label, class_names, label_type, computed, boot)
    metrics |= _per_sample(outputs.probability, outputs.label, label_type, computed, boot)
    for name, values in outputs.values.items():
        if name.endswith("_chance"):
            continue
        known = np.isfinite(values)
        chance = outputs.values.get(f"{name}_chance")
        metrics[name] = boot.mean(values, "no sample has this value")
        if chance is not None and known.any():
            metrics[name] = _with_chance(metrics[name], float(np.nanmean(chance[known])))
    return Results(
        metrics=metrics,
        n=len(outputs),
        n_subjects=len(set(outputs.subject)),
        class_names=tuple(class_names),
        label_type=label_type,
        data=data,
        level=level,
        n_boot=n_boot,
        seed=seed,
    )


@dataclass(frozen=True)
class _Bootstrap:
    """The settings that all intervals of a table share."""

    subject: list[str]
    n_boot: int
    seed: int
    level: float

    def mean(self, values: Array, reason: str) -> Measured:
        known = np.isfinite(values)
        if not known.any():
            return Measured(math.nan, *_UNDEFINED, n=0, reason=reason)
        interval = mean_interval(values, self.subject, self.n_boot, self.seed, self.level)
        return Measured(float(values[known].mean()), *interval, n=int(known.sum()))


def _ranking(
    probability: Array,
    label: npt.NDArray[Any],
    class_names: Sequence[str],
    label_type: Literal["single", "multi"],
    computed: dict[str, float],
    boot: _Bootstrap,
) -> dict[str, Measured]:
    """AUROCs: macro, per class, per pair, one against one."""
    target = (label[:, None] == np.arange(len(class_names))).astype(np.float64) if label.ndim == 1 else label
    intervals = auroc_intervals(probability, label, boot.subject, boot.n_boot, boot.seed, boot.level)
    undefined = [name for name in class_names if math.isnan(computed[f"auroc/{name}"])]
    metrics = {
        "auroc_macro": Measured(
            computed["auroc_macro"],
            *(intervals.macro if len(undefined) < len(class_names) else _UNDEFINED),
            n=int((~np.isnan(target)).any(axis=1).sum()),
            chance=0.5,
            reason=f"without {', '.join(undefined)}" if undefined else "",
        )
    }
    for name, column, interval in zip(class_names, target.T, intervals.per_class, strict=True):
        metrics[f"auroc/{name}"] = _auroc(computed[f"auroc/{name}"], interval, column)
    if label_type == "multi" or len(class_names) < 2:
        return metrics
    for a, b in combinations(range(len(class_names)), 2):
        key = f"auroc_pair/{class_names[a]}_vs_{class_names[b]}"
        both = probability[:, a] + probability[:, b]
        share = np.divide(probability[:, b], both, out=np.full_like(both, 0.5), where=both > 0)
        pair = np.where((label == a) | (label == b), (label == b).astype(np.float64), np.nan)
        interval = auroc_interval(share, pair, boot.subject, boot.n_boot, boot.seed, boot.level)
        metrics[key] = _auroc(computed[key], interval, pair)
    interval = clustered_bootstrap(
        lambda rows: _one_against_one(probability[rows], label[rows]),
        len(label),
        boot.subject,
        boot.n_boot,
        boot.seed,
        boot.level,
    )
    reason = "fewer than two classes" if math.isnan(computed["auroc_ovo"]) else ""
    metrics["auroc_ovo"] = Measured(computed["auroc_ovo"], *interval, n=len(label), chance=0.5, reason=reason)
    return metrics


def _per_sample(
    probability: Array,
    label: npt.NDArray[Any],
    label_type: Literal["single", "multi"],
    computed: dict[str, float],
    boot: _Bootstrap,
) -> dict[str, Measured]:
    """Accuracy and negative log-likelihood; in multi-label means over the known entries, interval by sample means."""
    if label_type == "single":
        right = (probability.argmax(axis=1) == label).astype(np.float64)
        loss = -np.log(np.maximum(probability[np.arange(len(label)), label], _SMALLEST))
        shares = np.bincount(label, minlength=probability.shape[1]) / len(label)
        guess, prior = float(shares.max()), float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
        accuracy, nll = boot.mean(right, ""), boot.mean(loss, "")
        return {"accuracy": _with_chance(accuracy, guess), "nll": _with_chance(nll, prior)}
    known = ~np.isnan(label)
    n = int(known.any(axis=1).sum())
    if not n:
        nothing = Measured(math.nan, *_UNDEFINED, n=0, reason="no known label")
        return {"accuracy": nothing, "nll": nothing}
    truth = label == 1
    right = np.where(known, (probability >= 0.5) == truth, 0).astype(np.float64)
    loss = np.where(known, -np.log(np.maximum(np.where(truth, probability, 1 - probability), _SMALLEST)), 0.0)
    count = known.sum(axis=0)
    share = np.divide((truth & known).sum(axis=0), count, out=np.zeros(len(count)), where=count > 0)
    entropy = -sum(p * np.log(np.where(p > 0, p, 1.0)) for p in (share, 1 - share))
    metrics = {}
    for name, entries, chance in (("accuracy", right, np.maximum(share, 1 - share)), ("nll", loss, entropy)):
        interval = clustered_bootstrap(
            _ratio(entries.sum(axis=1), known.sum(axis=1).astype(np.float64)),
            len(label),
            boot.subject,
            boot.n_boot,
            boot.seed,
            boot.level,
        )
        expected = float((chance * count).sum() / count.sum())
        metrics[name] = Measured(computed[name], *interval, n=n, chance=expected)
    return metrics


def _ratio(top: Array, bottom: Array) -> Any:
    def statistic(rows: npt.NDArray[np.int64]) -> float:
        below = float(bottom[rows].sum())
        return float(top[rows].sum()) / below if below else math.nan

    return statistic


def _auroc(value: float, interval: Interval, target: Array) -> Measured:
    positive, negative = int((target == 1).sum()), int((target == 0).sum())
    missing = [text for text, n in (("no positive", positive), ("no negative", negative)) if n == 0]
    return Measured(
        value,
        *(_UNDEFINED if missing else interval),
        n=positive + negative,
        n_positive=positive,
        chance=0.5,
        reason=" and ".join(missing),
    )


def _one_against_one(probability: Array, label: npt.NDArray[Any]) -> float:
    """Mean over defined pairs of Hand and Till's A(a, b)."""
    pairs = []
    for a, b in combinations(range(probability.shape[1]), 2):
        rows = (label == a) | (label == b)
        is_b = (label[rows] == b).astype(np.float64)
        if 0 < is_b.sum() < len(is_b):
            ones = np.ones((1, len(is_b)))
            by_a = weighted_auroc(probability[rows, a], 1 - is_b, ones)[0]
            by_b = weighted_auroc(probability[rows, b], is_b, ones)[0]
            pairs.append(float(by_a + by_b) / 2)
    return float(np.mean(pairs)) if pairs else math.nan


def _with_chance(measured: Measured, chance: float) -> Measured:
    return Measured(**{**asdict(measured), "chance": chance})


def _measured(given: dict[str, Any]) -> Measured:
    numbers = {key: math.nan if given[key] is None else float(given[key]) for key in ("value", "low", "high", "chance")}
    return Measured(**numbers, n=given["n"], n_positive=given["n_positive"], reason=given["reason"])


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
