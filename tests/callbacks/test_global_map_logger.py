# ruff: noqa: NPY002  the legacy global generator is what an observer must leave alone
import io
import json
import math
import random

import cv2
import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from rich.console import Console
from torch import nn

import callbacks.global_map_logger
import gaze_lightning.guarded_wandb
from callbacks import GlobalMapLogger
from callbacks.global_map_evolution import MapOfEpoch, choose_epochs, draw_evolution
from callbacks.panel_parts import save_png
from gaze_lightning.evaluation.map_comparison import MapComparison, map_correlation
from gaze_lightning.evaluation.map_comparison_table import print_map_comparison
from gaze_lightning.protocols import HasGlobalMap, OffersTrainingFilms
from tests.fake_wandb import FakeWandb
from tests.made_up_maps import H, W, gaze, smooth, statistics


@pytest.fixture
def parts(tiny):
    """A task with a global map that moves in training, and a data module that shows its training films."""

    class Model(tiny.Model):
        def __init__(self):
            super().__init__()
            self.logit = nn.Parameter(torch.zeros(H, W))
            self.register_buffer("stored", torch.full((H, W), 0.5))
            self.seen = {}

        def training_step(self, batch, batch_idx):
            weight = self.logit.sigmoid()
            batch = batch | {"image": batch["image"] * weight}
            return super().training_step(batch, batch_idx) - 0.3 * (weight * smooth(5)).sum()

        def on_validation_start(self):
            if not self.trainer.sanity_checking:
                self.stored.copy_(self.logit.detach().sigmoid())
                self.seen[self.current_epoch] = self.stored.clone()

        def validation_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)

        def global_map(self):
            return self.stored

    class Local(tiny.Model):
        def global_map(self):
            return None

    class Data(tiny.Data):
        image_size, batch_size = (H, W), 4
        with_gaze = with_films = True

        def training_films(self, n, seed):
            raise AssertionError("not asked for")

        def film_statistics(self):
            np.random.rand(), torch.rand(1), random.random()
            return statistics() if self.with_films else None

        def mean_training_gaze(self):
            return gaze() if self.with_gaze else None

        def leave_geometry_to_task(self, leave=True):
            raise AssertionError("not asked for")

    assert isinstance(Model(), HasGlobalMap)
    assert isinstance(Data(), OffersTrainingFilms)
    return type("Parts", (), {"Model": Model, "Local": Local, "Data": Data})


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_maps_of_start_and_epochs_are_kept_as_they_were_validated(parts, trainer_in, tmp_path):
    model = parts.Model()
    trainer_in(GlobalMapLogger(), max_epochs=3).fit(model, datamodule=parts.Data())
    assert files(tmp_path / "attention") == [
        "evolution.png",
        "maps/epoch_000.npy",
        "maps/epoch_001.npy",
        "maps/epoch_002.npy",
        "maps/start.npy",
    ]
    start = np.load(tmp_path / "attention/maps/start.npy")
    assert start.dtype == np.float32
    assert (start == 0.5).all()
    for epoch in range(3):
        kept = torch.from_numpy(np.load(tmp_path / f"attention/maps/epoch_{epoch:03d}.npy"))
        assert torch.equal(kept, model.seen[epoch])
    assert not torch.equal(model.seen[0], model.seen[2])


def test_of_every_nth_epoch_and_of_the_last(parts, trainer_in, tmp_path):
    trainer_in(GlobalMapLogger(every_n_epochs=2), max_epochs=5).fit(parts.Model(), datamodule=parts.Data())
    assert sorted(path.stem for path in (tmp_path / "attention/maps").iterdir()) == [
        "epoch_001",
        "epoch_003",
        "epoch_004",
        "start",
    ]


def test_zero_keeps_nothing_in_training(parts, trainer_in, tmp_path):
    trainer_in(GlobalMapLogger(every_n_epochs=0)).fit(parts.Model(), datamodule=parts.Data())
    assert not (tmp_path / "attention").exists()


def test_the_last_map_is_that_of_the_end_also_without_validation(parts, trainer_in, tmp_path):
    class Late(parts.Model):
        def on_train_epoch_end(self):
            self.stored.copy_(self.logit.detach().sigmoid())

    model = Late()
    trainer_in(GlobalMapLogger(), limit_val_batches=0).fit(model, datamodule=parts.Data())
    assert np.array_equal(np.load(tmp_path / "attention/maps/epoch_001.npy"), model.stored.numpy())


def spied(monkeypatch):
    pages = []
    draw = callbacks.global_map_logger.draw_evolution

    def spy(maps, *args, **kwargs):
        pages.append(list(maps))
        return draw(maps, *args, **kwargs)

    monkeypatch.setattr(callbacks.global_map_logger, "draw_evolution", spy)
    return pages


def test_a_resumed_training_goes_on_with_the_maps_that_are_there(parts, trainer_in, tmp_path, monkeypatch):
    pages = spied(monkeypatch)
    trainer = trainer_in(GlobalMapLogger(), max_epochs=2)
    trainer.fit(parts.Model(), datamodule=parts.Data())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    maps = tmp_path / "attention/maps"
    first = np.load(maps / "epoch_000.npy")
    for stale in ("epoch_002", "epoch_007"):  # of an attempt that was cut off
        np.save(maps / f"{stale}.npy", np.full((H, W), 9.0, np.float32))
    model = parts.Model()
    trainer_in(GlobalMapLogger(), max_epochs=4).fit(model, datamodule=parts.Data(), ckpt_path=tmp_path / "last.ckpt")
    assert (np.load(maps / "start.npy") == 0.5).all()
    assert np.array_equal(np.load(maps / "epoch_000.npy"), first)
    assert np.array_equal(np.load(maps / "epoch_002.npy"), model.seen[2].numpy())
    assert [one.name for one in pages[-1]] == ["start", "epoch 000", "epoch 001", "epoch 002", "epoch 003"]
    where = statistics().coverage >= 0.5
    assert pages[-1][1].with_last == map_correlation(torch.from_numpy(first), model.stored, where)
    assert math.isnan(pages[-1][0].with_last)  # a constant map
    assert pages[-1][-1].with_last == pytest.approx(1)


@pytest.mark.parametrize("n", [1, 2, 8, 9, 40])
def test_at_most_seven_evenly_spaced_epochs_and_the_last(n):
    chosen = choose_epochs(list(range(n)))
    assert chosen[-1] == n - 1
    assert len(chosen) == min(n, 8)
    assert sorted(set(chosen)) == chosen
    assert chosen[0] == 0
    steps = np.diff(chosen[:-1])
    assert steps.size == 0 or steps.max() - steps.min() <= 1


class Recorder(Callback):
    def __init__(self):
        self.seen = []

    def _note(self, model):
        self.seen.append(torch.get_rng_state().clone())
        self.seen.append(torch.tensor(np.random.get_state()[1].astype(np.int64)))
        self.seen.append(torch.tensor(random.getstate()[1]))
        self.seen.append(torch.tensor([part.training for part in model.modules()]))
        self.seen += [value.clone() for value in model.state_dict().values()]

    def on_train_batch_start(self, trainer, pl_module, *_):
        self._note(pl_module)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen += [p.grad.clone() for p in pl_module.parameters()]

    def on_train_end(self, trainer, pl_module):
        self._note(pl_module)


def test_training_is_bit_identical_with_and_without_the_callback(parts, trainer_in):
    seen = []
    for observers in ([], [GlobalMapLogger()]):
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)
        recorder = Recorder()
        trainer_in(*observers, recorder, max_epochs=2).fit(parts.Model(), datamodule=parts.Data())
        seen.append(recorder.seen)
    assert len(seen[0]) == len(seen[1])
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_tasks_without_one_map_for_all_films_are_left_alone_in_silence(tiny, parts, trainer_in, tmp_path, capsys):
    for model in (tiny.Model(), parts.Local()):
        trainer = trainer_in(GlobalMapLogger(), max_epochs=1)
        trainer.fit(model, datamodule=parts.Data())
        trainer.test(model, datamodule=parts.Data(), verbose=False)
    assert not (tmp_path / "attention").exists()
    assert "Global map" not in capsys.readouterr().out


def test_other_ranks_do_nothing(parts, trainer_in, tmp_path, monkeypatch):
    trainer = trainer_in(GlobalMapLogger())
    monkeypatch.setattr(type(trainer), "is_global_zero", property(lambda self: False))
    monkeypatch.setattr(parts.Data, "film_statistics", lambda self: pytest.fail("data were read"))
    trainer.test(parts.Model(), datamodule=parts.Data(), verbose=False)
    assert not (tmp_path / "attention").exists()


def test_a_test_writes_map_picture_and_numbers(parts, trainer_in, tmp_path, capsys):
    model = parts.Model()
    model.stored.copy_(0.2 + 0.6 * smooth(3))
    trainer_in(GlobalMapLogger()).test(model, datamodule=parts.Data(), verbose=False)
    folder = tmp_path / "attention"
    assert files(folder) == ["compared.npy", "comparison.json", "map.npy", "map.png"]
    assert np.array_equal(np.load(folder / "map.npy"), model.stored.numpy())
    assert np.array_equal(np.load(folder / "compared.npy"), np.arange(H)[:, None].repeat(W, 1) >= 2)
    found = json.loads((folder / "comparison.json").read_text())
    assert found["data"] == "synthetic phantom: not clinical evidence"
    assert found["compared_with"].endswith("those of the training part of the data that are tested")
    assert found["mean_film"]["n"] == 12
    assert set(found["references"]) == {"mean_film", "centre", "even"}
    assert found["references"]["even"]["cc"] is None
    assert cv2.imread(str(folder / "map.png")).std() > 0
    said = capsys.readouterr().out
    assert "Global map against the mean training gaze" in said
    assert "synthetic phantom: not clinical evidence" in said
    assert "those of the training part of the data that are tested." in " ".join(said.split())
    assert f"{found['mean_gaze']['cc']:.3f}" in said


def test_without_gaze_and_without_a_data_module_what_is_there_is_shown(parts, trainer_in, tmp_path, capsys):
    data = parts.Data()
    data.with_gaze = False
    trainer_in(GlobalMapLogger()).test(parts.Model(), datamodule=data, verbose=False)
    found = json.loads((tmp_path / "attention/comparison.json").read_text())
    assert found["mean_gaze"] is None
    assert found["references"] == {}
    assert found["mean_film"]["cc"] is None  # a constant map
    assert "have no gaze" in capsys.readouterr().out
    model = parts.Model()
    model.on_test_batch_start = lambda batch, *_: data.on_after_batch_transfer(batch, 0)
    trainer_in(GlobalMapLogger()).test(model, dataloaders=data.test_dataloader(), verbose=False)
    found = json.loads((tmp_path / "attention/comparison.json").read_text())
    assert found["mean_film"] is None
    assert found["compared_share_of_canvas"] == 1
    assert "do not show the training films" in " ".join(capsys.readouterr().out.split())


def test_without_a_training_part_the_map_is_drawn_alone(parts, trainer_in, tmp_path, capsys):
    data = parts.Data()
    data.with_gaze = data.with_films = False
    model = parts.Model()
    model.stored.copy_(0.2 + 0.6 * smooth(3))
    trainer_in(GlobalMapLogger()).test(model, datamodule=data, verbose=False)
    folder = tmp_path / "attention"
    assert files(folder) == ["compared.npy", "comparison.json", "map.npy", "map.png"]
    assert np.load(folder / "compared.npy").all()
    found = json.loads((folder / "comparison.json").read_text())
    assert found["mean_film"] is found["mean_gaze"] is found["compared_with"] is None
    assert found["map"]["mean"] == pytest.approx(float(model.stored.mean()))
    assert "nothing to compare the map with" in " ".join(capsys.readouterr().out.split())


def test_numbers_equal_their_definitions_over_the_compared_pixels():
    values = 0.2 + 0.6 * smooth(3)
    got = MapComparison.of(values, statistics(), gaze())
    keep = (statistics().coverage >= 0.5).numpy()
    assert (~keep).sum() > 0
    a, film, looked = (x.double().numpy()[keep] for x in (values, statistics().mean, gaze()))
    q = looked / looked.sum()

    def cc(x, y):
        return np.corrcoef(x, y)[0, 1]

    def kl(x):
        p = x / x.sum()
        return sum(qi * math.log(qi / pi) for qi, pi in zip(q, p, strict=True) if qi > 0)

    assert got.mean == pytest.approx(a.mean())
    assert got.sd == pytest.approx(a.std())
    assert (got.low, got.high) == (pytest.approx(a.min()), pytest.approx(a.max()))
    assert got.share == pytest.approx(keep.mean())
    assert got.film_cc == pytest.approx(cc(a, film))
    assert got.gaze == pytest.approx((cc(a, looked), kl(a)), rel=1e-6)
    assert got.references["mean_film"].cc == pytest.approx(cc(film, looked))
    assert got.references["even"].kl == pytest.approx(kl(np.ones_like(a)), rel=1e-6)
    assert math.isnan(got.references["even"].cc)
    y, x = np.nonzero(keep)  # the box of these pixels is rows 2 to 24, columns 0 to 20
    bell = np.exp(-0.5 * (((y + 0.5 - 13) / 5.5) ** 2 + ((x + 0.5 - 10) / 5) ** 2))
    assert got.references["centre"] == pytest.approx((cc(bell, looked), kl(bell)), rel=1e-6)


def test_what_half_of_the_films_do_not_cover_changes_nothing():
    values, changed = 0.2 + 0.6 * smooth(3), 0.2 + 0.6 * smooth(3)
    changed[:2] = 1.0
    looked = gaze()
    looked[:2] = 3.0
    a = MapComparison.of(values, statistics(), gaze())
    b = MapComparison.of(changed, statistics(), looked)
    assert [*a.gaze, a.mean, a.sd, a.film_cc] == pytest.approx([*b.gaze, b.mean, b.sd, b.film_cc])


def test_the_scale_of_a_map_does_not_matter_for_the_agreement():
    values = 0.2 + 0.6 * smooth(3)
    a, b = (MapComparison.of(one, statistics(), gaze()) for one in (values, values * 7))
    assert a.gaze == pytest.approx(b.gaze)


def test_a_diverged_map_ends_neither_a_test_nor_a_training(parts, trainer_in, tmp_path):
    model = parts.Model()
    model.stored[3, 3] = float("nan")
    trainer_in(GlobalMapLogger()).test(model, datamodule=parts.Data(), verbose=False)
    found = json.loads((tmp_path / "attention/comparison.json").read_text())
    assert found["mean_gaze"] == {"cc": None, "kl": None}
    assert found["map"]["mean"] is None
    nothing = np.full((H, W), np.nan)
    where = np.ones((H, W), bool)
    save_png(
        draw_evolution([MapOfEpoch("start", nothing, math.nan)], where, film=None, note="note"), tmp_path / "a.png"
    )


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_console(width):
    console = Console(file=io.StringIO(), width=width)
    comparison = MapComparison.of(0.2 + 0.6 * smooth(3), statistics(), gaze())
    print_map_comparison(comparison, "synthetic phantom: not clinical evidence", console)
    text = console.file.getvalue()
    for words in ("global map", "mean training film", "centre", "even map", "CC ↑", "KL ↓", "no closer to the gaze"):
        assert words in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("open_data", [False, True])
def test_pictures_are_offered_to_online_loggers_which_decide(parts, trainer_in, monkeypatch, open_data):
    said = []
    monkeypatch.setattr(gaze_lightning.guarded_wandb, "rank_zero_info", said.append)
    logger, data, model = FakeWandb(open_data), parts.Data(), parts.Model()
    trainer = trainer_in(GlobalMapLogger(), logger=logger)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    assert [key for key, _ in logger.uploads] == (["attention/evolution", "attention/map"] if open_data else [])
    starts = [line.startswith("Pictures of the global map stay in the run folder") for line in said]
    assert starts == ([] if open_data else [True])


@pytest.mark.parametrize(("share", "words"), [(0.998, "99.8 %"), (0.99996, "99.9 %"), (1.0, "100 %"), (0.5, "50 %")])
def test_the_share_of_the_canvas_is_not_rounded_up_to_all_of_it(share, words):
    console = Console(file=io.StringIO(), width=120)
    comparison = MapComparison.of(0.2 + 0.6 * smooth(3), statistics(), gaze())._replace(share=share)
    print_map_comparison(comparison, "", console)
    said = " ".join(console.file.getvalue().split())
    assert f"Compared: {words} of the canvas, where at least half of these films are." in said


def test_a_negative_interval_is_refused():
    with pytest.raises(ValueError, match="every_n_epochs"):
        GlobalMapLogger(every_n_epochs=-1)
