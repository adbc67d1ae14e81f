import csv

import cv2
import numpy as np
import pytest
import torch

import callbacks.feature_parts
import callbacks.prediction_writer
from callbacks import PredictionWriter
from callbacks.feature_parts import FeaturePart, join_parts
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


def featured(tiny, features_of):
    class Featured(tiny.Model):
        def predict_step(self, batch, batch_idx):
            said = super().predict_step(batch, batch_idx)
            features = features_of(batch, batch_idx)
            return said if features is None else said | {"features": features}

    return Featured()


def index_of(batch):
    return torch.tensor([float(name.split("film")[1]) for name in batch["sample_id"]])


def test_features_are_a_float32_array_in_the_order_of_the_table_each_film_once(tiny, trainer_in, tmp_path):
    def features_of(batch, batch_idx):
        i = index_of(batch)
        return torch.stack([i, i**2, 100 * batch_idx + i, 0 * i + torch.pi], 1).to(torch.bfloat16)

    class Repeating(tiny.Data):
        def predict_dataloader(self):
            return self._loader(5, sampler=[4, 2, 0, 1, 4, 3, 2])

    trainer_in(PredictionWriter(overlays=False)).predict(featured(tiny, features_of), datamodule=Repeating())
    order = [int(row["sample_id"].split("film")[1]) for row in rows_in(tmp_path)]
    assert order == [4, 2, 0, 1, 3]
    features = np.load(tmp_path / "features.npy")
    assert (features.dtype, features.shape) == (np.float32, (5, 4))
    assert features[:, :2].tolist() == [[i, i**2] for i in order]
    assert features[0, 2] == 4  # the first of the repeated films
    assert features[4, 2] == float(torch.tensor(103.0, dtype=torch.bfloat16))
    assert not list(tmp_path.glob(".features*"))


def test_without_probabilities_there_are_ids_and_features(tiny, trainer_in, tmp_path):
    class Embedder(tiny.ModelWithoutCAMs):
        def predict_step(self, batch, batch_idx):
            return {key: batch[key] for key in ("sample_id", "subject")} | {"features": index_of(batch)[:, None]}

    predicted(tiny, trainer_in, PredictionWriter(), Embedder())
    assert list(rows_in(tmp_path)[0]) == ["sample_id", "subject"]
    assert np.load(tmp_path / "features.npy").tolist() == [[0.0], [1.0], [2.0], [3.0], [4.0]]


@pytest.mark.parametrize(
    ("features_of", "words"),
    [
        (lambda b, i: index_of(b)[:, None] if i == 0 else None, "4 features for 5 films"),
        (lambda b, i: index_of(b)[:, None] if i == 1 else None, "1 features for 5 films"),
        (lambda b, i: index_of(b)[:-1, None], "3 features for 4 films"),
        (lambda b, i: torch.zeros(len(b["image"]), 2 + i), r"must be \[B, 2\], got \(1, 3\)"),
        (lambda b, i: torch.zeros(len(b["image"]), 2, 2), r"must be \[B, C\]"),
    ],
)
def test_features_of_some_films_or_of_another_length_are_refused_and_leave_nothing(
    tiny, trainer_in, tmp_path, features_of, words
):
    with pytest.raises(ValueError, match=words):
        predicted(tiny, trainer_in, PredictionWriter(overlays=False), featured(tiny, features_of))
    assert not list(tmp_path.iterdir())


def test_parts_of_processes_that_are_not_here_are_named(tmp_path):
    part = FeaturePart(tmp_path, 0)
    part.add(torch.ones(2, 3))
    part.close()
    with pytest.raises(RuntimeError, match="features of process 1 are not complete"):
        join_parts(tmp_path, [(2, 3), (4, 3)], range(6))
    with pytest.raises(RuntimeError, match="different lengths"):
        join_parts(tmp_path, [(2, 3), (4, 5)], range(6))


def test_a_process_without_films_has_no_part_and_long_parts_are_joined_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(callbacks.feature_parts, "_ROWS", 3)
    values = torch.arange(14.0).reshape(7, 2)
    shapes = []
    for rank, rows in enumerate([slice(0, 3), slice(0, 0), slice(3, 7)]):
        part = FeaturePart(tmp_path, rank)
        if len(values[rows]):
            part.add(values[rows])
        part.close()
        shapes.append(part.shape)
    assert shapes == [(3, 2), (0, 0), (4, 2)]
    order = [6, 0, 3, 2, 5]
    assert np.load(join_parts(tmp_path, shapes, order)).tolist() == values[order].tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["features.npy"]


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
