import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze.similarity import RelationMatrix
from gaze_lightning.models import Positives

NAN = float("nan")
SEEDS = st.integers(0, 2**31 - 1)
EMPTY = torch.full((1, 3), -1)


def matrix(n=20, seed=0, threshold=0.6, invalid=3):
    rng = np.random.default_rng(seed)
    s = rng.uniform(0, 1, (n, n)).astype(np.float32)
    s = np.maximum(s, s.T)
    np.fill_diagonal(s, 1)
    valid = np.ones(n, dtype=bool)
    valid[rng.permutation(n)[:invalid]] = False
    return s, RelationMatrix.of(tuple(f"reading{i}" for i in range(n)), valid, s, threshold)


def with_relations(relations, mode="gaze", **options):
    positives = Positives(mode, **options)
    positives.set_relations(relations)
    return positives


def batch(positives, relations, samples, seed, films=12):
    """Readings drawn with repetition, some unknown to the matrix; readings of one film are unlike in their ids."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, len(relations) + 5, samples)
    ids = [f"reading{i}" for i in numbers]
    return ids, positives.identities(ids, torch.from_numpy(numbers % films), None)


def literal(anchors, others, positive):
    """The definition, pair by pair; ``positive`` says it of two identities of different films."""
    same = torch.zeros(len(anchors), len(others), dtype=torch.bool)
    related = torch.zeros_like(same)
    for i, (film, *rest) in enumerate(anchors.tolist()):
        for j, (other_film, *other_rest) in enumerate(others.tolist()):
            if film == -1 or other_film == -1:
                continue
            if film == other_film:
                same[i, j] = True
            elif positive(rest, other_rest):
                related[i, j] = True
    return same, related


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 12), st.integers(0, 25), st.floats(0, 1), st.integers(0, 20))
def test_pairs_are_those_of_the_double_loop_over_the_similarities(seed, samples, slots, threshold, invalid):
    similarity, relations = matrix(seed=seed, threshold=threshold, invalid=invalid)
    positives = with_relations(relations)
    _, anchors = batch(positives, relations, samples, seed)
    _, others = batch(positives, relations, slots, seed + 1)
    others = torch.cat([others, EMPTY])

    def alike(a, b):
        known = a[0] >= 0 and b[0] >= 0
        return known and all(relations.valid[[a[0], b[0]]]) and similarity[a[0], b[0]] > np.float32(threshold)

    pairs = positives.pairs(anchors, others)
    same, related = literal(anchors, others, alike)
    assert torch.equal(pairs.same, same)
    assert torch.equal(pairs.related, related)
    assert pairs.same.dtype == pairs.related.dtype == torch.bool


@pytest.mark.parametrize("mode", ["none", "gaze", "shuffled", "label"])
@pytest.mark.parametrize("drop_prob", [0.0, 0.4])
def test_positives_in_a_batch_are_symmetric_hold_the_diagonal_and_follow_a_permutation(mode, drop_prob):
    _, relations = matrix()
    positives = with_relations(relations, mode, drop_prob=drop_prob)
    numbers = np.random.default_rng(1).integers(0, 25, 16)
    film, label = torch.from_numpy(numbers % 12), torch.from_numpy(numbers % 3)
    identities = positives.identities([f"reading{i}" for i in numbers], film, label)
    pairs = positives.pairs(identities, identities, step=7)
    positive = pairs.same | pairs.related
    assert positive.diagonal().all()
    assert torch.equal(positive, positive.T)
    assert not (pairs.same & pairs.related).any()
    assert pairs.related.any() == (mode != "none")
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    moved = positives.pairs(identities[order], identities[order], step=7)
    assert torch.equal(moved.related, pairs.related[order][:, order])
    assert torch.equal(moved.same, pairs.same[order][:, order])


def test_films_without_gaze_have_only_themselves_and_empty_slots_nothing():
    relations = RelationMatrix.of(("a", "b"), np.array([True, True]), np.ones((2, 2), dtype=np.float32), 0.5)
    positives = with_relations(relations)
    identities = positives.identities(["a", "b", "x", "y"], torch.arange(4), None)
    assert identities.tolist() == [[0, 0, 0], [1, 1, 0], [2, -1, 0], [3, -1, 0]]
    identities = torch.cat([identities, EMPTY, EMPTY])
    pairs = positives.pairs(identities, identities)
    assert pairs.same.tolist() == torch.diag(torch.tensor([1, 1, 1, 1, 0, 0]).bool()).tolist()
    assert pairs.related.nonzero().tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("mode", ["none", "gaze", "shuffled"])
def test_threshold_of_one_or_nothing_valid_or_everything_dropped_leaves_the_film_itself(mode):
    for options, drop_prob in (({"threshold": 1.0}, 0.0), ({"invalid": 20}, 0.0), ({}, 1.0)):
        _, relations = matrix(**options)
        positives = with_relations(relations, mode, drop_prob=drop_prob)
        _, identities = batch(positives, relations, 30, seed=3)
        pairs = positives.pairs(identities, identities)
        plain = Positives("none").pairs(identities, identities)
        assert torch.equal(pairs.same, plain.same)
        assert not pairs.related.any()


def test_shuffled_relations_are_as_many_between_other_readings():
    _, relations = matrix(n=40)
    ids = [f"reading{i}" for i in range(40)]
    of = {}
    for name, seed in (("gaze", 0), ("one", 1), ("again", 1), ("two", 2)):
        positives = with_relations(relations, "gaze" if name == "gaze" else "shuffled", seed=seed)
        identities = positives.identities(ids, torch.arange(40), None)
        of[name] = positives.pairs(identities, identities).related
    degrees = {name: sorted(related.sum(dim=1).tolist()) for name, related in of.items()}
    assert degrees["gaze"] == degrees["one"] == degrees["two"]
    assert torch.equal(of["one"], of["again"])
    assert not torch.equal(of["one"], of["two"])
    assert not torch.equal(of["one"], of["gaze"])
    assert not of["one"][~torch.from_numpy(relations.valid)].any()


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 10), st.sampled_from([1, 3, 62]))
def test_labels_make_positives_as_defined(seed, samples, classes):
    generator = torch.Generator().manual_seed(seed)
    ids, film, positives = [str(i) for i in range(samples)], torch.arange(samples), Positives("label")
    single = torch.randint(-1, classes, (samples,), generator=generator)
    identities = positives.identities(ids, film, single)
    related = positives.pairs(identities, identities).related
    for i in range(samples):
        for j in range(samples):
            assert related[i, j] == (i != j and single[i] == single[j] and single[i] >= 0)

    choice = torch.tensor([0.0, 0.0, 0.0, 1.0, NAN])
    multi = choice[torch.randint(5, (samples, classes), generator=generator)]
    multi[torch.rand(samples, generator=generator) < 0.3] = NAN
    identities = positives.identities(ids, film, multi)
    related = positives.pairs(identities, identities).related
    for i in range(samples):
        for j in range(samples):
            shared = ((multi[i] == 1) & (multi[j] == 1)).any()
            clear = [not (m == 1).any() and (m == 0).any() for m in (multi[i], multi[j])]
            assert related[i, j] == (i != j and bool(shared or all(clear)))


def test_empty_slots_have_no_label():
    positives = Positives("label")
    identities = positives.identities(["a", "b"], torch.arange(2), torch.zeros(2, dtype=torch.int64))
    pairs = positives.pairs(torch.cat([identities, EMPTY]), torch.cat([EMPTY, identities]))
    assert pairs.related.nonzero().tolist() == [[0, 2], [1, 1]]
    assert pairs.same.nonzero().tolist() == [[0, 1], [1, 2]]


def test_label_bits_are_as_documented_and_left_out_where_they_are_not_used():
    ids, film = ["a", "b", "c"], torch.tensor([4, 5, 6])
    assert Positives("label").identities(ids, film, torch.tensor([0, 61, -1]))[:, 2].tolist() == [1, 2**61, 0]
    beyond = Positives("label").identities(["a"], film[:1].to("meta"), torch.tensor([62], device="meta"))
    assert beyond.device.type == "meta"  # nothing asked the device for a value
    multi = torch.tensor([[1.0, NAN, 1.0], [0, 0, NAN], [NAN, NAN, NAN]])
    assert Positives("label").identities(ids, film, multi)[:, 2].tolist() == [0b101, 0b1000, 0]
    assert Positives("none").identities(ids, film, multi).tolist() == [[4, -1, 0], [5, -1, 0], [6, -1, 0]]


def test_labels_out_of_reach_are_refused():
    positives, film = Positives("label"), torch.arange(2)
    with pytest.raises(ConfigurationError, match="needs labels"):
        positives.identities(["a", "b"], film, None)
    with pytest.raises(ConfigurationError, match="up to 62"):
        positives.identities(["a", "b"], film, torch.tensor([0, 62]))
    with pytest.raises(ConfigurationError, match="have 63"):
        positives.identities(["a", "b"], film, torch.zeros(2, 63))
    with pytest.raises(ValueError, match="float32"):
        positives.identities(["a", "b"], film, torch.zeros(2))
    with pytest.raises(ValueError, match="a label for each"):
        positives.identities(["a", "b"], film, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="a film number"):
        positives.identities(["a"], film, None)


@pytest.mark.parametrize("mode", ["gaze", "shuffled"])
def test_asking_for_pairs_before_there_are_relations_is_refused(mode):
    with pytest.raises(ConfigurationError, match="none were set"):
        Positives(mode).pairs(EMPTY, EMPTY)
    with pytest.raises(ConfigurationError, match="none were set"):
        Positives(mode).identities(["a"], torch.zeros(1, dtype=torch.int64), None)
    assert Positives(mode).needs_relations


def test_unknown_options_are_refused():
    with pytest.raises(ConfigurationError, match="positives is 'eyes'"):
        Positives("eyes")
    for wrong in (-0.1, 1.1, NAN):
        with pytest.raises(ConfigurationError, match="drop_prob"):
            Positives("gaze", drop_prob=wrong)


def everything_related(n, drop_prob):
    """``n`` films of one class: all pairs are related."""
    positives = Positives("label", drop_prob=drop_prob)
    return positives, torch.stack([torch.arange(n) * 3, torch.full((n,), -1), torch.ones(n, dtype=torch.int64)], dim=1)


@pytest.mark.parametrize("drop_prob", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_share_of_dropped_pairs_is_the_probability_and_steps_are_independent(drop_prob):
    positives, identities = everything_related(300, drop_prob)
    upper = torch.ones(300, 300).triu(1).bool()
    kept = [positives.pairs(identities, identities, step).related[upper].double() for step in (0, 1, 2**40)]
    number, variance = len(kept[0]), drop_prob * (1 - drop_prob)
    for one in kept:
        assert abs(one.mean().item() - (1 - drop_prob)) <= 5 * (variance / number) ** 0.5
    for one, other in ((kept[0], kept[1]), (kept[0], kept[2])):
        covariance = ((one - one.mean()) * (other - other.mean())).mean().item()
        assert abs(covariance) <= 5 * variance / number**0.5


def test_dropping_is_independent_between_pairs_of_one_film():
    positives, identities = everything_related(300, 0.5)
    related = positives.pairs(identities, identities, 5).related.double().fill_diagonal_(0.5)
    kept = related.sum(dim=1) / 300  # of each film: mean 1/2, standard deviation 1/2 / sqrt(300)
    assert 0.8 < kept.std().item() / (0.5 / 300**0.5) < 1.2
    shifted = ((related[:, 1:] - 0.5) * (related[:, :-1] - 0.5)).mean().item()
    assert abs(shifted) < 5 * 0.25 / 300


def test_the_same_film_is_never_dropped():
    positives = Positives("label", drop_prob=1.0)
    identities = torch.tensor([[4, -1, 1], [4, -1, 1], [5, -1, 1]])
    pairs = positives.pairs(identities, identities)
    assert pairs.same.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert not pairs.related.any()


def test_what_is_dropped_depends_on_the_two_films_and_the_step_alone():
    positives, identities = everything_related(40, 0.5)
    whole = positives.pairs(identities, identities, step=3).related
    assert torch.equal(whole, whole.T)
    assert torch.equal(positives.pairs(identities[5:9], identities[20:], step=3).related, whole[5:9, 20:])
    assert not torch.equal(positives.pairs(identities, identities, step=4).related, whole)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**40))
def test_dropping_is_by_splitmix64(film, other, step):
    def mixed(x):
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    other += film == other
    number = mixed((mixed(film) + mixed(other) + mixed(step)) % 2**64) % 2**31
    a, b = torch.tensor([[film, -1, 1]]), torch.tensor([[other, -1, 1]])
    for drop_prob in (0.3, 0.7):
        kept = Positives("label", drop_prob).pairs(a, b, step).related.item()
        assert kept == (number >= drop_prob * 2**31)


def test_relations_move_with_the_module_and_stay_out_of_the_checkpoint():
    _, relations = matrix()
    positives = with_relations(relations)
    assert not list(positives.parameters())
    assert not positives.state_dict()
    assert {b.device.type for b in positives.to("meta").buffers()} == {"meta"}
    positives.set_relations(relations)
    assert {b.device.type for b in positives.buffers()} == {"meta"}


def test_the_relations_that_are_learnt_from_are_returned():
    _, relations = matrix()
    assert Positives("gaze").set_relations(relations) is relations
    assert Positives("none").set_relations(relations) is relations
    shuffled = Positives("shuffled", seed=5)
    learnt = shuffled.set_relations(relations)
    assert learnt.ids != relations.ids
    assert sorted(learnt.ids) == sorted(relations.ids)
    # what is returned is what pairs come from
    identities = shuffled.identities(relations.ids, torch.arange(len(relations)), None)
    order = [learnt.ids.index(name) for name in relations.ids]
    expected = torch.from_numpy(learnt.dense()[np.ix_(order, order)]) & ~torch.eye(len(relations), dtype=torch.bool)
    assert torch.equal(shuffled.pairs(identities, identities).related, expected)
    assert expected.any()


def test_the_shuffled_control_has_nearly_as_many_pairs_as_gaze_where_films_have_several_readings():
    n, readings = 1000, 5
    film = torch.arange(n) // readings
    generator = np.random.default_rng(0)
    place = generator.normal(size=(n // readings, 2)).repeat(readings, axis=0) + 0.3 * generator.normal(size=(n, 2))
    similarity = np.exp(-np.linalg.norm(place[:, None] - place[None], axis=2)).astype(np.float32)
    similarity = np.where(film[:, None] == film[None], 0, similarity)  # same films are positives anyway
    ids = tuple(f"reading{i}" for i in range(n))
    relations = RelationMatrix.of(ids, np.ones(n, dtype=bool), similarity, float(np.quantile(similarity, 0.95)))
    pairs = {}
    for mode in ("gaze", "shuffled"):
        positives = with_relations(relations, mode)
        identities = positives.identities(ids, film, None)
        same, related = positives.pairs(identities, identities)
        assert not (same & related).any()
        pairs[mode] = int(related.sum())
    assert pairs["gaze"] == len(relations.indices)
    assert 0.99 * pairs["gaze"] <= pairs["shuffled"] < pairs["gaze"]  # what fell on two readings of one film is gone


def test_other_relations_replace_the_first():
    _, first = matrix(seed=0)
    _, second = matrix(n=11, seed=1, invalid=0)
    positives = with_relations(first)
    positives.set_relations(second)
    identities = positives.identities(second.ids, torch.arange(11), None)
    expected = torch.from_numpy(second.dense()) & ~torch.eye(11, dtype=torch.bool)
    assert torch.equal(positives.pairs(identities, identities).related, expected)
