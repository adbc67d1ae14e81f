import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

from gaze_lightning.metrics import ClassificationReport

NAMES = ["Normal", "CHF", "pneumonia"]


def single(n=60, k=3, seed=0, digits=None):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k)) + np.eye(k)[label]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if digits is not None:
        p = np.round(p, digits)
    return torch.from_numpy(p), torch.from_numpy(label)


def multi(n=80, k=3, seed=0):
    rng = np.random.default_rng(seed)
    label = (rng.random((n, k)) < 0.4).astype(float)
    p = 1 / (1 + np.exp(-rng.normal(size=(n, k)) - label))
    label[rng.random((n, k)) < 0.2] = np.nan
    return torch.from_numpy(p), torch.from_numpy(label)


def report(p, label, label_type="single", names=NAMES):
    metric = ClassificationReport(names, label_type)
    for batch in zip(p.split(7), label.split(7), strict=True):
        metric.update(*batch)
    return {key: value.item() for key, value in metric.compute().items()}


@pytest.mark.parametrize("digits", [None, 1])
def test_single_label_equals_sklearn(digits):
    p, y = single(digits=digits)
    values = report(p, y)
    for k, name in enumerate(NAMES):
        assert values[f"auroc/{name}"] == pytest.approx(roc_auc_score(y == k, p[:, k]), abs=1e-6)
    normalised = (p / p.sum(1, keepdim=True)).numpy()
    if digits is None:
        assert values["auroc_macro"] == pytest.approx(roc_auc_score(y, normalised, multi_class="ovr"), abs=1e-6)
        assert values["auroc_ovo"] == pytest.approx(roc_auc_score(y, normalised, multi_class="ovo"), abs=1e-6)
        assert values["nll"] == pytest.approx(log_loss(y, normalised), abs=1e-9)
        assert values["accuracy"] == pytest.approx(accuracy_score(y, normalised.argmax(1)))
    assert values["n"] == 60
    assert values["n_classes_defined"] == 3


@pytest.mark.parametrize("digits", [None, 1])
def test_micro_auroc_and_macro_f1_of_single_labels_equal_sklearn(digits):
    p, y = single(digits=digits)
    values = report(p, y)
    assert values["auroc_micro"] == pytest.approx(roc_auc_score(np.eye(3)[y], p, average="micro"), abs=1e-6)
    assert values["f1_macro"] == pytest.approx(f1_score(y, p.argmax(1), average="macro"))


def test_micro_auroc_and_macro_f1_of_multi_labels_equal_sklearn_over_known_entries():
    p, y = multi()
    p[0, 0], y[0, 0] = 0.5, 1
    values, known = report(p, y, "multi"), ~y.isnan()
    assert values["auroc_micro"] == pytest.approx(roc_auc_score(y[known], p[known]), abs=1e-6)
    f1 = [f1_score(y[known[:, k], k], p[known[:, k], k] >= 0.5) for k in range(3)]
    assert values["f1_macro"] == pytest.approx(np.mean(f1))


def test_f1_counts_a_class_never_predicted_as_zero_and_leaves_out_a_class_without_positives():
    p, y = single()
    p[:, 1] = 0
    values = report(p, y)
    assert values["f1_macro"] == pytest.approx(f1_score(y, p.argmax(1), average="macro", zero_division=0))
    p, y = single()
    p, y = p[y != 1], y[y != 1]
    assert (p.argmax(1) == 1).any()
    expected = f1_score(y, p.argmax(1), labels=[0, 2], average="macro")
    assert report(p, y)["f1_macro"] == pytest.approx(expected)
    assert f1_score(y, p.argmax(1), average="macro") == pytest.approx(expected * 2 / 3)
    p, y = multi()
    y[:, 1] = torch.where(y[:, 1] == 1, torch.nan, y[:, 1])
    known = ~y.isnan()
    f1 = [f1_score(y[known[:, k], k], p[known[:, k], k] >= 0.5) for k in (0, 2)]
    assert report(p, y, "multi")["f1_macro"] == pytest.approx(np.mean(f1))


def test_without_a_positive_entry_micro_auroc_and_f1_are_undefined():
    p, y = multi()
    y[y == 1] = 0
    values = report(p, y, "multi")
    assert math.isnan(values["auroc_micro"])
    assert math.isnan(values["f1_macro"])


@pytest.mark.parametrize("label_type", ["single", "multi"])
def test_names_are_those_of_the_computed_values(label_type):
    p, y = single() if label_type == "single" else multi()
    assert set(ClassificationReport(NAMES, label_type).names) == set(report(p, y, label_type))


def test_pairs_look_only_at_their_two_classes():
    p, y = single()
    values = report(p, y)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        rows = (y == a) | (y == b)
        share = p[rows, b] / (p[rows, a] + p[rows, b])
        key = f"auroc_pair/{NAMES[a]}_vs_{NAMES[b]}"
        assert values[key] == pytest.approx(roc_auc_score(y[rows] == b, share), abs=1e-6)
    assert sum(key.startswith("auroc_pair/") for key in values) == 3


def test_a_dead_pair_shows_beside_a_good_macro_value():
    y = torch.tensor([0, 1, 2] * 20)
    p = torch.zeros(60, 3)
    p[y == 0, 0] = 1.0
    p[y != 0, 1:] = 0.5
    values = report(p, y)
    assert values["auroc_macro"] > 0.8
    assert values["auroc_pair/CHF_vs_pneumonia"] == 0.5
    assert values["auroc_pair/Normal_vs_CHF"] == 1.0


def test_pair_without_any_probability_is_a_tie():
    p = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
    assert report(p, torch.tensor([1, 2]))["auroc_pair/CHF_vs_pneumonia"] == 0.5


def test_multi_label_equals_sklearn_over_known_entries():
    p, y = multi()
    values = report(p, y, "multi")
    known = ~y.isnan()
    per_class = []
    for k, name in enumerate(NAMES):
        per_class.append(roc_auc_score(y[known[:, k], k], p[known[:, k], k]))
        assert values[f"auroc/{name}"] == pytest.approx(per_class[-1], abs=1e-6)
    assert values["auroc_macro"] == pytest.approx(np.mean(per_class), abs=1e-6)
    assert values["accuracy"] == pytest.approx(((p >= 0.5) == y.bool())[known].double().mean().item())
    assert values["nll"] == pytest.approx(log_loss(y[known], p[known]), abs=1e-9)
    assert not [key for key in values if key.startswith(("auroc_pair", "auroc_ovo"))]


def test_class_with_one_outcome_is_nan_and_left_out_of_the_mean():
    p, y = multi()
    y[:, 1] = 0
    values = report(p, y, "multi")
    assert math.isnan(values["auroc/CHF"])
    assert values["auroc_macro"] == pytest.approx((values["auroc/Normal"] + values["auroc/pneumonia"]) / 2)
    assert values["n_classes_defined"] == 2
    p, y = single()
    values = report(p[y != 1], y[y != 1])
    assert math.isnan(values["auroc/CHF"])
    assert math.isnan(values["auroc_pair/Normal_vs_CHF"])
    assert math.isfinite(values["auroc_ovo"])


def test_all_unknown_column_is_undefined():
    p, y = multi()
    y[:, 2] = torch.nan
    values = report(p, y, "multi")
    assert math.isnan(values["auroc/pneumonia"])
    assert math.isfinite(values["nll"])


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@pytest.mark.parametrize("label_type", ["single", "multi"])
def test_no_sample_gives_nan_and_n_zero(label_type):
    values = ClassificationReport(NAMES, label_type).compute()
    assert values["n"] == values["n_classes_defined"] == 0
    assert values["auroc_macro"].isnan()
    assert values["accuracy"].isnan()
    assert values["auroc_micro"].isnan()
    assert values["f1_macro"].isnan()


@pytest.mark.parametrize("bad", [torch.nan, 1.5, -0.1, torch.inf])
def test_scores_that_are_no_probabilities_are_refused(bad):
    p, y = single()
    p[3, 1] = bad
    with pytest.raises(ValueError, match="1 of 60"):
        ClassificationReport(NAMES, "single").update(p, y)


def test_labels_and_shapes_that_do_not_fit_are_refused():
    p, y = single()
    metric = ClassificationReport(NAMES, "single")
    for bad in (y + 1, y - 1, y.double(), torch.nn.functional.one_hot(y)):
        with pytest.raises(ValueError, match=r"label"):
            metric.update(p, bad)
    with pytest.raises(ValueError, match="probability"):
        metric.update(p[:, :2], y)
    p, y = multi()
    for bad in (y * 2, y - 1, y[:, 0]):
        with pytest.raises(ValueError, match="label"):
            ClassificationReport(NAMES, "multi").update(p, bad)
    for names, label_type in (([], "single"), (["a", "a"], "single"), (["a"], "both")):
        with pytest.raises(ValueError, match=r"class_names|label_type"):
            ClassificationReport(names, label_type)


def test_certain_and_wrong_has_a_finite_nll():
    value = report(torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([0]))["nll"]
    assert value == pytest.approx(-math.log(2.2e-16), rel=0.01)


def test_bfloat16_probabilities_are_kept_in_float64_and_the_report_pickles_and_clones():
    p, y = single()
    metric = ClassificationReport(NAMES, "single")
    metric.update(p.bfloat16(), y)
    assert metric.probability[0].dtype == torch.float64
    expected = metric.compute()
    for twin in (pickle.loads(pickle.dumps(metric)), metric.clone()):  # noqa: S301
        assert {k: v.item() for k, v in twin.compute().items()} == {k: v.item() for k, v in expected.items()}
    metric.reset()
    assert metric.probability == []
