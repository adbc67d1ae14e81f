import pytest
import torch

import callbacks.throughput
from callbacks import Stage, StagedTraining, Throughput
from callbacks.throughput import readable_time


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(callbacks.throughput, "rank_zero_info", lines.append)
    return lines


@pytest.fixture
def clock(monkeypatch):
    """Each training batch takes two seconds."""

    class Clock:
        seconds = 0.0

    monkeypatch.setattr(callbacks.throughput.time, "perf_counter", lambda: Clock.seconds)
    return Clock


def slow_model(tiny, clock):
    class Slow(tiny.Model):
        def training_step(self, batch, batch_idx):
            if self.training:
                clock.seconds += 2.0
            return super().training_step(batch, batch_idx)

    return Slow()


def test_speed_and_time_left_are_those_of_the_clock(tiny, trainer_in, said, clock, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    observer = Throughput(warm_up=1, steps=2)
    trainer_in(observer, max_epochs=4).fit(slow_model(tiny, clock), datamodule=tiny.Data())
    assert observer.images_per_second == pytest.approx(2.0)  # 4 images in 2 s
    # three batches per epoch: after three of twelve, nine are left
    assert said[0] == "Training at 2.0 images/s; about 18 s of training steps left."
    assert said[1] == "Trained on 48 images in 24 s: 2.0 images/s, validation included."
    assert len(said) == 2


def test_each_stage_is_measured_and_estimated_by_itself(tiny, trainer_in, said, clock, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    stages = StagedTraining([Stage("one", 1, select=False), Stage("two", 3, select=False)])
    trainer_in(Throughput(warm_up=1, steps=2), stages, max_epochs=4).fit(
        slow_model(tiny, clock), datamodule=tiny.Data()
    )
    estimates = [line for line in said if line.startswith("Training at")]
    assert estimates == [
        "Training at 2.0 images/s; about 0 s of stage 1/2 left.",
        "Training at 2.0 images/s; about 12 s of stage 2/2 left.",
    ]


def test_the_first_batch_of_a_stage_is_timed_where_it_is_counted(tiny, trainer_in, said, clock, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    observer = Throughput(warm_up=0, steps=1)
    stages = StagedTraining([Stage("one", 1, select=False), Stage("two", 1, select=False)])
    trainer_in(observer, stages, max_epochs=2).fit(slow_model(tiny, clock), datamodule=tiny.Data())
    assert [line.split(";")[0] for line in said[:2]] == ["Training at 2.0 images/s"] * 2


def test_slow_training_with_several_threads_gets_advice(tiny, trainer_in, said, clock, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    trainer_in(Throughput(warm_up=0, steps=1), max_epochs=1).fit(slow_model(tiny, clock), datamodule=tiny.Data())
    assert "THREADS=1" in said[0]
    assert "OMP_NUM_THREADS=1" in said[0]


def test_fast_training_gets_none(tiny, trainer_in, said, clock, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    observer = Throughput(warm_up=0, steps=1, slow_below=1.0)
    trainer_in(observer, max_epochs=1).fit(slow_model(tiny, clock), datamodule=tiny.Data())
    assert "THREADS" not in said[0]


def test_short_trainings_end_without_an_estimate(tiny, trainer_in, said):
    observer = Throughput(warm_up=2, steps=50)
    trainer_in(observer, max_epochs=1).fit(tiny.Model(), datamodule=tiny.Data())
    assert observer.images_per_second is None
    assert len(said) == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (160, "2 min 40 s"), (7260, "2 h 01 min")]
)
def test_durations_are_readable(seconds, text):
    assert readable_time(seconds) == text
