import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from gaze_lightning.commands.compare import compare
from gaze_lightning.evaluation.compare import compare_runs
from gaze_lightning.evaluation.measured import Measured, Reference
from gaze_lightning.evaluation.results import Results


def _results(auroc, pointing=math.nan, n=30):
    metrics = {
        "auroc_macro": Measured(auroc, 0.1, 0.9, n, chance=0.5),
        "pointing_lesion": Measured(pointing, 0.1, 0.9, n, chance=0.125),
    }
    return Results(metrics, n, n, ("a", "b"), "single")


def _printed(arms, width=120):
    console = Console(file=io.StringIO(), width=width)
    console.print(compare_runs(arms))
    return console.file.getvalue()


def test_cells_hold_mean_and_sample_standard_deviation_over_the_runs_of_an_arm():
    text = _printed({"plain": [_results(0.7), _results(0.8), _results(0.9)], "gaze": [_results(0.75)]})
    assert "plain (3 runs)" in text
    assert "0.800 ± 0.100" in text
    assert "0.750 |" in text
    assert "0.500 |" in text


def test_runs_without_a_value_are_left_out_and_the_rest_is_counted():
    text = _printed({"plain": [_results(0.7, 0.2), _results(0.8)], "gaze": [_results(0.75)]})
    assert "0.200 (of 1)" in text
    assert "- |" in text


def test_arms_on_different_test_sets_are_refused():
    with pytest.raises(ValueError, match="different sets"):
        compare_runs({"plain": [_results(0.7)], "gaze": [_results(0.7, n=29)]})


def test_an_arm_without_runs_is_named():
    with pytest.raises(ValueError, match="no finished run in: gaze"):
        compare_runs({"plain": [_results(0.7)], "gaze": []})


def _gaze_results(kl, mean_map=1.5):
    metrics = {
        "gaze_kl": Measured(kl, 0.1, 0.9, 30, references={"mean_map": Reference(mean_map, 30, kl)}),
        "gaze_kl_vs_mean_map": Measured(kl - mean_map, -0.9, -0.1, 30),
        "saliency_kl": Measured(
            kl, 0.1, 0.9, 30, references={"mean_map": Reference(mean_map, 30, kl), "readers": Reference(0.625, 4, kl)}
        ),
    }
    return Results(metrics, 30, 30, (), "single")


def test_gaze_rows_say_which_map_they_are_about_which_way_is_better_and_stand_beside_their_references():
    text = _printed({"a": [_gaze_results(1.0), _gaze_results(0.5)], "b": [_gaze_results(1.25)]})
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if "↓" in line}
    assert list(rows) == [
        "KL divergence, CAM ↓",
        "KL divergence, CAM minus mean map ↓",
        "KL divergence, predicted gaze ↓",
    ]
    assert [cell.strip() for cell in rows["KL divergence, CAM minus mean map ↓"].split("|")[2:-1]] == [
        "-0.750 ± 0.354",
        "-0.250",
        "",
        "",
        "",
    ]
    assert [cell.strip() for cell in rows["KL divergence, predicted gaze ↓"].split("|")[2:-1]] == [
        "0.750 ± 0.354",
        "1.250",
        "",
        "1.500",
        "0.625",
    ]
    assert "centre" not in text


def test_runs_without_references_have_no_columns_for_them():
    text = _printed({"plain": [_results(0.7)], "gaze": [_results(0.75)]})
    assert "mean map" not in text
    assert "readers" not in text


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        (["runs/*"], "write NAME=PATTERN"),
        (["=runs/*"], "write NAME=PATTERN"),
        (["a=runs/1", "a=runs/2"], "two arms are called 'a'"),
    ],
)
def test_arms_that_cannot_be_told_apart_are_refused(arms, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        compare(arms)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_further_classifiers_are_rows_and_what_classifies_stands_below():
    probe, plain = _results(0.7), _results(0.8)
    knn = {"knn/nll": Measured(1.5, 1.0, 2.0, 30), "knn/auroc/a": Measured(0.625, 0.1, 0.9, 30, chance=0.5)}
    probe = replace(probe, metrics=probe.metrics | knn, classifier="linear probe")
    text = _printed({"frozen": [probe, probe], "tuned": [plain], "mixed": [probe, plain]})
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert "1.500" in rows["negative log-likelihood, k nearest neighbours ↓"]
    assert "0.625" in rows["AUROC a, k nearest neighbours ↑"]
    assert "frozen: classified by linear probe." in text
    assert "mixed: classified by linear probe or the model itself." in text
    assert "tuned: classified" not in text
    assert "classified" not in _printed({"plain": [plain]})
