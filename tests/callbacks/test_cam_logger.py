# ruff: noqa: NPY002  the legacy global generator is what an observer must leave alone
import random

import cv2
import numpy as np
import pytest
import torch
from pytorch_lightning import Callback

import callbacks.cam_logger
import gaze_lightning.guarded_wandb
from callbacks import CAMLogger
from callbacks.cam_cases import choose_cases, true_classes
from callbacks.cam_logger import unnoticed
from callbacks.cam_panels import draw_cam_page, draw_overlay, highest_cell, shown_classes
from callbacks.panel_parts import CamCase, save_png
from tests.fake_wandb import FakeWandb


class Recorder(Callback):
    """Everything that training could notice, at every step."""

    def __init__(self):
        self.seen = []

    def _note(self, model):
        self.seen.append(torch.get_rng_state().clone())
        self.seen.append(torch.tensor(np.random.get_state()[1].astype(np.int64)))
        self.seen.append(torch.tensor(random.getstate()[1]))
        self.seen.append(torch.tensor([part.training for part in model.modules()]))

    def on_train_batch_start(self, trainer, pl_module, *_):
        self._note(pl_module)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen += [p.grad.clone() for p in pl_module.parameters()]

    def on_validation_end(self, trainer, pl_module):
        self._note(pl_module)
        self.seen += [value.clone() for value in pl_module.state_dict().values()]
        self.seen += [torch.tensor(p.grad is None or bool(p.grad.abs().sum() == 0)) for p in pl_module.parameters()]


def trained(tiny, trainer_in, *observers):
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    recorder = Recorder()
    trainer = trainer_in(*observers, recorder, max_epochs=3)
    model = tiny.Model()
    trainer.fit(model, datamodule=tiny.Data())
    return recorder.seen + [value.clone() for value in model.state_dict().values()]


def test_training_is_bit_identical_with_and_without_the_callback(tiny, trainer_in, tmp_path):
    without = trained(tiny, trainer_in)
    with_it = trained(tiny, trainer_in, CAMLogger(every_n_epochs=1, n_cases=3))
    assert len(list((tmp_path / "cams").rglob("*.png"))) == 3
    assert len(without) == len(with_it)
    assert all(torch.equal(a, b) for a, b in zip(without, with_it, strict=True))


def test_modes_and_random_states_come_back_even_after_an_error(tiny):
    model = tiny.Model().train()
    model.body[1].eval()  # a frozen part inside a training model
    before = [part.training for part in model.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with unnoticed(model):
        assert not any(part.training for part in model.modules())
        assert not torch.is_grad_enabled()
        torch.rand(3), np.random.rand(3), random.random()
    assert [part.training for part in model.modules()] == before
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert states[2] == random.getstate()
    with pytest.raises(RuntimeError, match="inside"), unnoticed(model):
        raise RuntimeError("inside")
    assert [part.training for part in model.modules()] == before


def test_pages_lie_where_promised_and_are_readable_images(tiny, trainer_in, tmp_path):
    trainer = trainer_in(CAMLogger(every_n_epochs=2, n_cases=4, cases_per_page=3), max_epochs=4)
    model, data = tiny.Model(), tiny.Data()
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    trainer.validate(model, datamodule=data, verbose=False)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert found == [
        f"cams/{stage}/page_0{page}.png" for stage in ("epoch_001", "epoch_003", "test", "validate") for page in (1, 2)
    ]
    for path, rows in (("page_01.png", 3), ("page_02.png", 1)):
        height, width, _ = cv2.imread(str(tmp_path / "cams" / "test" / path)).shape
        assert height == pytest.approx(110 * (rows * 3.07 + 0.8), abs=3)
        assert width > 900
    assert not list(tmp_path.rglob("*.part"))


def test_no_real_id_is_handed_to_the_page(tiny, trainer_in, monkeypatch):
    names = []
    draw = callbacks.cam_logger.draw_cam_page

    def spy(cases, *args, **kwargs):
        names.extend(case.name for case in cases)
        return draw(cases, *args, **kwargs)

    monkeypatch.setattr(callbacks.cam_logger, "draw_cam_page", spy)
    trainer_in(CAMLogger(n_cases=3)).test(tiny.Model(), datamodule=tiny.Data(), verbose=False)
    assert len(names) == 3
    assert not any("film" in name or "patient" in name for name in names)


def test_multi_label_pages_are_drawn(tiny, trainer_in, tmp_path):
    trainer_in(CAMLogger(n_cases=2)).test(tiny.Model("multi"), datamodule=tiny.Data(multi=True), verbose=False)
    assert (tmp_path / "cams" / "test" / "page_01.png").is_file()


def test_a_model_without_cams_is_skipped_with_one_line(tiny, trainer_in, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(callbacks.cam_logger, "rank_zero_info", said.append)
    trainer_in(CAMLogger(every_n_epochs=1)).fit(tiny.ModelWithoutCAMs(), datamodule=tiny.Data())
    assert said == ["ModelWithoutCAMs neither makes class activation maps nor predicts gaze: no CAM panels."]
    assert not (tmp_path / "cams").exists()


def test_other_ranks_touch_neither_model_nor_data(tiny, trainer_in, tmp_path, monkeypatch):
    trainer = trainer_in(CAMLogger(every_n_epochs=1))
    monkeypatch.setattr(type(trainer), "is_global_zero", property(lambda self: False))
    monkeypatch.setattr(callbacks.cam_logger, "choose_cases", lambda *_: pytest.fail("data were read"))
    trainer.test(tiny.Model(), datamodule=tiny.Data(), verbose=False)
    assert not (tmp_path / "cams").exists()


def test_cases_are_balanced_fixed_and_have_gaze_where_possible(tiny):
    dataset = tiny.Dataset(40)
    chosen = choose_cases(dataset, 6, 3, "single")
    assert chosen == choose_cases(dataset, 6, 3, "single")
    assert sorted(dataset[i]["label"] for i in chosen) == [0, 0, 1, 1, 2, 2]
    assert all(dataset[i]["has_gaze"] for i in chosen)
    assert len(set(chosen)) == 6


def test_few_or_gazeless_samples_are_still_shown(tiny):
    assert sorted(choose_cases(tiny.Dataset(2), 6, 3, "single")) == [0, 1]
    chosen = choose_cases(tiny.Dataset(40, multi=True), 8, 3, "multi")
    assert len(set(chosen)) == 8


@pytest.mark.parametrize(
    ("label", "kind", "expected"),
    [
        (2, "single", [2]),
        (-1, "single", []),
        (None, "single", []),
        (torch.tensor([1.0, float("nan"), 0.0]), "multi", [0]),
    ],
)
def test_true_classes(label, kind, expected):
    assert true_classes(label, kind) == expected


@pytest.mark.parametrize("open_data", [False, True])
def test_pages_are_offered_to_online_loggers_which_decide(tiny, trainer_in, tmp_path, monkeypatch, open_data):
    said = []
    monkeypatch.setattr(gaze_lightning.guarded_wandb, "rank_zero_info", said.append)
    logger = FakeWandb(open_data)
    trainer_in(CAMLogger(n_cases=2), logger=logger).test(tiny.Model(), datamodule=tiny.Data(), verbose=False)
    page = tmp_path / "cams" / "test" / "page_01.png"
    assert page.is_file()
    assert logger.uploads == ([("cams/test", [str(page)])] if open_data else [])
    assert [line.startswith("CAM panels stay in the run folder") for line in said] == ([] if open_data else [True])


def case(k=3, **kwargs):
    rng = np.random.default_rng(0)
    given = {
        "name": "case 1",
        "film": rng.random((30, 20)),
        "cams": rng.normal(size=(k, 4, 3)),
        "probability": np.linspace(0.1, 0.9, k),
        "true_classes": (0,),
    }
    return CamCase(**{**given, **kwargs})


def test_true_classes_are_drawn_before_probable_ones():
    assert shown_classes(case(6), 3) == [0, 4, 5]
    assert shown_classes(case(6, true_classes=()), 2) == [4, 5]
    assert shown_classes(case(2), 4) == [0, 1]


@pytest.mark.parametrize(
    "odd",
    [
        {"cams": np.zeros((3, 1, 1))},
        {"film": np.zeros((30, 20)), "gaze": np.zeros((4, 4)), "fixations": np.zeros((0, 3))},
        {"has_label": False, "true_classes": (), "lesions": np.zeros((3, 30, 20), bool)},
        {"lesions": np.ones((3, 30, 20), bool), "film_box": (0.0, 5.0, 20.0, 25.0)},
        {"film": np.zeros((10, 40)), "probability": np.full(3, 1 / 3)},
    ],
)
def test_degenerate_cases_are_drawn(odd, tmp_path):
    save_png(draw_cam_page([case(**odd)], ["A", "B", "C"], note="note"), tmp_path / "page.png")
    save_png(draw_overlay(case(**odd), ["A", "B", "C"], [2]), tmp_path / "overlay.png")
    assert cv2.imread(str(tmp_path / "page.png")).std() > 0
    assert cv2.imread(str(tmp_path / "overlay.png")).std() > 0


def test_texts_do_not_leave_the_page_or_overlap():
    names = ["Enlarged cardiac silhouette", "Pleural abnormality", "Consolidation", "Support devices"]
    row = {"gaze": np.ones((4, 4)), "true_classes": (0, 1), "multi_label": True, "name": "case 12  0123456789"}
    figure = draw_cam_page([case(4, **row), case(4, **row)], names, note="synthetic phantom: not clinical evidence")
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    titles = [axes.title.get_window_extent(renderer) for axes in figure.axes if axes.get_title()]
    titles += [text.get_window_extent(renderer) for text in figure.texts]
    page = figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 for box in titles)
    assert all(page.y0 <= box.y0 and box.y1 <= page.y1 for box in titles)
    assert not any(a.overlaps(b) for i, a in enumerate(titles) for b in titles[i + 1 :])
    panels = [axes.get_window_extent(renderer).padded(-2) for axes in figure.axes]
    assert not any(title.overlaps(panel) for title in titles for panel in panels)


def test_the_cross_marks_the_highest_cell_on_the_film():
    cams = np.zeros((1, 4, 3))
    cams[0, 2, 0], cams[0, 0, 1] = 5.0, 9.0
    film_only = case(1, cams=cams - 100, film_box=(0.0, 7.0, 20.0, 30.0))  # the offset of a class must not matter
    assert highest_cell(film_only, 0) == pytest.approx((0.5 * 20 / 3, 2.5 * 30 / 4))
    assert highest_cell(case(1, cams=cams), 0) == pytest.approx((1.5 * 20 / 3, 0.5 * 30 / 4))
    assert highest_cell(case(1, cams=np.ones((1, 4, 3))), 0) is None


@pytest.mark.parametrize("wrong", [{"every_n_epochs": -1}, {"n_cases": 0}, {"cases_per_page": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CAMLogger(**wrong)
