import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import roc_auc_score

from gaze_lightning.metrics import (
    NSS,
    AUCJudd,
    CorrelationCoefficient,
    SaliencyKL,
    ShuffledAUC,
    Similarity,
    as_distribution,
    auc_judd,
    correlation_coefficient,
    nss,
    saliency_kl,
    shuffled_auc,
    similarity,
)

EPS = 2.2e-16
THREE = torch.tensor([[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]])
CORNER = torch.tensor([[[0.0, 0, 0], [0, 0, 0], [0, 0, 1]]])


def maps(b=6, h=7, w=9, seed=0, levels=None):
    rng = np.random.default_rng(seed)
    values = rng.random((b, h, w)) if levels is None else rng.integers(0, levels, (b, h, w))
    return torch.from_numpy(values.astype(np.float64))


def fixated(b=6, n=8, h=7, w=9, seed=1):
    rng = np.random.default_rng(seed)
    xy = torch.from_numpy(rng.uniform(-1, 1, (b, n, 2)) * np.array([w, h]) / 1.8 + np.array([w, h]) / 2)
    mask = torch.from_numpy(rng.random((b, n)) < 0.8)
    return xy.masked_fill(~mask[..., None], torch.nan), mask


def literal_cells(xy, mask, h, w):
    """Cells (row, column) of the points that count, repeats kept."""
    kept = [(x, y) for (x, y), m in zip(xy.tolist(), mask.tolist(), strict=True) if m]
    return [(math.floor(y), math.floor(x)) for x, y in kept if 0 <= x < w and 0 <= y < h]


# maps against maps


def test_cc_equals_pearsonr():
    a, b = maps(seed=1), maps(seed=2) - 0.3
    expected = [pearsonr(p.flatten(), t.flatten()).statistic for p, t in zip(a.numpy(), b.numpy(), strict=True)]
    np.testing.assert_allclose(correlation_coefficient(a, b), expected, atol=1e-12)


def test_cc_by_hand():
    # deviations -4..4, and -1/9 or 8/9: covariance 4/9, deviations sqrt(60/9), sqrt(8/81)
    expected = (4 / 9) / (math.sqrt(60 / 9) * math.sqrt(8 / 81))
    assert correlation_coefficient(THREE, CORNER).item() == pytest.approx(expected, abs=1e-12)


def test_kl_and_similarity_equal_literal_sums():
    a, b = maps(seed=1), maps(seed=2)
    b[:, 2] = 0
    for i, (kl, sim) in enumerate(zip(saliency_kl(a, b), similarity(a, b), strict=True)):
        p, q = a[i] / a[i].sum(), b[i] / b[i].sum()
        literal_kl = literal_sim = 0.0
        for u in range(7):
            for v in range(9):
                pv, qv = p[u, v].item(), q[u, v].item()
                literal_kl += qv * math.log(EPS + qv / (pv + EPS))
                literal_sim += min(pv, qv)
        assert kl.item() == pytest.approx(literal_kl, abs=1e-12)
        assert sim.item() == pytest.approx(literal_sim, abs=1e-12)


def test_kl_takes_the_target_as_reference():
    assert saliency_kl(THREE, CORNER).item() == pytest.approx(math.log(45 / 9), abs=1e-9)
    # the other way round most of the mass meets a zero: the epsilon keeps it finite
    assert 25 < saliency_kl(CORNER, THREE).item() < 37


def test_similarity_by_hand():
    assert similarity(THREE, CORNER).item() == pytest.approx(9 / 45, abs=1e-12)


def test_distribution_subtracts_the_minimum_only_from_maps_with_negative_values():
    np.testing.assert_allclose(as_distribution(THREE)[0], THREE[0] / 45)
    np.testing.assert_allclose(as_distribution(THREE - 4)[0], (THREE[0] - 1) / 36)
    for constant in (0.0, 3.0, -2.0):
        np.testing.assert_allclose(as_distribution(torch.full((1, 2, 2), constant)), 0.25)
    assert as_distribution(torch.full((1, 2, 2), 1e308, dtype=torch.float64)).sum() == pytest.approx(1)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3])
def test_constant_prediction_has_no_cc_and_nss_half_an_auc_and_a_finite_kl(value):
    flat, target = torch.full((6, 7, 9), value), maps()
    xy, mask = fixated()
    assert correlation_coefficient(flat, target).isnan().all()
    assert nss(flat, xy, mask).isnan().all()
    np.testing.assert_array_equal(auc_judd(flat, xy, mask), 0.5)
    np.testing.assert_array_equal(shuffled_auc(flat, xy, mask, xy, mask), 0.5)
    uniform = (target / target.sum((1, 2), keepdim=True) * 63).log() * target / target.sum((1, 2), keepdim=True)
    np.testing.assert_allclose(saliency_kl(flat, target), uniform.sum((1, 2)), atol=1e-10)


def test_all_zero_target_is_undefined():
    target = maps()
    target[2] = 0
    for metric in (correlation_coefficient, saliency_kl, similarity):
        assert metric(maps(seed=3), target).isnan().tolist() == [False, False, True, False, False, False]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), st.floats(1e-12, 1e12), st.floats(-1e3, 1e3))
def test_metrics_do_not_see_the_scale_of_a_map(seed, scale, shift):
    a, b = maps(seed=seed), maps(seed=seed + 1)
    xy, mask = fixated(seed=seed)
    for metric in (saliency_kl, similarity, correlation_coefficient):
        torch.testing.assert_close(metric(a * scale, b), metric(a, b), atol=1e-9, rtol=0)
    torch.testing.assert_close(correlation_coefficient(a + shift, b), correlation_coefficient(a, b))
    torch.testing.assert_close(nss(a + shift, xy, mask), nss(a, xy, mask), equal_nan=True, atol=1e-9, rtol=0)
    torch.testing.assert_close(auc_judd(a * scale, xy, mask), auc_judd(a, xy, mask), equal_nan=True)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999))
def test_a_map_agrees_best_with_itself(seed):
    a = maps(seed=seed)
    np.testing.assert_allclose(correlation_coefficient(a, a), 1, atol=1e-12)
    np.testing.assert_allclose(similarity(a, a), 1, atol=1e-12)
    np.testing.assert_allclose(saliency_kl(a, a), 0, atol=1e-12)


# maps against points


def test_nss_equals_literal_loop_with_population_deviation_and_repeats():
    a = maps()
    xy, mask = fixated()
    xy[0, :2], mask[0, :2] = torch.tensor([3.2, 4.9]), True
    expected = []
    for i in range(6):
        z = (a[i].numpy() - a[i].numpy().mean()) / a[i].numpy().std(ddof=0)
        expected.append(np.mean([z[cell] for cell in literal_cells(xy[i], mask[i], 7, 9)]))
    np.testing.assert_allclose(nss(a, xy, mask), expected, atol=1e-12)


def test_nss_by_hand():
    points = torch.tensor([[[2.5, 2.5], [0.0, 0.0]]])
    both = torch.ones(1, 2, dtype=torch.bool)
    assert nss(THREE, points, both).item() == pytest.approx(0, abs=1e-12)
    assert nss(THREE, points[:, :1], both[:, :1]).item() == pytest.approx(4 / math.sqrt(60 / 9), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 2, 4])
def test_auc_judd_equals_roc_auc_over_cells_with_and_without_ties(levels):
    a = maps(levels=levels)
    xy, mask = fixated(n=20)
    expected = []
    for i in range(6):
        truth = np.zeros((7, 9), dtype=int)
        for cell in literal_cells(xy[i], mask[i], 7, 9):
            truth[cell] = 1
        expected.append(roc_auc_score(truth.ravel(), a[i].numpy().ravel()))
    np.testing.assert_allclose(auc_judd(a, xy, mask), expected, atol=1e-12)


@pytest.mark.parametrize("levels", [None, 3])
def test_shuffled_auc_equals_roc_auc_of_cells_against_other_images_fixations(levels):
    a = maps(levels=levels)
    (xy, mask), (others, other_mask) = fixated(n=12), fixated(n=30, seed=5)
    expected = []
    for i in range(6):
        own = sorted(set(literal_cells(xy[i], mask[i], 7, 9)))
        foreign = literal_cells(others[i], other_mask[i], 7, 9)
        scores = [a[i][cell].item() for cell in own + foreign]
        expected.append(roc_auc_score([1] * len(own) + [0] * len(foreign), scores))
    np.testing.assert_allclose(shuffled_auc(a, xy, mask, others, other_mask), expected, atol=1e-12)


def test_aucs_by_hand():
    yes = torch.ones(1, 1, dtype=torch.bool)
    sixth = torch.tensor([[[2.5, 1.5]]])  # value 6: five of eight others lie below
    assert auc_judd(THREE, sixth, yes).item() == pytest.approx(5 / 8)
    tied = torch.tensor([[[1.0, 1, 0], [0, 0, 0], [0, 0, 0]]])
    assert auc_judd(tied, torch.tensor([[[0.5, 0.5]]]), yes).item() == pytest.approx(7.5 / 8)
    others = torch.tensor([[[0.5, 0.5], [2.5, 1.5], [2.5, 2.5], [2.5, 2.5]]])
    assert shuffled_auc(THREE, sixth, yes, others, yes.expand(1, 4)).item() == pytest.approx(1.5 / 4)


def test_auc_counts_a_fixated_cell_once():
    a = maps()
    xy, mask = fixated()
    again = torch.cat([xy, xy[:, :1], xy], 1), torch.cat([mask, mask[:, :1], mask], 1)
    torch.testing.assert_close(auc_judd(a, *again), auc_judd(a, xy, mask))


def test_no_point_inside_or_every_cell_fixated_is_undefined():
    a = maps(3, 2, 2)
    everywhere = torch.tensor([[0.5, 0.5], [1.5, 0.5], [0.5, 1.5], [1.5, 1.5]]).expand(3, 4, 2).clone()
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1] = False
    everywhere[2] += 5
    assert auc_judd(a, everywhere, mask).isnan().all()
    assert nss(a, everywhere, mask).isnan().tolist() == [False, True, True]
    assert shuffled_auc(a, everywhere, mask, everywhere, mask).isnan().tolist() == [False, True, True]
    empty = torch.zeros(3, 0, 2), torch.zeros(3, 0, dtype=torch.bool)
    assert auc_judd(a, *empty).isnan().all()
    assert nss(a, *empty).isnan().all()
    assert shuffled_auc(a, everywhere, mask, *empty).isnan().all()


def test_points_are_dropped_outside_and_cells_are_half_open():
    yes = torch.ones(1, 3, dtype=torch.bool)
    with_outside = torch.tensor([[[2.999, 2.999], [3.0, 2.0], [-0.001, 1.0]]])
    torch.testing.assert_close(nss(THREE, with_outside, yes), nss(THREE, with_outside[:, :1], yes[:, :1]))


# errors


def test_sizes_that_differ_are_an_error_never_a_resize():
    xy, mask = fixated()
    for metric in (correlation_coefficient, saliency_kl, similarity):
        with pytest.raises(ValueError, match="differ in size"):
            metric(maps(), maps(h=8))
    for metric in (nss, auc_judd):
        with pytest.raises(ValueError, match=r"\[B"):
            metric(maps(b=5), xy, mask)
        with pytest.raises(ValueError, match="mask"):
            metric(maps(), xy, mask[:, 1:])
    with pytest.raises(ValueError, match=r"\[B, h, w\]"):
        as_distribution(maps()[:, None])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_maps_and_points_that_are_not_finite_are_errors(bad):
    a, (xy, mask) = maps(), fixated()
    a[1, 2, 3] = bad
    for call in (
        lambda: correlation_coefficient(a, maps()),
        lambda: saliency_kl(maps(), a),
        lambda: similarity(a, maps()),
        lambda: nss(a, xy, mask),
        lambda: auc_judd(a, xy, mask),
        lambda: shuffled_auc(a, xy, mask, xy, mask),
    ):
        with pytest.raises(ValueError, match="NaN or infinite values in 1 of 6"):
            call()
    xy[0, 0], mask[0, 0] = bad, True
    with pytest.raises(ValueError, match="coordinates"):
        nss(maps(), xy, mask)


# the torchmetrics

PAIRS = [(CorrelationCoefficient, correlation_coefficient), (SaliencyKL, saliency_kl), (Similarity, similarity)]
POINTS = [(NSS, nss), (AUCJudd, auc_judd), (ShuffledAUC, shuffled_auc)]


def inputs(metric_class, b=12):
    a = maps(b=b, seed=3)
    if metric_class in dict(PAIRS):
        target = maps(b=b, seed=4)
        target[5] = 0
        return a, target
    xy, mask = fixated(b=b)
    mask[5] = False
    return (a, xy, mask, *fixated(b=b, seed=9)) if metric_class is ShuffledAUC else (a, xy, mask)


@pytest.mark.parametrize(("metric_class", "function"), PAIRS + POINTS)
def test_metric_is_the_mean_over_defined_samples_and_counts_the_rest(metric_class, function):
    args = inputs(metric_class)
    metric = metric_class()
    for batch in zip(*(a.split(5) for a in args), strict=True):
        metric.update(*batch)
    values = function(*args)
    assert values.isnan().sum() == 1
    assert metric.compute().dtype == torch.float64
    assert metric.compute().item() == pytest.approx(values.nanmean().item(), abs=1e-12)
    assert (metric.defined.item(), metric.excluded.item()) == (11, 1)


@pytest.mark.parametrize(("metric_class", "function"), PAIRS + POINTS)
def test_metric_survives_pickle_clone_and_reset(metric_class, function):
    args = inputs(metric_class)
    metric = metric_class()
    metric.update(*args)
    expected = metric.compute()
    for twin in (pickle.loads(pickle.dumps(metric)), metric.clone(), copy.deepcopy(metric)):  # noqa: S301
        assert twin.compute() == expected
    assert metric.state_dict() == {}
    metric.reset()
    assert metric.defined == metric.excluded == 0


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@pytest.mark.parametrize("metric_class", [m for m, _ in PAIRS + POINTS])
def test_no_defined_sample_gives_nan(metric_class):
    assert metric_class().compute().isnan()


@pytest.mark.parametrize(("metric_class", "function"), PAIRS + POINTS)
def test_bfloat16_maps_accumulate_in_float64(metric_class, function):
    args = list(inputs(metric_class))
    args[0] = args[0].bfloat16()
    if metric_class in dict(PAIRS):
        args[1] = args[1].bfloat16()
    metric = metric_class()
    metric.update(*args)
    exact = function(*(a.double() if a.dtype == torch.bfloat16 else a for a in args)).nanmean()
    assert metric.total.dtype == torch.float64
    assert metric.compute().item() == pytest.approx(exact.item(), abs=1e-12)
