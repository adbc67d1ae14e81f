import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.metrics import f1_score, roc_auc_score

from gaze_lightning.evaluation import (
    Reference,
    Results,
    SampleOutputs,
    SampleRow,
    compute_results,
    print_results,
    rows_of,
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


def with_gaze(given, seed=1, readers=20):
    """Agreement of two maps and of three references: better maps have higher values and a lower divergence."""
    rng, n = np.random.default_rng(seed), len(given)
    places = {"saliency": 0.6, "gaze": 0.3, "mean_map": 0.4, "centre": 0.2, "readers": 0.8}
    values = {}
    for of, place in places.items():
        for name in ("cc", "kl", "sim", "nss", "auc_judd"):
            column = (1 - place if name == "kl" else place) + rng.normal(size=n) / 10
            column[:5] = np.nan
            if of == "readers":
                column[readers:] = np.nan
            values[f"{of}_{name}"] = column
    values["gaze_cc"][30:] = np.nan
    values["mean_map_nss"][50:] = np.nan
    return replace(given, values=values)


def without_labels(given):
    return replace(given, probability=np.zeros((len(given), 0)), label=None)


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


def test_intervals_resample_patients_not_readings():
    """Readings of one patient that say the same add nothing: the interval of the patients alone must come out."""
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


def test_micro_auroc_and_f1_stand_beside_their_chance_and_have_literal_intervals():
    given = outputs()
    results = compute_results(given, NAMES, "single", n_boot=60, seed=2)
    p, y = given.probability, given.label
    micro, f1 = results.metrics["auroc_micro"], results.metrics["f1_macro"]
    assert micro.value == pytest.approx(roc_auc_score(np.eye(3)[y], p, average="micro"), abs=1e-6)
    assert (micro.n, micro.n_positive, micro.chance) == (60, None, 0.5)
    assert f1.value == pytest.approx(f1_score(y, p.argmax(1), average="macro"))
    always = np.full(60, np.bincount(y).argmax())
    assert f1.chance == pytest.approx(f1_score(y, always, average="macro", zero_division=0))

    def supported_f1(rows):
        return f1_score(y[rows], p[rows].argmax(1), labels=np.unique(y[rows]), average="macro", zero_division=0)

    interval = clustered_bootstrap(supported_f1, 60, given.subject, n_boot=60, seed=2)
    assert (f1.low, f1.high) == pytest.approx(interval)


def test_f1_of_multi_labels_is_that_of_known_entries_and_its_chance_that_of_each_class_commoner_outcome():
    given = outputs(multi=True)
    given.label[:, 2] = np.where(given.label[:, 2] == 0, 1, given.label[:, 2])
    given.label[:2, 2] = 0
    f1 = compute_results(given, NAMES, "multi", n_boot=20).metrics["f1_macro"]
    known = ~np.isnan(given.label)
    truth = [given.label[known[:, k], k] for k in range(3)]
    said = [given.probability[known[:, k], k] >= 0.5 for k in range(3)]
    guess = [np.full(len(t), t.mean() >= 0.5) for t in truth]
    for value, decisions in ((f1.value, said), (f1.chance, guess)):
        assert value == pytest.approx(np.mean([f1_score(t, d) for t, d in zip(truth, decisions, strict=True)]))
    assert f1.chance > 0.3
    assert f1.low <= f1.value <= f1.high
    none = replace(given, label=np.where(given.label == 1, 0.0, given.label))
    dead = compute_results(none, NAMES, "multi", n_boot=20).metrics
    assert {dead[name].reason for name in ("f1_macro", "auroc_micro")} == {"no positive"}
    assert math.isnan(dead["f1_macro"].value)
    assert math.isnan(dead["f1_macro"].chance)


def test_agreement_with_gaze_stands_beside_its_references_on_the_same_readings():
    given = with_gaze(outputs())
    metrics = compute_results(given, NAMES, "single", n_boot=20).metrics
    assert not any(name.startswith(("mean_map", "centre", "readers")) for name in metrics)
    for of in ("saliency", "gaze"):
        for name in ("cc", "kl", "sim", "nss", "auc_judd"):
            own, measured = given.values[f"{of}_{name}"], metrics[f"{of}_{name}"]
            assert measured.n == np.isfinite(own).sum()
            for reference in ("mean_map", "centre", "readers"):
                other = given.values[f"{reference}_{name}"]
                both = ~np.isnan(own) & ~np.isnan(other)
                beside = measured.references[reference]
                assert beside.n == both.sum()
                assert beside.value == pytest.approx(other[both].mean())
                assert beside.own == pytest.approx(own[both].mean())
    assert metrics["gaze_cc"].references["mean_map"].n == 25
    assert metrics["saliency_nss"].references["mean_map"].n == 45
    assert metrics["saliency_cc"].references["readers"].n == 15


def test_the_difference_to_the_mean_map_is_paired_and_its_interval_resamples_patients():
    given = with_gaze(outputs())
    metrics = compute_results(given, NAMES, "single", n_boot=100, seed=4).metrics
    for name in ("saliency_kl", "saliency_nss", "gaze_cc"):
        difference = given.values[name] - given.values[f"mean_map_{name.partition('_')[2]}"]
        measured = metrics[f"{name}_vs_mean_map"]
        assert measured.n == np.isfinite(difference).sum()
        assert measured.value == pytest.approx(np.nanmean(difference))
        interval = clustered_bootstrap(
            lambda rows, d=difference: float(np.nanmean(d[rows])), 60, given.subject, n_boot=100, seed=4
        )
        assert (measured.low, measured.high) == pytest.approx(interval)
        assert math.isnan(measured.chance)


def test_without_a_mean_map_there_is_no_difference_and_without_gaze_no_number():
    given = with_gaze(outputs())
    few = {name: values for name, values in given.values.items() if not name.startswith(("mean_map", "readers"))}
    metrics = compute_results(replace(given, values=few), NAMES, "single", n_boot=20).metrics
    assert not any(name.endswith("_vs_mean_map") for name in metrics)
    assert set(metrics["saliency_cc"].references) == {"centre"}
    nothing = {name: np.full(60, np.nan) for name in given.values}
    blind = compute_results(replace(given, values=nothing), NAMES, "single", n_boot=20)
    for name in ("saliency_cc", "saliency_cc_vs_mean_map"):
        measured = blind.metrics[name]
        assert (measured.n, measured.references) == (0, {})
        assert math.isnan(measured.value)
    assert "Gaze: predicted map, own gaze: not shown" in " ".join(table(blind).split())


def test_data_without_labels_have_gaze_results_and_no_classification(tmp_path):
    given = without_labels(with_gaze(outputs()))
    results = compute_results(given, [], "single", n_boot=20)
    assert (results.n, results.n_subjects, results.class_names) == (60, 30, ())
    assert all(name.startswith(("saliency_", "gaze_")) for name in results.metrics)
    printed = table(results)
    assert "60 readings of 30 patients" in printed
    assert "Classification" not in printed
    assert "AUROC" not in printed
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results
    given.write_csv(tmp_path / "predictions.csv", [], "single")
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["sample_id", "subject", *given.values]
    assert len(rows) == 60
    assert float(rows[7]["saliency_cc"]) == given.values["saliency_cc"][7]
    with pytest.raises(ValueError, match="0 probabilities per sample for 3 class names"):
        compute_results(given, NAMES, "single")


def test_rows_without_probabilities_or_labels_stack():
    said = {
        "sample_id": ["a", "b"],
        "probability": torch.zeros(2, 0),
        "values": {"saliency_cc": torch.tensor([0.5, 1])},
    }
    stacked = SampleOutputs.from_rows(rows_of(said))
    assert stacked.probability.shape == (2, 0)
    assert stacked.label is None
    assert stacked.subject == ["a", "b"]
    assert stacked.values["saliency_cc"].tolist() == [0.5, 1.0]


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


def test_references_come_back_and_older_files_have_none(tmp_path):
    path = tmp_path / "results.json"
    results = compute_results(with_gaze(outputs()), NAMES, "single", n_boot=20)
    results.save(path)
    assert Results.load(path).metrics["saliency_cc"] == results.metrics["saliency_cc"]
    content = json.loads(path.read_text())
    for name in [*content["metrics"]]:
        if name in ("auroc_micro", "f1_macro") or name.endswith("_vs_mean_map"):
            del content["metrics"][name]
        else:
            del content["metrics"][name]["references"]
    path.write_text(json.dumps(content))
    older = Results.load(path)
    assert older.metrics["saliency_cc"].references == {}
    assert older.metrics["accuracy"] == results.metrics["accuracy"]
    assert "CC" in table(older)
    content["metrics"]["accuracy"]["references"] = {"mean_map": 0.5}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="of this version"):
        Results.load(path)


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


@pytest.mark.parametrize("width", [80, 100])
def test_references_are_columns_and_the_difference_has_its_direction(width):
    results = compute_results(with_gaze(outputs()), NAMES, "single", n_boot=20)
    printed = table(results, width)
    lines = printed.splitlines()
    assert all(len(line) <= width for line in lines)
    start = next(i for i, line in enumerate(lines) if line.startswith("Gaze: predicted map, own gaze"))
    section = lines[start : start + 20]
    for name, label in (("cc", "CC"), ("kl", "KL divergence"), ("nss", "NSS")):
        measured = results.metrics[f"saliency_{name}"]
        difference = results.metrics[f"saliency_{name}_vs_mean_map"]
        at = next(i for i, line in enumerate(section) if line.startswith(f"{label} "))
        for reference in measured.references.values():
            assert f" {reference.value:.3f}" in section[at]
        assert section[at].endswith(f" {measured.n}")
        better = "↓" if name == "kl" else "↑"
        assert f"{measured.value:.3f} {better}" in section[at]
        beside = section[at] if width == 100 else section[at + 1]
        assert f"{difference.value:+.3f} {better}" in beside
        assert f"{difference.low:+.3f} to {difference.high:+.3f}" in beside
        if width == 80:
            assert beside.split()[:3] == ["minus", "mean", "map"]
            assert beside.endswith(f" {difference.n}")
    text = " ".join(printed.split())
    assert "below zero where ↓ stands" in text
    assert "other readers: 15 of 55 readings; the model on these: CC 0." in text
    assert "mean map: 45 of 55 readings; the model on these: NSS 0." in text


def test_other_readers_are_not_sold_as_a_ceiling():
    text = " ".join(table(compute_results(with_gaze(outputs()), NAMES, "single", n_boot=20)).split())
    assert (
        "other readers: the other readings of the same film, no ceiling where they are few, least of all for KL" in text
    )


@pytest.mark.parametrize("width", [80, 100])
def test_a_value_that_no_sample_has_is_a_dash_beside_the_others_references(width):
    given = with_gaze(outputs())
    given.values["saliency_nss"][:] = np.nan  # the model's: no fixations, say, but a map
    given.values["mean_map_sim"][:] = np.nan  # the reference's: the difference alone has no sample
    results = compute_results(given, NAMES, "single", n_boot=20)
    stale = replace(results.metrics["saliency_nss"], references={"centre": Reference(math.nan, 0, math.nan)})
    for shown in (results, replace(results, metrics=results.metrics | {"saliency_nss": stale})):
        printed = table(shown, width)
        assert "nan" not in printed
        assert all(len(line) <= width for line in printed.splitlines())
        rows = printed[printed.index("Gaze: predicted map") : printed.index("Gaze: true class")].splitlines()
        nss = next(line.split() for line in rows if line.startswith("NSS"))
        assert nss[:4] == ["NSS", "-", "↑", "-"]
        assert nss[-1] == "0"
        sim = next(i for i, line in enumerate(rows) if line.startswith("SIM"))
        assert f"{shown.metrics['saliency_sim'].value:.3f} ↑" in rows[sim]
        assert rows[sim].split()[-1] == "55"
        assert "- ↑" in (rows[sim] if width == 100 else rows[sim + 1])
        text = " ".join(printed.split())
        assert "NSS, predicted gaze: no sample has this value." in text
        assert "SIM, predicted gaze minus mean map" in text


def test_large_numbers_are_never_cut():
    results = compute_results(with_gaze(outputs()), NAMES, "single", n_boot=20)
    metrics = {
        name: replace(measured, value=-12345.678, low=-23456.789, high=-11111.111, n=34567)
        for name, measured in results.metrics.items()
    }
    printed = table(replace(results, metrics=metrics), 100)
    assert "…" not in printed
    assert printed.count("-12345.678 ↓") == 5
    assert printed.count("-23456.789 to -11111.111") == len(metrics)


def with_neighbours(given):
    rng = np.random.default_rng(5)
    near = rng.random((len(given), 3))
    near = near if given.label.ndim == 2 else near / near.sum(axis=1, keepdims=True)
    return replace(given, extra={"knn": near})


@pytest.mark.parametrize("multi", [False, True])
def test_a_further_classifier_is_measured_as_the_main_one_beside_it(multi):
    given = with_neighbours(outputs(multi=multi))
    label_type = "multi" if multi else "single"
    both = compute_results(given, NAMES, label_type, n_boot=20, classifier="linear probe on frozen features").metrics
    alone = compute_results(replace(given, extra={}), NAMES, label_type, n_boot=20).metrics
    other = compute_results(replace(given, probability=given.extra["knn"], extra={}), NAMES, label_type, n_boot=20)
    names = ["auroc_macro", *(f"auroc/{name}" for name in NAMES), "accuracy", "nll"]
    assert [name for name in both if name.startswith("knn/")] == [f"knn/{name}" for name in names]
    assert {name: measured for name, measured in both.items() if not name.startswith("knn/")} == alone
    for name in names:
        assert both[f"knn/{name}"] == other.metrics[name]
    assert both["knn/auroc_macro"] != both["auroc_macro"]


def test_each_classifier_has_its_section_and_a_note_that_names_it():
    given = with_neighbours(outputs())
    given.label[given.label == 1] = 2
    results = compute_results(given, NAMES, "single", n_boot=20, classifier="linear probe on frozen features")
    narrow = table(results)
    assert all(len(line) <= 80 for line in narrow.splitlines())
    assert "Classification: linear probe on frozen features" in " ".join(narrow.split())  # in two lines
    lines = [line.strip() for line in table(results, 100).splitlines()]
    probe = lines.index("Classification: linear probe on frozen features")
    knn = lines.index("Classification: k nearest neighbours")
    gaze = lines.index("Gaze: true class's CAM, own gaze")
    assert probe < knn < gaze
    for start, stop, prefix in ((probe, knn, ""), (knn, gaze, "knn/")):
        section = lines[start:stop]
        for name, label in (("auroc_macro", "AUROC, mean of classes"), ("nll", "negative log-likelihood")):
            (row,) = [line for line in section if line.startswith(label)]
            assert f"{results.metrics[prefix + name].value:.3f} {'↓' if name == 'nll' else '↑'}" in row
    text = " ".join(lines)
    assert "AUROC CHF, AUROC Normal vs CHF, AUROC CHF, k nearest neighbours: no positive." in text
    plain = table(compute_results(outputs(), NAMES, "single", n_boot=20))
    assert "Classification\n" in "\n".join(line.strip() for line in plain.splitlines())


def test_classifiers_come_back_from_the_file_and_older_files_name_none(tmp_path):
    path = tmp_path / "results.json"
    results = compute_results(with_neighbours(outputs()), NAMES, "single", n_boot=20, classifier="linear probe")
    results.save(path)
    assert Results.load(path).to_json() == results.to_json()
    assert Results.load(path).classifier == "linear probe"
    assert results.values()["knn/accuracy"] == results.metrics["knn/accuracy"].value
    content = json.loads(path.read_text())
    del content["classifier"], content["notes"]
    path.write_text(json.dumps(content))
    assert Results.load(path) == replace(Results.load(path), classifier="")


def test_notes_stand_below_the_table_and_in_the_file(tmp_path):
    note = "Linear probe: learnt from films drawn evenly, so accuracy refers to other base rates."
    results = compute_results(outputs(), NAMES, "single", n_boot=20, notes=[note])
    assert note in " ".join(table(results).split())
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json").notes == (note,)
    assert compute_results(outputs(), NAMES, "single", n_boot=20).notes == ()


def test_probabilities_of_further_classifiers_go_through_rows_to_the_table_of_predictions(tmp_path):
    said = {
        "sample_id": ["a", "b"],
        "probability": torch.tensor([[0.25, 0.75], [0.5, 0.5]]),
        "label": torch.tensor([1, 0]),
        "values": {"gaze_cc": torch.tensor([0.5, 1])},
        "extra_probabilities": {"knn": torch.tensor([[0.125, 0.875], [1.0, 0.0]])},
    }
    stacked = SampleOutputs.from_rows(rows_of(said))
    assert stacked.extra["knn"].tolist() == [[0.125, 0.875], [1.0, 0.0]]
    stacked.write_csv(tmp_path / "predictions.csv", ["x", "y"], "single")
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[3:] == ["prob_x", "prob_y", "gaze_cc", "knn_prob_x", "knn_prob_y"]
    assert (rows[0]["knn_prob_y"], rows[1]["knn_prob_x"]) == ("0.875", "1.0")
    with pytest.raises(ValueError, match="1 of 3 samples lack the probabilities of 'knn'"):
        SampleOutputs.from_rows([*rows_of(said), SampleRow("c", "c", (0.5, 0.5), 1, {})])
    wrong = replace(stacked, extra={"knn": np.ones((2, 3))})
    with pytest.raises(ValueError, match=r"probabilities of 'knn' are \(2, 3\) for 2 class names"):
        compute_results(wrong, ["x", "y"], "single", n_boot=5)
