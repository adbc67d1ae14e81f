"""Mean film, structure, coverage and mean gaze of the training part, against slow literal versions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_modules.film_statistics import evenly_spaced, film_statistics
from data_modules.references import place_on_films
from data_modules.training_gaze import mean_on_films
from data_modules.training_mean import MeanMap
from tests.made_up_table import MadeUpDataModule, make_table, with_readers

H, W = 24, 20


class Films(list):
    """Films in memory, which `film_statistics` reads like those of a cache."""


def literal(films, boxes):
    """Mean, structure and coverage, film by film and pixel by pixel."""
    share = np.zeros((len(films), H, W))
    for n, (x0, y0, x1, y1) in enumerate(boxes):
        for y in range(H):
            for x in range(W):
                share[n, y, x] = max(0, min(x1, x + 1) - max(x0, x)) * max(0, min(y1, y + 1) - max(y0, y))
    covered = share.mean(axis=0)
    region = [(y, x) for y in range(H) for x in range(W) if covered[y, x] >= 0.5]
    common = [
        np.mean([film[y, x] for film, of in zip(films, share, strict=True) if of[y, x] >= 0.5]) for y, x in region
    ]
    own = [np.std([film[at] for at in region if of[at] >= 0.5]) for film, of in zip(films, share, strict=True)]
    return sum(film / 255 for film in films) / len(films), np.std(common) / np.mean(own), covered


def test_statistics_are_the_literal_ones():
    generator = np.random.default_rng(0)
    films = Films(generator.integers(0, 256, (9, H, W), dtype=np.uint8))
    low, high = generator.uniform(-4, 8, (9, 2)), generator.uniform(12, 28, (9, 2))
    boxes = np.concatenate([low, high], axis=1)
    chosen = np.array([0, 2, 3, 4, 8])
    found = film_statistics(films, chosen, boxes[chosen])
    mean, structure, covered = literal([films[n] for n in chosen], boxes[chosen])
    np.testing.assert_allclose(found.mean, mean, atol=1e-6)
    np.testing.assert_allclose(found.coverage, covered, atol=1e-6)
    assert found.structure == pytest.approx(structure, rel=1e-9)
    assert found.n == 5
    assert found.mean.dtype == found.coverage.dtype == torch.float32


def test_structure_is_one_for_equal_films_and_near_zero_for_unrelated_ones_padded_or_not():
    generator = np.random.default_rng(1)
    noise = generator.integers(0, 256, (400, H, W), dtype=np.uint8)
    whole = np.tile([0.0, 0.0, W, H], (400, 1))
    every = np.arange(400)
    assert film_statistics(Films([noise[0]] * 400), every, whole).structure == pytest.approx(1)
    assert film_statistics(Films(noise), every, whole).structure == pytest.approx(1 / 20, rel=0.1)
    noise[:, :, :5] = noise[:, :, -5:] = 0
    narrow = np.tile([5.0, 0.0, W - 5, H], (400, 1))
    assert film_statistics(Films(noise), every, narrow).structure == pytest.approx(1 / 20, rel=0.1)


def of_two_shapes(n=400, share=0.45):
    """Films of noise, brighter than their padding: portrait, and so many landscape ones; with their boxes."""
    generator = np.random.default_rng(2)
    films = generator.integers(0, 256, (n, H, W), dtype=np.uint8)
    boxes = np.tile([4, 0, W - 4, H], (n, 1))
    boxes[: round(share * n)] = [0, 5, W, H - 5]
    for film, (x0, y0, x1, y1) in zip(films, boxes, strict=True):
        film[:y0], film[y1:], film[:, :x0], film[:, x1:] = 0, 0, 0, 0
    return Films(films), boxes.astype(np.float64)


@pytest.mark.parametrize("share", [0.3, 0.45, 0.5, 0.8])
def test_padding_of_films_of_two_shapes_is_no_structure(share):
    films, boxes = of_two_shapes(share=share)
    found = film_statistics(films, np.arange(len(films)), boxes)
    mean, structure, covered = literal(films[::4], boxes[::4])
    some = film_statistics(films, np.arange(len(films))[::4], boxes[::4])
    np.testing.assert_allclose(some.mean, mean, atol=1e-6)
    np.testing.assert_allclose(some.coverage, covered, atol=1e-6)
    assert some.structure == pytest.approx(structure, rel=1e-9)
    inside = found.coverage.numpy() >= 0.5
    with_padding = found.mean.numpy()[inside].std() / np.mean([film[inside].std() / 255 for film in films])
    assert found.structure < 0.1
    assert with_padding > found.structure + 0.1, "the plain mean film would pass for structured"


def test_the_structure_of_films_of_one_shape_is_that_of_the_mean_film():
    films = np.random.default_rng(3).integers(0, 256, (30, H, W), dtype=np.uint8)
    for left in (0.0, 3.0, 3.25, 3.5, 3.75):
        found = film_statistics(Films(films), np.arange(30), np.tile([left, 1.5, W - left, H - 1.5], (30, 1)))
        inside = found.coverage.numpy() >= 0.5
        mean = films.mean(axis=0)[inside]
        assert found.structure == pytest.approx(mean.std() / films[:, inside].std(axis=1).mean(), rel=1e-12)


def test_films_without_contrast_have_no_structure():
    films = Films(np.stack([np.full((H, W), value, np.uint8) for value in (3, 200)]))
    assert film_statistics(films, np.arange(2), np.tile([0.0, 0.0, W, H], (2, 1))).structure == 0


@pytest.mark.parametrize(("n", "most"), [(1, 4), (4, 4), (5, 4), (23, 4), (4097, 4096)])
def test_films_are_evenly_spaced(n, most):
    films = np.arange(n) * 3
    found = evenly_spaced(films, most)
    assert len(found) == min(n, most)
    assert found[0] == 0
    steps = np.diff(found // 3)
    assert not len(steps) or 1 <= steps.min() <= steps.max() <= steps.min() + 1
    assert n - found[-1] // 3 <= -(-n // most)


@pytest.fixture
def module(tmp_path):
    def build(augmentation="none", **options):
        table = with_readers(make_table(tmp_path / "films", 40))
        built = MadeUpDataModule(table, tmp_path / "cache", augmentation=augmentation, **options)
        built.prepare_data()
        built.setup("fit")
        return built

    return build


def test_the_module_averages_its_training_films(module):
    built = module("strong")
    found = built.film_statistics()
    films = torch.cat(list(built.training_films(None, 0).blocks(50)))
    assert found.n == len(films)
    torch.testing.assert_close(found.mean, films[:, 0].double().mean(0).float() / 255)
    plain = module()
    train = plain._datasets["train"]
    boxes = {int(film): train[n]["film_box"] for n, film in enumerate(train.films)}
    rows, columns = np.arange(48), np.arange(40)
    covered = 0
    for x0, y0, x1, y1 in boxes.values():
        down = np.clip(np.minimum(y1, rows + 1) - np.maximum(y0, rows), 0, None)
        covered = covered + down[:, None] * np.clip(np.minimum(x1, columns + 1) - np.maximum(x0, columns), 0, None)
    np.testing.assert_allclose(found.coverage, covered / len(boxes), atol=1e-5)
    assert 0 < found.coverage[0, 0] < 1, "some films are padded"


def test_both_means_are_computed_once_for_a_split(module, monkeypatch):
    built = module()
    statistics, gaze = built.film_statistics(), built.mean_training_gaze()
    with monkeypatch.context() as patched:
        patched.setattr("data_modules.training_part.film_statistics", lambda *_: pytest.fail("films were read again"))
        patched.setattr("data_modules.training_part.mean_on_films", lambda *_: pytest.fail("the mean was placed again"))
        assert built.film_statistics() is statistics
        assert built.mean_training_gaze() is gaze
    built.made_up.frame["split"] = (
        built.made_up.frame["split"].map({"train": "test", "test": "train"}).fillna("validate")
    )
    built._arrange(True)
    assert not torch.equal(built.film_statistics().mean, statistics.mean)
    assert not torch.equal(built.mean_training_gaze(), gaze)


def test_a_flat_map_on_padded_films_is_their_coverage():
    mean = MeanMap(torch.full((6, 5), 1 / 30), 0.0, 0.0)
    boxes = np.array([[0.0, 0, W, H], [0, 2, W, H - 2], [0, 2, W, H - 2]])
    expected = np.zeros((H, W))
    for x0, y0, x1, y1 in boxes:
        expected[int(y0) : int(y1), int(x0) : int(x1)] += 1 / ((y1 - y0) * (x1 - x0)) / 3
    np.testing.assert_allclose(mean_on_films(mean, boxes, (H, W)), expected, rtol=1e-5)


def test_many_boxes_are_placed_block_by_block():
    generator = np.random.default_rng(0)
    mean = MeanMap(torch.rand(6, 5, generator=torch.Generator().manual_seed(0)), 0.5, 0.2)
    low = generator.uniform(-3, 5, (150, 2))
    boxes = np.concatenate([low, low + generator.uniform(5, 15, (150, 2))], axis=1)
    one_by_one = sum(mean_on_films(mean, box[None], (H, W)).double() for box in boxes) / 150
    torch.testing.assert_close(mean_on_films(mean, boxes, (H, W)).double(), one_by_one, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("source", ["own", "shuffled", "mean"])
def test_mean_gaze_is_that_of_the_readings_own_maps(module, source):
    found = module(gaze_source=source, saliency_size=(48, 40)).mean_training_gaze()
    assert found.shape == (48, 40)
    assert found.sum() == pytest.approx(1, abs=1e-5)
    built = module(saliency_size=(48, 40), batch_size=1)
    batches = [built.on_after_batch_transfer(batch, 0) for batch in built.train_dataloader()]
    batches = [batch for batch in batches if batch["fixation_mask"].any()]
    assert len(batches) == built.with_gaze("train")
    mean = built._training_mean.map
    placed = [place_on_films(mean, batch["film_box"], (48, 40), (48, 40))[0, 0] for batch in batches]
    torch.testing.assert_close(found, torch.stack(placed).mean(0), rtol=1e-4, atol=1e-8)
    literal_mean = torch.stack([batch["saliency"][0, 0] for batch in batches]).mean(0)
    correlation = np.corrcoef(found.flatten(), literal_mean.flatten())[0, 1]
    assert correlation > 0.95, "films of two shapes are averaged in fractions of the film, not in pixels"


def test_mean_gaze_of_films_of_one_shape_is_the_mean_of_their_maps(tmp_path):
    table = with_readers(make_table(tmp_path / "films", 40))
    portrait = (table.frame["height"] > table.frame["width"]).to_numpy()
    table = replace(table, frame=table.frame[portrait].reset_index(drop=True), labels=table.labels[portrait])
    built = MadeUpDataModule(table, tmp_path / "cache", saliency_size=(48, 40), batch_size=1)
    built.prepare_data()
    built.setup("fit")
    batches = [built.on_after_batch_transfer(batch, 0) for batch in built.train_dataloader()]
    maps = [batch["saliency"][0, 0] for batch in batches if batch["has_gaze"].item()]
    torch.testing.assert_close(built.mean_training_gaze(), torch.stack(maps).mean(0), rtol=1e-3, atol=1e-7)


def test_films_of_the_test_part_have_no_say_in_the_mean_gaze(tmp_path):
    table = with_readers(make_table(tmp_path / "films", 40))
    portrait = (table.frame["height"] > table.frame["width"]).to_numpy()
    tested = (table.frame["split"] == "test").to_numpy()
    means = []
    for kept in (portrait | tested, portrait & ~tested):
        part = replace(table, frame=table.frame[kept].reset_index(drop=True), labels=table.labels[kept])
        built = MadeUpDataModule(part, tmp_path / "cache")
        built.prepare_data()
        built.setup("fit")
        means.append((built.mean_training_gaze(), built._training_mean.map))
    assert torch.equal(means[0][0], means[1][0])
    (_, wide), (_, narrow) = means
    assert wide.margin_y > narrow.margin_y == 0, "mean_saliency still reaches as far as the films of the test need it"


def test_without_gaze_there_is_no_mean_gaze(tmp_path):
    table = make_table(tmp_path / "films", 40)
    table.fixations.clear()
    built = MadeUpDataModule(table, tmp_path / "cache")
    built.prepare_data()
    built.setup("fit")
    assert built.mean_training_gaze() is None
