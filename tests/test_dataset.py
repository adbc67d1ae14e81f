import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_modules.augment import PRESETS, Augmenter
from data_modules.collate import collate
from data_modules.dataset import GazeDataset
from data_modules.errors import DataError
from data_modules.gaze_sources import exchange, mean_gaze, shuffled_gaze
from data_modules.loading import finish_batch
from data_modules.regions import EllipseRegion
from gaze_lightning.gaze import Fixations, render_saliency
from tests.made_up_table import MadeUpDataModule, make_table


@pytest.fixture
def module(tmp_path):
    def build(label_type="single", visible=False, **options):
        module = MadeUpDataModule(
            make_table(tmp_path / "my films", label_type=label_type, visible=visible), tmp_path / "my cache", **options
        )
        module.prepare_data()
        module.setup("fit")
        return module

    return build


def centre(values):
    rows, columns = np.indices(values.shape) + 0.5
    return (values * columns).sum() / values.sum(), (values * rows).sum() / values.sum()


def test_the_fixation_lies_on_the_spot_of_the_film_also_on_landscape_films(module):
    seen = 0
    for sample in module()._datasets["train"]:
        if len(sample["fixations"]):
            seen += 1
            x, y, weight, sigma_x, sigma_y = sample["fixations"][0]
            assert (x, y) == pytest.approx(centre(sample["image"][0].astype(float)), abs=0.3)
            assert weight == pytest.approx(0.3)
            assert (
                sigma_x == sigma_y == pytest.approx(4.0 * (40 / 60 if sample["film_box"][1] > 1 else 40 / 50), abs=1e-4)
            )
    assert seen > 10


@pytest.mark.parametrize("epoch", [0, 1])
def test_augmentation_keeps_the_fixation_on_the_spot(module, epoch):
    dataset = module(augmentation="strong")._datasets["train"]
    for index in range(len(dataset)):
        sample = dataset[epoch, index]
        if len(sample["fixations"]):
            # brightness and contrast lift the dark film: take the brightest part only
            film = np.clip(sample["image"][0].astype(float) - 0.7 * sample["image"].max(), 0, None)
            assert tuple(sample["fixations"][0, :2]) == pytest.approx(centre(film), abs=0.5)


def test_masks_are_there_in_evaluation_only_and_lie_on_the_spot(module):
    built = module()
    assert "lesion_mask" not in built._datasets["train"][0]
    dataset = built._datasets["validate"]
    sample = next(sample for sample in dataset if len(sample["fixations"]))
    k = int(sample["label"])
    assert centre(sample["lesion_mask"][k].astype(float)) == pytest.approx(tuple(sample["fixations"][0, :2]), abs=0.6)
    assert not sample["lesion_mask"][1 - k].any()
    assert sample["anatomy_mask"][1].any()
    assert not sample["anatomy_mask"][0].any()


def test_a_mask_is_rasterised_once_and_comes_back_the_same(module, monkeypatch):
    dataset = module()._datasets["validate"]
    first = [dataset[index] for index in range(len(dataset))]
    monkeypatch.setattr(EllipseRegion, "mask", lambda *_: pytest.fail("rasterised again"))
    for index, sample in enumerate(first):
        again = dataset[index]
        for key in ("lesion_mask", "anatomy_mask"):
            assert again[key].dtype == bool
            np.testing.assert_array_equal(again[key], sample[key])
    assert any(sample["lesion_mask"].any() for sample in first)


def test_samples_carry_the_kinds_of_masks_that_the_source_has(module, tmp_path):
    table = make_table(tmp_path / "films")
    lesions = {name: [r for r in regions if r.kind == "lesion"] for name, regions in table.regions.items()}
    built = MadeUpDataModule(replace(table, regions=lesions), tmp_path / "cache")
    built.prepare_data()
    built.setup("test")
    batch = next(iter(built.test_dataloader()))
    assert "lesion_mask" in batch
    assert "anatomy_mask" not in batch


def test_masks_of_augmented_films_are_refused(module):
    evaluation = module()._datasets["validate"]
    arguments = {name: value for name, value in vars(evaluation).items() if not name.startswith("_")}
    with pytest.raises(ValueError, match="masks do not follow"):
        GazeDataset(**arguments | {"augmenter": Augmenter(PRESETS["light"], (48, 40), 0)})


def test_density_maps_are_those_of_reflacx_authors(module):
    """Per fixation a normal density, one degree wide per axis, cut to the part shown, times seconds; then the sum."""
    generator = np.random.default_rng(0)
    n, grid = 12, (48, 40)
    x, y, duration = generator.uniform(5, 45, n), generator.uniform(5, 55, n), generator.uniform(0.1, 1.0, n)
    zoom = generator.choice([1.0, 2.0, 4.0], n)  # pixels per degree shrink as the film is enlarged
    sigma_x, sigma_y = 16.0 / zoom, 18.0 / zoom
    shown = np.stack([x - 90 / zoom, y - 60 / zoom, x + 70 / zoom, y + 80 / zoom], axis=1)
    built = module(gaze_weight="density", saliency_size=grid)
    dataset = built._datasets["test"]
    index = next(i for i in range(len(dataset)) if tuple(built._cache.sizes[dataset.films[i]]) == (60, 50))
    dataset.with_visible = True
    dataset.gaze[index] = Fixations(x, y, duration, sigma_x, sigma_y, np.arange(n), shown)
    found = finish_batch(collate([dataset[index]]), grid)["saliency"][0, 0].double().numpy()
    scale, expected = 0.8, np.zeros(grid)  # 60 x 50 fits 48 x 40 exactly
    for i in range(n):
        sx, sy = sigma_x[i] * scale, sigma_y[i] * scale
        left, top, right, bottom = shown[i] * scale
        for row in range(grid[0]):
            for column in range(grid[1]):
                u, v = column + 0.5, row + 0.5
                if left <= u <= right and top <= v <= bottom:
                    exponent = ((u - x[i] * scale) / sx) ** 2 + ((v - y[i] * scale) / sy) ** 2
                    expected[row, column] += duration[i] * math.exp(-0.5 * exponent) / (2 * math.pi * sx * sy)
    expected /= expected.sum()
    assert np.abs(found - expected).max() < 1e-6 * expected.max()
    dataset.weight = "duration"
    plain = finish_batch(collate([dataset[index]]), grid)["saliency"][0, 0].double().numpy()
    assert np.abs(plain - expected).max() > 0.1 * expected.max(), "zoomed fixations are higher, not only narrower"


def test_a_batch_has_the_shapes_of_the_contract(module):
    built = module(label_type="multi", visible=True)
    batch = finish_batch(next(iter(built.val_dataloader())), built.saliency_size)
    b, n = batch["fixation_mask"].shape
    shapes = {key: tuple(value.shape) for key, value in batch.items() if isinstance(value, torch.Tensor)}
    assert shapes == {
        "image": (b, 1, 48, 40),
        "film": (b,),
        "label": (b, 2),
        "has_gaze": (b,),
        "fixations": (b, n, 5),
        "fixation_mask": (b, n),
        "visible": (b, n, 4),
        "saliency": (b, 1, 12, 10),
        "film_box": (b, 4),
        "lesion_mask": (b, 2, 48, 40),
        "anatomy_mask": (b, 2, 48, 40),
    }
    floats = ("image", "label", "fixations", "visible", "saliency", "film_box")
    assert {batch[key].dtype for key in floats} == {torch.float32}
    assert {batch[key].dtype for key in ("has_gaze", "fixation_mask", "lesion_mask", "anatomy_mask")} == {torch.bool}
    assert batch["film"].dtype == torch.int64
    assert len(batch["sample_id"]) == len(batch["subject"]) == b
    assert 0 <= batch["image"].min() < batch["image"].max() <= 1


def test_readings_without_gaze_have_a_zero_map_and_the_others_sum_to_one(module):
    built = module()
    without = 0
    for raw in built.train_dataloader():
        batch = finish_batch(raw, built.saliency_size)
        sums = batch["saliency"].sum(dim=(1, 2, 3))
        torch.testing.assert_close(sums, batch["has_gaze"].float())
        assert batch["has_gaze"].tolist() == [name in built.made_up.fixations for name in batch["sample_id"]]
        without += int((~batch["has_gaze"]).sum())
    assert without > 0


def test_a_batch_without_any_gaze_still_has_a_place_for_points(module):
    dataset = module()._datasets["train"]
    samples = [sample for sample in dataset if not len(sample["fixations"])]
    batch = finish_batch(collate(samples), (12, 10))
    assert batch["fixations"].shape[1] == 1
    assert not batch["fixation_mask"].any()
    assert not batch["has_gaze"].any()
    assert not batch["saliency"].any()


def test_the_rendered_map_shows_the_visible_part_only(module):
    built = module(visible=True)
    full = module(visible=False)
    raw = next(iter(built._evaluation_loader("test")))
    other = next(iter(full._evaluation_loader("test")))
    batch, unlimited = finish_batch(raw, (48, 40)), finish_batch(other, (48, 40))
    assert "visible" not in unlimited
    for i, name in enumerate(batch["sample_id"]):
        same = torch.equal(batch["saliency"][i] > 0, unlimited["saliency"][i] > 0)
        assert same == (name not in built.made_up.fixations or built.made_up.fixations[name].visible is None)


def test_points_far_outside_are_left_out_and_points_just_outside_kept(module):
    dataset = module()._datasets["train"]
    dataset.gaze[0] = Fixations([-2, -200, 30.0], [20, 20, 20], [1, 1, 1], [4, 4, 4], [4, 4, 4], [0, 1, 2])
    assert len(dataset[0]["fixations"]) == 2
    dataset.gaze[0] = Fixations([-200.0], [20], [1], [4], [4], [0])
    assert not collate([dataset[0]])["has_gaze"].any()


def test_fixations_without_weight_are_no_gaze(module):
    dataset = module()._datasets["train"]
    dataset.gaze[0] = Fixations([20.0], [20], [0.0], [4], [4], [0])
    assert not collate([dataset[0]])["has_gaze"].any()
    dataset.weight = "count"
    assert collate([dataset[0]])["has_gaze"].all()


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_gaze_is_never_a_patients_own_and_everybodys_is_used_once(seed):
    generator = np.random.default_rng(seed)
    subjects = [None if generator.random() < 0.1 else f"p{generator.integers(12)}" for _ in range(60)]
    donors = exchange(subjects, seed)
    assert sorted(donors) == list(range(60))
    for row, donor in enumerate(donors):
        assert (subjects[row] is None and donor == row) or (subjects[row] != subjects[donor] is not None)
    np.testing.assert_array_equal(donors, exchange(subjects, seed))
    assert not np.array_equal(donors, exchange(subjects, seed + 100))


def test_shuffled_gaze_that_cannot_exist_is_an_error():
    with pytest.raises(DataError, match="3 of 5"):
        exchange(["a", "a", "a", "b", "c"], 0)


def test_shuffled_gaze_keeps_its_place_as_a_fraction_of_the_film():
    gaze = [
        Fixations([50.0], [20.0], [1], [10], [5], [0]),
        Fixations.empty(),
        Fixations([5.0], [6.0], [2], [1], [1], [0]),
    ]
    given = shuffled_gaze(gaze, [(100, 200), (10, 10), (20, 10)], ["a", "b", "c"], 0)
    assert len(given[1]) == 0
    assert (given[2].x[0], given[2].y[0], given[2].sigma_x[0], given[2].sigma_y[0]) == (2.5, 4.0, 0.5, 1.0)
    assert (given[0].x[0], given[0].y[0], given[0].duration[0]) == (100.0, 30.0, 2.0)


def test_mean_gaze_renders_as_the_mean_of_all_maps():
    generator = np.random.default_rng(0)
    grid, size = (12, 10), (60, 50)
    gaze = [
        Fixations(*generator.uniform(10, 40, (2, 8)), generator.random(8), *np.full((2, 8), 6.0), np.arange(8))
        for _ in range(5)
    ] + [Fixations.empty()]
    mean = mean_gaze(gaze, [size] * 6, "duration", grid)
    assert len(mean[5]) == 0

    def render(reading):
        cells = reading.affine(grid[1] / size[1], grid[0] / size[0], 0, 0)
        return render_saliency(cells.x, cells.y, cells.duration, cells.sigma_x, cells.sigma_y, grid)

    wanted = np.mean([render(reading) for reading in gaze[:5]], axis=0)
    for reading in mean[:5]:
        found = render(reading)
        assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99
        assert np.abs(found - wanted).max() < 0.12 * wanted.max(), "a sigma of half a cell blurs a little"


@pytest.mark.parametrize("source", ["shuffled", "mean"])
def test_controls_change_the_gaze_of_training_only(module, source):
    own, control = module(), module(gaze_source=source)
    for part in ("validate", "test"):
        for a, b in zip(own._datasets[part], control._datasets[part], strict=True):
            np.testing.assert_array_equal(a["fixations"], b["fixations"])
    changed = [
        not np.array_equal(a["fixations"], b["fixations"])
        for a, b in zip(own._datasets["train"], control._datasets["train"], strict=True)
        if len(a["fixations"])
    ]
    assert all(changed)
    for a, b in zip(own._datasets["train"], control._datasets["train"], strict=True):
        assert bool(len(a["fixations"])) == bool(len(b["fixations"])), "who has no gaze is given none"


def test_samples_hold_plain_texts_and_the_numbers_of_the_table(module):
    built = module()
    rows = built.readings[built.readings["split"] == "test"]
    dataset = built._datasets["test"]
    assert list(dataset.sample_ids) == rows["sample_id"].tolist()
    assert list(dataset.subjects) == rows["subject"].tolist()
    for index, sample in enumerate(dataset):
        assert (type(sample["sample_id"]), type(sample["subject"])) == (str, str)
        assert sample["sample_id"] == dataset.sample_ids[index]
        height, width = built._cache.sizes[dataset.films[index]]
        scale = min(48 / height, 40 / width)
        box = np.array([40 - width * scale, 48 - height * scale, 40 + width * scale, 48 + height * scale]) / 2
        np.testing.assert_allclose(sample["film_box"], box, rtol=1e-6)


def test_a_dataset_keeps_arrays_and_one_object_for_all_readings_without_gaze(module):
    dataset = module()._datasets["train"]
    assert not [name for name, value in vars(dataset).items() if isinstance(value, list)]
    without = [gaze for gaze in dataset.gaze if not len(gaze)]
    assert len(without) > 1
    assert len({id(gaze) for gaze in without}) == 1
