"""Two views of a training film: the first as it was, the second as independent as another epoch."""

import numpy as np
import pytest
import torch

from data_modules.augment import PRESETS, Augmentation, Augmenter
from data_modules.errors import DataError
from data_modules.smaller import pool_area
from gaze_lightning.protocols import OffersTrainingGaze, OffersTwoViews
from tests.made_up_table import MadeUpDataModule, make_table


@pytest.fixture
def module(tmp_path):
    def build(two=True, before=False, augmentation="contrastive", **options):
        built = MadeUpDataModule(
            make_table(tmp_path / "films", 40), tmp_path / "cache", augmentation=augmentation, **options
        )
        built.prepare_data()
        if two and before:
            built.show_two_views()
        built.setup("fit")
        if two and not before:
            built.show_two_views()
        return built

    return build


def batches(built, epoch=0):
    loader = built.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [built.on_after_batch_transfer(batch, 0) for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("before", [False, True])
def test_everything_but_the_second_view_is_as_it_was(module, before, workers):
    for found, wanted in zip(batches(module(before=before, num_workers=workers)), batches(module(False)), strict=True):
        assert found.keys() == wanted.keys() | {"second_view"}
        for key in wanted:
            same = torch.equal(found[key], wanted[key]) if torch.is_tensor(wanted[key]) else found[key] == wanted[key]
            assert same, key
        assert found["second_view"].shape == found["image"].shape
        assert found["second_view"].dtype == torch.float32
        assert found["second_view"].min() >= 0
        assert found["second_view"].max() <= 1
        assert (found["second_view"] != found["image"]).flatten(1).any(dim=1).all()


def test_the_second_view_is_that_of_its_own_stream(module):
    built = module()
    dataset = built._datasets["train"]
    own = Augmenter(PRESETS["contrastive"], (48, 40), built.seed)
    built.train_dataloader()
    for key in [(0, 3), (5, 3), (5, 8)]:
        film = built._cache[int(dataset.films[key[1]])]
        box = built._fits.box(int(dataset.films[key[1]]))
        wanted = own(film, dataset.gaze[key[1]], box, *key, view=1).image
        np.testing.assert_array_equal(dataset[key]["second_view"][0], wanted)


def test_second_views_change_from_epoch_to_epoch_and_do_not_depend_on_the_workers(module):
    def views(epoch, **options):
        found = batches(module(**options), epoch)
        return {
            name: view for batch in found for name, view in zip(batch["sample_id"], batch["second_view"], strict=True)
        }

    first, again, later = views(2), views(2, num_workers=2), views(3)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], later[name]) for name in first.keys() & later.keys())


def test_a_stage_reduces_both_views(module):
    large = batches(module())
    built = module()
    built.follow_stage(None, (24, 20))
    for found, before in zip(batches(built), large, strict=True):
        assert torch.equal(found["second_view"], pool_area(before["second_view"], (24, 20)))


def test_only_training_shows_two_views(module):
    built = module()
    built.train_dataloader()
    loaders = [built.val_dataloader(), built.test_dataloader(), built.predict_dataloader()]
    loaders += [built.reference_loader("train", None), built.reference_loader("validate", None)]
    for loader in loaders:
        assert all("second_view" not in batch for batch in loader)


@pytest.mark.parametrize("augmentation", ["none", Augmentation(), Augmentation(flip=1.0)])
def test_equal_views_are_refused(module, augmentation):
    with pytest.raises(DataError, match="augmentation that varies"):
        module(augmentation=augmentation)


def test_two_views_and_geometry_left_to_the_task_exclude_each_other(module):
    built = module()
    with pytest.raises(DataError, match="the affine of one view only"):
        built.leave_geometry_to_task()
    built.leave_geometry_to_task(False)
    assert all("warp" not in batch for batch in batches(built))
    built = module(False)
    built.leave_geometry_to_task()
    with pytest.raises(DataError, match="the affine of one view only"):
        built.show_two_views()
    assert all("second_view" not in batch and "warp" in batch for batch in batches(built))


def test_the_module_says_whether_it_flips(module):
    built = module()
    assert isinstance(built, OffersTwoViews)
    assert isinstance(built, OffersTrainingGaze)
    assert not built.flips
    assert not module(False, augmentation="none").flips
    assert module(augmentation=Augmentation(flip=0.1)).flips


def test_films_are_numbered_alike_in_all_batches(module):
    built = module()
    number = dict(zip(built.table().frame["sample_id"], range(100), strict=False))  # one reading per film
    loaders = [built.train_dataloader(), built.val_dataloader(), built.test_dataloader()]
    loaders.append(built.reference_loader("validate", 3))
    for loader in loaders:
        for batch in loader:
            batch = built.on_after_batch_transfer(batch, 0)
            assert batch["film"].dtype == torch.int64
            assert batch["film"].tolist() == [number[name] for name in batch["sample_id"]]
