"""The mean map of the training readings: what it is on any film and canvas, how precisely, and what it keeps."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules import announced as announced_module
from data_modules import training_mean
from data_modules.announced import announced
from data_modules.gaze_sources import mean_map
from data_modules.geometry import FilmFit
from data_modules.references import place_on_films
from data_modules.training_mean import TrainingMean, largest_padding, mean_of_maps
from gaze_lightning.gaze import Fixations, render_saliency
from gaze_lightning.metrics.functional import correlation_coefficient, saliency_kl

FILMS = np.array([(3056, 2544), (2544, 3056), (2021, 2021), (2500, 2900)])


def reading(generator, film, n=30, sigma=0.03, spread=0.22, visible=False):
    """Gaze around the middle of the film, some of it beside it."""
    height, width = film
    x, y = (0.5 + spread * generator.standard_normal(n)) * width, (0.5 + spread * generator.standard_normal(n)) * height
    sigmas = sigma * height * generator.uniform(0.8, 1.6, (2, n))
    shown = np.stack([x - 500, y - 400, x + 400, y + 500], axis=1) if visible else None
    return Fixations(x, y, generator.uniform(0.1, 1, n), *sigmas, np.arange(n), shown)


def many(seed=0, count=60, **options):
    generator = np.random.default_rng(seed)
    sizes = FILMS[generator.integers(0, len(FILMS), count)]
    return [reading(generator, film, **options) for film in sizes.tolist()], sizes


def literal(gaze, sizes, weight, film, canvas, grid):
    """Mean of the readings' maps, each rendered as if its gaze were that of the film's own reader."""
    fit = FilmFit.of(film, canvas)
    x0, y0, x1, y1 = np.array(fit.box(film)) * np.array([grid[1] / canvas[1], grid[0] / canvas[0]] * 2)
    total = np.zeros(grid)
    for own, (height, width) in zip(gaze, sizes.tolist(), strict=True):
        on = own.affine((x1 - x0) / width, (y1 - y0) / height, x0, y0)
        total += render_saliency(on.x, on.y, on.weights(weight), on.sigma_x, on.sigma_y, grid, visible=on.visible)
    return total / total.sum()


def compare(found, wanted):
    """KL(wanted || found) and correlation."""
    p, q = (torch.as_tensor(values, dtype=torch.float64)[None] for values in (found, wanted))
    return saliency_kl(p, q).item(), correlation_coefficient(p, q).item()


@pytest.mark.parametrize("canvas", [(160, 128), (128, 160), (128, 128)])
@pytest.mark.parametrize("weight", ["duration", "count", "density"])
@pytest.mark.parametrize("visible", [False, True])
def test_on_every_film_and_canvas_it_is_the_mean_of_maps_rendered_as_own_maps_are(canvas, weight, visible):
    gaze, sizes = many(visible=visible)
    mean = TrainingMean(gaze, sizes, weight, canvas, largest_padding(FILMS, canvas)).map
    padded = 0
    for film in FILMS.tolist():
        box = torch.tensor([FilmFit.of(film, canvas).box(film)])
        found = place_on_films(mean, box, canvas, canvas)[0, 0].numpy()
        wanted = literal(gaze, sizes, weight, film, canvas, canvas)
        kl, cc = compare(found, wanted)
        assert kl < 5e-4
        assert cc > 0.9995
        assert found.sum() == pytest.approx(1, abs=1e-5)
        x0, y0, x1, y1 = (round(edge) for edge in box[0].tolist())
        outside = wanted.sum() - wanted[y0:y1, x0:x1].sum()
        padded += outside > 0.005
        assert found.sum() - found[y0:y1, x0:x1].sum() == pytest.approx(outside, abs=0.2 * outside + 1e-4)
    assert padded >= 2, "or no tail runs into padding"


@pytest.mark.parametrize("canvas", [(160, 128), (128, 160)])
def test_as_a_baseline_it_costs_no_more_than_the_literal_mean(canvas):
    gaze, sizes = many(sigma=0.05)
    mean = TrainingMean(gaze, sizes, "duration", canvas, largest_padding(FILMS, canvas)).map
    held_out, films = many(seed=1, count=25, sigma=0.05)
    for own, film in zip(held_out, films, strict=True):
        film = tuple(film.tolist())
        box = torch.tensor([FilmFit.of(film, canvas).box(film)])
        target = literal([own], np.array([film]), "duration", film, canvas, canvas)
        placed, _ = compare(place_on_films(mean, box, canvas, canvas)[0, 0], target)
        wanted, _ = compare(literal(gaze, sizes, "duration", film, canvas, canvas), target)
        assert placed == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("film", FILMS.tolist())
def test_where_every_film_fills_the_canvas_nothing_lies_around_it_and_it_is_the_literal_mean(film):
    canvas = (film[0] // 20, film[1] // 20)
    film = (canvas[0] * 20, canvas[1] * 20)
    gaze, _ = many(spread=0.15)
    sizes = np.array([film] * len(gaze))
    gaze = [own.affine(film[1] / 4000, film[0] / 4000, 0, 0) for own in gaze]
    mean = TrainingMean(gaze, sizes, "count", canvas, largest_padding(sizes, canvas)).map
    assert (mean.margin_y, mean.margin_x) == (0, 0)
    wanted = literal(gaze, sizes, "count", film, canvas, canvas)
    np.testing.assert_allclose(mean.values.numpy(), wanted, rtol=2e-3, atol=1e-4 * wanted.max())


def test_the_mean_map_of_the_control_ends_at_the_film_digit_for_digit():
    gaze, sizes = many(count=8)
    grid = (160, 128)  # fine enough for the coarse grid, which it does not use
    total = np.zeros(grid)
    for own, (height, width) in zip(gaze, sizes.tolist(), strict=True):
        on = own.affine(grid[1] / width, grid[0] / height, 0, 0)
        total += render_saliency(on.x, on.y, on.duration, on.sigma_x, on.sigma_y, grid)
    assert np.array_equal(mean_map(gaze, sizes.tolist(), "duration", grid), total / total.sum())


def test_padding_is_measured_in_the_film_s_own_sides_and_bounded():
    assert largest_padding(np.array([(100, 80)]), (50, 40)) == (0, 0)
    assert largest_padding(np.array([(100, 50)]), (100, 100)) == pytest.approx((0, 0.5))
    assert largest_padding(np.array([(100, 50), (80, 100), (90, 100)]), (100, 100)) == pytest.approx((0.125, 0.5))
    assert largest_padding(np.array([(100, 10)]), (100, 100)) == pytest.approx((0, training_mean.WIDEST))
    assert largest_padding(np.zeros((0, 2), dtype=int), (100, 100)) == (0, 0)


@given(
    seed=st.integers(0, 1000),
    narrowest=st.floats(2.5, 9),
    size=st.tuples(st.integers(100, 160), st.integers(100, 160)),
    weight=st.sampled_from(["duration", "count", "density"]),
)
@settings(max_examples=15, deadline=None)
def test_the_coarse_grid_of_wide_gaussians_gives_the_values_of_rendering_cell_by_cell(seed, narrowest, size, weight):
    generator = np.random.default_rng(seed)
    gaze = []
    for _ in range(3):
        n = int(generator.integers(1, 20))
        sigmas = narrowest * np.exp(generator.uniform(0, 2, (2, n)))
        x, y = generator.uniform(-5, size[1] + 5, n), generator.uniform(-5, size[0] + 5, n)
        gaze.append(Fixations(x, y, generator.uniform(0.1, 1, n), *sigmas, np.arange(n)))
    sizes = np.array([size] * 3)
    found = mean_of_maps(gaze, sizes, weight, size, (0, 0))
    wanted = literal(gaze, sizes, weight, size, size, size)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-7 * wanted.max())


def test_dense_samples_of_wide_gaussians_are_made_on_the_coarse_grid_others_cell_by_cell(monkeypatch):
    used = []
    for name in ("_on_knots", "_on_cells"):
        do = getattr(training_mean, name)
        monkeypatch.setattr(training_mean, name, lambda *a, do=do, name=name: used.append(name) or do(*a))
    for options, wanted in (
        ({"sigma": 0.03}, "_on_knots"),
        ({"sigma": 0.003}, "_on_cells"),
        ({"sigma": 0.03, "visible": True}, "_on_cells"),
    ):
        gaze, sizes = many(count=3, **options)
        mean_of_maps(gaze, sizes, "count", (320, 256), (0, 0))
        assert set(used) == {wanted}
        used.clear()


def test_readings_that_show_nothing_take_no_part_and_without_any_there_is_no_map():
    gaze, sizes = many(count=4)
    far = Fixations([1e5], [1e5], [1.0], [20.0], [20.0], [0.0])
    weightless = Fixations([1e3], [1e3], [0.0], [80.0], [80.0], [0.0])
    more = [*gaze, far, weightless, Fixations.empty()]
    for grid in ((16, 12), (320, 256)):
        wanted = TrainingMean(gaze, sizes, "duration", grid, (0.2, 0.1)).map.values
        film = np.array([[3056, 2544]])
        found = TrainingMean(more, np.concatenate([sizes, film.repeat(3, 0)]), "duration", grid, (0.2, 0.1)).map.values
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-9)
        for none in ([], [far], [weightless], [Fixations.empty()]):
            assert TrainingMean(none, film[: len(none)], "duration", grid, (0.2, 0.1)).map is None


def test_readings_without_gaze_cost_nothing_and_the_gaze_is_dropped_with_the_map_made():
    n, none = 370_000, Fixations.empty()
    gaze, sizes = [none] * n, np.full((n, 2), 100)
    gaze[7] = Fixations([50.0], [50.0], [1.0], [5.0], [5.0], [0.0])
    tracemalloc.start()
    mean = TrainingMean(gaze, sizes, "duration", (20, 20), (0.0, 0.0))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 10_000
    assert mean.gaze == [gaze[7]]
    made = mean.map
    assert mean.gaze == []
    assert mean.map is made


def test_long_work_says_once_how_long_it_takes_short_work_says_nothing(monkeypatch):
    said, now = [], 0.0
    monkeypatch.setattr(announced_module, "rank_zero_info", said.append)
    monkeypatch.setattr(announced_module.time, "perf_counter", lambda: now)
    for n, wanted in ((12, []), (100, ["The map takes about 40 s."])):
        for expected, item in enumerate(announced(range(n), n, "The map")):
            assert item == expected
            now += 0.4
        assert item == n - 1
        assert said == wanted
