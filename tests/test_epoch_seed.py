import random

import numpy as np
import pytest
import torch

from callbacks import EpochSeed


class Place:
    def __init__(self, epoch, rank=0):
        self.current_epoch, self.global_rank = epoch, rank


def draws(epoch, rank=0, batch=0):
    EpochSeed().on_train_batch_start(Place(epoch, rank), None, None, batch)
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002 - the global one is meant


@pytest.fixture(autouse=True)
def seed(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")


def test_the_numbers_of_an_epoch_do_not_depend_on_what_was_drawn_before():
    first = draws(3)
    torch.rand(7), np.random.rand(3), random.random()  # noqa: NPY002
    assert draws(3) == first


@pytest.mark.parametrize("other", [{"epoch": 4}, {"epoch": 3, "rank": 1}])
def test_epochs_and_ranks_draw_differently(other):
    assert all(a != b for a, b in zip(draws(3), draws(**other), strict=True))


def test_seeds_draw_differently(monkeypatch):
    first = draws(3)
    monkeypatch.setenv("PL_GLOBAL_SEED", "6")
    assert all(a != b for a, b in zip(first, draws(3), strict=True))


def test_later_batches_go_on_drawing():
    first = draws(3)
    assert draws(3, batch=1) != first


def test_without_a_global_seed_nothing_is_seeded(monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert draws(3) != draws(3)
