import csv
import math

import numpy as np
import pytest
import torch

import callbacks.test_report
from callbacks import TestReport
from gaze_lightning.evaluation import Results, SampleOutputs, compute_results
from tests.small_ranks import small_ranks


def run_test(tiny, trainer_in, model=None, **data):
    report = TestReport(n_boot=50, print_table=False)
    trainer = trainer_in(report)
    multi = data.get("multi", False)
    trainer.test(model or tiny.Model("multi" if multi else "single"), datamodule=tiny.Data(**data), verbose=False)
    return trainer, report


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_repeated_samples_count_once(tiny, trainer_in, tmp_path):
    _, plain = run_test(tiny, trainer_in)
    first = (tmp_path / "predictions.csv").read_text()
    model = tiny.Model()
    _, padded = run_test(tiny, trainer_in, model, test_sampler=[*range(9), 0, 1])
    assert padded.results.n == plain.results.n == len(read(tmp_path / "predictions.csv")) == 9
    assert padded.results.metrics["gaze_cc"] == plain.results.metrics["gaze_cc"]
    assert first.splitlines()[0] == (tmp_path / "predictions.csv").read_text().splitlines()[0]


def test_two_readings_with_one_id_are_an_error(tiny, trainer_in):
    with pytest.raises(RuntimeError, match=r"8 different samples were tested, but the test set has 9"):
        run_test(tiny, trainer_in, test_ids=[f"film{i}" for i in (0, 1, 2, 3, 4, 5, 6, 7, 7)])


def test_a_part_of_the_set_is_said_to_be_one(tiny, trainer_in, monkeypatch):
    said = []
    monkeypatch.setattr(callbacks.test_report, "rank_zero_info", said.append)
    report = TestReport(n_boot=50, print_table=False)
    trainer_in(report, limit_test_batches=1).test(tiny.Model(), datamodule=tiny.Data(), verbose=False)
    assert report.results.n == 4
    assert said == ["Only a part of the test set was used: 4 of 9 samples."]


@pytest.mark.parametrize("multi", [False, True])
def test_the_files_give_back_the_logged_numbers_exactly(tiny, trainer_in, tmp_path, multi):
    trainer, report = run_test(tiny, trainer_in, multi=multi)
    rows = read(tmp_path / "predictions.csv")
    probability = np.array([[float(row[f"prob_{name}"]) for name in tiny.names] for row in rows])
    if multi:
        label = np.array([[float(row[f"label_{name}"] or "nan") for name in tiny.names] for row in rows])
    else:
        label = np.array([tiny.names.index(row["label"]) for row in rows])
    extra = [key for key in rows[0] if key.startswith(("gaze_", "pointing"))]
    outputs = SampleOutputs(
        [row["sample_id"] for row in rows],
        [row["subject"] for row in rows],
        probability,
        label,
        {key: np.array([float(row[key] or "nan") for row in rows]) for key in extra},
    )
    again = compute_results(outputs, tiny.names, report.results.label_type, data=report.results.data, n_boot=50)
    assert again.to_json() == report.results.to_json() == (tmp_path / "results.json").read_text()
    assert Results.load(tmp_path / "results.json").to_json() == again.to_json()
    logged = trainer.callback_metrics
    for name, measured in again.metrics.items():
        assert float(logged[f"test/{name}"]) == pytest.approx(measured.value, rel=1e-6, nan_ok=True)
    assert float(logged["test/n"]) == 9
    if multi:
        assert math.isnan(label[0, 2])


def test_the_table_is_printed_on_rank_zero_with_the_note_of_the_data(tiny, trainer_in, capsys):
    trainer_in(TestReport(n_boot=20)).test(tiny.Model(), datamodule=tiny.Data(), verbose=False)
    printed = capsys.readouterr().out
    assert "synthetic phantom: not clinical evidence" in printed
    assert "AUROC Normal vs CHF" in printed
    assert "film3" not in printed
    assert "patient1" not in printed


def test_a_step_without_probabilities_is_left_alone(tiny, trainer_in, tmp_path):
    class Silent(tiny.Model):
        def test_step(self, batch, batch_idx):
            return None

    _, report = run_test(tiny, trainer_in, Silent())
    assert report.results is None
    assert not (tmp_path / "results.json").exists()


def test_data_without_labels_are_counted_and_reported_without_classification(tiny, trainer_in, tmp_path, capsys):
    class Gazer(tiny.Model):
        def __init__(self):
            super().__init__()
            self.class_names = []

        def test_step(self, batch, batch_idx):
            index = torch.tensor([float(name.split("film")[1]) for name in batch["sample_id"]])
            values = {"saliency_kl": index, "mean_map_kl": index + 1, "centre_kl": 2 * index}
            known = {key: batch[key] for key in ("sample_id", "subject")}
            return known | {"probability": index.new_zeros(len(index), 0), "values": values}

    report = TestReport(n_boot=20)
    trainer = trainer_in(report)
    trainer.test(Gazer(), datamodule=tiny.Data(test_sampler=[*range(9), 0]), verbose=False)
    assert report.results.n == 9
    assert Results.load(tmp_path / "results.json").metrics["saliency_kl"].references["centre"].value == 8
    assert list(read(tmp_path / "predictions.csv")[0]) == [
        "sample_id",
        "subject",
        "saliency_kl",
        "mean_map_kl",
        "centre_kl",
    ]
    assert float(trainer.callback_metrics["test/saliency_kl_vs_mean_map"]) == -1
    printed = capsys.readouterr().out
    assert "9 readings of 5 patients" in printed
    assert "-1.000 ↓" in printed
    assert "AUROC" not in printed


def test_further_probabilities_and_the_note_of_the_classifier_reach_table_files_and_loggers(
    tiny, trainer_in, tmp_path, capsys
):
    class Frozen(tiny.Model):
        classifier_note = "linear probe on frozen features"

        def test_step(self, batch, batch_idx):
            said = super().test_step(batch, batch_idx)
            return said | {"extra_probabilities": {"knn": said["probability"].flip(1)}}

    report = TestReport(n_boot=20)
    trainer = trainer_in(report)
    trainer.test(Frozen(), datamodule=tiny.Data(), verbose=False)
    loaded = Results.load(tmp_path / "results.json")
    assert loaded.classifier == "linear probe on frozen features"
    knn = loaded.metrics["knn/auroc_macro"]
    assert float(trainer.callback_metrics["test/knn/auroc_macro"]) == pytest.approx(knn.value, rel=1e-6)
    for row in read(tmp_path / "predictions.csv"):
        assert row["knn_prob_Normal"] == row["prob_Pneumonia"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "Classification: linear probe on frozen features" in printed
    assert "Classification: k nearest neighbours" in printed


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_count_nine_samples_as_nine(tmp_path_factory):
    run = small_ranks(tmp_path_factory) / "report"
    assert Results.load(run / "results.json").n == 9
    assert (run / "cams" / "epoch_000" / "page_01.png").is_file()
    assert len(read(run / "predictions.csv")) == 5  # written again by predict
    assert len(list((run / "overlays").glob("*.png"))) == 5
    rows = read(run / "predictions.csv")
    probability = [[float(value) for name, value in row.items() if name.startswith("prob_")] for row in rows]
    features = np.load(run / "features.npy")
    assert features.dtype == np.float32
    assert features.tolist() == probability  # of five films, once each, though two processes saw six
    assert not list(run.glob(".features*"))
