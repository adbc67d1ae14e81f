"""What a stage selects, when it ends, and what the last checkpoint holds."""

import math

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping, Timer

from callbacks import ReloadOnPlateau, Stage, StagedTraining
from tests.staged_task import Plain, Tiny, TinyData, checkpoint, run, stages_json, task


def test_patience_ends_a_stage_and_the_following_ones_start_earlier(tmp_path):
    scores = [0, 3, 2, 1, 7, 8, 9, 4, 4, 4, 0, 0]
    stages = [Stage("one", 5, patience=2), Stage("two", 3), Stage("three", 4, patience=2)]
    _, watch, trainer = run(tmp_path, stages, task(scores=scores), 12, callbacks=[checkpoint(tmp_path)])
    assert [position.name for position in watch.stages] == ["one"] * 4 + ["two"] * 3 + ["three"] * 3
    assert [(run["stage"], run["epochs"], run["ended_early"], run["best_epoch"]) for run in stages_json(tmp_path)] == [
        ("one", 4, True, 1),
        ("two", 3, False, 6),
        ("three", 3, True, 7),
    ]
    assert trainer.should_stop


def test_an_early_end_before_the_last_stage_does_not_lengthen_it(tmp_path):
    stages = [Stage("one", 4, patience=1), Stage("two", 2)]
    _, watch, _ = run(tmp_path, stages, task(scores=[2, 1, 3, 3, 3, 3]), 6, callbacks=[checkpoint(tmp_path)])
    assert [position.name for position in watch.stages] == ["one", "one", "two", "two"]


def test_nan_is_no_better_epoch_and_any_number_is_better_than_nan(tmp_path):
    scores = [math.nan, 1, math.nan, math.nan, 0]
    stages = [Stage("one", 4, patience=2), Stage("two", 1)]
    _, watch, _ = run(tmp_path, stages, task(scores=scores), 5, callbacks=[checkpoint(tmp_path)])
    assert len(watch.states) == 5
    assert stages_json(tmp_path)[0]["best_epoch"] == 1


def test_selection_ignores_stages_without_select_and_starts_fresh(tmp_path):
    kept = checkpoint(tmp_path, filename="{epoch}")
    stages = [Stage("one", 2, select=False), Stage("two", 2), Stage("three", 1)]
    run(tmp_path, stages, task(scores=[9, 8, 2, 1, 1]), epochs=5, callbacks=[kept])
    assert kept.best_model_path.endswith("epoch=4.ckpt")
    assert kept.best_model_score == 1
    assert sorted(p.name for p in tmp_path.glob("epoch*")) == ["epoch=2-two.ckpt", "epoch=4.ckpt"]


def test_a_last_stage_that_does_not_select_leaves_the_best_epoch_of_the_one_before(tmp_path):
    kept = checkpoint(tmp_path)
    run(tmp_path, [Stage("one", 2), Stage("two", 2, select=False)], task(scores=[3, 2, 9, 9]), callbacks=[kept])
    assert kept.best_model_path == str(tmp_path / "best.ckpt")
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == 0


def test_a_stage_that_does_not_log_the_monitor_can_go_without_selection(tmp_path):
    class Late(Plain):
        def validation_step(self, batch, batch_idx):
            if self.current_epoch >= 2:
                super().validation_step(batch, batch_idx)

    kept = checkpoint(tmp_path, monitor="val/a", mode="min")
    stages = [Stage("one", 2, select=False), Stage("two")]
    run(tmp_path, stages, task(Late), callbacks=[kept], num_sanity_val_steps=0)
    assert kept.best_model_score is not None


def test_monitor_and_mode_follow_the_stage(tmp_path):
    kept = checkpoint(tmp_path)
    stages = [Stage("one", 2, monitor="val/a", mode="min"), Stage("two", 2)]
    run(tmp_path, stages, task(scores=[0, 0, 7, 6]), callbacks=[kept])
    first, second = stages_json(tmp_path)
    assert (first["monitor"], first["mode"], second["monitor"], second["mode"]) == ("val/a", "min", "val/score", "max")
    values = torch.load(tmp_path / "best-one.ckpt", weights_only=True)
    assert values["epoch"] == first["best_epoch"]
    assert first["values"]["val/a"] == pytest.approx(first["best"])
    assert set(second["values"]) == {"val/a", "val/b", "val/score"}
    assert (second["best"], second["best_epoch"], second["best_epoch_of_stage"]) == (7, 2, 1)


def test_the_last_checkpoint_is_that_of_the_last_epoch_in_every_stage(tmp_path):
    class Last(Callback):
        def __init__(self):
            self.epochs = []

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch:
                self.epochs.append(torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"])

    last = Last()
    stages = [Stage("one", 2, select=False), Stage("two")]
    run(tmp_path, stages, task(scores=[0, 0, 5, 1]), callbacks=[checkpoint(tmp_path), last])
    assert last.epochs == [0, 1, 2]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 3
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == 2


@pytest.mark.parametrize("options", [{"check_val_every_n_epoch": 2}, {"val_check_interval": 0.5}])
def test_the_last_checkpoint_is_written_after_every_epoch_whenever_validation_runs(tmp_path, options):
    stops = []

    class Look(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch:
                progress = torch.load(tmp_path / "last.ckpt", weights_only=True)["loops"]["fit_loop"]["epoch_progress"]
                stops.append(progress["current"]["processed"])

    run(
        tmp_path,
        [Stage("one", 2), Stage("two")],
        task(scores=[1, 2, 3, 4]),
        4,
        [checkpoint(tmp_path), Look()],
        **options,
    )
    assert stops == [1, 2, 3]


def test_the_plateau_rule_sleeps_in_stages_without_select(tmp_path):
    plateau = ReloadOnPlateau("val/score", "max", patience=0, min_lr=0.0)
    stages = [Stage("one", 3, select=False), Stage("two", 2)]
    _, watch, _ = run(tmp_path, stages, task(scores=[9, 1, 1, 3, 4]), epochs=5, callbacks=[plateau])
    assert watch.rates == [1e-2] * 5


def test_a_cut_that_a_stage_decided_is_not_carried_out_in_the_next(tmp_path):
    plateau = ReloadOnPlateau("val/score", "max", patience=0, min_lr=0.0)
    stages = [Stage("one", 2), Stage("two", 2)]
    _, watch, _ = run(tmp_path, stages, task(scores=[9, 1, 3, 4]), callbacks=[plateau])
    assert watch.rates == [1e-2] * 4


def test_the_plateau_rule_ends_the_training_in_the_last_selecting_stage_only(tmp_path):
    plateau = ReloadOnPlateau("val/score", "max", patience=40, stop_patience=1)
    stages = [Stage("one", 3), Stage("two", 3)]
    _, watch, _ = run(tmp_path, stages, task(scores=[9, 1, 1, 3, 2, 1]), epochs=6, callbacks=[plateau])
    assert [position.name for position in watch.stages] == ["one"] * 3 + ["two"] * 2


def test_early_stopping_beside_stages_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match="patience"):
        run(tmp_path, [Stage("a", 1), Stage("b")], callbacks=[EarlyStopping("val/a")])


class Undefined(Tiny):
    """The monitor is NaN in the epochs that are named."""

    def __init__(self, epochs, **options):
        super().__init__(**options)
        self.nan = set(epochs)

    def validation_step(self, batch, batch_idx):
        self.log_dict({"val/a": math.nan if self.current_epoch in self.nan else 1.0, "val/b": 1.0})


def test_a_stage_whose_monitor_was_nan_in_every_epoch_has_no_best_one_to_start_from(tmp_path):
    stages = [Stage("one", 2), Stage("two", 1, init_from="one")]
    kept = checkpoint(tmp_path, monitor="val/a", mode="min")
    message = "stage 'two': .* best epoch of 'one', but the monitor 'val/a' was NaN .*without gaze, or with one outcome"
    with pytest.raises(ValueError, match=message), pytest.warns(UserWarning, match="'one': its monitor 'val/a' is NaN"):
        run(tmp_path, stages, task(Undefined, epochs=range(3)), 3, [kept])


def test_a_stage_with_one_number_among_nans_can_be_started_from(tmp_path):
    stages = [Stage("one", 3), Stage("two", 1, init_from="one")]
    kept = checkpoint(tmp_path, monitor="val/a", mode="min")
    with pytest.warns(UserWarning, match="is NaN") as warned:
        run(tmp_path, stages, task(Undefined, epochs=[0, 2]), 4, [kept])
    assert stages_json(tmp_path)[0]["best_epoch"] == 1
    assert sum("its monitor" in str(one.message) for one in warned) == 1
    assert not any("every epoch" in str(one.message) for one in warned)


@pytest.mark.parametrize("stages", [[Stage("one", 1), Stage("two", 2)], None])
def test_a_last_stage_without_any_number_says_that_its_first_epoch_stands_as_the_best(tmp_path, stages):
    kept = checkpoint(tmp_path, monitor="val/a", mode="min")
    with pytest.warns(UserWarning, match=r"val/a was NaN or infinite in every epoch .*best.ckpt is the first of these"):
        run(tmp_path, stages, task(Undefined, epochs=[1, 2] if stages else range(3)), 3, [kept])


def test_patience_waits_for_a_validation(tmp_path):
    """With a validation in every second epoch, the ones between have nothing that could be better."""
    stages = [Stage("one", 6, patience=1), Stage("two", 2)]
    better = task(scores=[1, 2, 3, 4, 5, 6, 7, 8])
    _, watch, _ = run(tmp_path, stages, better, 8, [checkpoint(tmp_path)], check_val_every_n_epoch=2)
    assert [position.name for position in watch.stages] == ["one"] * 6 + ["two"] * 2


def test_patience_counts_epochs_and_not_validations(tmp_path):
    stages = [Stage("one", 10, patience=4)]
    worse = task(scores=[9, 9, 1, 1, 1, 1, 1, 1, 1, 1])
    _, watch, _ = run(tmp_path, stages, worse, 10, [checkpoint(tmp_path)], check_val_every_n_epoch=2)
    assert len(watch.states) == 6  # the best one was found after epoch 2, two validations and four epochs before


def test_a_run_that_fails_leaves_task_and_data_as_they_were(tmp_path):
    class Fail(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            raise RuntimeError

    model, data = task(), TinyData()
    stages = [Stage("one", train=["head"], loss_terms=["a"], batch_size=4, image_scale=0.5)]
    with pytest.raises(RuntimeError):
        run(tmp_path, stages, model, 2, [Fail()], data=data)
    assert all(p.requires_grad for name, p in model.named_parameters() if name != "idle")
    assert model.active_loss_terms == {"a", "b"}
    assert data.now == (None, None)


def finish(path, stages, epochs=-1, callbacks=(), scores=(1, 2, 3, 4, 5, 6), **options):
    staged = StagedTraining(stages)
    _, watch, _ = run(
        path,
        None,
        task(scores=scores),
        epochs,
        [checkpoint(path), *callbacks],
        staged=staged,
        data=TinyData(4),
        **options,
    )
    return staged.unfinished, [row["finished"] for row in stages_json(path)], watch


@pytest.mark.parametrize(
    ("options", "unfinished", "finished"),
    [
        ({}, None, [True, True, True]),
        ({"max_steps": 14}, "stage 2 of 3 (b) was not finished: 1 of its 2 epochs are done", [True, False]),
        ({"max_steps": 12}, "stage 2 of 3 (b) was not finished: 1 of its 2 epochs are done", [True, False]),
        ({"max_steps": 16}, "stage 3 of 3 (c) was not begun", [True, True]),
        ({"max_steps": 2}, "stage 1 of 3 (a) was not finished: 0 of its 2 epochs are done", [False]),
    ],
)
def test_it_is_told_whether_the_training_came_to_its_end(tmp_path, options, unfinished, finished):
    stages = [Stage("a", 2), Stage("b", 2), Stage("c", 1)]
    assert finish(tmp_path, stages, **options)[:2] == (unfinished, finished)


def test_a_training_that_patience_or_a_plateau_ends_came_to_its_end(tmp_path):
    worse = [5, 1, 1, 1, 1, 1]
    stages = [Stage("a", 3, patience=1)]
    assert finish(tmp_path / "a", stages, scores=worse)[:2] == (None, [True])
    plateau = ReloadOnPlateau("val/score", "max", stop_patience=1)
    told = finish(tmp_path / "b", [Stage("a", 3)], callbacks=[plateau], scores=worse)
    assert told[:2] == (None, [True])
    assert len(told[2].states) == 2


def test_time_that_runs_out_between_two_epochs_does_not_finish_a_stage(tmp_path):
    class Clock(Timer):
        def time_elapsed(self, stage="train"):
            return 0.0 if self.trainer.current_epoch == 0 else 10.0

        def on_fit_start(self, trainer, *arguments):
            self.trainer = trainer

    told = finish(tmp_path, [Stage("a", 3)], callbacks=[Clock({"seconds": 5}, interval="epoch")])
    assert told[:2] == ("stage 1 of 1 (a) was not finished: 2 of its 3 epochs are done", [False])


def test_without_stages_and_in_a_rehearsal_nothing_is_unfinished(tmp_path):
    assert StagedTraining().unfinished is None
    staged = StagedTraining([Stage("a", 1), Stage("b", 1)])
    assert staged.unfinished == "stage 1 of 2 (a) was not begun"
    run(tmp_path, None, epochs=2, staged=staged, fast_dev_run=True)
    assert staged.unfinished is None
