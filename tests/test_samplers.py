import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.samplers import EvaluationSampler, TrainingSampler, even_batch_size, sample_generator


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_counts_every_sample_exactly_once(world):
    parts = [list(EvaluationSampler(range(33), world, rank)) for rank in range(world)]
    assert sorted(index for part in parts for index in part) == list(range(33))
    assert [len(EvaluationSampler(range(33), world, rank)) for rank in range(world)] == [len(part) for part in parts]


@given(n=st.integers(1, 300), world=st.integers(1, 16), batch=st.integers(1, 70))
def test_all_processes_evaluate_equally_many_batches(n, world, batch):
    if n < world:
        with pytest.raises(ValueError, match="fewer devices"):
            even_batch_size(n, world, batch)
        return
    size = even_batch_size(n, world, batch)
    counts = {math.ceil(len(EvaluationSampler(range(n), world, rank)) / size) for rank in range(world)}
    assert len(counts) == 1
    if world == 1:
        assert size == batch


@pytest.mark.parametrize("world", [1, 2, 3])
def test_training_shows_every_sample_with_its_epoch(world):
    samplers = [TrainingSampler(range(30), seed=5, num_replicas=world, rank=rank) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(4)
    keys = [key for sampler in samplers for key in sampler]
    assert sorted(keys) == [(4, index) for index in range(30)]


def test_training_order_depends_on_seed_and_epoch_only():
    def order(seed, epoch):
        sampler = TrainingSampler(range(30), seed)
        sampler.set_epoch(epoch)
        return [index for _, index in sampler]

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)


def test_random_numbers_of_a_sample_depend_on_seed_epoch_and_index():
    draws = {sample_generator(*key).random() for key in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (0, 1, 3)]}
    assert len(draws) == 4
    assert sample_generator(0, 1, 2).random() in draws
