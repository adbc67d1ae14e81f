import math
import pickle

import numpy as np
import pytest
import torch

from gaze_lightning.metrics import (
    EnergyInside,
    IoUAtThreshold,
    PointingGameRate,
    energy_inside,
    iou_at_threshold,
    pointing_game,
    pointing_game_cells,
)


def one_hot(row, column, h=6, w=8):
    cam = torch.zeros(1, h, w)
    cam[0, row, column] = 1
    return cam


def random_case(b=5, h=13, w=10, seed=0):
    rng = np.random.default_rng(seed)
    cam = torch.from_numpy(rng.normal(size=(b, h, w)))
    mask = torch.from_numpy(rng.random((b, h, w)) < 0.04)
    mask[0] = False
    film = torch.zeros(b, h, w, dtype=torch.bool)
    film[:, :, 2:8] = True
    tolerance = torch.tensor([1.0, 0.0, 1.5, 3.0, 40.0])
    return cam, mask, tolerance, film


def literal(cam, mask, tolerance, film):
    h, w = mask.shape
    marked = [(u, v) for u in range(h) for v in range(w) if mask[u, v]]
    if not marked:
        return math.nan, math.nan

    def near(u, v):
        return min(math.hypot(u - a, v - b) for a, b in marked) <= tolerance

    u, v = divmod(int(cam.argmax()), w)
    inside = [(a, b) for a in range(h) for b in range(w) if film[a, b]]
    return float(near(u, v)), sum(near(*cell) for cell in inside) / len(inside)


def test_pointing_game_equals_the_literal_distance_to_every_cell():
    cam, mask, tolerance, film = random_case()
    expected = [literal(*sample) for sample in zip(cam, mask, tolerance.tolist(), film, strict=True)]
    result = pointing_game(cam, mask, tolerance, film)
    np.testing.assert_allclose(torch.stack(result, 1), expected, atol=1e-12)
    assert result.hit.isnan().tolist() == [True, False, False, False, False]


@pytest.mark.parametrize(("tolerance", "hit"), [(0.0, 0), (2.23, 0), (2.24, 1), (3.0, 1)])
def test_tolerance_is_a_euclidean_distance_between_cell_centres(tolerance, hit):
    mask = one_hot(3, 3).bool()  # the maximum is one row and two columns away: sqrt(5)
    assert pointing_game(one_hot(4, 5), mask, torch.tensor([tolerance])).hit.item() == hit


def test_chance_is_the_share_of_the_film_that_hits():
    mask = one_hot(3, 3).bool()
    film = torch.zeros(1, 6, 8, dtype=torch.bool)
    film[:, :, :4] = True  # 24 cells; the cross of 5 loses its right arm
    result = pointing_game(one_hot(0, 0), mask, torch.tensor([1.0]), film)
    assert result.chance.item() == pytest.approx(4 / 24)
    assert pointing_game(one_hot(0, 0), mask, torch.tensor([1.0])).chance.item() == pytest.approx(5 / 48)


def test_random_pointing_hits_at_the_chance_rate():
    rng = np.random.default_rng(0)
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[0, 3:8, 10:16] = True
    cams = torch.from_numpy(rng.random((4000, 20, 20)))
    result = pointing_game(cams, mask.expand(4000, -1, -1), torch.full((4000,), 2.0))
    assert abs(result.hit.mean() - result.chance.mean()) < 0.03


def test_tied_maxima_share_the_hit():
    mask = one_hot(1, 1).bool()
    cam = one_hot(1, 1) + one_hot(5, 7)
    assert pointing_game(cam, mask, torch.tensor([0.0])).hit.item() == 0.5
    flat = pointing_game(torch.zeros(1, 6, 8), mask, torch.tensor([1.0]))
    assert flat.hit.item() == flat.chance.item() == pytest.approx(5 / 48)


def test_empty_mask_and_empty_film_are_undefined():
    cam, nothing = one_hot(2, 2), torch.zeros(1, 6, 8, dtype=torch.bool)
    for result in (
        pointing_game(cam, nothing, torch.tensor([9.0])),
        pointing_game(cam, ~nothing, torch.tensor([9.0]), nothing),
        pointing_game_cells(cam, nothing),
    ):
        assert result.hit.isnan().all()
        assert result.chance.isnan().all()
    assert energy_inside(cam, nothing).isnan().all()
    assert iou_at_threshold(cam, nothing).isnan().all()


@pytest.mark.parametrize(
    ("cell", "hit"), [((2, 3), 1), ((3, 4), 1), ((1, 2), 1), ((4, 3), 0), ((2, 5), 0), ((0, 0), 0), ((5, 7), 0)]
)
def test_published_rule_accepts_the_eight_neighbours(cell, hit):
    assert pointing_game_cells(one_hot(*cell), one_hot(2, 3).bool()).hit.item() == hit


def test_published_rule_does_not_wrap_at_the_border_and_its_chance_is_large_on_a_coarse_grid():
    corner = one_hot(0, 0).bool()
    assert pointing_game_cells(one_hot(1, 1), corner).hit.item() == 1
    assert pointing_game_cells(one_hot(0, 7), corner).hit.item() == 0
    assert pointing_game_cells(one_hot(0, 0), corner).chance.item() == pytest.approx(4 / 48)
    coarse = pointing_game_cells(one_hot(0, 0, 6, 5), one_hot(3, 2, 6, 5).bool())
    assert coarse.chance.item() == pytest.approx(0.30)


def test_energy_by_hand_and_negative_values_count_as_zero():
    cam = torch.tensor([[[1.0, 2], [3, -5]], [[-1, -2], [-3, 0]]])
    mask = torch.tensor([[[True, False], [False, True]]]).expand(2, 2, 2)
    values = energy_inside(cam, mask)
    assert values[0].item() == pytest.approx(1 / 6)
    assert values[1].isnan()


def test_iou_by_hand():
    cam = torch.tensor([[[4.0, 2], [1.9, -5]], [[-1, -2], [-3, 0]]])
    mask = torch.tensor([[[True, False], [True, False]]]).expand(2, 2, 2)
    assert iou_at_threshold(cam, mask).tolist() == pytest.approx([1 / 3, 0])
    assert iou_at_threshold(cam, mask, 1.0).tolist() == pytest.approx([1 / 2, 0])
    assert iou_at_threshold(cam, mask, 0.4).tolist() == pytest.approx([2 / 3, 0])


def test_bad_input_is_refused():
    cam, mask, tolerance, film = random_case()
    with pytest.raises(ValueError, match="differ in size"):
        pointing_game(cam, mask[:, 1:], tolerance)
    with pytest.raises(ValueError, match="differ in size"):
        pointing_game(cam, mask, tolerance, film[:, 1:])
    for bad in (-tolerance, tolerance[:2], tolerance * torch.nan):
        with pytest.raises(ValueError, match="tolerance"):
            pointing_game(cam, mask, bad)
    with pytest.raises(ValueError, match="threshold"):
        iou_at_threshold(cam, mask, 0.0)
    for function in (energy_inside, iou_at_threshold, pointing_game_cells):
        with pytest.raises(ValueError, match="differ in size"):
            function(cam, mask[:2])
        with pytest.raises(ValueError, match="NaN"):
            function(cam * torch.nan, mask)


def test_dilation_is_not_written_back_into_the_mask():
    cam, mask, tolerance, film = random_case()
    before = mask.clone()
    pointing_game(cam, mask, tolerance, film)
    assert torch.equal(mask, before)


def test_metrics_are_means_over_defined_samples():
    cam, mask, tolerance, film = random_case()
    expected = pointing_game(cam, mask, tolerance, film)
    rate = PointingGameRate()
    for i in range(5):
        rate.update(*(t[i : i + 1] for t in (cam, mask, tolerance, film)))
    assert rate.compute()["hit"].item() == pytest.approx(expected.hit.nanmean().item())
    assert rate.compute()["chance"].item() == pytest.approx(expected.chance.nanmean().item())
    assert rate.compute()["n"].item() == 4
    assert rate.excluded == 1
    for metric, values in (
        (EnergyInside(), energy_inside(cam, mask)),
        (IoUAtThreshold(0.3), iou_at_threshold(cam, mask, 0.3)),
    ):
        metric.update(cam, mask)
        assert metric.compute().item() == pytest.approx(values.nanmean().item())
        assert pickle.loads(pickle.dumps(metric)).compute() == metric.compute()  # noqa: S301
