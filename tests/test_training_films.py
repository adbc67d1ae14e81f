"""Films that a task is shown: drawn in balance, once each, from the training part only, as the cache holds them."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.errors import DataError
from data_modules.training_films import DrawnFilms, draw_balanced
from gaze_lightning.protocols import OffersTrainingFilms, TrainingFilms
from tests.made_up_table import MadeUpDataModule, make_table, with_readers

CLASSES = {"single": st.integers(0, 3), "multi": st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=3, max_size=3)}


@pytest.fixture
def module(tmp_path):
    def build(label_type="single", readers=True, labels=True, **options):
        table = make_table(tmp_path / "films", 40, label_type=label_type)
        table = with_readers(table) if readers else table
        if not labels:
            object.__setattr__(table, "labels", None)
            object.__setattr__(table, "class_names", ())
        built = MadeUpDataModule(table, tmp_path / "cache", **options)
        built.prepare_data()
        built.setup("fit")
        return built

    return build


@given(labels=st.lists(CLASSES["single"], min_size=1, max_size=40), n=st.integers(1, 45), seed=st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_classes_differ_by_one_film_at_most_unless_one_is_used_up(labels, n, seed):
    values = np.array(labels)
    drawn = draw_balanced(values, n, seed)
    assert len(set(drawn.tolist())) == len(drawn) == min(n, len(values))
    assert drawn.tolist() == sorted(drawn.tolist())
    there, counts = Counter(labels), Counter(values[drawn].tolist())
    most = max(counts.values())
    assert all(counts[value] >= most - 1 or counts[value] == there[value] for value in there)


@given(labels=st.lists(CLASSES["multi"], min_size=1, max_size=30), n=st.integers(1, 35), seed=st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_multi_label_draw_is_the_literal_one(labels, n, seed):
    values = np.array(labels, dtype=np.float32)
    drawn = draw_balanced(values, n, seed).tolist()
    assert drawn == sorted(literal(values, n, seed))
    assert len(drawn) == min(n, len(labels))
    assert set(drawn) <= set(draw_balanced(values, n + 1, seed).tolist())


def literal(values, n, seed):
    """Every turn anew: the next class in turn takes the first of its films, in its own order, that is still there."""
    if n >= len(values):
        return list(range(len(values)))
    generator = np.random.default_rng(seed)
    members = [[i for i, row in enumerate(values) if row[k] == 1] for k in range(values.shape[1])]
    members.append([i for i, row in enumerate(values) if not any(value == 1 for value in row)])
    members = [generator.permutation(np.array(films, dtype=np.int64)).tolist() for films in members]
    order, drawn, turn = generator.permutation(len(members)).tolist(), [], 0
    while len(drawn) < n:
        left = [film for film in members[order[turn % len(order)]] if film not in drawn]
        drawn += left[:1]
        turn += 1
    return drawn


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    labels = np.resize(np.arange(3), 300)
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    draws = [draw_balanced(labels, 30, seed).tolist() for seed in (0, 0, 1)]
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    assert draws[0] == draws[1] != draws[2]


def test_a_film_that_is_not_known_to_show_anything_counts_as_none_of_them():
    labels = np.array([[1, 0]] * 10 + [[0, 1]] * 10 + [[np.nan, 0]] * 10, dtype=np.float32)
    assert np.bincount(draw_balanced(labels, 9, 3) // 10).tolist() == [3, 3, 3]


def test_alike_labels_are_drawn_uniformly():
    counts = np.zeros(10)
    for seed in range(2000):
        counts[draw_balanced(np.zeros(10, np.int64), 3, seed)] += 1
    assert np.abs(counts / 2000 - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / 2000)


@pytest.mark.parametrize("n", [0, -3])
def test_no_films_are_not_to_be_drawn(n):
    with pytest.raises(ValueError, match="positive"):
        draw_balanced(np.zeros(4, np.int64), n, 0)


@pytest.mark.parametrize("label_type", ["single", "multi"])
def test_films_are_those_of_the_training_part_once_each_with_their_first_label(module, label_type):
    built = module(label_type)
    assert isinstance(built, OffersTrainingFilms)
    frame = built.readings
    train = frame[frame["split"] == "train"].drop_duplicates("image_path")
    assert len(train) < (frame["split"] == "train").sum(), "films have several readings"
    films: TrainingFilms = built.training_films(None, 0)
    assert list(films.sample_ids) == train["sample_id"].tolist()
    table = built.table()
    row = {name: n for n, name in enumerate(table.frame["sample_id"])}
    labels = table.labels[[row[name] for name in films.sample_ids]]
    shown = [(labels == k).sum() if label_type == "single" else (labels[:, k] == 1).sum() for k in range(2)]
    assert films.class_counts == {"a": shown[0], "b": shown[1]}
    few = built.training_films(6, 5)
    assert len(few) == len(few.sample_ids) == 6
    assert set(few.sample_ids) <= set(films.sample_ids)
    if label_type == "single":
        assert few.class_counts == {"a": 3, "b": 3}


def test_pixels_are_those_of_the_cache_whatever_the_augmentation_and_the_block(module):
    built = module(augmentation="strong")
    films = built.training_films(7, 1)
    whole = torch.cat(list(films.blocks(100)))
    assert whole.dtype == torch.uint8
    assert whole.shape == (7, 1, *built.image_size)
    blocks = list(films.blocks(3))
    assert [len(block) for block in blocks] == [3, 3, 1]
    assert torch.equal(torch.cat(blocks), whole)
    assert torch.equal(torch.cat(list(films.blocks(2))), whole), "blocks can be asked for again"
    plain = module()
    film_of = dict(zip(plain._datasets["train"].sample_ids, range(10**6), strict=False))
    for name, film in zip(films.sample_ids, whole, strict=True):
        assert np.array_equal(plain._datasets["train"][film_of[name]]["image"], film.numpy())
    with pytest.raises(ValueError, match="at least one"):
        next(films.blocks(0))


def test_the_digest_tells_films_and_their_order(module):
    built = module()
    films = built.training_films(6, 0)
    assert films.digest == built.training_films(6, 0).digest
    assert len({films.digest, built.training_films(6, 1).digest, built.training_films(7, 0).digest}) == 3
    other = DrawnFilms(films.cache, films.films[::-1], films.sample_ids[::-1], films.class_counts)
    assert other.digest != films.digest
    assert module(image_size=(40, 48)).training_films(6, 0).digest != films.digest


def test_without_labels_there_are_films_and_no_counts(module):
    films = module(labels=False).training_films(5, 0)
    assert len(films) == 5
    assert films.class_counts == {}


def test_a_module_without_a_training_part_says_so(tmp_path):
    table = make_table(tmp_path / "films", 20)
    table.frame["split"] = "test"
    built = MadeUpDataModule(table, tmp_path / "cache")
    built.prepare_data()
    built.setup("test")
    with pytest.raises(DataError, match="no films"):
        built.training_films(4, 0)
    assert built.film_statistics() is None
    assert built.mean_training_gaze() is None
