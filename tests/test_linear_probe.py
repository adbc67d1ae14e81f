import math
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gaze_lightning.evaluation import linear_probe
from gaze_lightning.evaluation.linear_probe import FIXED_STRENGTH, LinearProbe

STRENGTHS = (0.005, 0.05, 5.0)


def single(n=120, c=6, k=3, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, k, n)
    features = rng.normal(size=(n, c)) * 10.0 ** np.arange(c) + 3
    features[:, :k] += 0.8 * np.eye(k)[label] * 10.0 ** np.arange(k)
    return features, label


def multi(n=150, c=5, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, c)) * 4 - 1
    label = (features[:, :3] + rng.normal(size=(n, 3)) * 4 > 1).astype(float)
    label[rng.random((n, 3)) < 0.3] = np.nan
    return features, label


def pipeline(strength, n):
    """Scikit-learn adds up the losses of ``n`` films."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / (strength * n), tol=1e-8, max_iter=10_000))


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_single_label_is_scikit_learns_pipeline(k, strength, monkeypatch):
    monkeypatch.setattr(linear_probe, "FIXED_STRENGTH", strength)
    features, label = single(k=k)
    other, _ = single(k=k, seed=1)
    probe = LinearProbe.fit(features, label, "single", k)
    expected = pipeline(strength, 120).fit(features, label).predict_proba(other)
    np.testing.assert_allclose(probe.probabilities(other), expected, atol=1e-4)
    assert (probe.strength, probe.converged) == (strength, True)
    assert math.isnan(probe.validation_auroc)


def test_multi_label_is_one_pipeline_per_class_on_its_known_labels_with_the_scale_of_all_films(monkeypatch):
    monkeypatch.setattr(linear_probe, "FIXED_STRENGTH", 0.02)
    features, label = multi()
    other, _ = multi(seed=1)
    said = LinearProbe.fit(features, label, "multi", 3).probabilities(other)
    scale = StandardScaler().fit(features)
    for k in range(3):
        known = ~np.isnan(label[:, k])
        model = LogisticRegression(C=1 / (0.02 * known.sum()), tol=1e-8)
        model.fit(scale.transform(features[known]), label[known, k])
        np.testing.assert_allclose(said[:, k], model.predict_proba(scale.transform(other))[:, 1], atol=1e-4)


def test_the_strength_with_the_highest_macro_auroc_of_the_validation_part_is_chosen():
    features, label = single(40, 30)
    held_out, truth = single(60, 30, seed=1)
    held_out, truth = np.r_[held_out, held_out[:1]], np.r_[truth, -1]  # one film of unknown class
    strengths = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
    said = {s: pipeline(s, 40).fit(features, label).predict_proba(held_out[:60]) for s in strengths}
    auroc = {s: roc_auc_score(truth[:60], said[s], multi_class="ovr") for s in strengths}
    probe = LinearProbe.fit(features, label, "single", 3, (held_out, truth), strengths)
    assert max(auroc.values()) > min(auroc.values()) + 0.01
    assert probe.strength == max(auroc, key=auroc.get)
    assert probe.validation_auroc == pytest.approx(max(auroc.values()), abs=1e-3)
    again = LinearProbe.fit(features, label, "single", 3, (held_out, truth), strengths[::-1])
    np.testing.assert_array_equal(again.weight, probe.weight)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_strength_means_the_same_for_many_films_as_for_few(kind):
    features, label = single() if kind == "single" else multi()
    validation = tuple(values[:60] for values in (single(seed=1) if kind == "single" else multi(seed=1)))
    few = LinearProbe.fit(features, label, kind, 3, validation)
    many = LinearProbe.fit(np.tile(features, (7, 1)), np.concatenate([label] * 7), kind, 3, validation)
    assert many.strength == few.strength
    np.testing.assert_allclose(many.probabilities(features), few.probabilities(features), atol=1e-4)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_weaker_probes_start_from_stronger_ones_and_end_where_they_would_alone(kind, monkeypatch):
    made = single if kind == "single" else multi
    features, label = made(200, 30)
    steps = []
    fit = LogisticRegression.fit

    def counted(self, *given):
        steps.append(int(fit(self, *given).n_iter_.max()))
        return self

    monkeypatch.setattr(LogisticRegression, "fit", counted)
    monkeypatch.setattr(linear_probe, "_macro_auroc", lambda probability, target: len(steps))  # the last is chosen
    validation = made(60, 30, seed=1)
    alone = LinearProbe.fit(features, label, kind, 3, validation, (1e-3,))
    cold = sum(steps)
    steps.clear()
    after = LinearProbe.fit(features, label, kind, 3, validation, (2e-3, 1e-3))
    warm = sum(steps[len(steps) // 2 :])
    assert alone.strength == after.strength == 1e-3
    assert warm < cold
    np.testing.assert_allclose(after.probabilities(features), alone.probabilities(features), atol=1e-4)


def test_the_strength_of_multi_labels_is_one_for_all_and_counts_known_entries():
    features, label = multi(40)
    held_out, truth = multi(80, seed=1)
    truth[:, 2] = np.where(np.isnan(truth[:, 2]), np.nan, 1)  # undefined: left out of the mean
    scores = {}
    for strength in (0.003, 0.3, 30.0):
        parts = []
        for k in range(2):
            rows, known = ~np.isnan(label[:, k]), ~np.isnan(truth[:, k])
            scale = StandardScaler().fit(features)
            model = LogisticRegression(C=1 / (strength * rows.sum()), tol=1e-8)
            model.fit(scale.transform(features[rows]), label[rows, k])
            said = model.decision_function(scale.transform(held_out[known]))
            parts.append(roc_auc_score(truth[known, k], said))
        scores[strength] = np.mean(parts)
    probe = LinearProbe.fit(features, label, "multi", 3, (held_out, truth), tuple(scores))
    assert probe.strength == max(scores, key=scores.get)
    assert probe.validation_auroc == pytest.approx(max(scores.values()), abs=1e-3)


def test_of_equal_aurocs_the_strongest_and_without_any_the_fixed_strength():
    label = np.arange(40) % 2
    features = np.stack([label * 2.0 - 1, np.zeros(40)], axis=1)
    probe = LinearProbe.fit(features, label, "single", 2, (features, label), STRENGTHS)
    assert (probe.strength, probe.validation_auroc) == (5.0, 1.0)
    one_class = LinearProbe.fit(features, label, "single", 2, (features[::2], label[::2]), STRENGTHS)
    assert one_class.strength == FIXED_STRENGTH
    assert math.isnan(one_class.validation_auroc)


def test_classes_that_cannot_be_learned_are_counted():
    features, label = multi()
    label[:, 0] = np.where(np.isnan(label[:, 0]), np.nan, 0)
    label[:, 1] = np.nan
    known = int((~np.isnan(label[:, 0])).sum())
    said = LinearProbe.fit(features, label, "multi", 3).probabilities(features)
    np.testing.assert_allclose(said[:, 0], 1 / (known + 2))
    np.testing.assert_allclose(said[:, 1], 0.5)
    assert said[:, 2].std() > 0.02

    features, label = single()
    label[label == 1] = 2
    label[:4] = -1
    said = LinearProbe.fit(features, label, "single", 4).probabilities(features)
    expected = pipeline(FIXED_STRENGTH, 116).fit(features[4:], label[4:]).predict_proba(features)
    np.testing.assert_allclose(said[:, [1, 3]], 1 / (116 + 4))
    np.testing.assert_allclose(said[:, [0, 2]], expected * (1 - 2 / 120), atol=1e-4)
    alone = LinearProbe.fit(features, np.zeros(120, dtype=int), "single", 3).probabilities(features[:2])
    np.testing.assert_allclose(alone, [[121 / 123, 1 / 123, 1 / 123]] * 2)


def test_constant_features_and_the_unit_of_features_change_nothing():
    features, label = single()
    other, _ = single(seed=1)
    said = LinearProbe.fit(features, label, "single", 3).probabilities(other)
    constant = np.full((120, 1), 0.1)
    moved = LinearProbe.fit(np.c_[features * 1e-3 + 7, constant], label, "single", 3)
    np.testing.assert_allclose(moved.probabilities(np.c_[other * 1e-3 + 7, constant + 1e-3]), said, atol=1e-3)
    np.testing.assert_allclose(said.sum(axis=1), 1)
    half = LinearProbe.fit(features.astype(np.float32), label, "single", 3)
    np.testing.assert_allclose(half.probabilities(other), said, atol=1e-4)


def test_a_fit_that_does_not_converge_says_so_and_other_warnings_pass(monkeypatch):
    features, label = single()
    monkeypatch.setattr(linear_probe, "_MAX_ITER", 2)
    with pytest.warns(
        UserWarning, match=r"L2 strength 5, 0\.005 did not converge in 2 iterations.*Leave small"
    ) as told:
        probe = LinearProbe.fit(features, label, "single", 3, (features, label), (0.005, 5.0))
    assert not probe.converged
    assert not any(issubclass(one.category, ConvergenceWarning) for one in told)
    monkeypatch.setattr(linear_probe, "_MAX_ITER", 1000)
    fit = LogisticRegression.fit

    def noisy(self, *given):
        warnings.warn("something else", RuntimeWarning, stacklevel=1)
        return fit(self, *given)

    monkeypatch.setattr(LogisticRegression, "fit", noisy)
    with pytest.warns(RuntimeWarning, match="something else"):
        assert LinearProbe.fit(features, label, "single", 3).converged


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": np.full((120, 6), np.nan)}, "training features must be a finite"),
        ({"features": np.ones(120)}, r"\[n, C\]"),
        ({"label": np.zeros(119, dtype=int)}, "training labels must be"),
        ({"label": np.full(120, 3)}, "a training label is 3, but there are 3"),
        ({"label": np.full(120, -1)}, "no training film has a label"),
        ({"label_type": "multi"}, r"must be \[120, 3\]"),
        ({"label_type": "multi", "label": np.full((120, 3), 2.0)}, "0, 1 or NaN"),
        ({"validation": (np.ones((4, 5)), np.arange(4) % 3)}, "5 validation features, but 6"),
        ({"validation": (np.ones((4, 6)), np.arange(3))}, "validation labels must be"),
        ({"strengths": ()}, "strengths are"),
        ({"strengths": (0.0, 1.0)}, "positive"),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    features, label = single()
    given = {"features": features, "label": label, "label_type": "single", "num_classes": 3}
    with pytest.raises(ValueError, match=words):
        LinearProbe.fit(**{**given, **change})
    with pytest.raises(ValueError, match=r"\[n, 6\]"):
        LinearProbe.fit(**given).probabilities(features[:, :4])
