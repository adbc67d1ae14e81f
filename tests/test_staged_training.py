import copy
import csv
import logging
import math
import random

import pytest
import torch
from jsonargparse import ArgumentParser
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader

from callbacks import Stage, StagedTraining, StageSize
from gaze_lightning.tasks import GGCAM
from tests.staged_task import SCORES, Tiny, TinyData, Watch, checkpoint, equal, run, same_optimizer, stages_json, task


def test_a_frozen_part_keeps_parameters_and_buffers_bit_identical(tmp_path):
    model = task()
    start = copy.deepcopy(model.state_dict())
    stages = [Stage("head", 1, freeze=["body"]), Stage("all", None), Stage("body", 1, freeze=["head"])]
    _, watch, _ = run(tmp_path, stages, model)
    after = watch.states
    assert equal(start, after[0], "body.")
    assert not equal(start, after[0], "head.")
    assert not equal(after[0], after[1], "body.0")
    assert not torch.equal(after[0]["body.1.running_mean"], after[1]["body.1.running_mean"])
    assert equal(after[2], after[3], "head.")
    assert not equal(after[2], after[3], "body.")


@pytest.mark.parametrize("momentum", [False, True])
def test_train_patterns_freeze_all_the_rest_bit_for_bit(tmp_path, momentum):
    """With momentum and weight decay at work: zero gradients would still move a parameter."""
    _, watch, _ = run(tmp_path, [Stage("all", 2), Stage("head", train=["head"])], task(momentum=momentum))
    assert watch.trained[3] == {"head.weight", "head.bias"}
    assert equal(watch.states[1], watch.states[3], "body.")
    assert not torch.equal(watch.states[2]["head.weight"], watch.states[3]["head.weight"])


def test_freeze_eval_false_moves_the_statistics_of_frozen_layers_but_not_their_parameters(tmp_path):
    model = task()
    start = copy.deepcopy(model.state_dict())
    staged = StagedTraining([Stage("head", train=["head"])], freeze_eval=False)
    _, watch, _ = run(tmp_path, None, model, epochs=1, staged=staged)
    after = watch.states[0]
    assert watch.modes[0]["body.2"]
    moved = {name for name in start if not torch.equal(start[name], after[name])}
    buffers = {f"body.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert moved == buffers | {"head.weight", "head.bias"}


def test_frozen_modules_are_in_eval_mode_also_after_validation_and_return_afterwards(tmp_path):
    model, watch, _ = run(tmp_path, [Stage("head", 2, freeze=["body"]), Stage("all", None)])
    for epoch, frozen in enumerate([True, True, False, False]):
        assert [watch.modes[epoch][name] for name in ("body", "body.1", "body.2")] == [not frozen] * 3
        assert watch.modes[epoch]["head"]
    assert all(p.requires_grad for name, p in model.named_parameters() if name != "idle")


def test_a_task_that_switches_to_training_mode_does_not_thaw_what_is_frozen(tmp_path):
    class Switching(Tiny):
        def on_validation_model_train(self):
            self.train()

        def on_train_epoch_start(self):
            self.train()

    model = task(Switching)
    start = copy.deepcopy(model.state_dict())
    run(tmp_path, [Stage("head", freeze=["body"])], model, epochs=2, val_check_interval=0.5)
    assert equal(start, model.state_dict(), "body.")


def test_parameters_that_never_train_are_not_unfrozen(tmp_path):
    model, _, _ = run(tmp_path, [Stage("one", 1, freeze=["idle", "head.bias"]), Stage("two", None)])
    assert not model.idle.requires_grad
    assert model.head.bias.requires_grad


def test_terms_of_the_loss_follow_the_stage_and_return_at_the_end(tmp_path):
    model, watch, _ = run(tmp_path, [Stage("a", 1, loss_terms=["a"]), Stage("rest")])
    assert watch.terms == [{"a"}, {"a", "b"}, {"a", "b"}, {"a", "b"}]
    assert model.active_loss_terms == {"a", "b"}


def test_a_stage_can_have_its_own_learning_rate(tmp_path):
    _, watch, _ = run(tmp_path, [Stage("one", 1), Stage("two", 1, lr=0.5), Stage("three")])
    assert watch.rates == [1e-2, 0.5, 1e-2, 1e-2]


class TwoRates(Tiny):
    """The head has a rate of its own; the three groups start with 0.01, 0.01 and 0.003."""

    def configure_optimizers(self):
        one, *rest = self.body.parameters()
        groups = [{"params": [one]}, {"params": rest}, {"params": self.head.parameters(), "lr": 3e-3}]
        return torch.optim.AdamW(groups, lr=1e-2)


class Rates(Callback):
    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append([group["lr"] for group in optimizer.param_groups])


def test_groups_with_a_rate_of_their_own_keep_their_ratio_in_a_stage(tmp_path):
    rates = Rates()
    stages = [Stage("one", 1), Stage("two", 1, lr=0.5), Stage("three", 2, lr=0.07, schedule="cosine", warmup=0.25)]
    run(tmp_path, [*stages, Stage("four", 1)], task(TwoRates), epochs=5, callbacks=[rates])
    assert rates.seen[:6] == [[0.01, 0.01, 0.003]] * 6
    assert rates.seen[6:12] == [[0.5, 0.5, 0.003 * (0.5 / 0.01)]] * 6
    course = rates.seen[12:24]
    assert len({first for first, *_ in course}) > 6
    for first, second, third in course:
        assert second == first
        assert third == pytest.approx(0.3 * first, rel=1e-12)
    assert rates.seen[24:] == [[0.01, 0.01, 0.003]] * 6


def test_ratios_survive_a_resumption_within_the_stage(tmp_path):
    class Stop(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                raise RuntimeError("stopped")

    stages = [Stage("one", 1), Stage("two", 3, lr=0.5, schedule="cosine")]
    kept = {"monitor": "val/a", "mode": "min"}
    whole, rest = Rates(), Rates()
    run(tmp_path, stages, task(TwoRates), callbacks=[whole, checkpoint(tmp_path / "whole", **kept)])
    with pytest.raises(RuntimeError, match="stopped"):
        run(tmp_path, stages, task(TwoRates), callbacks=[Stop(), checkpoint(tmp_path / "half", **kept)])
    again = [rest, checkpoint(tmp_path / "half", **kept)]
    run(tmp_path, stages, task(TwoRates), callbacks=again, ckpt_path=tmp_path / "half/last.ckpt")
    assert len(rest.seen) == 12
    assert rest.seen == whole.seen[12:]


@pytest.mark.parametrize(("accumulate", "batches"), [(1, 6), (4, 2)])
def test_a_cosine_schedule_runs_per_optimiser_step_within_its_stage(tmp_path, accumulate, batches):
    stage = Stage("two", 2, lr=0.5, schedule="cosine", warmup=0.25)
    _, watch, _ = run(tmp_path, [Stage("one", 1), stage, Stage("three", 1)], accumulate_grad_batches=accumulate)
    steps = 2 * batches
    rising = round(0.25 * steps)
    expected = [0.01] * batches
    for step in range(steps):
        if step < rising:
            expected.append(0.5 * (step + 1) / (rising + 1))
        else:
            expected.append(0.5 * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising))))
    used = dict(watch.step_rates)  # the last batch of a step is the one that steps
    assert [used[step] for step in range(3 * batches)] == pytest.approx(expected, rel=1e-12)
    assert used[3 * batches] == 1e-2


def test_the_optimiser_starts_anew_with_lr_or_init_from_and_goes_on_otherwise(tmp_path):
    class Steps(Callback):
        def __init__(self):
            self.seen = []

        def on_train_epoch_end(self, trainer, pl_module):
            (parameter,) = [p for name, p in pl_module.named_parameters() if name == "head.weight"]
            self.seen.append(int(trainer.optimizers[0].state[parameter]["step"]))

    steps = Steps()
    stages = [Stage("a", 1), Stage("b", 1), Stage("c", 1, lr=0.1), Stage("d", 1, init_from="c"), Stage("e", 1)]
    kept = checkpoint(tmp_path, monitor="val/a", mode="min")
    run(tmp_path, stages, epochs=5, callbacks=[steps, kept])
    assert steps.seen == [6, 12, 6, 6, 12]


def test_init_from_loads_the_best_epoch_of_the_named_stage_and_not_the_last(tmp_path, caplog):
    begun = {}

    class Begin(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 0:
                begun[trainer.current_epoch] = copy.deepcopy(pl_module.state_dict())

    stages = [Stage("one", 3), Stage("two", 2), Stage("three", 1, init_from="one")]
    kept = checkpoint(tmp_path / "kept")
    with caplog.at_level(logging.INFO):
        _, watch, _ = run(tmp_path, stages, task(scores=[1, 5, 2, 9, 8, 0]), epochs=6, callbacks=[Begin(), kept])
    assert equal(begun[3], watch.states[2])
    assert equal(begun[5], watch.states[1])
    assert not equal(begun[5], watch.states[4])
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("weights of")]
    assert lines == [
        "weights of stage 'one': epoch 1, 10 of 10 tensors match, 0 missing, 0 unexpected, 0 of another shape"
    ]
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "best-one.ckpt",
        "best-two.ckpt",
        "best.ckpt",
        "last.ckpt",
    }


def test_without_max_epochs_the_stages_say_when(tmp_path):
    _, watch, _ = run(tmp_path, [Stage("a", 2), Stage("b", 1)], epochs=-1)
    assert len(watch.states) == 3


def test_sizes_of_a_setting_fill_what_the_stages_leave_open(tmp_path, caplog):
    sizes = {"a": StageSize(epochs=1, lr=0.5), "b": StageSize(epochs=7, lr=0.2), "other": StageSize(epochs=7)}
    staged = StagedTraining([Stage("a", freeze=["body"]), Stage("b", 2, lr=1e-2)], sizes)
    with caplog.at_level(logging.INFO):
        _, watch, _ = run(tmp_path, None, epochs=-1, staged=staged)
    assert watch.rates == [0.5, 1e-2, 1e-2]
    assert "body.0.weight" not in watch.trained[0]
    assert "sizes of stages that are not in this training: other" in caplog.text


def test_a_stage_with_an_image_size_takes_neither_pixels_nor_a_share_from_the_setting():
    stages = [Stage("a", image_size=(8, 8)), Stage("b", image_scale=0.5), Stage("c"), Stage("d")]
    both = [StageSize(image_scale=0.25), StageSize(image_size=(4, 4))]
    sizes = dict(zip("abcd", both * 2, strict=True))
    found = [(stage.image_size, stage.image_scale) for stage in StagedTraining(stages, sizes).stages]
    assert found == [((8, 8), None), (None, 0.5), (None, 0.25), ((4, 4), None)]


@pytest.mark.parametrize("later", ["--staged.sizes.a.epochs=1", "--staged.sizes={a: {epochs: 1}}"])
def test_one_size_of_a_stage_can_be_changed_on_the_command_line_and_the_rest_stays(later):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(StagedTraining, "staged")
    given = ["--staged.stages=[{name: a}]", "--staged.sizes={a: {epochs: 3, lr: 0.5}}", later]
    staged = parser.instantiate_classes(parser.parse_args(given)).staged
    assert staged.stages == [Stage("a", 1, lr=0.5)]


def test_batch_and_image_size_follow_the_stage(tmp_path):
    stages = [
        Stage("a", 1, batch_size=4),
        Stage("b", 1),
        Stage("c", 1, batch_size=2, image_scale=0.5),
        Stage("d", 1, batch_size=2, image_size=(7, 7)),
    ]
    data = TinyData()
    _, watch, trainer = run(tmp_path, stages, data=data)
    assert [watch.sizes.count((epoch, size)) for epoch, size in enumerate([4, 8, 2, 2])] == [4, 2, 8, 8]
    assert len(watch.sizes) == 22
    assert data.calls[-4:] == [(None, None), (2, (5, 5)), (2, (7, 7)), (None, None)]
    assert data.calls[-5] == (4, None)
    assert trainer.reload_dataloaders_every_n_epochs == 0


def test_each_stage_is_announced_in_one_line(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(tmp_path, [Stage("gaze", 1, loss_terms=["a"]), Stage("joint", freeze=["body.*"])])
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("stage ")]
    assert lines == [
        "stage 1/2 gaze: epochs 0-0, loss: a, frozen: nothing",
        "stage 2/2 joint: epochs 1-3, loss: a+b, frozen: body.*",
    ]


def test_the_number_of_the_stage_is_logged_per_epoch(tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    run(tmp_path, [Stage("one", 1), Stage("two", 2)], epochs=3, logger=logger)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [float(row["stage"]) for row in rows if row["stage"]] == [1, 2, 2]


def test_a_learning_rate_beside_a_schedule_is_refused(tmp_path):
    with pytest.raises(ValueError, match="schedule"):
        run(tmp_path, [Stage("one", lr=0.1)], task(schedule=True))


def test_a_plan_that_cannot_work_leaves_the_weights_alone(tmp_path):
    model = task()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="nothing is called 'bodi'"):
        run(tmp_path, [Stage("one", 2), Stage("two", freeze=["bodi"])], model)
    assert equal(before, model.state_dict())


def test_a_stage_without_epochs_is_skipped(tmp_path):
    _, watch, _ = run(tmp_path, [Stage("a", 0, loss_terms=["a"]), Stage("rest")], epochs=1)
    assert watch.terms == [{"a", "b"}]


def test_without_stages_nothing_happens(tmp_path):
    _, staged, _ = run(tmp_path, None)
    _, plain, _ = run(tmp_path, [Stage("all")])
    assert equal(staged.states[-1], plain.states[-1])
    states = [one.optimizers[-1]["state"] for one in (staged, plain)]
    assert all(equal(states[0][i], states[1][i]) for i in states[0])


def test_a_fast_dev_run_enters_the_first_stage_and_writes_nothing(tmp_path):
    _, watch, _ = run(tmp_path, [Stage("a", 3, loss_terms=["a"]), Stage("rest")], fast_dev_run=True)
    assert watch.terms == [{"a"}]
    assert not (tmp_path / "stages.json").exists()


class OffsetSeed(Callback):
    """The seed of epoch ``offset + e``, so that a later fit can draw what a later stage drew."""

    def __init__(self, offset=0):
        self.offset = offset

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            torch.manual_seed(100 + self.offset + trainer.current_epoch)


def test_one_fit_over_stages_equals_separate_fits_chained_by_best_weights(tmp_path):
    scores = [1, 5, 2, 4, 6, 3]
    stages = [
        Stage("one", 3, train=["head"], lr=0.05, loss_terms=["a"]),
        Stage("two", 3, freeze=["head"], lr=0.02, schedule="cosine", init_from="one"),
    ]
    whole = task(scores=scores)
    _, watch, _ = run(tmp_path / "w", stages, whole, 6, callbacks=[OffsetSeed(), checkpoint(tmp_path / "w")])

    first = task(scores=scores[:3])
    run(tmp_path / "1", stages[:1], first, 3, callbacks=[OffsetSeed(), checkpoint(tmp_path / "1")])
    second = task(scores=scores[3:])
    best = torch.load(tmp_path / "1" / "best.ckpt", weights_only=True)
    assert best["epoch"] == 1
    second.load_state_dict(best["state_dict"])
    alone = Stage("two", 3, freeze=["head"], lr=0.02, schedule="cosine")
    _, rest, _ = run(tmp_path / "2", [alone], second, 3, callbacks=[OffsetSeed(3), checkpoint(tmp_path / "2")])
    for epoch in range(3):
        assert equal(watch.states[3 + epoch], rest.states[epoch])
        assert same_optimizer(watch.optimizers[3 + epoch], rest.optimizers[epoch])
    ends = [torch.load(tmp_path / name / "best.ckpt", weights_only=True)["state_dict"] for name in ("w", "2")]
    assert equal(*ends)


def test_the_table_of_stages_is_printed_and_written(tmp_path, capsys):
    stages = [Stage("heads", 3, train=["head"], patience=1), Stage("all", 2, select=False)]
    run(tmp_path, stages, task(scores=[1, 0, 0, 0, 0]), epochs=5, callbacks=[checkpoint(tmp_path)])
    rows = stages_json(tmp_path)
    assert [row["trained_parameters"] for row in rows] == [18, 74]
    assert [row["checkpoint"] for row in rows] == ["best.ckpt", ""]
    assert rows[1]["monitor"] is None
    assert rows[1]["values"].keys() == {"val/a", "val/b", "val/score"}
    printed = capsys.readouterr().out
    for text in ("heads", "early", "18", "score ", "all", "74"):
        assert text in printed


def test_entering_stages_draws_no_random_number(tmp_path):
    """It would shift those of training."""

    class Draws(Callback):
        def __init__(self):
            self.states = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 0:
                self.states.append((random.getstate(), torch.get_rng_state().tolist()))

    plain, staged = Draws(), Draws()
    run(tmp_path / "a", [Stage("a")], task(scores=SCORES), callbacks=[plain, checkpoint(tmp_path / "a")])
    stages = [Stage("a", 1), Stage("b", lr=0.1, init_from="a")]
    run(tmp_path / "b", stages, task(scores=SCORES), callbacks=[staged, checkpoint(tmp_path / "b")])
    assert staged.states == plain.states


def test_two_phases_of_ggcam_leave_the_classifier_scalars_alone_in_the_first(tmp_path):
    batch = {
        "image": torch.rand(4, 1, 64, 64),
        "sample_id": list("abcd"),
        "label": torch.tensor([0, 1, 0, 1]),
        "has_gaze": torch.tensor([True] * 4),
        "fixations": torch.tensor([[[20.0, 40.0, 1.0, 6.0, 6.0]]] * 4),
        "fixation_mask": torch.ones(4, 1, dtype=torch.bool),
    }
    model, watch = GGCAM(["x", "y"], backbone="test_resnet", optimizer="adamw", weight_decay=0.1), Watch()
    watch.on_train_batch_start = lambda *arguments: None
    before = copy.deepcopy(model.state_dict())
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
    trainer.fit(model, DataLoader([batch] * 3, batch_size=None, collate_fn=lambda x: x))
    for name in ("weighting.log_sigma_cls", "weighting.log_sigma_gaze", "model.head.bias"):
        assert torch.equal(before[name], watch.states[0][name]), name
        assert not torch.equal(before[name], watch.states[1][name]), name
    assert not torch.equal(before["gaze_loss.kappa"], watch.states[0]["gaze_loss.kappa"])
