import copy
import logging
import warnings

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from callbacks.reload_on_plateau import ReloadOnPlateau
from callbacks.staged_checkpoint import StagedCheckpoint
from callbacks.staged_training import Stage, StagedTraining, stage_starts
from gaze_lightning.tasks import GGCAM

warnings.filterwarnings("ignore", module="pytorch_lightning")


class Tiny(LightningModule):
    """A task with BatchNorm, dropout and two loss terms; its validation score follows a script."""

    loss_terms = ("a", "b")
    active_loss_terms = frozenset({"a", "b"})

    def __init__(self, scores=(), schedule=False):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)
        self.idle = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.scores, self.schedule = list(scores), schedule

    def training_step(self, batch, batch_idx):
        out = self.head(self.body(batch))
        a, b = out[:, 0].square().mean(), (out[:, 1] - 1).square().mean()
        return ("a" in self.active_loss_terms) * a + ("b" in self.active_loss_terms) * b

    def validation_step(self, batch, batch_idx):
        if self.scores:
            self.log("val/score", torch.tensor(float(self.scores[self.current_epoch])))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.1)
        if self.schedule:
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]
        return optimizer


class Watch(Callback):
    """What every epoch ended with."""

    def __init__(self):
        self.states, self.modes, self.terms, self.rates = [], [], [], []

    def on_train_epoch_end(self, trainer, pl_module):
        self.states.append(copy.deepcopy(pl_module.state_dict()))
        self.modes.append({name: module.training for name, module in pl_module.named_modules()})
        self.terms.append(set(getattr(pl_module, "active_loss_terms", ())))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def run(path, stages, task=None, epochs=4, callbacks=(), ckpt_path=None, **options):
    torch.manual_seed(0)
    task = Tiny() if task is None else task
    data = DataLoader(torch.randn(6, 8, 4, generator=torch.Generator().manual_seed(0)), batch_size=None)
    watch = Watch()
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False} | options
    if not any(isinstance(callback, StagedCheckpoint) for callback in callbacks):
        options["enable_checkpointing"] = False
    trainer = Trainer(
        default_root_dir=path,
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[StagedTraining(stages), watch, *callbacks],
        num_sanity_val_steps=1,
        **options,
    )
    trainer.fit(task, data, data, ckpt_path=ckpt_path)
    return task, watch, trainer


def equal(a, b, prefix=""):
    return all(torch.equal(a[key], b[key]) for key in a if key.startswith(prefix))


def test_a_frozen_part_keeps_parameters_and_buffers_bit_identical(tmp_path):
    start = copy.deepcopy(Tiny().state_dict())
    task = Tiny()
    task.load_state_dict(start)
    stages = [Stage("head", 1, freeze=["body"]), Stage("all", None), Stage("body", 1, freeze=["head"])]
    _, watch, _ = run(tmp_path, stages, task)
    after = watch.states
    assert equal(start, after[0], "body.")
    assert not equal(start, after[0], "head.")
    assert not equal(after[0], after[1], "body.0")
    assert not torch.equal(after[0]["body.1.running_mean"], after[1]["body.1.running_mean"])
    assert equal(after[2], after[3], "head.")
    assert not equal(after[2], after[3], "body.")


def test_frozen_modules_are_in_eval_mode_also_after_validation_and_return_afterwards(tmp_path):
    task, watch, _ = run(tmp_path, [Stage("head", 2, freeze=["body"]), Stage("all", None)])
    for epoch, frozen in enumerate([True, True, False, False]):
        assert [watch.modes[epoch][name] for name in ("body", "body.1", "body.2")] == [not frozen] * 3
        assert watch.modes[epoch]["head"]
    assert all(p.requires_grad for name, p in task.named_parameters() if name != "idle")


def test_parameters_that_never_train_are_not_unfrozen(tmp_path):
    task, _, _ = run(tmp_path, [Stage("one", 1, freeze=["idle", "head.bias"]), Stage("two", None)])
    assert not task.idle.requires_grad
    assert task.head.bias.requires_grad


def test_terms_of_the_loss_follow_the_stage_and_return_at_the_end(tmp_path):
    task, watch, _ = run(tmp_path, [Stage("a", 1, loss_terms=["a"]), Stage("rest")])
    assert watch.terms == [{"a"}, {"a", "b"}, {"a", "b"}, {"a", "b"}]
    assert task.active_loss_terms == {"a", "b"}


def test_a_stage_can_have_its_own_learning_rate(tmp_path):
    _, watch, _ = run(tmp_path, [Stage("one", 1), Stage("two", 1, lr=0.5), Stage("three")])
    assert watch.rates == [1e-2, 0.5, 1e-2, 1e-2]


def test_each_stage_is_announced_in_one_line(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(tmp_path, [Stage("gaze", 1, loss_terms=["a"]), Stage("joint", freeze=["body.*"])])
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("stage ")]
    assert lines == [
        "stage 1/2 gaze: epochs 0-0, loss: a, frozen: nothing",
        "stage 2/2 joint: epochs 1-3, loss: a+b, frozen: body.*",
    ]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([Stage("one", freeze=["bodi"])], r"stage 'one': nothing is called 'bodi'; there are body.*head"),
        ([Stage("one", 3, loss_terms=["a"]), Stage("two", loss_terms=["c"])], "stage 'two'|choose"),
        ([Stage("one", 3)], r"ask for 3 epochs \(one 3\), trainer.max_epochs is 4"),
        ([Stage("one", 5), Stage("two")], "ask for 5 epochs"),
        ([Stage("one"), Stage("two")], "only one stage"),
        ([Stage("one", 1.5), Stage("two")], "1.5"),
    ],
)
def test_a_plan_that_cannot_work_stops_before_the_first_step(tmp_path, stages, message):
    task = GGCAM(["x", "y"], backbone="test_resnet") if "two'" in message else Tiny()
    before = copy.deepcopy(task.state_dict())
    with pytest.raises(ValueError, match=message):
        run(tmp_path, stages, task)
    assert equal(before, task.state_dict())


def test_a_learning_rate_beside_a_schedule_is_refused(tmp_path):
    with pytest.raises(ValueError, match="schedule"):
        run(tmp_path, [Stage("one", lr=0.1)], Tiny(schedule=True))


@pytest.mark.parametrize(
    ("stages", "epochs", "starts"),
    [
        ([Stage("a", 0.2), Stage("b")], 8, [0, 2]),
        ([Stage("a", 0.1), Stage("b")], 10, [0, 1]),
        ([Stage("a", 2), Stage("b", 3), Stage("c", 1)], 6, [0, 2, 5]),
        ([Stage("a", 2), Stage("b")], -1, [0, 2]),
        ([Stage("a", 0.2), Stage("b")], 1, [0, 0]),
        ([Stage("a"), Stage("b", 0.5)], 4, [0, 2]),
    ],
)
def test_epochs_are_numbers_shares_or_the_rest(stages, epochs, starts):
    assert stage_starts(stages, epochs) == starts


def test_a_share_without_an_end_is_refused():
    with pytest.raises(ValueError, match="max_epochs"):
        stage_starts([Stage("a", 0.2), Stage("b")], -1)


def test_a_stage_without_epochs_is_skipped(tmp_path):
    _, watch, _ = run(tmp_path, [Stage("a", 0, loss_terms=["a"]), Stage("rest")], epochs=1)
    assert watch.terms == [{"a", "b"}]


def test_without_stages_nothing_happens(tmp_path):
    _, staged, _ = run(tmp_path, None)
    _, plain, _ = run(tmp_path, [Stage("all")])
    assert equal(staged.states[-1], plain.states[-1])


def test_a_fast_dev_run_enters_the_first_stage(tmp_path):
    _, watch, _ = run(tmp_path, [Stage("a", 3, loss_terms=["a"]), Stage("rest")], fast_dev_run=True)
    assert watch.terms == [{"a"}]


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_run_equals_one_that_was_not_interrupted(tmp_path, stop):
    """Interrupted one epoch before, at, and after the boundary at epoch 2."""
    stages = [Stage("head", 2, loss_terms=["a"], freeze=["body"], lr=0.1), Stage("all", 2)]

    def task():
        torch.manual_seed(1)
        model = Tiny()
        model.body[2].p = 0.0  # no random numbers, so that equality can be exact
        return model

    class Stop(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch + 1 == stop:
                trainer.save_checkpoint(path)
                trainer.should_stop = True

    path = tmp_path / "stopped.ckpt"
    _, whole, _ = run(tmp_path, stages, task())
    run(tmp_path, stages, task(), callbacks=[Stop()], min_epochs=0)
    _, rest, _ = run(tmp_path, stages, task(), ckpt_path=path)
    assert len(rest.states) == 4 - stop
    assert (rest.terms, rest.rates, rest.modes) == (whole.terms[stop:], whole.rates[stop:], whole.modes[stop:])
    assert equal(whole.states[-1], rest.states[-1])


def test_selection_ignores_stages_without_select_and_starts_fresh(tmp_path):
    checkpoint = StagedCheckpoint(dirpath=tmp_path, filename="{epoch}", monitor="val/score", mode="max", save_last=True)
    stages = [Stage("one", 2, select=False), Stage("two", 2), Stage("three", 1)]
    run(tmp_path, stages, Tiny([9, 8, 2, 1, 1]), epochs=5, callbacks=[checkpoint])
    assert checkpoint.best_model_path.endswith("epoch=4.ckpt")
    assert checkpoint.best_model_score == 1
    assert sorted(p.name for p in tmp_path.glob("epoch*")) == ["epoch=2.ckpt", "epoch=4.ckpt"]


def test_the_last_checkpoint_is_that_of_the_last_epoch_in_every_stage(tmp_path):
    class Last(Callback):
        def __init__(self):
            self.epochs = []

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch:
                self.epochs.append(torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"])

    checkpoint = StagedCheckpoint(dirpath=tmp_path, filename="best", monitor="val/score", mode="max", save_last=True)
    last = Last()
    run(tmp_path, [Stage("one", 2, select=False), Stage("two")], Tiny([0, 0, 5, 1]), callbacks=[checkpoint, last])
    assert last.epochs == [0, 1, 2]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 3
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == 2


def test_the_plateau_rule_sleeps_in_stages_without_select(tmp_path):
    plateau = ReloadOnPlateau("val/score", "max", patience=0, min_lr=0.0)
    stages = [Stage("one", 3, select=False), Stage("two", 2)]
    _, watch, _ = run(tmp_path, stages, Tiny([9, 1, 1, 3, 4]), epochs=5, callbacks=[plateau])
    assert watch.rates == [1e-2] * 5


def test_two_phases_of_ggcam_leave_the_classifier_scalars_alone_in_the_first(tmp_path):
    batch = {
        "image": torch.rand(4, 1, 64, 64),
        "sample_id": list("abcd"),
        "label": torch.tensor([0, 1, 0, 1]),
        "has_gaze": torch.tensor([True] * 4),
        "fixations": torch.tensor([[[20.0, 40.0, 1.0, 6.0, 6.0]]] * 4),
        "fixation_mask": torch.ones(4, 1, dtype=torch.bool),
    }
    task, watch = GGCAM(["x", "y"], backbone="test_resnet", optimizer="adamw", weight_decay=0.1), Watch()
    before = copy.deepcopy(task.state_dict())
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[StagedTraining([Stage("gaze", 1, loss_terms=["gaze"], select=False), Stage("joint")]), watch],
    )
    trainer.fit(task, DataLoader([batch] * 3, batch_size=None, collate_fn=lambda x: x))
    for name in ("weighting.log_sigma_cls", "weighting.log_sigma_gaze", "model.head.bias"):
        assert torch.equal(before[name], watch.states[0][name]), name
        assert not torch.equal(before[name], watch.states[1][name]), name
    assert not torch.equal(before["gaze_loss.kappa"], watch.states[0]["gaze_loss.kappa"])
