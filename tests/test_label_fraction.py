"""A share of the training patients trains; everything else stays as it is."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.errors import DataError
from data_modules.readings import ReadingTable
from data_modules.samplers import TrainingSampler
from data_modules.splits import keep_fraction
from tests.made_up_table import MadeUpDataModule, make_table, with_readers


def table_of(subjects, labels, label_type="single"):
    n = len(subjects)
    frame = pd.DataFrame({"sample_id": [f"s{i}" for i in range(n)], "subject": [f"p{s}" for s in subjects]})
    frame["source_row"] = "row"
    return ReadingTable(frame, labels, ("a", "b", "c"), label_type, {})


@st.composite
def tables(draw):
    n = draw(st.integers(1, 60))
    subjects = draw(st.lists(st.integers(0, 25), min_size=n, max_size=n))
    if draw(st.booleans()):
        labels = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), dtype=np.int64)
        table = table_of(subjects, labels)
    else:
        values = draw(st.lists(st.sampled_from([0.0, 0.0, 1.0, np.nan]), min_size=3 * n, max_size=3 * n))
        table = table_of(subjects, np.array(values, dtype=np.float32).reshape(n, 3), "multi")
    part_of = draw(st.lists(st.sampled_from(["train", "train", "validate", "test", ""]), min_size=26, max_size=26))
    return table, np.array([part_of[subject] for subject in subjects])


def shown(table, rows):
    """Classes that these rows show."""
    labels = table.labels[rows]
    return set(labels.tolist()) if labels.ndim == 1 else set(np.flatnonzero((labels == 1).any(axis=0)).tolist())


@given(case=tables(), seed=st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_smaller_shares_lie_within_larger_ones_and_every_class_keeps_a_patient(case, seed):
    table, parts = case
    subjects = table.frame["subject"].to_numpy()
    before: set[str] = set()
    for fraction in (0.01, 0.1, 0.3, 0.5, 0.9, 1.0):
        kept, removed = keep_fraction(table, parts, fraction, seed)
        assert (kept[parts != "train"] == parts[parts != "train"]).all()
        assert set(kept[parts == "train"]) <= {"train", ""}
        assert removed == ((parts == "train") & (kept == "")).sum()
        patients = set(subjects[kept == "train"])
        assert not patients & set(subjects[(parts == "train") & (kept == "")]), "whole patients"
        assert before <= patients
        assert shown(table, kept == "train") == shown(table, parts == "train")
        before = patients
    assert before == set(subjects[parts == "train"])


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.25, 0.5])
def test_classes_keep_their_shares(fraction):
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [600, 300, 100]).astype(np.int64)
    order = generator.permutation(1000)
    table = table_of(order, labels)
    kept, removed = keep_fraction(table, np.full(1000, "train"), fraction, 0)
    assert np.bincount(labels[kept == "train"]).tolist() == [600 * fraction, 300 * fraction, 100 * fraction]
    assert removed == 1000 - 1000 * fraction
    shuffled = generator.permutation(1000)
    other = table_of(order[shuffled], labels[shuffled])
    again, _ = keep_fraction(other, np.full(1000, "train"), fraction, 0)
    np.testing.assert_array_equal(again, kept[shuffled])
    different, _ = keep_fraction(table, np.full(1000, "train"), fraction, 1)
    assert (different != kept).any()


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, float("nan")])
def test_impossible_fractions_are_refused(fraction, tmp_path):
    with pytest.raises(DataError, match="label_fraction must be above 0 and at most 1"):
        MadeUpDataModule(make_table(tmp_path, 4), tmp_path, label_fraction=fraction)
    with pytest.raises(DataError, match="label_fraction"):
        keep_fraction(table_of([0], np.zeros(1, np.int64)), np.array(["train"]), fraction, 0)


@given(
    n=st.integers(1, 12), draws=st.integers(1, 60), world=st.integers(1, 4), epoch=st.integers(0, 3),
    grouped=st.booleans(),
)  # fmt: skip
@settings(deadline=None)
def test_an_epoch_of_more_draws_repeats_readings_evenly(n, draws, world, epoch, grouped):
    films = np.random.default_rng(n).integers(0, 1 + n // 2, n) if grouped else None
    ranks = []
    for rank in range(world):
        sampler = TrainingSampler(range(n), 1, world, rank, groups=films, draws=draws)
        sampler.set_epoch(epoch)
        ranks.append([index for _, index in sampler])
        assert len(ranks[-1]) == len(sampler) == -(-draws // world)
    order = np.array([index for step in zip(*ranks, strict=True) for index in step])[:draws]
    groups = np.arange(n) if films is None else np.unique(films, return_inverse=True)[1]
    counts = np.bincount(groups[order])
    assert counts.sum() == draws
    counts = np.bincount(groups[order], minlength=groups.max() + 1)
    assert counts.max() - counts.min() <= 1
    expected = draws / len(counts) / np.bincount(groups)[groups]
    assert (np.abs(np.bincount(order, minlength=n) - expected) < 1 + 1e-9).all()


def test_as_many_draws_as_readings_are_the_order_without_them():
    orders = [list(TrainingSampler(range(20), 3, draws=draws)) for draws in (None, 20)]
    assert orders[0] == orders[1]
    with pytest.raises(ValueError, match="draws must be positive"):
        TrainingSampler(range(20), 3, draws=0)


class OneReaderPerFilm(MadeUpDataModule):
    reader_policy = "random_reader"


@pytest.fixture
def module(tmp_path):
    def build(kind=MadeUpDataModule, readers=True, **options):
        table = make_table(tmp_path / "films", 40)
        built = kind(with_readers(table) if readers else table, tmp_path / "cache", **options)
        built.prepare_data()
        built.setup("fit")
        return built

    return build


@pytest.mark.parametrize("kind", [MadeUpDataModule, OneReaderPerFilm])
@pytest.mark.parametrize("sampling", ["shuffled", "class_balanced", "gaze_balanced"])
def test_epochs_are_as_long_as_with_everybody(module, kind, sampling):
    whole, part = (module(kind, sampling=sampling, label_fraction=fraction) for fraction in (1.0, 0.3))
    assert len(whole.train_dataloader()) == len(part.train_dataloader())
    assert len(whole.train_dataloader().sampler) == len(part.train_dataloader().sampler)
    seen = {name for batch in part.train_dataloader() for name in batch["subject"]}
    assert seen <= part.patients("train") < whole.patients("train")
    for name in ("validate", "test"):
        assert part.patients(name) == whole.patients(name)
        first, second = (built.readings[built.readings["split"] == name] for built in (whole, part))
        assert first["sample_id"].tolist() == second["sample_id"].tolist()


def test_ranks_take_equally_many_steps_of_a_share(module, monkeypatch):
    built, steps = module(label_fraction=0.2, batch_size=3), []
    for rank in range(3):
        monkeypatch.setattr(built, "_place", lambda rank=rank: (rank, 3))
        steps.append(len(list(built.train_dataloader())))
    whole = module(batch_size=3)
    monkeypatch.setattr(whole, "_place", lambda: (0, 3))
    assert set(steps) == {len(whole.train_dataloader())}


def test_who_is_left_out_is_counted_and_printed(module, caplog):
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        built = module(label_fraction=0.3)
    reason = "training readings beyond label_fraction 0.3"
    whole = module()
    count = len(whole.readings) - len(built.readings)
    assert built.excluded["readings"][reason] == count > 0
    assert f"{reason} {count}" in caplog.text
    assert not any(reason.split(" 0")[0] in text for text in whole.excluded["readings"])
    assert not any(subject in caplog.text for subject in whole.readings["subject"])


def test_the_split_seed_decides_and_not_the_seed(module):
    first = module(label_fraction=0.3)
    assert module(label_fraction=0.3, seed=5).patients("train") == first.patients("train")
    assert module(label_fraction=0.3, split_seed=5).patients("train") != first.patients("train")
    assert first.fingerprint() != module().fingerprint()


def test_what_is_known_of_training_is_known_of_the_share_only(module):
    built = module(label_fraction=0.3)
    trains = set(built.readings.loc[built.readings["split"] == "train", "sample_id"])
    assert set(built.training_gaze().sample_ids) <= trains
    assert set(built.training_films(None, 0).sample_ids) <= trains
    found = {name for batch in built.reference_loader("train", None) for name in batch["sample_id"]}
    assert found <= trains


def test_a_share_of_readings_with_gaze_can_be_shuffled(module):
    built = module(label_fraction=0.5, gaze_source="shuffled")
    assert built.with_gaze("train") > 0


def test_data_without_labels_have_shares_of_all_patients(tmp_path):
    table = replace(make_table(tmp_path / "films", 40), labels=None, class_names=())
    parts = np.asarray(table.frame["split"], dtype=str)
    kept, _ = keep_fraction(table, parts, 0.5, 0)
    before, after = (table.frame["subject"][own == "train"].nunique() for own in (parts, kept))
    assert after == int(before / 2 + 0.5)
