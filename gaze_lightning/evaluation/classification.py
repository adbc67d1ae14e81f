"""What a model says about classes: AUROCs, accuracy, F1 and likelihood, with intervals and chance rates."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from gaze_lightning.evaluation.measured import UNDEFINED, Array, Bootstrap, Measured
from gaze_lightning.metrics.classification import ClassificationReport
from gaze_lightning.metrics.statistics import (
    Interval,
    auroc_interval,
    auroc_intervals,
    auroc_micro_interval,
    clustered_bootstrap,
    weighted_auroc,
)

Bools = npt.NDArray[np.bool_]
_SMALLEST = float(np.finfo(np.float64).eps)


def classification_results(
    probability: Array,
    label: npt.NDArray[Any],
    class_names: Sequence[str],
    label_type: Literal["single", "multi"],
    boot: Bootstrap,
) -> dict[str, Measured]:
    """Measure the values of :class:`gaze_lightning.metrics.ClassificationReport`.

    The chance rate of ``f1_macro`` is that of always naming the commonest class (multi-label: of each class the
    commoner outcome, present at one half).

    Args:
        probability: ``[n, K]``.
        label: ``[n]`` indices, or ``[n, K]`` in {0, 1, NaN}.
        class_names: ``K`` names.
        label_type: which of the two.
        boot: settings of the intervals.

    Raises:
        ValueError: probabilities that are NaN or outside [0, 1], or labels that do not fit.
    """
    report = ClassificationReport(class_names, label_type)
    report.update(torch.from_numpy(probability), torch.from_numpy(label))
    computed = {name: float(value) for name, value in report.compute().items()}
    metrics = _ranking(probability, label, class_names, label_type, computed, boot)
    return metrics | _decisions(probability, label, label_type, computed, boot)


def _ranking(
    probability: Array,
    label: npt.NDArray[Any],
    class_names: Sequence[str],
    label_type: Literal["single", "multi"],
    computed: dict[str, float],
    boot: Bootstrap,
) -> dict[str, Measured]:
    """AUROCs: macro, micro, per class, per pair, one against one."""
    target = (label[:, None] == np.arange(len(class_names))).astype(np.float64) if label.ndim == 1 else label
    intervals = auroc_intervals(probability, label, boot.subject, boot.n_boot, boot.seed, boot.level)
    micro = auroc_micro_interval(probability, label, boot.subject, boot.n_boot, boot.seed, boot.level)
    undefined = [name for name in class_names if math.isnan(computed[f"auroc/{name}"])]
    n_known = int((~np.isnan(target)).any(axis=1).sum())
    metrics = {
        "auroc_macro": Measured(
            computed["auroc_macro"],
            *(intervals.macro if len(undefined) < len(class_names) else UNDEFINED),
            n=n_known,
            chance=0.5,
            reason=f"without {', '.join(undefined)}" if undefined else "",
        ),
        "auroc_micro": replace(_auroc(computed["auroc_micro"], micro, target), n=n_known, n_positive=None),
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


def _decisions(
    probability: Array,
    label: npt.NDArray[Any],
    label_type: Literal["single", "multi"],
    computed: dict[str, float],
    boot: Bootstrap,
) -> dict[str, Measured]:
    """Accuracy, F1 and negative log-likelihood; in multi-label over the known entries."""
    if label_type == "single":
        truth = label[:, None] == np.arange(probability.shape[1])
        decided = probability.argmax(axis=1)[:, None] == np.arange(probability.shape[1])
        right = (probability.argmax(axis=1) == label).astype(np.float64)
        loss = -np.log(np.maximum(probability[np.arange(len(label)), label], _SMALLEST))
        shares = np.bincount(label, minlength=probability.shape[1]) / len(label)
        guess, prior = float(shares.max()), float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
        accuracy, nll = boot.mean(right, ""), boot.mean(loss, "")
        always = np.broadcast_to(np.arange(len(shares)) == shares.argmax(), truth.shape)
        return {
            "accuracy": replace(accuracy, chance=guess),
            "f1_macro": _f1(computed["f1_macro"], decided, truth, ~truth, always, boot),
            "nll": replace(nll, chance=prior),
        }
    known = ~np.isnan(label)
    n = int(known.any(axis=1).sum())
    if not n:
        nothing = Measured(math.nan, *UNDEFINED, n=0, reason="no known label")
        return {"accuracy": nothing, "f1_macro": nothing, "nll": nothing}
    truth = label == 1
    right = np.where(known, (probability >= 0.5) == truth, 0).astype(np.float64)
    loss = np.where(known, -np.log(np.maximum(np.where(truth, probability, 1 - probability), _SMALLEST)), 0.0)
    count = known.sum(axis=0)
    share = np.divide((truth & known).sum(axis=0), count, out=np.zeros(len(count)), where=count > 0)
    entropy = -sum(p * np.log(np.where(p > 0, p, 1.0)) for p in (share, 1 - share))
    always = np.broadcast_to(share >= 0.5, truth.shape)
    metrics = {"f1_macro": _f1(computed["f1_macro"], probability >= 0.5, truth, label == 0, always, boot)}
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
    return {name: metrics[name] for name in ("accuracy", "f1_macro", "nll")}


def _f1(value: float, decided: Bools, truth: Bools, false: Bools, always: Bools, boot: Bootstrap) -> Measured:
    """Mean F1 of the classes with a positive; ``[n, K]`` each, ``always`` is the blind guess."""
    known = truth | false
    if not truth.any():
        return Measured(math.nan, *UNDEFINED, n=int(known.any(axis=1).sum()), reason="no positive")

    def mean_f1(decided: Bools, rows: npt.NDArray[np.int64]) -> float:
        said, yes = decided[rows], truth[rows]
        hits, positive = (said & yes).sum(axis=0), yes.sum(axis=0)
        both = positive + (said & known[rows]).sum(axis=0)
        supported = positive > 0
        return float((2 * hits[supported] / both[supported]).mean()) if supported.any() else math.nan

    interval = clustered_bootstrap(
        lambda rows: mean_f1(decided, rows), len(truth), boot.subject, boot.n_boot, boot.seed, boot.level
    )
    chance = mean_f1(always, np.arange(len(truth), dtype=np.int64))
    return Measured(value, *interval, n=int(known.any(axis=1).sum()), chance=chance)


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
        *(UNDEFINED if missing else interval),
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
