import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from gaze_lightning.evaluation import (
    Results,
    SampleOutputs,
    SampleRow,
    compute_results,
    print_results,
)
from gaze_lightning.metrics.statistics import clustered_bootstrap

NAMES = ["Normal", "CHF", "Pneumonia"]


def outputs(n=60, multi=False, seed=0, per_patient=2):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, n)
    z = rng.normal(size=(n, 3))
    z[np.arange(n), label] += 1
    probability = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    cc = rng.normal(size=n)
    cc[:7] = np.nan
    ill = label > 0
    values = {
        "gaze_cc": cc,
        "pointing_lesion": np.where(ill, rng.random(n) < 0.4, np.nan),
        "pointing_lesion_chance": np.where(ill, rng.random(n) / 4, np.nan),
    }
    if multi:
        label = (rng.random((n, 3)) < 0.4).astype(float)
        label[rng.random((n, 3)) < 0.2] = np.nan
    ids, subjects = [f"s{i}" for i in range(n)], [f"p{i // per_patient}" for i in range(n)]
    return SampleOutputs(ids, subjects, probability, label, values)


def literal_auroc(score, positive):
    pairs = [(float(a > b) + 0.5 * float(a == b)) for a in score[positive] for b in score[~positive]]
    return sum(pairs) / len(pairs)


def test_single_label_values_equal_literal_loops():
    given = outputs()
    results = compute_results(given, NAMES, "single", n_boot=20)
    p, y = given.probability, given.label
    per_class = [literal_auroc(p[:, k], y == k) for k in range(3)]
    for name, expected in zip(NAMES, per_class, strict=True):
        assert results.metrics[f"auroc/{name}"].value == pytest.approx(expected, abs=1e-6)
    assert results.metrics["auroc_macro"].value == pytest.approx(sum(per_class) / 3, abs=1e-6)
    rows = y != 0
    share = p[rows, 2] / (p[rows, 1] + p[rows, 2])
    pair = results.metrics["auroc_pair/CHF_vs_Pneumonia"]
    assert pair.value == pytest.approx(literal_auroc(share, y[rows] == 2), abs=1e-6)
    assert (pair.n, pair.n_positive) == (rows.sum(), (y == 2).sum())
    assert results.metrics["accuracy"].value == pytest.approx(sum(p.argmax(1) == y) / len(y))
    assert results.metrics["nll"].value == pytest.approx(-sum(math.log(p[i, y[i]]) for i in range(len(y))) / len(y))
    assert results.metrics["accuracy"].chance == pytest.approx(max(np.bincount(y)) / len(y))
    assert (results.n, results.n_subjects) == (60, 30)


def test_multi_label_values_leave_unknown_entries_out():
    given = outputs(multi=True)
    results = compute_results(given, NAMES, "multi", n_boot=20)
    p, y = given.probability, given.label
    right, loss, known = 0, 0.0, 0
    for i in range(len(y)):
        for k in range(3):
            if not math.isnan(y[i, k]):
                known += 1
                right += (p[i, k] >= 0.5) == (y[i, k] == 1)
                loss -= math.log(p[i, k] if y[i, k] else 1 - p[i, k])
    assert results.metrics["accuracy"].value == pytest.approx(right / known)
    assert results.metrics["nll"].value == pytest.approx(loss / known)
    kept = ~np.isnan(y[:, 1])
    chf = results.metrics["auroc/CHF"]
    assert chf.value == pytest.approx(literal_auroc(p[kept, 1], y[kept, 1] == 1))
    assert chf.n == kept.sum()
    assert not any(name.startswith(("auroc_pair", "auroc_ovo")) for name in results.metrics)
    for name in ("accuracy", "nll", "auroc_macro"):
        measured = results.metrics[name]
        assert measured.low <= measured.value <= measured.high


def test_means_count_defined_samples_and_stand_beside_their_chance():
    given = outputs()
    results = compute_results(given, NAMES, "single", n_boot=20)
    assert results.metrics["gaze_cc"].n == 53
    assert results.metrics["gaze_cc"].value == pytest.approx(np.nanmean(given.values["gaze_cc"]))
    hit = results.metrics["pointing_lesion"]
    assert hit.n == (given.label > 0).sum()
    assert hit.chance == pytest.approx(np.nanmean(given.values["pointing_lesion_chance"]))
    assert "pointing_lesion_chance" not in results.metrics


def test_intervals_resample_patients_not_films():
    """Films of one patient that say the same add nothing: the interval of the patients alone must come out."""
    once = outputs(n=40, per_patient=1)
    four = np.repeat(np.arange(40), 4)
    copies = SampleOutputs(
        [f"s{i}" for i in range(160)],
        [once.subject[i] for i in four],
        once.probability[four],
        once.label[four],
        {name: values[four] for name, values in once.values.items()},
    )
    a, b = (compute_results(x, NAMES, "single", n_boot=200) for x in (once, copies))
    for name, measured in a.metrics.items():
        assert (measured.low, measured.high) == pytest.approx((b.metrics[name].low, b.metrics[name].high), abs=1e-9)
        assert measured.high - measured.low > 0.01


def test_the_interval_of_accuracy_is_the_one_of_a_literal_bootstrap():
    given = outputs()
    right = given.probability.argmax(1) == given.label
    low, high = clustered_bootstrap(lambda rows: float(right[rows].mean()), 60, given.subject, n_boot=100, seed=5)
    measured = compute_results(given, NAMES, "single", n_boot=100, seed=5).metrics["accuracy"]
    assert (measured.low, measured.high) == pytest.approx((low, high))


def test_a_class_without_positives_is_undefined_left_out_and_explained():
    given = outputs()
    keep = np.flatnonzero(given.label != 1)
    fewer = SampleOutputs(
        [given.sample_id[i] for i in keep],
        [given.subject[i] for i in keep],
        given.probability[keep],
        given.label[keep],
        {"gaze_cc": np.full(len(keep), np.nan)},
    )
    results = compute_results(fewer, NAMES, "single", n_boot=20)
    dead = results.metrics["auroc/CHF"]
    assert math.isnan(dead.value)
    assert math.isnan(dead.low)
    assert dead.reason == "no positive"
    others = [results.metrics[f"auroc/{name}"].value for name in ("Normal", "Pneumonia")]
    assert results.metrics["auroc_macro"].value == pytest.approx(np.mean(others))
    assert results.metrics["auroc_macro"].reason == "without CHF"
    assert results.metrics["gaze_cc"].n == 0
    printed = table(results)
    assert "AUROC CHF, AUROC Normal vs CHF: no positive." in printed


def test_json_is_plain_and_comes_back_complete(tmp_path):
    given = outputs()
    results = compute_results(given, NAMES, "single", data="phantom", n_boot=20)
    results.save(tmp_path / "deep" / "results.json")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads((tmp_path / "deep" / "results.json").read_text(), parse_constant=refuse)
    assert content["metrics"]["gaze_cc"]["chance"] is None
    again = Results.load(tmp_path / "deep" / "results.json")
    assert again.to_json() == results.to_json()
    assert again.metrics["nll"] == results.metrics["nll"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["results.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "metrics": {}, "class_names": []}'])
def test_a_foreign_file_is_named(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"results\.json is not a results\.json of this version"):
        Results.load(path)


def test_predictions_have_no_results():
    given = outputs()
    unlabelled = SampleOutputs(given.sample_id, given.subject, given.probability, None, {})
    with pytest.raises(ValueError, match="need labels"):
        compute_results(unlabelled, NAMES, "single")


def test_rows_with_missing_values_are_filled_with_nan_and_repeats_dropped():
    rows = [
        SampleRow("a", "p", (0.2, 0.8), 1, {"gaze_cc": 0.5}),
        SampleRow("b", "p", (0.6, 0.4), 0, {"gaze_kl": 1.5}),
        SampleRow("a", "p", (0.9, 0.1), 0, {}),
    ]
    stacked = SampleOutputs.from_rows(rows)
    assert (stacked.sample_id, stacked.n_dropped) == (["a", "b"], 1)
    assert stacked.label.tolist() == [1, 0]
    np.testing.assert_array_equal(stacked.values["gaze_cc"], [0.5, np.nan])
    np.testing.assert_array_equal(stacked.values["gaze_kl"], [np.nan, 1.5])
    with pytest.raises(ValueError, match="no sample"):
        SampleOutputs.from_rows([])


def table(results, width=80):
    stream = io.StringIO()
    print_results(results, Console(file=stream, width=width))
    return stream.getvalue()


def test_the_table_fits_eighty_columns_and_shows_every_metric():
    results = compute_results(outputs(), NAMES, "single", data="synthetic phantom", n_boot=20)
    printed = table(results)
    assert all(len(line) <= 80 for line in printed.splitlines())
    rows = [line for line in printed.splitlines() if "↑" in line or "↓" in line]
    assert len(rows) == len(results.metrics)
    for measured, row in zip(results.metrics.values(), rows, strict=True):
        assert f"{measured.value:.3f}" in row
        assert f"{measured.low:.3f} to {measured.high:.3f}" in row
    assert [("↓" in row) for row in rows] == [name == "nll" for name in results.metrics]
    for title in ("Classification", "Gaze: true class", "Localisation", "synthetic phantom"):
        assert title in printed


def test_a_section_without_any_value_is_one_note_and_no_rows():
    collected = outputs()
    collected.values["gaze_cc"][:] = np.nan
    printed = table(compute_results(collected, NAMES, "single", n_boot=20))
    assert "not shown, no sample has these values" in printed
    assert not [line for line in printed.splitlines() if line.strip().startswith("CC")]
    assert "pointing game, lesion" in printed
