import copy

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy
from torch.utils.data import DataLoader, IterableDataset

import callbacks.staged_training
from callbacks import ReloadOnPlateau, Stage, StagedTraining, StageSize
from callbacks.stage_checks import check_strategy
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.protocols import NeedsOneSize
from gaze_lightning.tasks import GGCAM
from tests.staged_task import Plain, Tiny, TinyData, checkpoint, equal, fixed_data, run, task


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([Stage("one", freeze=["bodi"])], r"stage 'one': nothing is called 'bodi'; there are body.*head"),
        ([Stage("one", 2), Stage("two", train=["x.*"])], r"stage 'two': nothing is called 'x.\*'"),
        ([Stage("one", freeze=["body", "head"])], "stage 'one': nothing trains"),
        ([Stage("one", train=["idle"])], "stage 'one': nothing trains"),
        ([Stage("one", train=["head"], freeze=["head.*"])], "stage 'one': nothing trains"),
        (
            [Stage("one", 3), Stage("two", monitor="val/x", mode="min")],
            "'two': monitor 'val/x' is not logged.*val/a, v",
        ),
        ([Stage("one", monitor="val/a")], "stage 'one': monitor 'val/a' needs mode"),
        ([Stage("one", 2), Stage("two", init_from="none")], "'two': init_from is 'none'.*there are one"),
        ([Stage("one", 2, init_from="two"), Stage("two", 2)], "'one': init_from is 'two'.*there are none"),
        ([Stage("one", init_from="one")], "'one': init_from is 'one'"),
        ([Stage("one", 0), Stage("two", init_from="one")], "'two': init_from is 'one'.*there are none"),
        ([Stage("one", 2, select=False), Stage("two", init_from="one")], "'two': init_from is 'one'"),
        ([Stage("one", 2), Stage("one", 2)], "each once"),
        ([Stage("a/b")], "file names"),
        ([Stage("one", warmup=1.0, lr=1)], "'one': warmup is 1.0"),
        ([Stage("one", patience=0)], "'one': patience is 0"),
        ([Stage("one", lr=0.0)], "'one': lr is 0.0"),
        ([Stage("one", schedule="cosine")], "'one': schedule and warmup .* name an lr"),
        ([Stage("one", warmup=0.1)], "'one': schedule and warmup .* name an lr"),
        ([Stage("one", batch_size=4)], "'one': data given as loaders cannot change"),
        ([Stage("one", image_size=(8, 8))], "'one': data given as loaders cannot change"),
        ([Stage("one", image_scale=0.5)], "'one': image_scale is 0.5"),
        ([Stage("one", loss_terms=["a", "c"], train=["head"])], "'one': .*choose"),
    ],
)
def test_a_plan_that_cannot_work_stops_before_the_first_step(tmp_path, stages, message):
    class Choosy(Tiny):
        _active = frozenset({"a", "b"})

        @property
        def active_loss_terms(self):
            return self._active

        @active_loss_terms.setter
        def active_loss_terms(self, terms):
            if terms - {"a", "b"}:
                raise ValueError("choose among a, b")
            self._active = terms

    model = task(Choosy, scores=[1] * 4)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        run(tmp_path, stages, model, callbacks=[checkpoint(tmp_path)], num_sanity_val_steps=0)
    assert equal(before, model.state_dict())


def test_terms_are_refused_for_a_task_that_has_none(tmp_path):
    with pytest.raises(ValueError, match="stage 'one': the loss of Plain has no terms"):
        run(tmp_path, [Stage("one", loss_terms=["a"])], task(Plain))


def test_an_unknown_term_of_a_real_task_is_refused(tmp_path):
    model = GGCAM(["x", "y"], backbone="test_resnet")
    with pytest.raises(ValueError, match=r"stage 'two': .*choose at least one of classification, gaze"):
        run(tmp_path, [Stage("one", 3, loss_terms=["gaze"]), Stage("two", loss_terms=["c"])], model)


def test_a_monitor_of_a_task_that_cannot_tell_is_checked_after_the_first_look_at_validation(tmp_path):
    stages = [Stage("one", 3), Stage("two", monitor="val/x", mode="min")]
    model = task(Plain)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="stage 'two': monitor 'val/x' is not logged; there are val/a, val/b"):
        run(tmp_path, stages, model)
    assert equal(before, model.state_dict())


def test_without_that_look_the_first_validation_tells(tmp_path):
    with pytest.raises(ValueError, match=r"stage 'one': monitor 'val/x' is not logged; there are .*val/a, val/b"):
        run(tmp_path, [Stage("one", monitor="val/x", mode="min")], task(Plain), num_sanity_val_steps=0)


def test_the_monitor_of_the_checkpoint_counts_as_that_of_a_selecting_stage(tmp_path):
    stages = [Stage("one", 2, select=False), Stage("two")]
    with pytest.raises(ValueError, match="stage 'two': monitor 'val/score' is not logged"):
        run(tmp_path, stages, task(), callbacks=[checkpoint(tmp_path)])


def test_init_from_needs_something_that_keeps_the_best_epoch(tmp_path):
    with pytest.raises(ValueError, match="'two': init_from needs a StagedCheckpoint"):
        run(tmp_path, [Stage("one", 2), Stage("two", init_from="one")])


@pytest.mark.parametrize("options", [{"limit_val_batches": 0}, {"check_val_every_n_epoch": 3}])
def test_init_from_a_stage_that_is_never_validated_is_refused(tmp_path, options):
    kept = checkpoint(tmp_path, monitor="val/a", mode="min")
    with pytest.raises(ValueError, match="'two': init_from 'one': no validation runs in its 2 epochs"):
        run(tmp_path, [Stage("one", 2), Stage("two", init_from="one")], callbacks=[kept], **options)


def test_patience_needs_a_monitor(tmp_path):
    with pytest.raises(ValueError, match="'one': patience needs a monitor"):
        run(tmp_path, [Stage("one", patience=2)])


@pytest.mark.parametrize("stage", [Stage("one", lr=0.1), Stage("one", batch_size=4)])
def test_a_schedule_of_the_task_excludes_lr_and_batch_size(tmp_path, stage):
    with pytest.raises(ValueError, match=r"stage 'one': .*set the task's schedule to constant"):
        run(tmp_path, [stage], task(schedule=True), data=TinyData())


def test_a_schedule_of_a_stage_excludes_the_plateau_rule(tmp_path):
    with pytest.raises(ValueError, match="'one': its schedule and ReloadOnPlateau"):
        run(tmp_path, [Stage("one", lr=0.1, schedule="cosine")], callbacks=[ReloadOnPlateau("val/a", "min")])


def test_ratios_to_a_rate_of_zero_are_refused(tmp_path):
    class Zero(Tiny):
        def configure_optimizers(self):
            groups = [{"params": self.body.parameters(), "lr": 0.0}, {"params": self.head.parameters()}]
            return torch.optim.SGD(groups, lr=0.1)

    with pytest.raises(ValueError, match=r"'two': it sets lr, .* is 0: set the task's lr above 0"):
        run(tmp_path, [Stage("one", 2), Stage("two", lr=0.1)], task(Zero))
    run(tmp_path, [Stage("one")], task(Zero))


class SizedData(TinyData):
    batch_size = 8


def choosy(image=False, batch=False):
    model = task()
    model.one_image_size, model.one_batch_size = image, batch
    return model


@pytest.mark.parametrize(
    ("needs", "size", "message"),
    [
        ({"image": True}, {"image_size": (5, 5)}, r"image_size is \(5, 5\), the data's is \(10, 10\), and Tiny"),
        ({"image": True}, {"image_scale": 0.5}, r"remove image_size and image_scale from the stage and from sizes"),
        ({"batch": True}, {"batch_size": 4}, "batch_size is 4, the data's is 8, and Tiny .* remove batch_size from"),
    ],
)
def test_other_sizes_are_refused_before_the_first_step_where_the_task_needs_one(tmp_path, needs, size, message):
    model, data = choosy(**needs), SizedData()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ConfigurationError, match=f"stage 'two': .*{message}"):
        run(tmp_path, [Stage("one", 2), Stage("two", **size)], model, data=data)
    assert equal(before, model.state_dict())
    assert data.now == (None, None)
    run(tmp_path, [Stage("one", 3), Stage("two", 0, **size), Stage("three")], choosy(**needs), data=SizedData())


@pytest.mark.parametrize(
    ("needs", "size"),
    [
        ({"image": True, "batch": True}, {"image_size": (10, 10), "batch_size": 8}),
        ({"image": True, "batch": True}, {"image_scale": 1.0}),
        ({"image": True}, {"batch_size": 4}),
        ({"batch": True}, {"image_scale": 0.5}),
        ({}, {"image_size": (5, 5), "batch_size": 4}),
    ],
)
def test_the_datas_own_sizes_and_those_that_the_task_does_not_mind_are_taken(tmp_path, needs, size):
    run(tmp_path, [Stage("one", 1), Stage("two", **size)], choosy(**needs), epochs=2, data=SizedData())


def test_sizes_that_a_setting_chooses_are_refused_as_well(tmp_path):
    staged = StagedTraining([Stage("one", 2), Stage("two")], {"two": StageSize(batch_size=2)})
    with pytest.raises(ConfigurationError, match="stage 'two': its batch_size is 2"):
        run(tmp_path, [], choosy(batch=True), data=SizedData(), staged=staged)


def test_data_that_do_not_tell_their_sizes_allow_none_to_such_a_task(tmp_path):
    with pytest.raises(ConfigurationError, match="stage 'one': its batch_size is 8, the data's is not known"):
        run(tmp_path, [Stage("one", batch_size=8)], choosy(batch=True), data=TinyData())


def test_every_task_says_whether_it_needs_one_size():
    model = GGCAM(["a", "b"], backbone="test_resnet")
    assert isinstance(model, NeedsOneSize)
    assert (model.one_image_size, model.one_batch_size) == (False, False)


def test_sizes_that_the_data_refuse_are_reported_with_the_stage(tmp_path):
    with pytest.raises(ValueError, match="stage 'two': batch_size must be positive"):
        run(tmp_path, [Stage("one", 2), Stage("two", batch_size=0)], data=TinyData())


def test_a_schedule_over_loaders_without_a_length_is_refused(tmp_path):
    model, staged = task(), StagedTraining([Stage("one", lr=0.1, schedule="cosine")])
    endless = DataLoader(Endless(), batch_size=None)
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=1,
        callbacks=[staged],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(ValueError, match="stage 'one': a schedule needs to know the steps"):
        trainer.fit(model, endless, fixed_data())


class Endless(IterableDataset):
    def __iter__(self):
        return iter(fixed_data())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_epochs": 3}, "does not look at every validation"),
        ({"every_n_train_steps": 2}, "does not look at every validation"),
        ({"save_top_k": 2, "enable_version_counter": False}, r"several files \(save_top_k 2\) under one name, 'best'"),
        ({"save_top_k": -1, "enable_version_counter": False}, "several files"),
        ({"save_on_train_epoch_end": True}, "leave save_on_train_epoch_end out"),
    ],
)
def test_checkpoints_that_may_lose_the_best_epoch_are_refused_before_the_first_step(tmp_path, options, message):
    model = task(scores=[5, 9, 6, 4])
    before = copy.deepcopy(model.state_dict())
    stages = [Stage("one", 3), Stage("two", 1, init_from="one")]
    every = {"val_check_interval": 0.5} if "save_on_train_epoch_end" in options else {}
    with pytest.raises(ValueError, match=f"stage 'two': init_from 'one': .*{message}"):
        run(tmp_path, stages, model, callbacks=[checkpoint(tmp_path, **options)], **every)
    assert equal(before, model.state_dict())


@pytest.mark.parametrize(
    "options", [{"save_top_k": 2}, {"save_top_k": 2, "enable_version_counter": False, "filename": "{epoch}"}]
)
def test_several_best_files_with_names_of_their_own_serve_init_from(tmp_path, options):
    stages = [Stage("one", 3), Stage("two", 1, init_from="one")]
    _, watch, _ = run(tmp_path, stages, task(scores=[5, 9, 6, 4]), callbacks=[checkpoint(tmp_path, **options)])
    assert len(watch.states) == 4


def test_without_a_monitor_a_stage_that_others_start_from_is_validated_in_every_epoch(tmp_path):
    stages = [Stage("one", 3), Stage("two", 1, init_from="one")]
    kept = checkpoint(tmp_path, monitor=None)
    with pytest.raises(ValueError, match="'two': init_from 'one': without a monitor"):
        run(tmp_path, stages, callbacks=[kept], check_val_every_n_epoch=2)


@pytest.mark.parametrize("data", [None, TinyData(4)])
def test_an_interval_of_validation_longer_than_a_stage_is_refused_before_the_first_step(tmp_path, data):
    model = task(scores=[1] * 3)
    before = copy.deepcopy(model.state_dict())
    stages = [Stage("one", 1), Stage("two", 2, init_from="one", batch_size=None if data is None else 2)]
    with pytest.raises(ValueError, match=r"stage 'one': its 1 epochs have [46] training batches"):
        run(
            tmp_path,
            stages,
            model,
            epochs=3,
            callbacks=[checkpoint(tmp_path)],
            data=data,
            check_val_every_n_epoch=None,
            val_check_interval=7,
        )
    assert equal(before, model.state_dict())


def test_a_batch_size_that_leaves_too_few_batches_between_validations_is_refused_before_the_first_step(tmp_path):
    model = task()
    before = copy.deepcopy(model.state_dict())
    stages = [Stage("one", 2, batch_size=2), Stage("two", 2, batch_size=8)]
    with pytest.raises(ValueError, match=r"stage 'two': an epoch has 2 training batches, .* val_check_interval 4"):
        run(tmp_path, stages, model, data=TinyData(), val_check_interval=4)
    assert equal(before, model.state_dict())


def test_a_batch_size_for_which_there_is_no_loader_is_refused_before_the_first_step(tmp_path):
    class Few(TinyData):
        def train_dataloader(self):
            if (self.now[0] or 0) > 16:
                raise ValueError("fewer than batch_size")
            return super().train_dataloader()

    model, data = task(), Few()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="stage 'two': fewer than batch_size"):
        run(tmp_path, [Stage("one", 2), Stage("two", 2, batch_size=1000)], model, data=data)
    assert equal(before, model.state_dict())
    assert data.now == (None, None)


def test_a_monitor_that_a_stage_no_longer_logs_is_not_that_of_the_stage_before(tmp_path):
    class Half(Plain):
        def validation_step(self, batch, batch_idx):
            if self.current_epoch < 2:
                super().validation_step(batch, batch_idx)
            else:
                self.log("val/other", 1.0)

    kept = checkpoint(tmp_path, monitor="val/a", mode="min")
    with pytest.raises(ValueError, match="stage 'two': monitor 'val/a' is not logged"):
        run(tmp_path, [Stage("one", 2), Stage("two", 2)], task(Half), callbacks=[kept])


def test_a_task_that_leaves_parts_unused_needs_the_strategy_that_finds_them():
    class Partly(Plain):
        has_unused_parameters = True

    with pytest.raises(ValueError, match=r"leave parameters unused need .*ddp_find_unused_parameters_true"):
        check_strategy([Stage("one", loss_terms=["a"])], DDPStrategy(), Partly().has_unused_parameters)
    check_strategy([Stage("one")], DDPStrategy(find_unused_parameters=True), True)
    check_strategy([Stage("one")], DDPStrategy())


def test_stages_ask_the_task_whether_it_leaves_parts_unused(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(callbacks.staged_training, "check_strategy", lambda *arguments: asked.append(arguments[2]))
    model = task()
    run(tmp_path, [Stage("one")], model, epochs=1)
    model.has_unused_parameters = True
    run(tmp_path, [Stage("one")], model, epochs=1)
    assert asked == [False, True]
