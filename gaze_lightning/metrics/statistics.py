"""Intervals by a bootstrap over patients: readings of one patient are not independent, so patients are resampled."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_CHUNK = 2**22
"""Weights held at once (32 MiB), so that large test sets do not fill the memory."""


class Interval(NamedTuple):
    """A percentile interval; NaN if the statistic was defined in no resample."""

    low: float
    high: float


class AurocIntervals(NamedTuple):
    """Intervals of every class's AUROC, in column order, and of their mean."""

    per_class: tuple[Interval, ...]
    macro: Interval


def clustered_bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float],
    n: int,
    clusters: Sequence[str],
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of any statistic, whole clusters (patients) drawn with replacement.

    Resamples in which the statistic is NaN are left out. The draws depend only on the clusters and the seed; the fast
    functions below use the same ones and therefore agree with this loop.

    Args:
        statistic: Maps the indices of a resample, int64 ``[m]`` in ``[0, n)`` with repeats, to a number.
        n: Number of samples.
        clusters: The patient of each sample, length ``n``.
        n_boot: Number of resamples.
        seed: Of the random generator.
        level: Coverage, in (0, 1).

    Returns:
        Low and high end.

    Raises:
        ValueError: If ``clusters`` has another length than ``n``, or a number is out of range.
    """
    samples = np.arange(n, dtype=np.int64)
    values = [
        statistic(np.repeat(samples, row.astype(np.int64)))
        for weights in _resamples(n, clusters, n_boot, seed)
        for row in weights
    ]
    return _interval(np.asarray(values, dtype=np.float64), level)


def mean_interval(
    values: npt.ArrayLike, clusters: Sequence[str], n_boot: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Percentile interval of the mean of per-sample values ``[N]``, patients resampled; NaN values are left out.

    Arguments, result and errors are otherwise those of :func:`clustered_bootstrap`.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or np.isinf(values).any():
        raise ValueError(f"values must be [N], finite or NaN, got shape {values.shape}")
    known = ~np.isnan(values)
    numbers = np.where(known, values, 0.0)
    replicates = [
        _divide(weights @ numbers, weights @ known.astype(np.float64))
        for weights in _resamples(len(values), clusters, n_boot, seed)
    ]
    return _interval(np.concatenate(replicates), level)


def auroc_interval(
    score: npt.ArrayLike,
    target: npt.ArrayLike,
    clusters: Sequence[str],
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of one AUROC, patients resampled.

    Args:
        score: ``[N]``, finite, any scale.
        target: ``[N]`` in {0, 1, NaN = unknown, left out}.
        clusters: The patient of each sample.
        n_boot: Number of resamples.
        seed: Of the random generator.
        level: Coverage, in (0, 1).

    Returns:
        Low and high end.

    Raises:
        ValueError: If lengths differ, a score is not finite, a target is none of these values, or a number is out of
            range.
    """
    score, target = np.asarray(score, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if score.ndim != 1 or target.shape != score.shape:
        raise ValueError(f"score and target must be [N] alike, got {score.shape} and {target.shape}")
    return auroc_intervals(score[:, None], target[:, None], clusters, n_boot, seed, level).macro


def auroc_intervals(
    probability: npt.ArrayLike,
    label: npt.ArrayLike,
    clusters: Sequence[str],
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> AurocIntervals:
    """Percentile intervals of one-against-rest AUROCs and of their mean, patients resampled.

    A resample's macro value is the mean over the classes defined in it. Each column is sorted once; a resample is a
    set of sample weights.

    Args:
        probability: ``[N, K]``, finite.
        label: ``[N]`` class indices, or ``[N, K]`` in {0, 1, NaN = unknown, left out}.
        clusters: The patient of each sample.
        n_boot: Number of resamples.
        seed: Of the random generator.
        level: Coverage, in (0, 1).

    Returns:
        Intervals per class and of the macro value.

    Raises:
        ValueError: If lengths differ, a score is not finite, a label is none of these values, or a number is out of
            range.
    """
    scores = np.asarray(probability, dtype=np.float64)
    target = _one_hot(np.asarray(label), scores)
    replicates = np.concatenate(
        [
            np.stack([weighted_auroc(s, t, weights) for s, t in zip(scores.T, target.T, strict=True)], axis=1)
            for weights in _resamples(len(scores), clusters, n_boot, seed)
        ]
    )
    defined = ~np.isnan(replicates)
    macro = _divide(np.where(defined, replicates, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))
    return AurocIntervals(tuple(_interval(column, level) for column in replicates.T), _interval(macro, level))


def auroc_micro_interval(
    probability: npt.ArrayLike,
    label: npt.ArrayLike,
    clusters: Sequence[str],
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of the AUROC of all decisions pooled: every known entry of every class is one sample.

    A patient's entries are drawn together. Arguments and errors are those of :func:`auroc_intervals`.

    Returns:
        Low and high end.
    """
    scores = np.asarray(probability, dtype=np.float64)
    target = _one_hot(np.asarray(label), scores)
    n_classes = scores.shape[1]
    replicates = [
        weighted_auroc(scores.ravel(), target.ravel(), np.repeat(part, n_classes, axis=1))
        for weights in _resamples(len(scores), clusters, n_boot, seed)
        for part in np.array_split(weights, n_classes)  # an entry per class: so many times the memory
    ]
    return _interval(np.concatenate(replicates), level)


def weighted_auroc(score: npt.ArrayLike, target: npt.ArrayLike, weights: npt.ArrayLike) -> Array:
    """AUROC under many sets of sample weights at once; ties get half credit.

    Args:
        score: ``[N]``, finite.
        target: ``[N]`` in {0, 1, NaN = left out}.
        weights: ``[R, N]``, not negative; counts of a resample, or ones.

    Returns:
        ``[R]``; NaN where positives or negatives have no weight.

    Raises:
        ValueError: If shapes do not fit together, a score is not finite or a target is none of these values.
    """
    score, target, weights = (np.asarray(values, dtype=np.float64) for values in (score, target, weights))
    if score.ndim != 1 or target.shape != score.shape or weights.ndim != 2 or weights.shape[1] != len(score):
        raise ValueError(f"expected [N], [N], [R, N], got {score.shape}, {target.shape}, {weights.shape}")
    if not np.isfinite(score).all() or not np.isin(target[~np.isnan(target)], (0.0, 1.0)).all():
        raise ValueError("scores must be finite and targets 0, 1 or NaN")
    if not (target == 1).any() or not (target == 0).any():
        return np.full(len(weights), np.nan)
    order = np.argsort(score, kind="stable")
    order = order[~np.isnan(target[order])]
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])  # first sample of each group of equal scores
    ordered = weights[:, order]
    positive = np.add.reduceat(ordered * target[order], starts, axis=1)
    negative = np.add.reduceat(ordered * (1.0 - target[order]), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    return _divide((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def _resamples(n: int, clusters: Sequence[str], n_boot: int, seed: int) -> Iterator[Array]:
    """Yield chunks of sample weights ``[r, n]``, ``n_boot`` rows in all: how often each sample's cluster was drawn."""
    if len(clusters) != n or n < 1:
        raise ValueError(f"need one cluster per sample and at least one sample: {len(clusters)} clusters, {n} samples")
    if n_boot < 1:
        raise ValueError(f"n_boot must be positive, got {n_boot}")
    names, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // max(n, len(names)))
    for first in range(0, n_boot, rows):
        count = min(rows, n_boot - first)
        drawn = generator.integers(len(names), size=(count, len(names)))
        flat = (drawn + np.arange(count)[:, None] * len(names)).ravel()
        times = np.bincount(flat, minlength=count * len(names)).reshape(count, len(names))
        yield times[:, member].astype(np.float64)


def _one_hot(label: npt.NDArray[np.generic], scores: Array) -> Array:
    if scores.ndim != 2 or label.shape not in (scores.shape, scores.shape[:1]):
        raise ValueError(f"expected [N, K] and [N] or [N, K], got {scores.shape} and {label.shape}")
    if label.ndim == 2:
        return label.astype(np.float64)  # weighted_auroc checks the values
    classes = np.arange(scores.shape[1])
    if not np.isin(label, classes).all():
        raise ValueError(f"labels must be class indices from 0 to {scores.shape[1] - 1}, got {np.unique(label)}")
    one_hot: Array = (label[:, None] == classes).astype(np.float64)
    return one_hot


def _divide(a: Array, b: Array) -> Array:
    result = np.full(len(a), np.nan)
    np.divide(a, b, out=result, where=b > 0)
    return result


def _interval(replicates: Array, level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
