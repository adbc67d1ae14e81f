"""What a run is told, and how its schedule goes on, with another number of processes than before."""

import json
from argparse import Namespace

import pytest
import torch
import torch.distributed
import yaml
from pytorch_lightning import Callback

from callbacks import RescaledSchedule, Stage
from callbacks.rescaled_schedule import rescale
from gaze_lightning.processes import note_of_other_number
from tests.staged_task import Tiny, checkpoint, run, task


def _config(batch_size, accumulate=1, stage_size=None):
    stages = [Namespace(batch_size=stage_size)]
    return Namespace(
        data=Namespace(init_args=Namespace(batch_size=batch_size) if batch_size else Namespace()),
        trainer=Namespace(accumulate_grad_batches=accumulate),
        staged_training=Namespace(stages=stages, sizes=None),
    )


@pytest.mark.parametrize(
    ("now", "processes", "words"),
    [
        (_config(4), 2, None),
        (_config(4), 1, "4 films per step instead of 8. To keep 8: --data.init_args.batch_size=8 (docs"),
        (_config(4), 4, "16 films per step instead of 8. To keep 8: --data.init_args.batch_size=2 (docs"),
        (_config(4), 3, "12 films per step instead of 8. (docs"),
        (_config(8), 1, "8 films per step, as before"),
        (_config(4, accumulate=2), 1, "8 films per step, as before"),
        (_config(4, stage_size=2), 1, "batch_size=8, and the batch sizes of stages"),
        (_config(None), 1, "had 2 process(es) and goes on with 1 (docs"),
    ],
)
def test_another_number_of_processes_is_told_with_the_batch_size_that_keeps_the_step(tmp_path, now, processes, words):
    entries = [
        {"stage": "fit", "hardware": {"processes": 1}},
        {"stage": "fit", "hardware": {"processes": 2}},
        {"stage": "test", "hardware": {"processes": 5}},
    ]
    (tmp_path / "provenance.json").write_text(json.dumps({"entries": entries}))
    stored = {"data": {"init_args": {"batch_size": 4}}, "trainer": {"accumulate_grad_batches": 1}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(stored))
    note = note_of_other_number(tmp_path, now, processes)
    assert note is None if words is None else words in str(note)


def test_the_note_does_without_batch_sizes_where_the_data_module_had_none(tmp_path):
    (tmp_path / "provenance.json").write_text('{"entries": [{"stage": "fit", "hardware": {"processes": 2}}]}')
    (tmp_path / "config.yaml").write_text("data: {class_path: Own}\ntrainer: {accumulate_grad_batches: 1}")
    note = note_of_other_number(tmp_path, _config(4), 1)
    assert note == "The run had 2 process(es) and goes on with 1 (docs/devices.md)."


@pytest.mark.parametrize("kind", ["one_cycle", "cosine"])
@pytest.mark.parametrize("now", [40, 10, 21])
def test_a_rescaled_schedule_ends_where_one_of_that_length_ends(kind, now):
    def schedule(steps):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        if kind == "one_cycle":
            return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=steps, pct_start=0.3)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)

    def walk(optimizer, scheduler, steps):
        rates = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            rates.append(scheduler.get_last_lr()[0])
        return rates

    optimizer, before = schedule(20)
    walk(optimizer, before, 10)
    optimizer, after = schedule(now)
    after.load_state_dict(before.state_dict())
    done = round(now / 2)
    rescale(after, 20, now)
    went_on = walk(optimizer, after, now - done)
    fresh = walk(*schedule(now), now)
    assert went_on == pytest.approx(fresh[done:], abs=0.05 if now == 21 else 1e-9)
    assert went_on[-1] == pytest.approx(fresh[-1], abs=1e-9)


class Stepwise(Tiny):
    """Its schedule counts steps."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Counts(Callback):
    """The count of the schedule before each step."""

    def __init__(self):
        self.counts = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.counts.append(trainer.lr_scheduler_configs[0].scheduler.last_epoch)

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 3:
            trainer.save_checkpoint(f"{trainer.default_root_dir}/epoch_3.ckpt")


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize(("processes", "steps", "factor"), [(2, 24, 2), (2, 48, 1), (1, 24, 1)])
def test_a_schedule_goes_on_at_the_same_share_of_the_planned_training_after_a_stage_that_ended_early(
    tmp_path, processes, steps, factor
):
    """Planned are 8 epochs of 6 steps; the first stage ends after 2 of its 4 epochs, which leaves 6 epochs."""

    def train(ckpt_path=None):
        stages, watch = [Stage("a", 4, patience=1), Stage("b", 4)], Counts()
        model = task(Stepwise, scores=[5, 1, 2, 3, 4, 5])
        run(tmp_path, stages, model, 8, [RescaledSchedule(), watch, checkpoint(tmp_path)], ckpt_path)
        return watch.counts

    path = tmp_path / "epoch_3.ckpt"
    assert train() == list(range(36))
    stored = torch.load(path, weights_only=True)
    assert stored["callbacks"]["RescaledSchedule"] == {"processes": 1, "steps": 48}
    stored["callbacks"]["RescaledSchedule"] = {"processes": processes, "steps": steps}
    torch.save(stored, path)
    assert train(path) == [factor * 24 + step for step in range(12)]
