# ruff: noqa: NPY002  the legacy global generator is what an observer must leave alone
import random
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from matplotlib.colors import PowerNorm
from pytorch_lightning import Callback

import callbacks.cam_logger
from callbacks import CAMLogger
from callbacks.cam_cases import cases_of, choose_cases
from callbacks.panel_parts import CamCase, save_png, times_even
from callbacks.saliency_panels import compare, difference_colours, draw_saliency_page, explained_class
from gaze_lightning.metrics import correlation_coefficient, saliency_agreement

NAMES = ["Normal", "CHF", "Pneumonia"]


def density(rng, *shape):
    values = rng.random(shape) ** 4
    return values / values.sum()


def case(**kwargs):
    rng = np.random.default_rng(0)
    given = {
        "name": "case 1  0123456789",
        "film": rng.random((30, 24)),
        "cams": rng.normal(size=(3, 5, 4)),
        "probability": np.array([0.2, 0.7, 0.1]),
        "true_classes": (2,),
        "gaze": density(rng, 15, 12),
        "saliency": density(rng, 30, 24),
        "fixations": rng.uniform(2, 20, (7, 3)),
    }
    return CamCase(**{**given, **kwargs})


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def panel(figure, start):
    return next(axes for axes in figure.axes if axes.get_title().startswith(start))


def words(figure):
    figure.canvas.draw()
    texts = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        texts += [text.get_text() for text in [*axes.texts, *axes.get_xticklabels()]]
    return texts


def test_the_difference_is_predicted_minus_gaze_on_the_grid_of_the_gaze_and_sums_to_zero():
    given = case()
    found = compare(given)
    blocks = given.saliency.reshape(15, 2, 12, 2).sum((1, 3))
    np.testing.assert_allclose(found.predicted, blocks, rtol=1e-12)
    np.testing.assert_allclose(found.difference, blocks - given.gaze, rtol=1e-9, atol=1e-15)
    assert found.predicted.sum() == pytest.approx(1, abs=1e-12)
    assert found.difference.sum() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("grid", [(7, 5), (15, 12), (30, 24), (41, 37)])
def test_mass_is_kept_on_any_grid_of_the_gaze(grid):
    found = compare(case(gaze=density(np.random.default_rng(1), *grid)))
    assert found.predicted.shape == grid
    assert found.predicted.sum() == pytest.approx(1, abs=1e-12)
    assert found.difference.sum() == pytest.approx(0, abs=1e-12)


def test_the_printed_cc_is_that_of_the_metric_and_of_the_results():
    given = case()
    found = compare(given)
    metric = correlation_coefficient(torch.from_numpy(found.predicted)[None], torch.from_numpy(given.gaze)[None])
    batch = {"saliency": torch.from_numpy(given.gaze)[None, None], "image": torch.zeros(1, 1, 30, 24)}
    results = saliency_agreement(torch.from_numpy(given.saliency)[None, None], batch)["saliency_cc"]
    assert found.cc == float(metric) == float(results)
    title = panel(draw_saliency_page([given], NAMES, note="note"), "predicted").get_title()
    assert title == f"predicted gaze   CC {float(metric):.2f}".replace("-", "\N{MINUS SIGN}")
    diverged = draw_saliency_page([case(saliency=np.full((30, 24), np.nan))], NAMES, note="note")
    assert panel(diverged, "predicted").get_title() == "predicted gaze   CC undefined"
    flat = draw_saliency_page([case(saliency=np.full((30, 24), 1 / 720))], NAMES, note="note")
    assert panel(flat, "predicted").get_title() == "predicted gaze   CC undefined"


@pytest.mark.parametrize("peak", [(0, 0), (20, 10)])
def test_gaze_and_prediction_share_one_scale_and_the_difference_is_symmetric_about_a_transparent_zero(peak):
    saliency = np.full((30, 24), 0.01 / 719)
    saliency[peak] = 0.99
    for given in (case(), case(saliency=saliency)):
        found = compare(given)
        figure = draw_saliency_page([given], NAMES, note="note")
        gaze, predicted, difference = (panel(figure, start).images[1] for start in ("gaze", "predicted", "difference"))
        assert np.array_equal(gaze.get_array(), given.gaze)
        assert np.array_equal(predicted.get_array(), found.predicted)
        assert np.array_equal(difference.get_array(), found.difference)
        assert gaze.norm is predicted.norm
        assert isinstance(gaze.norm, PowerNorm)
        assert gaze.get_clim() == (0, max(given.gaze.max(), found.predicted.max()))
        most = np.abs(found.difference).max()
        assert difference.get_clim() == (-most, most)
        assert difference.cmap(difference.norm(0.0))[3] == 0


def test_too_much_and_too_little_differ_in_brightness_and_in_blue_against_yellow():
    low, high = (np.array(difference_colours()(end)) for end in (0.0, 1.0))
    assert low[3] == high[3] > 0.8
    assert low[2] - high[2] > 0.5  # no kind of red-green blindness loses this
    assert abs((low[:3] - high[:3]) @ [0.2126, 0.7152, 0.0722]) > 0.1


def test_bars_say_how_often_even_gaze_the_highest_density_is():
    saliency = np.zeros((30, 24))
    saliency[10, 10] = 1.0
    padded = case(saliency=saliency, gaze=None, film_box=(0.0, 5.0, 24.0, 25.0))
    assert times_even(padded, saliency) == pytest.approx(20 * 24)
    assert "480x even" in words(draw_saliency_page([padded], NAMES, note="note"))
    said = words(draw_saliency_page([case()], NAMES, note="note"))
    most = np.abs(compare(case()).difference).max() * 15 * 12
    assert {f"\N{MINUS SIGN}{most:.2g} too little", f"too much +{most:.2g}"} <= set(said)
    assert any("from 30 x 24 to the gaze's grid 15 x 12, mass" in text.replace("\n", " ") for text in said)


def test_cases_without_gaze_say_so_and_show_the_prediction_alone():
    for nothing in (None, np.zeros((15, 12))):
        figure = draw_saliency_page([case(gaze=nothing, fixations=None)], NAMES, note="note")
        assert titles(figure) == ["film", "gaze", "predicted gaze", "CAM Pneumonia  0.10  true"]
        assert [text.get_text() for text in panel(figure, "gaze").texts] == ["no gaze"]
        shown = panel(figure, "predicted").images[1]
        assert np.array_equal(shown.get_array(), case().saliency)
        assert shown.get_clim() == (0, case().saliency.max())


def test_the_cam_is_that_of_the_true_class_or_of_the_most_probable_where_none_is_known():
    assert explained_class(case()) == 2
    assert explained_class(case(true_classes=(0, 2), multi_label=True)) == 0
    assert explained_class(case(true_classes=(), multi_label=True)) == 1
    unknown = case(true_classes=(), has_label=False)
    assert explained_class(unknown) == 1
    figure = draw_saliency_page([unknown], NAMES, note="note")
    assert titles(figure)[-1] == "CAM CHF  0.70"
    np.testing.assert_array_equal(panel(figure, "CAM").images[1].get_array(), unknown.centred[1])
    assert not any("true" in text for text in words(figure))


def test_there_is_no_cam_column_without_classes_or_without_maps():
    lesions = np.zeros((3, 30, 24), bool)
    lesions[1, 5:15, 5:15] = True
    bare = {"cams": np.zeros((0, 1, 1)), "probability": np.zeros(0), "true_classes": (), "has_label": False}
    for given, names in ((case(**bare, lesions=lesions), []), (case(cams=np.zeros((0, 1, 1))), NAMES)):
        figure = draw_saliency_page([given], names, note="note")
        assert [title.split("  ")[0] for title in titles(figure)] == ["film", "gaze", "predicted gaze", "difference"]
        assert not any("CAM" in text for text in words(figure))
    assert "true: Pneumonia" in "".join(words(figure))


def test_fixations_are_circled_on_gaze_and_prediction_unless_there_are_hundreds():
    few = draw_saliency_page([case()], NAMES, note="note")
    many = draw_saliency_page([case(fixations=np.ones((500, 3)))], NAMES, note="note")
    assert [len(panel(few, start).collections) for start in ("gaze", "predicted")] == [1, 1]
    assert [len(panel(many, start).collections) for start in ("gaze", "predicted")] == [0, 0]
    assert not any("fixation" in text.get_text() for text in many.legends[0].get_texts())


def test_lesions_are_outlined_on_the_film_and_on_the_cam():
    lesions = np.zeros((3, 30, 24), bool)
    lesions[2, 5:15, 5:15] = True
    figure = draw_saliency_page([case(lesions=lesions)], NAMES, note="note")
    assert [len(panel(figure, start).collections) for start in ("film", "CAM")] == [1, 1]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["lesion", "fixation (area: duration)", "highest CAM cell"]  # no lesion of another class here


def test_a_case_without_predicted_gaze_is_refused():
    with pytest.raises(ValueError, match="no predicted gaze"):
        draw_saliency_page([case(saliency=None)], NAMES, note="note")


@pytest.mark.parametrize("shape", [(30, 24), (30, 40), (60, 20), (20, 60)])
@pytest.mark.parametrize("classes", [True, False])
def test_texts_do_not_leave_the_page_or_overlap(shape, classes):
    names = ["Enlarged cardiac silhouette", "Pleural abnormality", "Consolidation"] if classes else []
    rng = np.random.default_rng(0)
    given = {"film": rng.random(shape), "saliency": density(rng, *shape), "true_classes": (0, 1), "multi_label": True}
    given["lesions"] = rng.random((3, *shape)) > 0.5
    if not classes:
        given |= {"cams": np.zeros((0, 1, 1)), "probability": np.zeros(0), "true_classes": (), "has_label": False}
    note = "synthetic phantom: not clinical evidence   ·   epoch 004   ·   loss terms in use: saliency, classification"
    figure = draw_saliency_page([case(**given), case(**given, gaze=None)], names, note=note)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    boxes = [axes.title.get_window_extent(renderer) for axes in figure.axes if axes.get_title()]
    boxes += [text.get_window_extent(renderer) for text in [*figure.texts, *figure.legends]]
    for axes in figure.axes:
        if not axes.get_title():  # a colour bar
            boxes += [label.get_window_extent(renderer) for label in axes.get_xticklabels()]
    page = figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 for box in boxes)
    assert all(page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    panels = [axes.get_window_extent(renderer).padded(-2) for axes in figure.axes]
    assert not any(box.overlaps(area) for box in boxes for area in panels)


@pytest.mark.parametrize(
    "odd",
    [
        {"saliency": np.zeros((30, 24))},
        {"saliency": np.zeros((30, 24)), "gaze": None, "film": np.zeros((30, 24))},
        {"gaze": np.full((15, 12), 1 / 180), "saliency": np.full((30, 24), 1 / 720)},
        {"cams": np.zeros((3, 1, 1)), "lesions": np.ones((3, 30, 24), bool)},
        {"saliency": np.full((30, 24), np.nan)},
        {"saliency": np.full((30, 24), np.nan), "gaze": None},
        {"saliency": np.full((1, 1), 1.0), "fixations": np.zeros((0, 3))},
    ],
)
def test_degenerate_cases_are_drawn(odd, tmp_path):
    save_png(draw_saliency_page([case(**odd)], NAMES, note=""), tmp_path / "page.png")
    assert cv2.imread(str(tmp_path / "page.png")).std() > 0


def gazing(tiny, base=None):
    """A model that predicts gaze beside what ``base`` does."""

    class Gazing(base or tiny.Model):
        def predict_saliency(self, batch):
            scores = torch.nn.functional.interpolate(self._maps(batch)[:, :1], size=batch["image"].shape[-2:])
            return scores.flatten(1).softmax(1).view_as(scores)

        def _said(self, batch):
            return super()._said(batch) | {"saliency": self.predict_saliency(batch)}

    return Gazing


def classless(tiny):
    """A model that predicts gaze alone and knows no classes."""

    class Classless(gazing(tiny, tiny.ModelWithoutCAMs)):
        def __init__(self):
            super().__init__()
            del self.class_names, self.label_type

        def predict_step(self, batch, batch_idx):
            none = torch.zeros(len(batch["image"]), 0)
            return {"sample_id": batch["sample_id"], "probability": none, "saliency": self.predict_saliency(batch)}

        def test_step(self, batch, batch_idx):
            return self.predict_step(batch, batch_idx)

    return Classless


def unlabelled(tiny):
    """Data without labels and lesions."""

    class Unlabelled(tiny.Data):
        class_names = ()

        def on_after_batch_transfer(self, batch, dataloader_idx):
            batch = super().on_after_batch_transfer(batch, dataloader_idx)
            return {key: value for key, value in batch.items() if key not in ("label", "lesion_mask")}

    return Unlabelled


@pytest.fixture
def drawn(monkeypatch):
    """What the callback hands to the page: cases, class names and note of every page."""
    pages = []
    draw = callbacks.cam_logger.draw_saliency_page

    def spy(cases, names, *, note):
        pages.append((list(cases), list(names), note))
        return draw(cases, names, note=note)

    monkeypatch.setattr(callbacks.cam_logger, "draw_saliency_page", spy)
    monkeypatch.setattr(callbacks.cam_logger, "draw_cam_page", lambda *_, **__: pytest.fail("drew a page of CAMs"))
    return pages


def test_tasks_that_predict_gaze_get_these_pages_at_the_usual_places(tiny, trainer_in, tmp_path, drawn):
    trainer = trainer_in(CAMLogger(every_n_epochs=1, n_cases=4, cases_per_page=3), max_epochs=1)
    model, data = gazing(tiny)(), tiny.Data()
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert found == [f"cams/{stage}/page_0{page}.png" for stage in ("epoch_000", "test") for page in (1, 2)]
    assert [len(cases) for cases, _, _ in drawn] == [3, 1, 3, 1]
    for given in [given for cases, _, _ in drawn for given in cases]:
        assert "film" not in given.name
        assert "patient" not in given.name
        assert given.saliency.shape == (24, 20)
        assert given.saliency.sum() == pytest.approx(1, abs=1e-5)
        assert len(given.cams) == 3


def test_tasks_that_predict_gaze_without_maps_or_classes_are_drawn(tiny, trainer_in, tmp_path, drawn):
    trainer_in(CAMLogger(n_cases=2)).test(classless(tiny)(), datamodule=unlabelled(tiny)(), verbose=False)
    [(cases, names, _)] = drawn
    assert names == []
    assert [(given.has_label, given.true_classes, len(given.cams)) for given in cases] == [(False, (), 0)] * 2
    assert all(given.gaze is not None for given in cases)  # two of ten have none; those with gaze come first
    assert (tmp_path / "cams" / "test" / "page_01.png").is_file()


def test_labels_mean_nothing_to_a_task_without_classes(tiny):
    dataset = tiny.Dataset(40)
    chosen = choose_cases(dataset, 6, 0, "single")
    assert chosen == choose_cases(tiny.Dataset(40, multi=True), 6, 0, "multi")
    assert len(set(chosen)) == 6
    assert all(dataset[i]["has_gaze"] for i in chosen)
    outputs = {"probability": torch.zeros(2, 0), "saliency": torch.full((2, 1, 4, 4), 1 / 16)}
    batch = {"image": torch.zeros(2, 1, 4, 4), "sample_id": ["a", "b"], "label": torch.tensor([2, 1])}
    assert [given.true_classes for given in cases_of(batch, outputs, "single", ["a", "b"])] == [(), ()]


def test_pages_follow_the_image_size_of_a_stage_and_name_it_and_its_loss_terms(tiny, trainer_in, drawn):
    class Staged(gazing(tiny)):
        loss_terms = ("saliency", "classification")

        @property
        def active_loss_terms(self):
            return frozenset(["saliency"] if self.current_epoch == 0 else self.loss_terms)

        def loss_for(self, terms, batch):
            return self.training_step(batch, 0)

        def logged_values(self, terms):
            return frozenset(["val/loss"])

    class Shrinking(tiny.Data):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            batch = super().on_after_batch_transfer(batch, dataloader_idx)
            if self.trainer.current_epoch == 0:
                batch["image"] = batch["image"][..., ::2, ::2]
                batch["film_box"] = batch["film_box"] / 2
                batch["lesion_mask"] = batch["lesion_mask"][..., ::2, ::2]
                batch["fixations"] = batch["fixations"] / 2
            return batch

    class Stages(Callback):
        def stage_position(self, trainer):
            return SimpleNamespace(name=("look", "classify")[trainer.current_epoch])

    model, data = Staged(), Shrinking()
    trainer = trainer_in(CAMLogger(every_n_epochs=1, n_cases=2), Stages(), max_epochs=2)
    trainer.fit(model, datamodule=data)
    [(first, _, first_note), (second, _, second_note)] = drawn
    assert [given.film.shape for given in (first[0], second[0])] == [(12, 10), (24, 20)]
    assert [given.box for given in (first[0], second[0])] == [(0, 1, 10, 11), (0, 2, 20, 22)]
    assert [given.name for given in first] == [given.name for given in second]
    assert first_note.endswith("epoch 000   ·   stage look   ·   loss terms in use: saliency")
    assert second_note.endswith("epoch 001   ·   stage classify")
    trainer.validate(model, datamodule=data, verbose=False)
    assert drawn[-1][2].endswith("validate")


def fitted(tiny, trainer_in, *observers):
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    model, data = gazing(tiny)(), tiny.Data()
    model.train()
    model.body[3].eval()  # a part that its owner keeps frozen
    trainer_in(*observers, max_epochs=2, num_sanity_val_steps=0).fit(model, datamodule=data)
    modes = torch.tensor([part.training for part in model.modules()])
    states = [torch.get_rng_state(), torch.tensor(np.random.get_state()[1].astype(np.int64))]
    return [*model.state_dict().values(), modes, *states, torch.tensor(random.getstate()[1])]


def test_training_is_bit_identical_with_and_without_these_pages(tiny, trainer_in, tmp_path):
    without = fitted(tiny, trainer_in)
    with_it = fitted(tiny, trainer_in, CAMLogger(every_n_epochs=1, n_cases=3))
    assert len(list((tmp_path / "cams").rglob("*.png"))) == 2
    assert all(torch.equal(a, b) for a, b in zip(without, with_it, strict=True))


def test_other_ranks_draw_nothing(tiny, trainer_in, tmp_path, monkeypatch, drawn):
    trainer = trainer_in(CAMLogger())
    monkeypatch.setattr(type(trainer), "is_global_zero", property(lambda self: False))
    trainer.test(classless(tiny)(), datamodule=unlabelled(tiny)(), verbose=False)
    assert drawn == []
    assert not (tmp_path / "cams").exists()


def test_outputs_without_maps_and_gaze_are_skipped_with_one_line(tiny, trainer_in, tmp_path, monkeypatch):
    class Silent(tiny.Model):
        def _said(self, batch):
            return super()._said(batch) | {"cam": None}

    said = []
    monkeypatch.setattr(callbacks.cam_logger, "rank_zero_info", said.append)
    trainer_in(CAMLogger()).test(Silent(), datamodule=tiny.Data(), verbose=False)
    assert said == ["Silent gives neither maps nor predicted gaze: no CAM panels."]
    assert not (tmp_path / "cams").exists()
