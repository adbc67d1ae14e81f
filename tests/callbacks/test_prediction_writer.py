import csv

import cv2
import numpy as np
import pytest
import torch

import callbacks.prediction_writer
from callbacks import PredictionWriter
from callbacks.prediction_writer import file_stem
from gaze_lightning.evaluation import predicted_classes


def rows_in(folder):
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def predicted(tiny, trainer_in, writer, model):
    data = tiny.Data()
    trainer = trainer_in(writer)
    return trainer.predict(model, datamodule=data)


def test_every_film_gets_a_row_with_the_exact_probabilities_and_an_overlay(tiny, trainer_in, tmp_path):
    batches = predicted(tiny, trainer_in, PredictionWriter(), tiny.Model())
    probability = torch.cat([batch["probability"] for batch in batches]).double().numpy()
    rows = rows_in(tmp_path)
    assert list(rows[0]) == ["sample_id", "subject", "predicted", "prob_Normal", "prob_CHF", "prob_Pneumonia"]
    assert [row["sample_id"] for row in rows] == [f"patient{i // 2}/film{i}" for i in range(5)]
    for row, expected in zip(rows, probability, strict=True):
        assert [float(row[f"prob_{name}"]) for name in tiny.names] == expected.tolist()
        assert row["predicted"] == tiny.names[int(expected.argmax())]
        overlay = cv2.imread(str(tmp_path / "overlays" / f"{file_stem(row['sample_id'])}.png"))
        height, width, _ = overlay.shape
        assert height == pytest.approx(110 * 4.7, abs=3)
        assert width > 1.4 * height  # two panels side by side
    assert len(list((tmp_path / "overlays").iterdir())) == 5


def test_multi_label_overlays_show_every_named_class(tiny, trainer_in, tmp_path):
    model = tiny.Model("multi")
    torch.nn.init.constant_(model.head.bias, 9.0)  # all three classes at 1
    predicted(tiny, trainer_in, PredictionWriter(most_classes=2), model)
    assert set(rows_in(tmp_path)[0]["predicted"].split("|")) == set(tiny.names)
    height, width, _ = cv2.imread(str(next((tmp_path / "overlays").iterdir()))).shape
    assert width > 2.2 * height  # film and two maps
    torch.nn.init.constant_(model.head.bias, -9.0)
    predicted(tiny, trainer_in, PredictionWriter(), model)
    assert rows_in(tmp_path)[0]["predicted"] == ""


def test_a_model_without_cams_gets_its_table(tiny, trainer_in, tmp_path):
    class Plain(tiny.ModelWithoutCAMs):
        def predict_step(self, batch, batch_idx):
            said = super().predict_step(batch, batch_idx)
            del said["cam"]
            return said

    predicted(tiny, trainer_in, PredictionWriter(), Plain())
    assert len(rows_in(tmp_path)) == 5
    assert not (tmp_path / "overlays").exists()


def test_overlays_show_the_predicted_gaze_with_and_without_maps(tiny, trainer_in, tmp_path, monkeypatch):
    drawn = []
    draw = callbacks.prediction_writer.draw_overlay

    def spy(case, names, classes):
        figure = draw(case, names, classes)
        drawn.append((case, [axes.get_title() for axes in figure.axes if axes.get_title()], figure))
        return figure

    monkeypatch.setattr(callbacks.prediction_writer, "draw_overlay", spy)
    for with_cams in (True, False):

        class Gazing(tiny.ModelWithoutCAMs):
            keeps = with_cams

            def predict_step(self, batch, batch_idx):
                said = super().predict_step(batch, batch_idx)
                if not self.keeps:
                    del said["cam"]
                even = torch.full_like(batch["image"], 1 / batch["image"][0].numel())
                return said | {"saliency": even}

        drawn.clear()
        predicted(tiny, trainer_in, PredictionWriter(), Gazing())
        assert len(drawn) == len(list((tmp_path / "overlays").iterdir())) == 5
        for case, titles, figure in drawn:
            assert titles[:2] == ["film", "predicted gaze"]
            assert len(titles) == (4 if with_cams else 2)  # a class's map and the title of its colour bar
            np.testing.assert_array_equal(figure.axes[1].images[1].get_array(), case.saliency)


def test_a_task_without_classes_gets_its_table_and_overlays(tiny, trainer_in, tmp_path):
    class Classless(tiny.ModelWithoutCAMs):
        def __init__(self):
            super().__init__()
            self.class_names = []

        def predict_step(self, batch, batch_idx):
            even = torch.full_like(batch["image"], 1 / batch["image"][0].numel())
            none = torch.zeros(len(even), 0)
            return {"sample_id": batch["sample_id"], "probability": none, "saliency": even}

    predicted(tiny, trainer_in, PredictionWriter(), Classless())
    rows = rows_in(tmp_path)
    assert [row["sample_id"] for row in rows] == [f"patient{i // 2}/film{i}" for i in range(5)]
    assert not any(name.startswith("prob") for name in rows[0])
    assert len(list((tmp_path / "overlays").iterdir())) == 5


def test_file_names_stay_in_their_folder_and_differ():
    names = ["a", "../a", "/a", "a/b", "a_b", "..", ".", "a b", "ü" * 300, "x" * 300]
    stems = [file_stem(name) for name in names]
    assert len(set(stems)) == len(names)
    assert all("/" not in stem and not stem.startswith(".") and len(stem) < 140 for stem in stems)
    assert file_stem("film-01.v2") == "film-01.v2"


def test_predicted_classes():
    assert predicted_classes(np.array([0.2, 0.5, 0.3]), "single") == [1]
    assert predicted_classes(np.array([0.5, 0.9, 0.49]), "multi") == [1, 0]
    assert predicted_classes(np.array([0.1, 0.2]), "multi") == []
