"""Related readings beside each other: the same draws in another order."""

import time
import tracemalloc
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.errors import DataError
from data_modules.related_order import RelatedOrder, related_pairs_per_batch
from data_modules.samplers import TrainingSampler
from gaze_lightning.gaze.similarity import RelationMatrix
from tests.made_up_table import MadeUpDataModule, make_table, with_readers


def matrix(ids, related):
    """A relation matrix of a boolean matrix."""
    rows, columns = np.nonzero(related)
    indptr = np.concatenate([[0], np.cumsum(related.sum(axis=1))]).astype(np.int64)
    scores = np.ones(len(rows), np.float32)
    return RelationMatrix(tuple(ids), related.any(axis=1), indptr, columns.astype(np.int32), scores, 0.5)


def random_relations(n, rate, seed=0):
    related = np.triu(np.random.default_rng(seed).random((n, n)) < rate, 1)
    return related | related.T


def ordered(n, share, rate=0.2, seed=0, films=None, others=0):
    """An order of n related readings among others, in any places."""
    names = np.random.default_rng(seed).permutation([*(f"r{i}" for i in range(n)), *(f"x{i}" for i in range(others))])
    films = np.arange(n + others) if films is None else films
    relations = matrix([f"r{i}" for i in range(n)], random_relations(n, rate, seed))
    return RelatedOrder.of(relations, names.tolist(), films, share)


def draws(order_of, n, seed=0, epoch=0, world=1, **options):
    ranks = []
    for rank in range(world):
        sampler = TrainingSampler(range(n), seed, world, rank, related=order_of, **options)
        sampler.set_epoch(epoch)
        ranks.append([index for _, index in sampler])
        assert len(ranks[-1]) == len(sampler)
    return [index for step in zip(*ranks, strict=True) for index in step]


def pairs_of(related, first, second):
    """Whether two readings are related and of two films."""
    row, column = related.rows[first], related.rows[second]
    return row >= 0 and column in related.indices[related.indptr[row] : related.indptr[row + 1]]


@given(
    n=st.integers(1, 25),
    others=st.integers(0, 10),
    share=st.floats(0, 1),
    seed=st.integers(0, 20),
    epoch=st.integers(0, 5),
    weighted=st.booleans(),
    grouped=st.booleans(),
    world=st.integers(1, 4),
)
@settings(max_examples=150, deadline=None)
def test_every_reading_is_drawn_as_often_as_before(n, others, share, seed, epoch, weighted, grouped, world):
    total = n + others
    generator = np.random.default_rng(seed)
    films = generator.integers(0, 1 + total // 2, total)
    options = {
        "weights": generator.uniform(0.1, 4, total) if weighted else None,
        "groups": films if grouped else None,
    }
    related = ordered(n, share, seed=seed, films=films, others=others)
    before, after = draws(None, total, seed, epoch, **options), draws(related, total, seed, epoch, **options)
    assert Counter(before) == Counter(after)
    unrelated = [index for index in before if related.rows[index] < 0]
    assert [index for index in after if related.rows[index] < 0] == unrelated, "the others keep their order"
    together = draws(related, total, seed, epoch, world, **options)
    assert together == [after[i % len(after)] for i in range(len(after) + -len(after) % world)]
    if share == 0:
        assert before == after


def literal(order, related, share, chances):
    """One draw after the other, from lists of what is left."""
    waiting, result = list(order), []
    while waiting:
        current = waiting.pop(0)
        result.append(current)
        while related.rows[current] >= 0:
            left = [index for index in dict.fromkeys(waiting) if pairs_of(related, current, index)]
            if not (next(chances) < share and left):
                break
            current = left[int(next(chances) * len(left))]
            waiting.remove(current)
            result.append(current)
    return result


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_followers_are_as_frequent_and_as_varied_as_drawn_one_by_one(share, weighted):
    """The same numbers of followers, and of each pair, as the literal procedure, over many epochs."""
    n, others, epochs = 12, 4, 600
    related = ordered(n, share, 0.4, seed=1, others=others)
    weights = np.linspace(0.2, 2, n + others) if weighted else None
    generator = np.random.default_rng(3)
    found, wanted = (np.zeros((n + others, n + others)) for _ in range(2))
    for epoch in range(epochs):
        before = draws(None, n + others, 0, epoch, weights=weights)
        after = draws(related, n + others, 0, epoch, weights=weights)
        slow = literal(before, related, share, iter(generator.random(200).tolist()))
        assert Counter(slow) == Counter(after)
        np.add.at(found, (after[:-1], after[1:]), 1 / epochs)
        np.add.at(wanted, (slow[:-1], slow[1:]), 1 / epochs)
    np.testing.assert_allclose(found, wanted, atol=0.09)


def test_a_share_of_one_follows_as_long_as_anything_related_is_left():
    related = ordered(40, 1.0, 0.1, seed=2)
    after = draws(related, 40)
    for place, current in enumerate(after[:-1]):
        left = [index for index in after[place + 1 :] if pairs_of(related, current, index)]
        assert not left or after[place + 1] in left


def test_readings_of_one_film_are_not_brought_together():
    films = np.zeros(12, np.int64)
    related = ordered(12, 1.0, 1.0, films=films)
    assert draws(related, 12) == draws(None, 12)
    two = np.arange(12) % 2
    after = draws(ordered(12, 1.0, 1.0, films=two), 12)
    assert all(two[a] != two[b] for a, b in pairwise(after))


def test_the_order_depends_on_seed_and_epoch_only():
    related = ordered(30, 0.7)
    first = draws(related, 30, 4, 2)
    assert draws(related, 30, 4, 2) == first
    assert draws(related, 30, 4, 3) != first
    assert draws(related, 30, 5, 2) != first


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(DataError, match="must be 0 to 1"):
        ordered(4, share)


def test_relations_of_other_readings_are_refused_without_naming_them():
    relations = matrix(["a", "b", "secret"], ~np.eye(3, dtype=bool))
    with pytest.raises(DataError, match="1 of the 3 readings of the relation matrix are not in the training") as caught:
        RelatedOrder.of(relations, ["a", "b", "c"], np.arange(3), 0.5)
    assert "secret" not in str(caught.value)


def test_pairs_in_batches_are_counted():
    related = ordered(20, 0.5, 0.3)
    order = np.array(draws(related, 20))
    batches = order[:18].reshape(3, 6)
    slow = [sum(pairs_of(related, a, b) for i, a in enumerate(own) for b in own[i + 1 :]) for own in batches]
    assert related_pairs_per_batch(order, related, 6) == pytest.approx(np.mean(slow))


def listed(related, order, generator):
    """`RelatedOrder.__call__` with all entries and chances in lists: an order for a seed must stay what it was."""
    rows = related.rows[order]
    linked = np.flatnonzero(rows >= 0)
    if related.share == 0 or not len(linked):
        return order
    left = np.bincount(rows[linked], minlength=len(related.indptr) - 1).tolist()
    moved = [0] * len(left)
    entries, starts = related.indices.tolist(), related.indptr[:-1].tolist()
    ends = related.indptr[1:].tolist()
    chances = iter(generator.random(2 * len(linked) + len(entries)).tolist())
    chains = []
    for place, row in zip(linked.tolist(), rows[linked].tolist(), strict=True):
        if moved[row]:
            moved[row] -= 1
            continue
        current, chain = row, []
        while current >= 0:
            left[current] -= 1
            chain.append(current)
            follower = -1
            if next(chances) < related.share:
                while follower < 0 and ends[current] > starts[current]:
                    at = starts[current] + int(next(chances) * (ends[current] - starts[current]))
                    if left[entries[at]]:
                        follower = entries[at]
                        moved[follower] += 1
                    else:
                        ends[current] -= 1
                        entries[at] = entries[ends[current]]
            current = follower
        chains.append((place, chain))
    reading = dict(zip(rows[linked].tolist(), order[linked].tolist(), strict=True))
    units = [(place, [reading[row] for row in chain]) for place, chain in chains]
    units += [(place, [int(order[place])]) for place in np.flatnonzero(rows < 0).tolist()]
    return np.array([index for _, unit in sorted(units) for index in unit])


@pytest.mark.parametrize("rate", [0.02, 0.7])
@pytest.mark.parametrize("share", [0.4, 1.0])
def test_the_order_of_a_seed_is_the_one_it_always_was(monkeypatch, share, rate):
    related = ordered(90, share, rate, seed=5, others=20)
    before = related.indices.copy()
    order = np.random.default_rng(0).integers(0, 110, 300)
    expected = listed(related, order, np.random.default_rng(7))
    np.testing.assert_array_equal(related(order, np.random.default_rng(7)), expected)
    monkeypatch.setattr("data_modules.related_order._CHANCES", 3)
    np.testing.assert_array_equal(related(order, np.random.default_rng(7)), expected)
    np.testing.assert_array_equal(related.indices, before)


def test_an_epoch_takes_few_bytes_per_pair():
    related = ordered(1500, 0.5, 0.7)
    order = np.arange(1500)
    tracemalloc.start()
    related(order, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert related.indices.dtype == np.int32
    assert peak < 4 * len(related.indices) + 6_000_000  # 4 bytes per pair, and what does not grow with pairs
    assert 4 * len(related.indices) > 6_000_000


def test_a_large_epoch_takes_well_under_a_second():
    n, gaze = 377_000, 3_700
    relations = matrix([f"s{i}" for i in range(gaze)], random_relations(gaze, 0.01))
    related = RelatedOrder.of(relations, [f"s{i}" for i in range(n)], np.arange(n), 0.5)
    order = np.random.default_rng(0).permutation(n)
    seconds = []
    for epoch in range(3):
        start = time.process_time()
        after = related(order, np.random.default_rng(epoch))
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5
    assert related_pairs_per_batch(after, related, 1024) > 3 * related_pairs_per_batch(order, related, 1024)


@pytest.fixture
def module(tmp_path):
    def build(**options):
        table = with_readers(make_table(tmp_path / "films", 40))
        built = MadeUpDataModule(table, tmp_path / "cache", **options)
        built.prepare_data()
        built.setup("fit")
        return built

    return build


def relations_of(built, rate=0.3):
    gaze = built.training_gaze()
    return matrix(gaze.sample_ids, random_relations(len(gaze.sample_ids), rate))


def order_of(built, epoch=0):
    loader = built.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [name for batch in loader for name in batch["sample_id"]]


@pytest.mark.parametrize("sampling", ["shuffled", "class_balanced", "gaze_balanced"])
def test_batches_of_the_module_have_more_related_pairs(module, sampling):
    built = module(sampling=sampling, batch_size=8)
    before = order_of(built)
    relations = relations_of(built)
    built.draw_related_together(relations, 0.0)
    assert order_of(built) == before
    built.draw_related_together(relations, 0.9)
    dataset = built._datasets["train"]
    related = RelatedOrder.of(relations, dataset.sample_ids, dataset.films, 0.9)
    place = {name: index for index, name in enumerate(dataset.sample_ids)}
    counts = []
    for names in (before, order_of(built)):
        order = np.array([place[name] for name in names])
        counts.append(sum(pairs_of(related, a, b) for a, b in pairwise(order)))
    assert counts[1] > 1.5 * counts[0]


def test_relations_of_readings_that_do_not_train_are_refused_at_once(module):
    built = module()
    tested = built.readings.loc[built.readings["split"] == "test", "sample_id"].tolist()[:3]
    with pytest.raises(DataError, match="3 of the 3 readings"):
        built.draw_related_together(matrix(tested, ~np.eye(3, dtype=bool)), 0.5)


def test_the_order_of_the_same_relations_is_made_once(module, monkeypatch):
    built = module(batch_size=8)
    relations, made = relations_of(built), []
    original = RelatedOrder.of

    def of(*given):
        made.append(given)
        return original(*given)

    monkeypatch.setattr("data_modules.training_part.RelatedOrder.of", of)
    built.draw_related_together(relations, 0.5)
    for _ in range(2):
        built.train_dataloader()
    assert len(made) == 1
    built.draw_related_together(relations, 0.6)
    assert built.train_dataloader().sampler.related.share == 0.6
    assert len(made) == 2
