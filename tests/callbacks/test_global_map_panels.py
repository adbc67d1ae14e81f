"""What the pages of a global map show: nothing cut, honest scales."""

import math

import numpy as np
import pytest
import torch

from callbacks.global_map_evolution import MapOfEpoch, draw_evolution
from callbacks.global_map_panels import draw_global_map
from callbacks.map_stability_page import draw_stability_page
from gaze_lightning.evaluation.map_run import MapRun
from gaze_lightning.evaluation.map_stability import MapStability
from tests.made_up_maps import H, W, gaze, smooth, statistics

HEADLINE = (
    "Global map   mean 0.49, sd 0.268, 0.03 to 0.92   ·   CC with the mean film \N{MINUS SIGN}0.93   ·   with the mean"
    " gaze CC \N{MINUS SIGN}0.09, KL 0.70"
)


def picture(width=W, **kwargs):
    given = {"film": smooth(1).numpy(), "n_films": 300, "gaze": gaze().numpy(), "title": "T " * 60, "note": "N " * 40}
    given = {"values": smooth(3).numpy(), **given, **kwargs}
    where = statistics().coverage.numpy() >= 0.5
    maps = {name: one[:, :width] for name, one in given.items() if isinstance(one, np.ndarray)}
    return draw_global_map(where=where[:, :width], **{**given, **maps})


def evolution(n=9, height=H, width=W, note="synthetic phantom: not evidence"):
    rng = np.random.default_rng(0)
    maps = [MapOfEpoch(f"epoch {i:03d}", rng.random((height, width)), -0.25) for i in range(n)]
    return draw_evolution(maps, np.ones((height, width), bool), film=None, note=note)


@pytest.mark.parametrize(
    "figure",
    [
        picture,
        lambda: picture(gaze=None, film=None, n_films=None, title="short"),
        lambda: picture(title=HEADLINE),
        lambda: picture(gaze=None, title=HEADLINE),
        lambda: picture(gaze=None, film=None, n_films=None, title=HEADLINE),
        lambda: picture(width=10, title=HEADLINE),
        lambda: picture(values=np.full((H, W), 0.5)),
        lambda: picture(values=3 * smooth(3).numpy()),
        evolution,
        lambda: evolution(1),
        lambda: evolution(3, 20, 40),
        lambda: evolution(6, 60, 20),
        lambda: evolution(2, note="N " * 60),
    ],
)
def test_texts_do_not_leave_the_page_or_overlap(figure):
    drawn = figure()
    drawn.canvas.draw()
    renderer = drawn.canvas.get_renderer()
    texts = [axes.title for axes in drawn.axes if axes.get_title()] + list(drawn.texts)
    texts += [label for axes in drawn.axes for label in axes.get_xticklabels() if label.get_text()]
    boxes = [text.get_window_extent(renderer) for text in texts]
    page = drawn.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)
    overlapping = [
        (texts[i].get_text(), texts[j].get_text())
        for i in range(len(boxes))
        for j in range(i + 1, len(boxes))
        if boxes[i].overlaps(boxes[j])
    ]
    assert not overlapping


def panel(figure, start):
    return next(axes for axes in figure.axes if axes.get_title().startswith(start))


def test_the_raw_panel_keeps_the_full_scale_and_the_stretched_one_says_its_range():
    figure = picture(values=0.4 + 0.1 * smooth(3).numpy())
    assert panel(figure, "map, raw").images[-1].get_clim() == (0, 1)
    low, high = panel(figure, "map, stretched").images[-1].get_clim()
    shown = (0.4 + 0.1 * smooth(3).numpy())[2:]
    assert (low, high) == pytest.approx((shown.min(), shown.max()))
    figure.canvas.draw()
    labels = [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]
    assert f"{shown.min():.3g}" in labels
    assert f"{shown.max():.3g}" in labels
    assert panel(picture(values=3 * smooth(3).numpy()), "map, raw").images[-1].get_clim() == (0, pytest.approx(3))


def test_the_difference_is_of_densities_and_sums_to_zero_over_the_compared_pixels():
    drawn = np.ma.filled(panel(picture(), "map minus gaze").images[-1].get_array(), np.nan)
    assert np.isnan(drawn[:2]).all()
    assert np.nansum(drawn) == pytest.approx(0, abs=1e-4)
    values, looked = smooth(3).numpy()[2:], gaze().numpy()[2:]
    assert drawn[2:] == pytest.approx(values / values.mean() - looked / looked.mean(), abs=1e-5)


def test_the_evolution_has_one_scale_and_shows_each_map_minus_its_mean():
    maps = [
        MapOfEpoch(name, level + scale * smooth(3).numpy(), 0.5) for name, level, scale in (("a", 0, 1), ("b", 5, 2))
    ]
    figure = draw_evolution(maps, np.ones((H, W), bool), film=None, note="")
    drawn = [axes.images[-1] for axes in figure.axes if len(axes.images) == 2]
    assert drawn[0].get_clim() == drawn[1].get_clim()
    for image, one in zip(drawn, maps, strict=True):
        assert np.asarray(image.get_array()) == pytest.approx(one.values - one.values.mean(), abs=1e-6)


def words_over(axes):
    return [text.get_text() for text in axes.texts]


def test_what_looks_like_a_plain_film_is_called_even():
    bump = smooth(3).numpy()
    maps = [MapOfEpoch(f"{scale}", 0.88 + scale * bump, 0.5) for scale in (0, 0.01, 1)]
    figure = draw_evolution(maps, np.ones((H, W), bool), film=smooth(1).numpy(), note="")
    assert [words_over(axes) for axes in figure.axes[:3]] == [["even"], ["nearly even"], []]
    alone = draw_evolution(
        [MapOfEpoch("start", np.full((H, W), np.float32(0.88)), math.nan)] * 3, bump > -1, film=None, note=""
    )
    assert all(
        words_over(axes) == ["even"] and not np.asarray(axes.images[-1].get_array()).any() for axes in alone.axes[:3]
    )
    assert words_over(panel(picture(values=np.full((H, W), 0.5)), "map, stretched")) == ["even"]
    assert words_over(panel(picture(), "map, stretched")) == []


def test_bars_say_that_the_film_shows_through_at_zero():
    for figure, words in ((picture(), "0\nfilm shows"), (evolution(), "0: the film shows through")):
        figure.canvas.draw()
        assert words in [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]


def pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def test_what_is_not_compared_has_one_colour_in_all_pictures():
    where, values = statistics().coverage.numpy() >= 0.5, smooth(3).numpy()
    run = MapRun("a", torch.from_numpy(values), torch.from_numpy(where), math.nan, "")
    pages = [
        (picture(), 3),
        (draw_evolution([MapOfEpoch("start", values, 1.0)], where, film=smooth(1).numpy(), note=""), 1),
        (draw_stability_page({"a": MapStability.of([run])}, note=""), 1),
    ]
    for figure, n in pages:
        drawn = pixels(figure)
        panels = [
            axes
            for axes in figure.axes
            if axes.get_title() and not axes.get_title().startswith(("mean of", "map, raw"))
        ]
        assert len(panels) == n
        for axes in panels:
            for row, left_out in ((0.5, True), (12.5, False)):
                x, y = axes.transData.transform((W / 2, row))
                assert (drawn[drawn.shape[0] - 1 - int(y), int(x)] == 255).all() == left_out
        assert any("White: less than half" in " ".join(text.get_text().split()) for text in figure.texts)
