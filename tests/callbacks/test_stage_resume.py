"""A run that is killed and resumed equals one that was not, bit for bit, with dropout on."""

import logging
import multiprocessing
import os
import shutil
import signal

import pytest
import torch
from pytorch_lightning import Callback, seed_everything
from pytorch_lightning.callbacks import Checkpoint

from callbacks import EpochSeed, Stage
from tests.staged_task import (
    SCORES,
    Plain,
    TinyData,
    checkpoint,
    equal,
    eventful_run,
    eventful_stages,
    run,
    same_optimizer,
    task,
)

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:You're resuming from a checkpoint that")

EPOCHS = 9


class Killed(Exception):
    pass


class Kill(Callback):
    """End the run at the first or second batch of an epoch, before its step: nothing has a chance to tidy up."""

    def __init__(self, epoch, batch=0, at="batch"):
        self.epoch, self.batch, self.at = epoch, batch, at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.at == "batch" and (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            raise Killed

    def on_validation_end(self, trainer, pl_module):
        if self.at == "validation" and trainer.current_epoch == self.epoch:
            raise Killed


@pytest.fixture(autouse=True)
def seed(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    os.environ["PL_GLOBAL_SEED"] = "7"
    folder = tmp_path_factory.mktemp("whole")
    _, watch, _ = eventful_run(folder)
    return folder, watch


def assert_same(whole, rest, done):
    """The rest of a run equals the end of the whole one."""
    assert len(rest.states) == EPOCHS - done
    for name in ("trained", "terms", "modes", "rates", "stages"):
        assert getattr(rest, name) == getattr(whole, name)[done:], name
    first = rest.step_rates[0][0]
    assert rest.step_rates == [step for step in whole.step_rates if step[0] >= first]
    assert rest.sizes == [size for size in whole.sizes if size[0] >= done]
    for a, b in zip(whole.states[done:], rest.states, strict=True):
        assert equal(a, b)
    for a, b in zip(whole.optimizers[done:], rest.optimizers, strict=True):
        assert same_optimizer(a, b)


def best_weights(folder):
    files = sorted((folder / "checkpoints").glob("best*"))
    return {path.name: torch.load(path, weights_only=True) for path in files}


def assert_same_files(a, b):
    one, two = best_weights(a), best_weights(b)
    assert one.keys() == two.keys()
    for name, stored in one.items():
        assert stored["epoch"] == two[name]["epoch"]
        assert equal(stored["state_dict"], two[name]["state_dict"])


def test_the_uninterrupted_run_has_the_events_that_the_others_are_interrupted_around(whole):
    _, watch = whole
    assert [(position.name, position.epoch) for position in watch.stages] == [
        *[("head", 1), ("head", 2)],
        *[("body", epoch) for epoch in (1, 2, 3, 4)],
        *[("all", epoch) for epoch in (1, 2, 3)],
    ]
    assert {size for _, size in watch.sizes} == {4, 8, 2}
    assert all(modes["body.2"] for modes in watch.modes[2:])  # dropout is on


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("epoch", range(1, EPOCHS))
def test_resuming_anywhere_equals_no_interruption(tmp_path, whole, epoch, batch):
    """Batch 0: killed between epochs, also on every boundary; batch 1: in mid-epoch."""
    with pytest.raises(Killed):
        eventful_run(tmp_path, [Kill(epoch, batch)])
    _, rest, trainer = eventful_run(tmp_path, resume=True)
    assert_same(whole[1], rest, epoch)
    assert_same_files(whole[0], tmp_path)
    assert trainer.checkpoint_callback.best_model_path == str(tmp_path / "checkpoints" / "best.ckpt")


@pytest.mark.parametrize("epoch", [1, 2, 5, 6])
def test_resuming_after_a_kill_between_validation_and_the_end_of_the_epoch(tmp_path, whole, epoch):
    with pytest.raises(Killed):
        eventful_run(tmp_path, [Kill(epoch, at="validation")])
    _, rest, _ = eventful_run(tmp_path, resume=True)
    assert_same(whole[1], rest, epoch)


def test_a_run_can_be_interrupted_more_than_once(tmp_path, whole):
    with pytest.raises(Killed):
        eventful_run(tmp_path, [Kill(1)])
    for epoch in (2, 3, 6):
        with pytest.raises(Killed):
            eventful_run(tmp_path, [Kill(epoch, 1)], resume=True)
    _, rest, _ = eventful_run(tmp_path, resume=True)
    assert_same(whole[1], rest, 6)
    assert_same_files(whole[0], tmp_path)


def test_a_run_that_was_over_stays_over_when_it_is_resumed(tmp_path, whole):
    shutil.copytree(whole[0], tmp_path / "run")
    model, rest, _ = eventful_run(tmp_path / "run", resume=True)
    assert rest.states == []
    assert equal(model.state_dict(), whole[1].states[-1])


@pytest.mark.parametrize("epoch", [1, 4, 5, 6, 8])
def test_a_run_folder_can_be_moved_before_it_is_resumed(tmp_path, whole, epoch):
    with pytest.raises(Killed):
        eventful_run(tmp_path / "old", [Kill(epoch)])
    (tmp_path / "old").rename(tmp_path / "new")
    _, rest, _ = eventful_run(tmp_path / "new", resume=True)
    assert_same(whole[1], rest, epoch)
    assert_same_files(whole[0], tmp_path / "new")
    assert not (tmp_path / "old").exists()
    assert sorted(path.name for path in (tmp_path / "new" / "checkpoints").iterdir())[-1] == "last.ckpt"


@pytest.mark.parametrize("epoch", [1, 4, 6])
def test_a_resumed_run_may_have_a_folder_of_its_own(tmp_path, whole, epoch):
    with pytest.raises(Killed):
        eventful_run(tmp_path / "old", [Kill(epoch)])
    (tmp_path / "new" / "checkpoints").mkdir(parents=True)
    before = {path: path.read_bytes() for path in (tmp_path / "old" / "checkpoints").iterdir()}
    _, rest, _ = run(
        tmp_path / "new",
        eventful_stages(),
        task(scores=SCORES),
        epochs=-1,
        callbacks=[EpochSeed(), checkpoint(tmp_path / "new" / "checkpoints")],
        data=TinyData(),
        ckpt_path=tmp_path / "old" / "checkpoints" / "last.ckpt",
    )
    assert_same(whole[1], rest, epoch)
    assert {path: path.read_bytes() for path in before} == before


def test_a_lost_file_of_an_earlier_stage_is_missed_before_the_first_step(tmp_path):
    stages = [Stage("one", 1), Stage("two", 2), Stage("three", init_from="one")]
    with pytest.raises(Killed):
        run(tmp_path, stages, task(scores=[1] * 4), callbacks=[Kill(2), checkpoint(tmp_path)])
    (tmp_path / "best-one.ckpt").unlink()
    with pytest.raises(ValueError, match=r"stage 'three' starts from the best epoch of 'one'.*put it there"):
        run(
            tmp_path,
            stages,
            task(scores=[1] * 4),
            callbacks=[checkpoint(tmp_path)],
            ckpt_path=tmp_path / "last.ckpt",
        )


def test_a_checkpoint_of_other_stages_is_refused(tmp_path):
    run(tmp_path, [Stage("one", 4)], task(scores=[1] * 4), callbacks=[checkpoint(tmp_path)])
    with pytest.raises(ValueError, match="stage 1 is 'one'; here the stages are other"):
        run(
            tmp_path,
            [Stage("other", 6)],
            task(scores=[1] * 6),
            epochs=6,
            callbacks=[checkpoint(tmp_path)],
            ckpt_path=tmp_path / "last.ckpt",
        )


def test_a_training_without_stages_can_be_continued_with_stages(tmp_path):
    run(tmp_path, None, task(scores=[1] * 4), epochs=1, callbacks=[checkpoint(tmp_path)])
    stages = [Stage("one", 2, train=["head"]), Stage("two", 2)]
    with pytest.warns(UserWarning, match="knows no stages"):
        _, watch, _ = run(
            tmp_path,
            stages,
            task(scores=[1] * 4),
            callbacks=[checkpoint(tmp_path)],
            ckpt_path=tmp_path / "last.ckpt",
        )
    assert [position.name for position in watch.stages] == ["one", "two", "two"]
    assert watch.trained[0] == {"head.weight", "head.bias"}


@pytest.mark.parametrize("options", [{"check_val_every_n_epoch": 2}, {"val_check_interval": 0.5}])
@pytest.mark.parametrize("name", ["best-one.ckpt", "best.ckpt"])
def test_a_checkpoint_of_mid_epoch_or_of_validation_can_be_resumed_from(tmp_path, options, name):
    """These are written in validation: on resume, the end of the epoch runs once more, and its start does not run."""
    stages = [Stage("one", 2, train=["head"], lr=0.05), Stage("two", 4, freeze=["head"], init_from="one")]

    def go(folder, **more):
        return run(
            folder,
            stages,
            task(Undropped, scores=[1, 2, 3, 4, 5, 6]),
            epochs=6,
            callbacks=[checkpoint(folder)],
            num_sanity_val_steps=0,
            **options,
            **more,
        )

    _, watch, _ = go(tmp_path / "whole")
    path = tmp_path / "whole" / name
    done = torch.load(path, weights_only=True)["epoch"]
    _, rest, _ = go(tmp_path / "rest", ckpt_path=path)
    assert [position.name for position in rest.stages][-2:] == ["two", "two"][: len(rest.stages)]
    assert rest.trained == watch.trained[done:]
    if "check_val_every_n_epoch" in options:  # in mid-epoch no loader here can go on where it was
        assert equal(rest.states[-1], watch.states[-1])


class Undropped(Plain):
    def __init__(self, **options):
        super().__init__(**options)
        self.body[2].p = 0.0


class KillProcess(Callback):
    """SIGKILL for its own process in mid-epoch."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (4, 1):
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_killed_in_mid_epoch_leaves_what_a_new_one_needs(tmp_path, whole):
    process = multiprocessing.get_context("fork").Process(target=eventful_run, args=(tmp_path, [KillProcess()]))
    process.start()
    try:
        process.join(240)
        assert process.exitcode == -signal.SIGKILL
    finally:
        process.kill()
        process.join()
    _, rest, _ = eventful_run(tmp_path, resume=True)
    assert_same(whole[1], rest, 4)
    assert_same_files(whole[0], tmp_path)


def test_without_the_seed_of_the_epoch_a_resumed_run_differs(tmp_path):
    """So that the tests above can fail."""
    stages = [Stage("one", 2), Stage("two", 2)]
    _, watch, _ = run(tmp_path / "a", stages, task(scores=[1] * 4), callbacks=[checkpoint(tmp_path / "a")])
    with pytest.raises(Killed):
        run(tmp_path / "b", stages, task(scores=[1] * 4), callbacks=[Kill(2), checkpoint(tmp_path / "b")])
    seed_everything(7)
    _, rest, _ = run(
        tmp_path / "b",
        stages,
        task(scores=[1] * 4),
        callbacks=[checkpoint(tmp_path / "b")],
        ckpt_path=tmp_path / "b" / "last.ckpt",
    )
    assert not equal(watch.states[-1], rest.states[-1])


class Leave(Callback):
    """What ``max_time`` does: ask for the end in mid-epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 0:
            trainer.should_stop = True


@pytest.mark.parametrize("epoch", [1, 2, 3, 5, 6, 8])
def test_a_run_that_ended_in_mid_epoch_goes_on_with_that_epoch_anew(tmp_path, whole, epoch, caplog):
    with caplog.at_level(logging.INFO):
        eventful_run(tmp_path, [Leave(epoch)])
    assert f"ended within epoch {epoch}: last.ckpt stays that of epoch {epoch - 1}" in caplog.text
    _, rest, _ = eventful_run(tmp_path, resume=True)
    assert_same(whole[1], rest, epoch)
    assert_same_files(whole[0], tmp_path)
    assert not list((tmp_path / "checkpoints").glob("*.previous"))


def test_a_run_that_ended_in_its_first_epoch_has_no_last_checkpoint(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(tmp_path, None, task(scores=[1] * 4), max_steps=3, callbacks=[checkpoint(tmp_path)])
    assert not (tmp_path / "last.ckpt").exists()
    assert "ended within epoch 0: there is no last checkpoint" in caplog.text


def test_an_epoch_of_limited_batches_is_complete(tmp_path):
    run(tmp_path, None, task(scores=[1] * 4), epochs=2, limit_train_batches=2, callbacks=[checkpoint(tmp_path)])
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4


@pytest.mark.parametrize("filename", ["best", "{epoch}"])
@pytest.mark.parametrize("at", ["mid-epoch", "validation"])
def test_a_best_epoch_that_a_killed_run_found_and_a_resumed_one_does_not_find_again(tmp_path, at, filename):
    """As on devices that do not compute the same twice: a file newer than the last checkpoint is in its way."""
    stages = [Stage("one", 3), Stage("two", 2, init_from="one")]

    def go(folder, scores, *callbacks, **options):
        kept = checkpoint(folder, filename=filename)
        return run(
            folder,
            stages,
            task(scores=scores),
            5,
            [kept, *callbacks],
            data=TinyData(4),
            val_check_interval=0.5,
            num_sanity_val_steps=0,
            **options,
        )

    kill = Kill(2, 3) if at == "mid-epoch" else KillLate(2)
    with pytest.raises(Killed):
        go(tmp_path, [1, 2, 3.001, 0, 0], EpochSeed(), kill)
    _, rest, trainer = go(tmp_path, [1, 2, 1.99, 0, 0], EpochSeed(), ckpt_path=tmp_path / "last.ckpt")
    _, whole, _ = go(tmp_path / "whole", [1, 2, 1.99, 0, 0], EpochSeed())
    assert equal(whole.states[-1], rest.states[-1])
    assert not list(tmp_path.glob("*.previous"))
    assert trainer.checkpoint_callback.best_model_score == 0


class KillLate(Checkpoint):
    """Dies at the second validation of an epoch, after the best file was written."""

    def __init__(self, epoch):
        self.epoch, self.seen = epoch, 0

    def on_validation_end(self, trainer, pl_module):
        self.seen += trainer.current_epoch == self.epoch
        if self.seen == 2:
            raise Killed


def test_the_best_files_of_a_whole_run_are_all_that_is_left_of_it(whole):
    names = sorted(path.name for path in (whole[0] / "checkpoints").iterdir())
    assert names == ["best-body.ckpt", "best-head.ckpt", "best.ckpt", "last.ckpt"]


def test_a_checkpoint_without_stages_leads_back_to_the_tasks_own_learning_rate(tmp_path):
    run(tmp_path, None, task(scores=[1] * 4), epochs=1, callbacks=[checkpoint(tmp_path)])
    stages = [Stage("one", 2, lr=0.05), Stage("two", 2)]
    with pytest.warns(UserWarning, match="knows no stages"):
        _, watch, _ = run(
            tmp_path,
            stages,
            task(scores=[1] * 4),
            callbacks=[checkpoint(tmp_path)],
            ckpt_path=tmp_path / "last.ckpt",
        )
    assert watch.rates == [0.05, 1e-2, 1e-2]
