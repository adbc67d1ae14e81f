import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler

from data_modules.errors import DataError
from data_modules.samplers import EvaluationSampler, TrainingSampler, _systematic, even_batch_size, sample_generator


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


def indices(n, seed=0, epoch=0, world=1, **options):
    """The readings of an epoch, in the order of all processes together."""
    ranks = []
    for rank in range(world):
        sampler = TrainingSampler(range(n), seed, world, rank, **options)
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len(keys) == len(sampler)
        assert {own for own, _ in keys} <= {epoch}
        ranks.append([index for _, index in keys])
    return [index for step in zip(*ranks, strict=True) for index in step]


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_without_weights_the_order_is_that_of_torch(world):
    for epoch in range(3):
        ranks = []
        for rank in range(world):
            reference = DistributedSampler(range(17), world, rank, shuffle=True, seed=5)
            reference.set_epoch(epoch)
            ranks.append(list(reference))
        assert indices(17, 5, epoch, world) == [index for step in zip(*ranks, strict=True) for index in step]


WEIGHTS = st.lists(st.floats(0, 100) | st.sampled_from([0.0, 1.0, 1e-9, 1e6]), min_size=1, max_size=40).filter(any)


@given(weights=WEIGHTS, seed=st.integers(0, 9), epoch=st.integers(0, 99))
def test_a_reading_is_drawn_as_often_as_its_weight_says_to_within_one(weights, seed, epoch):
    weights = np.array(weights)
    n = len(weights)
    drawn = np.bincount(indices(n, seed, epoch, weights=weights), minlength=n)
    expected = n * weights / weights.sum()
    assert drawn.sum() == n
    assert (np.abs(drawn - expected) < 1 + 1e-9).all()
    assert not drawn[weights == 0].any()


def test_over_many_epochs_a_reading_is_drawn_as_often_as_its_weight_says():
    weights = np.array([0.2, 1.0, 0.3, 2.5, 0.0, 1.7, 0.4, 1.9])
    drawn = sum(np.bincount(indices(8, epoch=epoch, weights=weights), minlength=8) for epoch in range(2000))
    np.testing.assert_allclose(drawn / 2000, weights, atol=0.05)


def test_equal_weights_show_every_reading_once():
    assert sorted(indices(30, weights=np.full(30, 0.1))) == list(range(30))


def test_a_reading_without_weight_is_not_drawn_when_the_last_digits_of_the_sum_are_lost():
    start = 1 - 2**-53  # 4 - start rounds to 3
    drawn = _systematic(np.arange(4), np.array([1.0, 1, 1, 0]), 4, start)
    assert len(drawn) == 4
    assert 3 not in drawn


FILMS = st.lists(st.integers(-3, 12), min_size=1, max_size=40)


@given(films=FILMS, seed=st.integers(0, 9), epoch=st.integers(0, 99))
def test_with_groups_an_epoch_shows_one_reading_of_every_film(films, seed, epoch):
    drawn = indices(len(films), seed, epoch, groups=np.array(films))
    assert sorted(films[index] for index in drawn) == sorted(set(films))


def test_every_reader_of_a_film_has_the_same_chance():
    films = np.array([0, 0, 0, 0, 1, 2, 2])
    drawn = sum(np.bincount(indices(7, epoch=epoch, groups=films), minlength=7) for epoch in range(3000))
    np.testing.assert_allclose(drawn / 3000, [0.25, 0.25, 0.25, 0.25, 1, 0.5, 0.5], atol=0.04)


@given(data=st.data(), films=FILMS, epoch=st.integers(0, 99))
def test_weights_of_a_films_readings_add_up(data, films, epoch):
    films = np.array(films)
    weights = np.array(data.draw(st.lists(st.floats(0.01, 10), min_size=len(films), max_size=len(films))))
    names, film = np.unique(films, return_inverse=True)
    drawn = np.array(indices(len(films), 0, epoch, weights=weights, groups=films))
    assert len(drawn) == len(names)
    expected = len(names) * weights / weights.sum()
    assert (np.abs(np.bincount(drawn, minlength=len(films)) - expected) < 1 + 1e-9).all()
    of_film = np.bincount(film, weights=expected)
    assert (np.abs(np.bincount(film[drawn], minlength=len(names)) - of_film) < 1 + 1e-9).all()


@given(
    n=st.integers(1, 40),
    world=st.integers(1, 7),
    epoch=st.integers(0, 5),
    weighted=st.booleans(),
    grouped=st.booleans(),
)
def test_the_processes_together_draw_what_one_process_draws(n, world, epoch, weighted, grouped):
    generator = np.random.default_rng(n)
    options = {
        "weights": generator.uniform(0.1, 3, n) if weighted else None,
        "groups": generator.integers(0, 1 + n // 2, n) if grouped else None,
    }
    alone = indices(n, 3, epoch, **options)
    together = indices(n, 3, epoch, world, **options)
    padding = -len(alone) % world
    assert together == [alone[i % len(alone)] for i in range(len(alone) + padding)]


@pytest.mark.parametrize("options", [{"weights": np.arange(1.0, 31.0)}, {"groups": np.arange(30) // 2}])
def test_weighted_and_grouped_orders_depend_on_seed_and_epoch_only(options):
    torch.manual_seed(0)
    first = indices(30, 4, 2, **options)
    torch.manual_seed(1)
    assert indices(30, 4, 2, **options) == first
    assert indices(30, 4, 3, **options) != first
    assert indices(30, 5, 2, **options) != first
    assert indices(30, 3, 3, **options) != first  # seed and epoch are not merely added up


def test_a_loader_that_starts_at_a_later_epoch_sees_what_an_uninterrupted_one_sees():
    weights = np.arange(1.0, 31.0)

    def epochs(first, last):
        sampler = TrainingSampler(range(30), 0, weights=weights)
        loader = DataLoader(_Keys(), batch_size=4, sampler=sampler, collate_fn=list, drop_last=True)
        seen = []
        for epoch in range(first, last):
            loader.sampler.set_epoch(epoch)  # as Lightning does before each epoch
            seen.append(list(loader))
        return seen

    assert epochs(0, 4)[2:] == epochs(2, 4)


class _Keys:
    def __len__(self):
        return 30

    def __getitem__(self, key):
        return key


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": np.ones(4)}, "weights must have one entry for each of the 5 readings"),
        ({"groups": np.zeros(6, dtype=np.int64)}, "groups must have one entry"),
        ({"weights": np.zeros(5)}, "not all zero"),
        ({"weights": np.array([1, 1, 1, 1, -1.0])}, "not negative"),
        ({"weights": np.array([1, 1, 1, 1, np.nan])}, "finite"),
    ],
)
def test_weights_and_groups_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingSampler(range(5), 0, **options)


def test_fewer_samples_than_processes_are_refused_with_a_remedy():
    with pytest.raises(DataError, match=r"2 processes cannot share the 1 sample.*--trainer\.devices=1"):
        even_batch_size(1, 2, 8)
