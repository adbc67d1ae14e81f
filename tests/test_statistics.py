import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from gaze_lightning.metrics import (
    auroc_interval,
    auroc_intervals,
    auroc_micro_interval,
    clustered_bootstrap,
    mean_interval,
    weighted_auroc,
)


def data(n=60, k=3, patients=20, seed=0, digits=2):
    rng = np.random.default_rng(seed)
    target = (rng.random((n, k)) < 0.4).astype(float)
    score = np.round(rng.normal(size=(n, k)) + target, digits)
    clusters = [f"p{i}" for i in rng.integers(0, patients, n)]
    return score, target, clusters


def literal_auroc(score, target):
    known = ~np.isnan(target)
    if len(set(target[known])) < 2:
        return np.nan
    return roc_auc_score(target[known], score[known])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 40), st.integers(0, 2))
def test_weighted_auroc_equals_sklearn_with_ties_and_unknown_targets(seed, n, digits):
    score, target, _ = data(n, 1, seed=seed, digits=digits)
    rng = np.random.default_rng(seed)
    s, t = score[:, 0], target[:, 0]
    t[rng.random(n) < 0.1] = np.nan
    weights = rng.integers(0, 4, (5, n)).astype(float)
    for row, value in zip(weights, weighted_auroc(s, t, weights), strict=True):
        used = ~np.isnan(t) & (row > 0)
        if len(set(t[used])) < 2:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(roc_auc_score(t[used], s[used], sample_weight=row[used]), abs=1e-12)


def test_the_micro_interval_equals_the_naive_loop_over_all_known_entries():
    score, target, clusters = data()
    target[::7, 1] = np.nan
    fast = auroc_micro_interval(score, target, clusters, n_boot=200, seed=3)
    slow = clustered_bootstrap(
        lambda rows: literal_auroc(score[rows].ravel(), target[rows].ravel()), 60, clusters, n_boot=200, seed=3
    )
    assert fast == pytest.approx(slow, abs=1e-12)
    label = target.argmax(1)
    one_hot = np.eye(3)[label]
    assert auroc_micro_interval(score, label, clusters, 50) == auroc_micro_interval(score, one_hot, clusters, 50)


@pytest.mark.parametrize("digits", [0, 5])
def test_fast_intervals_equal_the_naive_loop(digits):
    score, target, clusters = data(digits=digits)
    target[::7, 1] = np.nan
    target[:, 2] = 0
    target[3, 2] = 1  # defined only in resamples that draw this patient
    fast = auroc_intervals(score, target, clusters, n_boot=200, seed=3)
    for k in range(3):
        slow = clustered_bootstrap(
            lambda rows, k=k: literal_auroc(score[rows, k], target[rows, k]), 60, clusters, n_boot=200, seed=3
        )
        assert fast.per_class[k] == pytest.approx(slow, abs=1e-12)
        assert auroc_interval(score[:, k], target[:, k], clusters, n_boot=200, seed=3) == fast.per_class[k]
    macro = clustered_bootstrap(
        lambda rows: float(np.nanmean([literal_auroc(score[rows, k], target[rows, k]) for k in range(3)])),
        60,
        clusters,
        n_boot=200,
        seed=3,
    )
    assert fast.macro == pytest.approx(macro, abs=1e-12)


def test_class_indices_mean_one_against_the_rest():
    score, _, clusters = data()
    label = np.random.default_rng(1).integers(0, 3, 60)
    one_hot = np.eye(3)[label]
    assert auroc_intervals(score, label, clusters, n_boot=50) == auroc_intervals(score, one_hot, clusters, n_boot=50)


def test_mean_interval_equals_the_naive_loop_and_skips_nan():
    values = np.random.default_rng(0).normal(size=60)
    values[::9] = np.nan
    clusters = data()[2]
    slow = clustered_bootstrap(lambda rows: float(np.nanmean(values[rows])), 60, clusters, n_boot=300, seed=1)
    assert mean_interval(values, clusters, n_boot=300, seed=1) == pytest.approx(slow, abs=1e-12)


def test_patients_are_drawn_whole():
    clusters = ["a", "a", "b", "c", "c", "c"]
    seen = []

    def note(rows):
        counts = np.bincount(rows, minlength=6)
        seen.append(tuple(counts))
        return 0.0

    clustered_bootstrap(note, 6, clusters, n_boot=50)
    for counts in seen:
        assert counts[0] == counts[1]
        assert len(set(counts[3:])) == 1
        assert counts[0] + counts[2] + counts[3] == 3  # as many patients as there are
    assert len(set(seen)) > 5


def test_repeated_readings_widen_the_interval():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=30), 10)
    clustered = mean_interval(values, [f"{i // 10}" for i in range(300)])
    independent = mean_interval(values, [f"{i}" for i in range(300)])
    assert clustered.high - clustered.low > 2 * (independent.high - independent.low)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        values = np.repeat(rng.normal(size=40), 3)
        low, high = mean_interval(values, [f"{i // 3}" for i in range(120)], n_boot=300, seed=seed)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_same_seed_same_interval_and_level_orders_the_width():
    values, clusters = np.random.default_rng(0).normal(size=60), data()[2]
    assert mean_interval(values, clusters, seed=5) == mean_interval(values, clusters, seed=5)
    assert mean_interval(values, clusters, seed=5) != mean_interval(values, clusters, seed=6)
    narrow, wide = (mean_interval(values, clusters, level=level) for level in (0.5, 0.95))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_chunks_do_not_change_the_draws(monkeypatch):
    score, target, clusters = data()
    whole = auroc_intervals(score, target, clusters, n_boot=100)
    monkeypatch.setattr("gaze_lightning.metrics.statistics._CHUNK", 60 * 7)
    assert auroc_intervals(score, target, clusters, n_boot=100) == whole


def test_nothing_defined_is_nan():
    score, target, clusters = data()
    target[:] = 1
    result = auroc_intervals(score, target, clusters, n_boot=20)
    assert np.isnan([*result.macro, *result.per_class[0]]).all()
    assert np.isnan(mean_interval(np.full(60, np.nan), clusters, n_boot=20)).all()


def test_a_thousand_resamples_of_300_samples_and_14_classes_take_less_than_two_seconds():
    score, target, clusters = data(300, 14, 150, digits=6)
    start = time.perf_counter()
    auroc_intervals(score, target, clusters, n_boot=1000)
    assert time.perf_counter() - start < 2


def test_bad_input_is_refused():
    score, target, clusters = data()
    with pytest.raises(ValueError, match="one cluster per sample"):
        mean_interval(np.zeros(5), clusters)
    with pytest.raises(ValueError, match="n_boot"):
        mean_interval(np.zeros(60), clusters, n_boot=0)
    with pytest.raises(ValueError, match="level"):
        mean_interval(np.zeros(60), clusters, level=95)
    with pytest.raises(ValueError, match="values"):
        mean_interval(np.full(60, np.inf), clusters)
    with pytest.raises(ValueError, match="finite"):
        auroc_intervals(np.where(score > 1, np.nan, score), target, clusters)
    with pytest.raises(ValueError, match="targets"):
        auroc_intervals(score, target + 1, clusters)
    with pytest.raises(ValueError, match="class indices"):
        auroc_intervals(score, np.full(60, 3), clusters)
    with pytest.raises(ValueError, match=r"\[N, K\]"):
        auroc_intervals(score, target[:, :2], clusters)
    with pytest.raises(ValueError, match=r"\[N\]"):
        auroc_interval(score, target, clusters)
