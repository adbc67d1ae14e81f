import copy
import math
import warnings

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from callbacks.reload_on_plateau import ReloadOnPlateau

warnings.filterwarnings("ignore", module="pytorch_lightning")


class Scripted(LightningModule):
    """Its validation score follows a script; its training is deterministic."""

    def __init__(self, scores, schedule=False):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.scores, self.schedule = list(scores), schedule

    def training_step(self, batch, batch_idx):
        return (self.net(batch) - 1).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", torch.tensor(float(self.scores[self.current_epoch])))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        return ([optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]) if self.schedule else optimizer


class Watch(Callback):
    def __init__(self):
        self.starts, self.ends, self.rates = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        optimizer = trainer.optimizers[0]
        if batch_idx == 0:
            self.rates.append(optimizer.param_groups[0]["lr"])
            self.starts.append(copy.deepcopy((pl_module.state_dict(), optimizer.state_dict()["state"])))

    def on_train_epoch_end(self, trainer, pl_module):
        self.ends.append(copy.deepcopy((pl_module.state_dict(), trainer.optimizers[0].state_dict()["state"])))


def run(path, scores, plateau, epochs=None, ckpt_path=None, more=(), trainer_options=None, **options):
    task, watch = Scripted(scores, **options), Watch()
    data = DataLoader(torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(0)), batch_size=None)
    trainer = Trainer(
        default_root_dir=path,
        accelerator="cpu",
        max_epochs=epochs or len(scores),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[plateau, watch, *more],
        **(trainer_options or {}),
    )
    trainer.fit(task, data, data, ckpt_path=ckpt_path)
    return watch, trainer


def same(a, b):
    weights = all(torch.equal(a[0][key], b[0][key]) for key in a[0])
    return weights and all(torch.equal(a[1][i][key], b[1][i][key]) for i in a[1] for key in a[1][i])


def test_a_cut_reloads_best_weights_buffers_and_optimiser_state_and_lowers_the_rate(tmp_path):
    watch, _ = run(tmp_path, [3, 1, 2, 2, 2, 2], ReloadOnPlateau("val/loss", "min", patience=2))
    assert watch.rates == pytest.approx([1e-2] * 5 + [1e-3])
    assert same(watch.starts[5], watch.ends[1])
    assert not same(watch.starts[4], watch.ends[1])
    assert same(watch.starts[4], watch.ends[3])


def test_a_second_cut_without_improvement_lowers_the_rate_again(tmp_path):
    watch, _ = run(tmp_path, [1, 2, 2, 2, 2], ReloadOnPlateau("val/loss", "min", patience=0, min_lr=0.0))
    assert watch.rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-5])


def test_an_improvement_starts_the_count_again(tmp_path):
    watch, _ = run(tmp_path, [1, 2, 3, 4, 3, 2], ReloadOnPlateau("val/loss", "max", patience=1))
    assert watch.rates == [1e-2] * 6


def test_nan_is_no_improvement(tmp_path):
    watch, _ = run(tmp_path, [1, math.nan, math.nan], ReloadOnPlateau("val/loss", "min", patience=0, min_lr=0.0))
    assert watch.rates == pytest.approx([1e-2, 1e-2, 1e-3])


def test_training_ends_after_stop_patience_epochs(tmp_path):
    watch, trainer = run(tmp_path, [1] + [2] * 9, ReloadOnPlateau("val/loss", "min", patience=40, stop_patience=3))
    assert len(watch.rates) == 4
    assert trainer.should_stop


@pytest.mark.parametrize(
    ("options", "epochs"), [({"val_check_interval": 0.25}, 4), ({"check_val_every_n_epoch": 2}, 6)]
)
def test_patience_counts_epochs_however_often_validation_runs(tmp_path, options, epochs):
    """With one validation in two epochs, those after epochs 2, 4 and 6: the third is four epochs after the best."""
    plateau = ReloadOnPlateau("val/loss", "min", patience=40, stop_patience=3)
    watch, _ = run(tmp_path, [1] * 2 + [2] * 8 if epochs == 6 else [1] + [2] * 9, plateau, trainer_options=options)
    assert len(watch.rates) == epochs


def test_several_validations_of_a_plateau_in_one_epoch_cut_once(tmp_path):
    plateau = ReloadOnPlateau("val/loss", "min", patience=0, min_lr=0.0)
    watch, _ = run(tmp_path, [1, 2, 2], plateau, trainer_options={"val_check_interval": 0.25})
    assert watch.rates == pytest.approx([1e-2, 1e-2, 1e-3])


def test_training_ends_when_the_rate_would_fall_below_its_floor(tmp_path):
    plateau = ReloadOnPlateau("val/loss", "min", patience=0, min_lr=5e-4)
    watch, _ = run(tmp_path, [1] + [2] * 9, plateau)
    assert watch.rates == pytest.approx([1e-2, 1e-2, 1e-3])


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_resumed_run_cuts_and_reloads_like_one_that_was_not_interrupted(tmp_path, stop):
    scores, path = [3, 1, 2, 2, 2, 2], tmp_path / "stopped.ckpt"

    class Stop(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch + 1 == stop:
                trainer.save_checkpoint(path)
                trainer.should_stop = True

    whole, _ = run(tmp_path, scores, ReloadOnPlateau("val/loss", "min", patience=1, min_lr=0.0))
    run(tmp_path, scores, ReloadOnPlateau("val/loss", "min", patience=1, min_lr=0.0), more=[Stop()])
    assert torch.load(path, weights_only=True)["callbacks"]
    resumed = ReloadOnPlateau("val/loss", "min", patience=1, min_lr=0.0)
    rest, _ = run(tmp_path, scores, resumed, ckpt_path=path)
    assert rest.rates == whole.rates[stop:]
    assert same(rest.ends[-1], whole.ends[-1])


def test_an_unknown_monitor_is_named(tmp_path):
    with pytest.raises(ValueError, match="'val/auc' is not logged; there are val/loss"):
        run(tmp_path, [1, 2], ReloadOnPlateau("val/auc", "max"))


def test_a_schedule_beside_it_is_refused(tmp_path):
    with pytest.raises(ValueError, match="schedule"):
        run(tmp_path, [1, 2], ReloadOnPlateau("val/loss", "min"), schedule=True)


@pytest.mark.parametrize("options", [{"mode": "best"}, {"mode": "min", "factor": 2.0}])
def test_unusable_arguments_are_refused(options):
    with pytest.raises(ValueError, match="factor"):
        ReloadOnPlateau("val/loss", **options)
