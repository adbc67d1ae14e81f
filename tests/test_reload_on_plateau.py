import copy
import math
import warnings

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from callbacks import ReloadOnPlateau, Stage, StagedTraining
from gaze_lightning.main import main
from tests.interruption import assert_same_run, command_line
from tests.staged_task import checkpoint, stages_json, task
from tests.staged_task import run as train_stages

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


ENDS = {"patience": {"patience": 40, "stop_patience": 2}, "rate": {"patience": 0, "min_lr": 5e-4}}


@pytest.mark.parametrize("how", ENDS)
def test_what_is_resumed_after_the_rule_has_ended_it_trains_nothing(tmp_path, how):
    scores, path = [1] + [2] * 9, tmp_path / "last.ckpt"

    class Save(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(path)

    whole, _ = run(tmp_path, scores, ReloadOnPlateau("val/loss", "min", **ENDS[how]), more=[Save()])
    assert len(whole.ends) == 3
    stored = torch.load(path, weights_only=True)
    rest, trainer = run(tmp_path, scores, ReloadOnPlateau("val/loss", "min", **ENDS[how]), ckpt_path=path)
    assert rest.starts == rest.ends == []
    assert trainer.should_stop
    weights = trainer.lightning_module.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in stored["state_dict"].items())


@pytest.mark.parametrize("how", ENDS)
def test_a_stage_that_the_rule_has_ended_is_finished_when_it_is_resumed_as_well(tmp_path, how):
    def train(resume):
        staged = StagedTraining([Stage("a", 3, select=False), Stage("b", 7)])
        plateau = ReloadOnPlateau("val/score", "max", **ENDS[how])
        last = tmp_path / "last.ckpt"
        model, more = task(scores=[5] * 4 + [1] * 6), [checkpoint(tmp_path), plateau]
        _, watch, _ = train_stages(tmp_path, None, model, 10, more, last if resume else None, staged=staged)
        return staged.unfinished, stages_json(tmp_path), watch.step_rates

    unfinished, rows, steps = train(resume=False)
    assert unfinished is None
    assert [row["epochs"] for row in rows] == [3, 3]
    assert steps
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.ckpt")}
    assert train(resume=True) == (None, rows, [])
    assert {file.name: file.read_bytes() for file in tmp_path.glob("*.ckpt")} == before


class Flat(Callback):
    """A validation value that never changes."""

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/flat", torch.tensor(0.0))


@pytest.mark.slow
def test_a_run_that_the_rule_has_ended_and_that_dies_in_its_test_is_only_tested_again(phantom_arguments, tmp_path):
    run = tmp_path / "run"
    own = [f"{__name__}.Flat", *(f"tests.interruption.{name}" for name in ("Interruption", "Digest", "Order"))]
    rule = "{class_path: ReloadOnPlateau, init_args: {monitor: val/flat, mode: max, stop_patience: 2}}"
    arguments = [
        "--config=baseline_resnet18",
        *phantom_arguments,
        "--data.init_args.batch_size=4",
        f"--data.init_args.cache_dir={tmp_path / 'cache'}",
        "--data.init_args.image_size=[48,40]",
        "--data.init_args.saliency_size=[24,20]",
        "--model.init_args.backbone=test_resnet.r160_in1k",
        "--model.init_args.output_stride=32",
        "--model.init_args.schedule=constant",
        "--staged_training.stages=[{name: part, epochs: 1, freeze: [model.backbone]}, {name: all}]",
        "--trainer.limit_train_batches=2",
        "--trainer.log_every_n_steps=1",
        "--trainer.max_epochs=6",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        f"--trainer.callbacks=[{', '.join([rule, *own])}]",
    ]
    command_line(["train", *arguments, f"--run_dir={run}"], interrupt_at="test_end 4")
    kept = [*run.glob("checkpoints/*.ckpt"), *(run / f"{name}_0.txt" for name in ("digest", "order"))]
    before = [path.read_bytes() for path in kept]
    main(["resume", "--run", str(run)])
    assert [path.read_bytes() for path in kept] == before
    main(["train", *arguments, f"--run_dir={tmp_path / 'whole'}"])
    assert_same_run(tmp_path / "whole", run)


def test_a_checkpoint_without_word_of_an_end_is_of_a_training_that_goes_on():
    plateau = ReloadOnPlateau("val/loss", "min")
    state = plateau.state_dict()
    del state["ended"]
    plateau.load_state_dict(state)
    assert not plateau.state_dict()["ended"]
