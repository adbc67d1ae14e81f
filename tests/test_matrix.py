"""One experiment per task on two processes and on one."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import pandas as pd
import pytest

from gaze_lightning.layers import available, task_of
from tests import matrix as command
from tests.matrix import Row, compare, matrix_of_tasks, table_of
from tests.matrix_cases import N_TEST, PRETRAINING, TASKS
from tests.two_processes import once

pytestmark = [pytest.mark.ddp, pytest.mark.slow]


VALIDATED = {
    "GGCAM": ("val/loss", "val/classification_loss", "val/gaze_mse"),
    "MultiTaskUNet": ("val/loss", "val/classification_loss", "val/saliency_cc"),
    "Cooperative": ("val/fusion_loss", "val/auroc_macro", "val/saliency_cc"),
} | dict.fromkeys(PRETRAINING, ("val/effective_rank", "val/knn_accuracy"))
"""Values of the validation that must have been compared; of classifiers three others."""


@pytest.fixture(scope="session")
def matrix(tmp_path_factory):
    return matrix_of_tasks(tmp_path_factory)


def test_every_task_is_there():
    assert {task_of(name) for name in TASKS.values()} == {task_of(name) for name in available()}


@pytest.mark.parametrize("name", TASKS)
def test_two_processes_are_one_model_and_give_the_numbers_and_pictures_of_one_process(matrix, name):
    row = compare(name, TASKS[name], matrix)
    assert not row.faults, table_of([row])
    assert row.n == (N_TEST, N_TEST)
    run = matrix / "runs" / name
    stages = json.loads((run / "stages.json").read_text())
    assert len(stages) >= 2
    assert sum(stage["epochs"] for stage in stages) == row.epochs
    drawn = {path.name for path in run.glob("cams/*")}
    pictured = task_of(row.experiment) not in PRETRAINING
    assert drawn == ({"test", *(f"epoch_{epoch:03d}" for epoch in range(1, row.epochs, 2))} if pictured else set())
    own = VALIDATED.get(task_of(row.experiment), ("val/loss", "val/classification_loss", "val/cam_cc"))
    assert {*own, "val/knn_auroc_macro" if not pictured else "val/auroc_macro"} <= set(row.validation)
    files = {"moco": "relations.png", "attention": "attention/evolution.png", "batch_stack": "attention/map.png"}
    assert (run / files.get(name, "metrics.csv")).is_file()


def _lines(change):
    return lambda path: path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))


def _content(change):
    def rewrite(path):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return rewrite


def _swapped(path):
    table = pd.read_csv(path, dtype=str)
    columns = [name for name in table if name.startswith("prob_")]
    table.loc[[0, 1], columns] = table.loc[[1, 0], columns].to_numpy()
    table.to_csv(path, index=False)


def _worse(path):
    table = pd.read_csv(path)
    table["val/auroc_macro"] -= 0.5
    table.to_csv(path, index=False)


def _darker(path):
    cv2.imwrite(str(path), cv2.imread(str(path)) // 2)


CHANGES = {
    "the ranks differ after epochs 1": ("runs/classifier/digest_1.txt", _lines(lambda x: [x[0], "1 ?"])),
    "an epoch changed nothing": ("runs/classifier/digest_0.txt", _lines(lambda x: [x[0], f"1 {x[0].split()[1]}"])),
    "on one process the predictions are not of": ("one/classifier/predictions.csv", _lines(lambda x: x[:-1])),
    "a reading's probability differs": ("one/classifier/predictions.csv", _swapped),
    "val/auroc_macro of epoch": ("one/classifier.validated/metrics.csv", _worse),
    "34 and 33 readings were counted": ("runs/classifier/results.json", _content(lambda x: x.update(n=34))),
    "nll differs by 1": ("one/classifier/results.json", _content(lambda x: x["metrics"]["nll"].update(value=-10.0))),
    "nll differs by inf": ("one/classifier/results.json", _content(lambda x: x["metrics"]["nll"].update(value=None))),
    "CAM pages differ": ("one/classifier/cams/test/page_01.png", _darker),
}


@pytest.mark.parametrize("fault", CHANGES)
def test_the_comparison_finds_what_differs(matrix, tmp_path, fault):
    for folder in ("runs/classifier", "one/classifier", "one/classifier.validated"):
        shutil.copytree(matrix / folder, tmp_path / folder)
    shutil.copy(matrix / "runs" / "classifier.seconds", tmp_path / "runs")
    assert not compare("classifier", TASKS["classifier"], tmp_path).faults
    file, change = CHANGES[fault]
    change(tmp_path / file)
    assert fault in "; ".join(compare("classifier", TASKS["classifier"], tmp_path).faults)


def test_a_row_that_fails_on_one_process_is_a_fault_and_costs_no_other(tmp_path, monkeypatch, capsys):
    """Rows are in the file as soon as they are there."""
    file, written = tmp_path / "rows.json", []

    def train(folder, calls, limit):
        for _, options in calls:
            command._seconds(Path(options["run"])).parent.mkdir(parents=True, exist_ok=True)
            command._seconds(Path(options["run"])).write_text("1")

    def alone(name, folder):
        written.append(len(json.loads(file.read_text())) if file.exists() else 0)
        if name == "mtunet":
            raise SystemExit(2)

    monkeypatch.setattr(command, "run_together", train)
    monkeypatch.setattr(command, "alone", alone)
    monkeypatch.setattr(command, "compare", lambda name, experiment, folder: Row(name, experiment, n=(7, 7)))
    only = ["ggcam_resnet50", "mtunet", "finetune_resnet18"]
    assert command.main(["--tasks", "--only", *only, "--json", str(file)]) == 1
    rows = json.loads(file.read_text())
    assert [row["experiment"] for row in rows] == only
    assert [row["faults"] for row in rows] == [[], ["SystemExit on one process: 2"], []]
    assert written == [0, 1, 2]
    assert "mtunet: SystemExit on one process: 2" in capsys.readouterr().out


def test_what_could_not_be_made_is_not_tried_again_and_says_why_each_time(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    tried = []

    def make(folder):
        tried.append(folder)
        raise RuntimeError("two processes failed: no such port")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no such port"):
            once(SimpleNamespace(getbasetemp=lambda: tmp_path), "runs", make)
    assert len(tried) == 1
