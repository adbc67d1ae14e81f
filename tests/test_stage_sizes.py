"""A data module follows the stages of a training: batch sizes, and smaller images with everything in pixels."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.errors import DataError
from data_modules.smaller import pool_area
from gaze_lightning.protocols import FollowsStages
from tests.made_up_table import MadeUpDataModule, make_table, with_readers

UINT8 = 1 / 255
"""The cache of the small size rounds to whole grey values once, that of the large size before they are averaged: half a
grey value each."""


@pytest.fixture
def module(tmp_path):
    def build(readers=False, **options):
        table = make_table(tmp_path / "films", 30, label_type="multi", visible=True)
        built = MadeUpDataModule(with_readers(table, True) if readers else table, tmp_path / "cache", **options)
        built.prepare_data()
        built.setup("fit")
        return built

    return build


def batches(built, loader="test_dataloader"):
    return [built.on_after_batch_transfer(batch, 0) for batch in getattr(built, loader)()]


def pairs(one, other):
    return zip(one, other, strict=True)


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader"])
def test_smaller_images_equal_those_of_a_module_of_that_size(module, loader):
    built, small = module(), module(image_size=(24, 20))
    large = batches(built, loader)
    built.follow_stage(None, (24, 20))
    seen = 0
    for found, wanted, before in zip(batches(built, loader), batches(small, loader), large, strict=True):
        assert found.keys() == wanted.keys()
        assert found["sample_id"] == wanted["sample_id"]
        assert found["image"].shape[1:] == (1, 24, 20)
        assert (found["image"] - wanted["image"]).abs().max() <= UINT8 + 1e-6
        for key in ("fixations", "fixation_mask", "visible", "film_box", "has_gaze", "label"):  # half a pixel is exact
            assert found[key].dtype == wanted[key].dtype
            torch.testing.assert_close(found[key], wanted[key], rtol=0, atol=0, equal_nan=True)
        assert torch.equal(found["saliency"], before["saliency"])
        torch.testing.assert_close(found["saliency"], wanted["saliency"], rtol=0, atol=0)
        for key in ("lesion_mask", "anatomy_mask"):
            if key in found:
                assert found[key].shape == wanted[key].shape
                assert found[key].dtype == torch.bool
                different = found[key] ^ wanted[key]
                assert (different & ~edge(wanted[key])).sum() == 0, "only at the edge is it a matter of rounding"
                assert torch.equal(found[key].any(dim=(2, 3)), wanted[key].any(dim=(2, 3)))
                seen += int(found[key].sum())
    assert seen > 0 or loader == "train_dataloader"


def edge(mask):
    """Pixels beside the border of a mask, inside and outside."""
    grown = torch.nn.functional.max_pool2d(mask.float(), 3, 1, 1) > 0
    shrunk = torch.nn.functional.max_pool2d(1 - mask.float(), 3, 1, 1) == 0
    return grown & ~shrunk


def test_points_follow_to_sizes_that_do_not_divide(module):
    built, small = module(), module(image_size=(30, 25))
    built.follow_stage(None, (30, 25))
    for found, wanted in pairs(batches(built), batches(small)):
        for key in ("fixations", "visible", "film_box"):
            torch.testing.assert_close(found[key], wanted[key], rtol=1e-6, atol=1e-5)
        assert found["image"].shape == wanted["image"].shape
        assert (found["image"] - wanted["image"]).abs().mean() < 2 * UINT8  # cut pixels blur a little more
        rows, columns = (torch.arange(n) + 0.5 for n in (30, 25))
        for image in (found["image"], wanted["image"]):
            image /= image.sum(dim=(1, 2, 3), keepdim=True)
        for axis, places in ((2, rows), (3, columns)):
            centres = [(i["image"].sum(dim=(1, 5 - axis)) * places).sum(1) for i in (found, wanted)]
            torch.testing.assert_close(*centres, rtol=0, atol=0.02)


def test_maps_of_the_references_do_not_change_with_the_size(module):
    built = module(readers=True)
    before = batches(built)
    built.follow_stage(None, (24, 20))
    for found, wanted in pairs(batches(built), before):
        for key in ("saliency", "mean_saliency", "other_saliency"):
            assert torch.equal(found[key], wanted[key])
        assert found["image"].shape[-2:] == (24, 20)


def literal_pool(image, size):
    """Every new pixel: the integral over its area by cutting each old pixel, divided by the area."""
    (height, width), (h, w) = image.shape, size
    result = np.zeros(size)
    for i, j, k, m in itertools.product(range(h), range(w), range(height), range(width)):
        down = max(0.0, min((i + 1) * height / h, k + 1) - max(i * height / h, k))
        across = max(0.0, min((j + 1) * width / w, m + 1) - max(j * width / w, m))
        result[i, j] += image[k, m] * down * across
    return result / (height / h * width / w)


@given(height=st.integers(1, 9), width=st.integers(1, 9), data=st.data())
@settings(max_examples=40, deadline=None)
def test_pooling_is_the_literal_mean_over_the_area(height, width, data):
    size = data.draw(st.tuples(st.integers(1, height), st.integers(1, width)))
    image = torch.rand(height, width, dtype=torch.float64)
    np.testing.assert_allclose(pool_area(image, size).numpy(), literal_pool(image.numpy(), size), atol=1e-12)
    assert pool_area(image, size).mean() == pytest.approx(float(image.mean()))


def test_a_lesion_of_one_pixel_does_not_vanish(module):
    built = module()
    raw = next(iter(built.val_dataloader()))
    raw["lesion_mask"] = torch.zeros_like(raw["lesion_mask"])
    raw["lesion_mask"][0, 1, 17, 30] = True
    built.follow_stage(None, (12, 10))
    found = built.on_after_batch_transfer(raw, 0)["lesion_mask"]
    assert found.nonzero().tolist() == [[0, 1, 17 // 4, 30 // 4]]


def test_batch_size_follows_in_training_only_and_none_gives_back_what_was(module):
    built = module()
    before, evaluation = batches(built, "train_dataloader"), len(built.val_dataloader())
    built.follow_stage(2, (24, 20))
    during = batches(built, "train_dataloader")
    training = int((built.readings["split"] == "train").sum())
    assert [len(batch["sample_id"]) for batch in before] == [4] * (training // 4)
    assert [len(batch["sample_id"]) for batch in during] == [2] * (training // 2)
    assert len(built.val_dataloader()) == evaluation
    built.follow_stage(None, None)
    for found, wanted in pairs(batches(built, "train_dataloader"), before):
        assert found.keys() == wanted.keys()
        assert found["sample_id"] == wanted["sample_id"]
        for key in ("image", "fixations", "film_box", "saliency"):
            assert torch.equal(found[key], wanted[key])
    assert (built.batch_size, built.image_size) == (4, (48, 40))


def test_the_size_counts_from_the_next_batch_on_also_in_a_loader_that_runs(module):
    built = module()
    loader = iter(built.val_dataloader())
    first = built.on_after_batch_transfer(next(loader), 0)
    built.follow_stage(None, (24, 20))
    second = built.on_after_batch_transfer(next(loader), 0)
    assert (first["image"].shape[-2:], second["image"].shape[-2:]) == ((48, 40), (24, 20))


@pytest.mark.parametrize("size", [(96, 80), (25, 20), (24, 24), (0, 0), (-24, -20)])
def test_sizes_that_are_not_possible_are_refused_with_some_that_are(module, size):
    built = module()
    built.follow_stage(2, (24, 20))
    with pytest.raises(ValueError, match=r"48 x 40.* Multiples of 6 x 5 will do, the nearest ones: \d+ x \d+"):
        built.follow_stage(3, size)
    assert batches(built, "train_dataloader")[0]["image"].shape == (2, 1, 24, 20), "a refusal changes nothing"


def test_the_nearest_sizes_are_named(module):
    with pytest.raises(ValueError, match=r"24 x 20, 30 x 25, 36 x 30"):
        module().follow_stage(None, (30, 24))
    with pytest.raises(ValueError, match=r"the nearest ones: 42 x 35, 48 x 40\."):
        module().follow_stage(None, (480, 400))


def test_batch_sizes_that_are_not_possible_are_refused(module):
    built = module()
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        built.follow_stage(0, None)
    built.follow_stage(1000, None)
    with pytest.raises(DataError, match="fewer than batch_size 1000"):
        built.train_dataloader()


def test_every_data_module_follows_stages(module):
    assert isinstance(module(), FollowsStages)
