import io
import math

import pytest
from rich.console import Console

from gaze_lightning.evaluation.compare import compare_runs
from gaze_lightning.evaluation.results import Measured, Results


def _results(auroc, pointing=math.nan, n=30):
    metrics = {
        "auroc_macro": Measured(auroc, 0.1, 0.9, n, chance=0.5),
        "pointing_lesion": Measured(pointing, 0.1, 0.9, n, chance=0.125),
    }
    return Results(metrics, n, n, ("a", "b"), "single")


def _printed(arms):
    console = Console(file=io.StringIO(), width=120)
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
