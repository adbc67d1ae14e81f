import math

import pytest
import torch

from gaze_lightning.metrics import auc_judd, correlation_coefficient, nss
from gaze_lightning.metrics.cam_agreement import CAM_VALUES, cam_agreement, true_class_map

H, W = 48, 40


def batch(n=2, **more):
    return {"image": torch.zeros(n, 1, H, W), "sample_id": [str(i) for i in range(n)], **more}


def cam_with_peak(row, column, n=1, classes=2, true=1, grid=(6, 5)):
    cam = torch.zeros(n, classes, *grid)
    cam[:, true, row, column] = 1.0
    return cam


def mask_of_cell(row, column, true=1):
    mask = torch.zeros(1, 2, H, W, dtype=torch.bool)
    mask[:, true, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = True
    return mask


def test_the_true_class_is_chosen_and_positive_classes_are_averaged():
    cam = torch.arange(8.0).reshape(1, 2, 2, 2)
    single, chosen = true_class_map(cam, torch.tensor([1]), "single")
    assert torch.equal(single[0], cam[0, 1].double())
    assert chosen.tolist() == [[False, True]]
    both, _ = true_class_map(cam, torch.tensor([[1.0, 1.0]]), "multi")
    assert torch.equal(both[0], cam[0].double().mean(0))
    none, chosen = true_class_map(cam, torch.tensor([[0.0, math.nan]]), "multi")
    assert not none.any()
    assert not chosen.any()


def test_without_gaze_and_masks_every_value_is_undefined():
    values = cam_agreement(torch.rand(2, 2, 6, 5), batch(label=torch.tensor([0, 1])), "single")
    assert tuple(values) == CAM_VALUES
    assert all(value.shape == (2,) and value.isnan().all() for value in values.values())


def test_gaze_values_are_those_of_the_upsampled_map_with_points_on_its_grid():
    torch.manual_seed(0)
    cam, gaze = torch.rand(2, 2, 6, 5), torch.rand(2, 1, 12, 10)
    points = torch.rand(2, 4, 5) * torch.tensor([W, H, 1, 1, 1])
    inputs = batch(
        label=torch.tensor([0, 1]),
        saliency=gaze,
        has_gaze=torch.tensor([True, True]),
        fixations=points,
        fixation_mask=torch.tensor([[True] * 4, [True, True, False, False]]),
    )
    values = cam_agreement(cam, inputs, "single")
    own = torch.stack([cam[0, 0], cam[1, 1]]).double()
    up = torch.nn.functional.interpolate(own[:, None], scale_factor=2, mode="bilinear", align_corners=False)[:, 0]
    on_grid = points[..., :2].double() / 4
    torch.testing.assert_close(values["gaze_cc"], correlation_coefficient(up, gaze[:, 0]))
    torch.testing.assert_close(values["gaze_nss"], nss(up, on_grid, inputs["fixation_mask"]))
    torch.testing.assert_close(values["gaze_auc_judd"], auc_judd(up, on_grid, inputs["fixation_mask"]))
    inputs["has_gaze"] = torch.tensor([True, False])
    masked = cam_agreement(cam, inputs, "single")
    for name in ("gaze_cc", "gaze_kl", "gaze_sim", "gaze_nss", "gaze_auc_judd"):
        assert masked[name][0] == values[name][0]
        assert masked[name][1].isnan()


@pytest.mark.parametrize(("column", "hit", "area"), [(2, 1.0, 64 + 4 * 8 + 4), (4, 0.0, 64 + 3 * 8 + 2)])
def test_pointing_game_on_lesions_hits_and_misses(column, hit, area):
    values = cam_agreement(
        cam_with_peak(3, 2), batch(1, label=torch.tensor([1]), lesion_mask=mask_of_cell(3, column)), "single"
    )
    assert values["pointing_lesion"].item() == hit
    assert values["pointing_lesion_chance"].item() == pytest.approx(area / (H * W))  # radius 1.44: sides and corners
    assert values["pointing_anatomy"].isnan()
    assert (values["energy_lesion"].item() > 0.4) == bool(hit)


def test_tolerance_grows_with_the_film_and_not_with_the_padded_image():
    mask = torch.zeros(1, 2, H, W, dtype=torch.bool)
    mask[0, 1, 29, 19:21] = True  # the map's maximum lies at rows 27 and 28: one pixel apart, two pixels
    inputs = batch(1, label=torch.tensor([1]), lesion_mask=mask)
    assert cam_agreement(cam_with_peak(3, 2), inputs, "single")["pointing_lesion"].item() > 0
    inputs["film_box"] = torch.tensor([[0.0, 14.0, 40.0, 34.0]])  # 3 % of 20 pixels reach no neighbour
    assert cam_agreement(cam_with_peak(3, 2), inputs, "single")["pointing_lesion"].item() == 0
    assert cam_agreement(cam_with_peak(3, 2), inputs, "single")["pointing_lesion_chance"].item() == 2 / (20 * 40)


@pytest.mark.parametrize(("row", "hit"), [(3, 1.0), (4, 1.0), (5, 0.0)])
def test_published_rule_accepts_the_neighbouring_cell(row, hit):
    values = cam_agreement(
        cam_with_peak(3, 2), batch(1, label=torch.tensor([1]), anatomy_mask=mask_of_cell(row, 2)), "single"
    )
    assert values["pointing_anatomy_cells"].item() == hit


def test_masks_of_other_classes_do_not_count():
    inputs = batch(1, label=torch.tensor([1]), lesion_mask=mask_of_cell(3, 2, true=0))
    assert cam_agreement(cam_with_peak(3, 2), inputs, "single")["pointing_lesion"].isnan()


def test_masks_of_all_positive_classes_are_united():
    mask = mask_of_cell(3, 2, true=0) | mask_of_cell(0, 0, true=1)
    inputs = batch(1, label=torch.tensor([[1.0, 1.0]]), lesion_mask=mask)
    assert cam_agreement(cam_with_peak(3, 2), inputs, "multi")["pointing_lesion"].item() == 1
    inputs["label"] = torch.tensor([[0.0, 1.0]])
    assert cam_agreement(cam_with_peak(3, 2), inputs, "multi")["pointing_lesion"].item() == 0
