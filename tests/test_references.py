"""What test batches carry beside the reader's own map: the mean training map and the other readers' mean."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules import references, training_mean
from data_modules.geometry import FilmFit
from data_modules.references import mean_of_others, place_on_films
from data_modules.training_mean import MeanMap
from gaze_lightning.gaze import render_saliency
from gaze_lightning.metrics.functional import correlation_coefficient, saliency_kl
from tests.made_up_table import MadeUpDataModule, make_table, with_readers

GRID = (12, 10)
LOADERS = {"train": "train_dataloader", "validate": "val_dataloader", "test": "test_dataloader"}


@pytest.fixture
def module(tmp_path):
    def build(visible=False, several=True, table=None, **options):
        readers = options.pop("readers", "separate")
        if table is None:
            table = make_table(tmp_path / "films", 30, visible=visible)
            table = with_readers(table, visible) if several else table
        built = MadeUpDataModule(table, tmp_path / "cache", **options)
        built.reader_policy = readers
        built.prepare_data()
        built.setup("fit")
        return built

    return build


def batches(built, part):
    return [built.on_after_batch_transfer(batch, 0) for batch in getattr(built, LOADERS[part])()]


def gather(built, part, key):
    """Sample id -> its map."""
    return {
        name: value[0]
        for batch in batches(built, part)
        for name, value in zip(batch["sample_id"], batch[key].double().numpy(), strict=True)
    }


@pytest.mark.parametrize("options", [{}, {"visible": True, "gaze_weight": "density"}, {"readers": "random_reader"}])
def test_other_saliency_is_the_literal_mean_of_the_other_readers_maps(module, options):
    built = module(**options)
    own, other = gather(built, "test", "saliency"), gather(built, "test", "other_saliency")
    film = dict(zip(built.readings["sample_id"], built.readings["image_id"], strict=True))
    some = none = 0
    for name, found in other.items():
        maps = [own[n] for n in own if film[n] == film[name] and n != name and own[n].any()]
        wanted = np.mean(maps, axis=0) if maps else np.zeros(GRID)
        np.testing.assert_allclose(found, wanted, atol=1e-6 * max(wanted.max(), 1))
        assert found.sum() == pytest.approx(1 if maps else 0, abs=1e-5)
        some, none = some + bool(maps), none + (not maps)
    assert some > 3
    assert none > 0


def test_readings_that_are_not_in_use_are_nobodys_other_reader(module, tmp_path):
    table = with_readers(make_table(tmp_path / "films", 20))
    test = table.frame.index[(table.frame["split"] == "test") & table.frame["sample_id"].isin(table.fixations)]
    films = table.frame.loc[test, "image_id"]
    pair = test[films == next(film for film, n in films.value_counts().items() if n == 2)]
    split = tmp_path / "split.csv"
    table.frame.drop(index=pair[0])[["sample_id", "split"]].to_csv(split, index=False)
    built = module(table=table, split="file", split_file=str(split))
    assert not gather(built, "test", "other_saliency")[table.frame.loc[pair[1], "sample_id"]].any()


def test_others_are_rendered_in_groups_of_no_more_than_the_batch(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    points = 2 + 8 * torch.rand(7, 4, 5, generator=generator)
    belongs = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1]], dtype=torch.bool)
    seen = []
    render = references.render_saliency_batch
    monkeypatch.setattr(
        references, "render_saliency_batch", lambda given, *a, **k: seen.append(len(given)) or render(given, *a, **k)
    )
    found = mean_of_others(points, torch.ones(7, 4, dtype=torch.bool), None, belongs, GRID, GRID)
    assert seen == [3, 3, 1]
    maps = render(points, torch.ones(7, 4, dtype=torch.bool), GRID)
    torch.testing.assert_close(found[0], maps[:5].mean(0))
    torch.testing.assert_close(found[2], maps[4:].mean(0))
    assert not found[1].any()


def test_a_reading_that_several_samples_of_a_batch_share_is_sent_once(module):
    raw = next(iter(module(eval_batch_size=50).test_dataloader()))["others"]
    assert raw.belongs.shape == (len(raw.belongs), len(raw.points))
    assert raw.belongs.any(dim=0).all()
    assert raw.belongs.sum() > len(raw.points), "or there is nothing to share"


def literal_mean(built, film_box, canvas, grid):
    """Mean of the training readings' maps, each rendered as if its gaze were that of the film's own reader."""
    x0, y0, x1, y1 = film_box * np.array([grid[1] / canvas[1], grid[0] / canvas[0]] * 2)
    maps = []
    rows = built.readings[built.readings["split"] == "train"]
    for name, height, width in zip(rows["sample_id"], rows["height"], rows["width"], strict=True):
        if name in built.table().fixations:
            gaze = built.table().fixations[name].affine((x1 - x0) / width, (y1 - y0) / height, x0, y0)
            weights = gaze.weights(built._weight())
            maps.append(
                render_saliency(gaze.x, gaze.y, weights, gaze.sigma_x, gaze.sigma_y, grid, visible=gaze.visible)
            )
    assert len(maps) > 5
    return np.mean(maps, axis=0)


@pytest.mark.parametrize("readers", ["separate", "mean_map"])
@pytest.mark.parametrize("canvas", [(48, 40), (40, 48)])
def test_mean_saliency_is_the_mean_of_the_training_parts_own_maps_on_the_film(module, readers, canvas):
    built = module(readers=readers, image_size=canvas, saliency_size=canvas)
    padded = set()
    for batch in batches(built, "test"):
        found = batch["mean_saliency"][:, 0]
        torch.testing.assert_close(found.sum(dim=(1, 2)), torch.ones(len(found)))
        literal = [literal_mean(built, box, canvas, canvas) for box in batch["film_box"].double().numpy()]
        wanted = torch.from_numpy(np.stack(literal))
        # readings of few fixations with sigmas of up to a sixth of the film: a map is worth another share of its mass
        # on every canvas; test_training_mean.py has what gaze looks like
        assert saliency_kl(found, wanted).max() < 0.005
        assert correlation_coefficient(found, wanted).min() > 0.97
        padded |= set((batch["film_box"][:, :2].amax(dim=1) > 1).tolist())
    assert padded == {True, False}


@pytest.mark.parametrize("source", ["shuffled", "mean"])
def test_mean_saliency_is_that_of_the_own_gaze_whatever_gaze_is_trained_with(module, source):
    own, other = (gather(module(gaze_source=name), "test", "mean_saliency") for name in ("own", source))
    assert own.keys() == other.keys()
    assert all(np.array_equal(own[name], other[name]) for name in own)


@given(
    seed=st.integers(0, 1000),
    film=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    size=st.sampled_from([(48, 40), (12, 10), (13, 7)]),
    margin=st.tuples(st.sampled_from([0.0, 0.13, 1.0]), st.sampled_from([0.0, 0.3])),
)
@settings(max_examples=30, deadline=None)
def test_placing_a_map_equals_filling_each_cell_evenly_and_counting_what_falls_where(seed, film, size, margin):
    mean = np.random.default_rng(seed).random((6, 5))
    mean /= mean.sum()
    canvas = (48, 40)
    fit = FilmFit.of(film, canvas)
    x0, y0, x1, y1 = fit.box(film)
    left, right = x0 - margin[1] * (x1 - x0), x1 + margin[1] * (x1 - x0)
    top, bottom = y0 - margin[0] * (y1 - y0), y1 + margin[0] * (y1 - y0)
    literal = np.zeros(size)
    for (row, column), value in np.ndenumerate(mean):
        above, below = (top + (bottom - top) * np.array([row, row + 1]) / 6) * size[0] / canvas[0]
        before, after = (left + (right - left) * np.array([column, column + 1]) / 5) * size[1] / canvas[1]
        for i in range(size[0]):
            for j in range(size[1]):
                down = max(0.0, min(below, i + 1) - max(above, i)) / (below - above)
                across = max(0.0, min(after, j + 1) - max(before, j)) / (after - before)
                literal[i, j] += value * down * across
    around = MeanMap(torch.from_numpy(mean), *margin)
    found = place_on_films(around, torch.tensor([[x0, y0, x1, y1]]), canvas, size)[0, 0].numpy()
    np.testing.assert_allclose(found, literal / literal.sum(), atol=3e-6)
    assert found.sum() == pytest.approx(1, abs=1e-5)


def test_references_are_in_the_test_part_only(module):
    built = module()
    keys = {"mean_saliency", "other_saliency"}
    for batch in batches(built, "test"):
        assert keys < set(batch)
        assert not {"others", "mean_map"} & set(batch)
        for key in keys:
            assert batch[key].shape == (len(batch["sample_id"]), 1, *GRID)
            assert batch[key].dtype == torch.float32
    for part in ("train", "validate"):
        assert all(not keys & set(batch) for batch in batches(built, part))
        assert all(not {"others", "mean_map"} & set(raw) for raw in getattr(built, LOADERS[part])())
    built.setup("predict")
    assert not keys & set(built.on_after_batch_transfer(next(iter(built.predict_dataloader())), 0))


def test_without_several_readers_or_any_training_gaze_the_keys_are_absent(module, tmp_path):
    for built in (module(several=False), module(readers="mean_map")):
        batch = batches(built, "test")[0]
        assert "mean_saliency" in batch
        assert "other_saliency" not in batch
    table = with_readers(make_table(tmp_path / "films", 20))
    for name, part in zip(table.frame["sample_id"], table.frame["split"], strict=True):
        if part == "train":
            table.fixations.pop(name, None)
    batch = batches(module(table=table), "test")[0]
    assert "mean_saliency" not in batch
    assert "other_saliency" in batch


def test_the_mean_map_is_made_once_and_only_for_the_test(module, monkeypatch):
    calls = []
    make = training_mean.mean_of_maps
    monkeypatch.setattr(training_mean, "mean_of_maps", lambda *a: calls.append(1) or make(*a))
    built = module()
    built.train_dataloader()
    built.val_dataloader()
    assert not calls
    for _ in range(2):
        built.test_dataloader()
    assert calls == [1]


def test_workers_bring_the_references_too(module):
    for key in ("mean_saliency", "other_saliency"):
        here, there = (gather(module(num_workers=workers), "test", key) for workers in (0, 2))
        assert here.keys() == there.keys()
        assert all(np.array_equal(here[name], there[name]) for name in here)


def test_finding_the_other_readers_of_many_readings_takes_no_time():
    n = 377_000
    films = np.arange(n) // 2
    start = time.perf_counter()
    readings = references.readings_of_films(films, np.arange(n) < 3000)
    others = references.other_gaze(np.arange(n), films, readings, list(range(n)))
    assert time.perf_counter() - start < 5
    assert others[0] == {1: 1}
    assert others[2999] == {2998: 2998}
    assert len(others) == 3000
