"""Geometry left to the task: the affine of the very same augmentation, and films that have not moved yet."""

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from data_modules.augment import PRESETS, Augmentation, Augmenter
from gaze_lightning.gaze import Fixations
from tests.made_up_table import MadeUpDataModule, make_table

GEOMETRY = Augmentation(rotate=10, scale=0.1, translate=0.08, flip=0.5)
MIXED = Augmentation(rotate=10, scale=0.1, translate=0.08, flip=0.5, brightness=0.2, contrast=0.2)


@pytest.fixture
def module(tmp_path):
    def build(left=False, augmentation=MIXED, before=False, **options):
        table = make_table(tmp_path / "films", 40, visible=True)
        built = MadeUpDataModule(table, tmp_path / "cache", augmentation=augmentation, **options)
        built.prepare_data()
        if left and before:
            built.leave_geometry_to_task()
        built.setup("fit")
        if left and not before:
            built.leave_geometry_to_task()
        return built

    return build


def batches(built, loader="train_dataloader"):
    return [built.on_after_batch_transfer(batch, 0) for batch in getattr(built, loader)()]


def moved_by(image, matrix):
    """The affine in OpenCV's words: it counts the centres of pixels as whole numbers."""
    centre = matrix.astype(np.float64).copy()
    centre[:, 2] += centre[:, :2] @ [0.5, 0.5] - 0.5
    return cv2.warpAffine(image, centre, image.shape[::-1], flags=cv2.INTER_LINEAR)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("before", [False, True])
def test_everything_but_the_pixels_is_as_it_was(module, before, workers):
    seen = 0
    found_batches = batches(module(True, before=before, num_workers=workers))
    for found, wanted in zip(found_batches, batches(module()), strict=True):
        assert found.keys() == wanted.keys() | {"warp"}
        assert found["warp"].shape == (len(found["sample_id"]), 2, 3)
        assert found["warp"].dtype == torch.float32
        for key in wanted.keys() - {"image"}:
            if isinstance(wanted[key], torch.Tensor):
                assert torch.equal(found[key], wanted[key]), key
            else:
                assert found[key] == wanted[key]
        for left, moved, matrix in zip(found["image"], wanted["image"], found["warp"], strict=True):
            again = moved_by(left[0].numpy(), matrix.numpy())
            assert np.abs(again - moved[0].numpy()).max() < 4 / 255  # fixed-point weights, then whole grey values
            seen += float((left - moved).abs().max() > 0.1)
    assert seen > 4, "films do move"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("before", [False, True])
def test_geometry_can_be_taken_back(module, before, workers):
    built = module(True, before=before, num_workers=workers)
    assert all("warp" in batch for batch in batches(built))
    built.leave_geometry_to_task(False)
    for found, wanted in zip(batches(built), batches(module()), strict=True):
        assert found.keys() == wanted.keys()
        assert torch.equal(found["image"], wanted["image"])
        assert torch.equal(found["fixations"], wanted["fixations"])
    built.leave_geometry_to_task()
    assert all("warp" in batch for batch in batches(built))


def test_geometry_taken_back_before_setup_stays_with_the_data(module):
    built = module()
    built.leave_geometry_to_task()
    built.leave_geometry_to_task(leave=False)
    built._arrange(True)
    assert all("warp" not in batch for batch in batches(built))


def test_films_are_the_cached_ones_where_only_geometry_changes(module):
    plain = {
        name: image
        for batch in batches(module(augmentation="none"))
        for name, image in zip(batch["sample_id"], batch["image"], strict=True)
    }
    for batch in batches(module(True, GEOMETRY)):
        for name, image in zip(batch["sample_id"], batch["image"], strict=True):
            if name in plain:
                assert torch.equal(image, plain[name])


def test_brightness_has_changed_already(module):
    plain = next(iter(batches(module(augmentation="none"))))
    changed = next(iter(batches(module(True, Augmentation(brightness=0.3, contrast=0.3)))))
    assert changed["sample_id"] == plain["sample_id"]
    assert not torch.equal(changed["image"], plain["image"])
    identity = torch.eye(3)[:2].expand(4, 2, 3)
    torch.testing.assert_close(changed["warp"], identity, rtol=0, atol=1e-4)


def test_points_have_moved_by_the_warp(module):
    film, at = np.zeros((48, 40), np.uint8), Fixations([9.0], [20.0], [1.0], [2.0], [2.0], [0.0])
    for index in range(8):
        left = Augmenter(MIXED, (48, 40), 1, moves_pixels=False)(film, at, (0.0, 0.0, 40.0, 48.0), 3, index)
        moved = Augmenter(MIXED, (48, 40), 1)(film, at, (0.0, 0.0, 40.0, 48.0), 3, index)
        np.testing.assert_array_equal(left.matrix, moved.matrix)
        found = left.matrix @ [9.0, 20.0, 1.0]
        np.testing.assert_allclose(found, [left.fixations.x[0], left.fixations.y[0]], rtol=1e-6)
        assert left.film_box == moved.film_box


@pytest.mark.parametrize("options", [{"augmentation": "none"}, {"left": False}])
def test_without_augmentation_or_without_being_asked_there_is_no_warp(module, options):
    built = module(**{"left": True} | options)
    assert all("warp" not in batch for batch in batches(built))


def test_evaluation_has_no_warp(module):
    built = module(True)
    for loader in ("val_dataloader", "test_dataloader", "predict_dataloader"):
        assert all("warp" not in batch for batch in batches(built, loader))


def test_the_shift_scales_with_the_size_of_a_stage(module):
    built = module(True)
    large = batches(built)
    built.follow_stage(None, (24, 20))
    small_module = module(True, image_size=(24, 20))
    for found, before, own in zip(batches(built), large, batches(small_module), strict=True):
        assert torch.equal(found["warp"][..., :2], before["warp"][..., :2])
        assert torch.equal(found["warp"][..., 2], before["warp"][..., 2] / 2)
        corner = torch.tensor([40.0, 48.0, 1.0])
        torch.testing.assert_close(found["warp"] @ (corner * torch.tensor([0.5, 0.5, 1])), before["warp"] @ corner / 2)
        assert found["warp"].shape == own["warp"].shape


def test_a_preset_moves_by_its_seed_epoch_and_index_alone():
    film, none = np.zeros((48, 40), np.uint8), Fixations.empty()
    box = (0.0, 0.0, 40.0, 48.0)
    one, other = (Augmenter(PRESETS["strong"], (48, 40), 3, moves_pixels=False) for _ in range(2))
    keys = [(0, 1), (0, 2), (1, 1)]
    found = {key: one(film, none, box, *key).matrix for key in keys}
    for key in reversed(keys):
        np.testing.assert_array_equal(other(film, none, box, *key).matrix, found[key])
    assert len({matrix.tobytes() for matrix in found.values()}) == 3
    assert default_collate([found[key] for key in keys]).shape == (3, 2, 3)
