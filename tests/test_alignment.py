"""Films aligned by their chest boxes: pixels, gaze and outlines land together, and nothing else changes."""

import hashlib
import os
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning import LightningModule, Trainer

from data_modules.alignment import chest_fits
from data_modules.errors import DataError
from data_modules.film_fits import FilmFits
from data_modules.films.cache import open_cache
from data_modules.films.cache_files import fingerprint
from data_modules.films.images import read_film
from data_modules.gaze_sources import shuffled_gaze
from data_modules.geometry import FilmFit
from data_modules.joint import JointDataModule
from data_modules.manifest import ManifestDataModule
from data_modules.reflacx import ReflacxDataModule
from gaze_lightning.commands.cache import cache as cache_command
from gaze_lightning.commands.run import _predict_folder
from gaze_lightning.gaze import Fixations, render_saliency
from tests.made_up_table import MadeUpDataModule, make_table, with_readers

CANVAS = (48, 40)
edges = st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(0.5, 80), st.floats(0.5, 80))


@given(box=edges, canvas=st.tuples(st.integers(1, 60), st.integers(1, 60)), margin=st.floats(0, 1))
def test_the_enlarged_box_is_centred_touches_two_borders_and_lies_on_the_canvas(box, canvas, margin):
    x0, y0, width, height = box
    fit = FilmFit.onto((x0, y0, x0 + width, y0 + height), canvas, margin)
    left, right = (fit.scale * x + fit.offset_x for x in (x0 - margin * width, x0 + (1 + margin) * width))
    upper, lower = (fit.scale * y + fit.offset_y for y in (y0 - margin * height, y0 + (1 + margin) * height))
    assert left + right == pytest.approx(canvas[1], abs=1e-6)
    assert upper + lower == pytest.approx(canvas[0], abs=1e-6)
    assert min(left, upper) == pytest.approx(0, abs=1e-6)
    assert max(right - canvas[1], lower - canvas[0]) < 1e-6
    x, y = fit.scale * 3 + fit.offset_x, fit.scale * 4 + fit.offset_y
    back = fit.inverse()
    assert (back.scale * x + back.offset_x, back.scale * y + back.offset_y) == pytest.approx((3, 4), abs=1e-6)


@given(film=st.tuples(st.integers(1, 60), st.integers(1, 60)), canvas=st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_the_box_of_the_whole_film_without_margin_places_it_whole(film, canvas):
    fit, whole = FilmFit.onto((0, 0, film[1], film[0]), canvas), FilmFit.of(film, canvas)
    wanted = (whole.scale, whole.offset_x, whole.offset_y)
    assert (fit.scale, fit.offset_x, fit.offset_y) == pytest.approx(wanted, abs=1e-9)


def test_a_box_without_area_is_refused():
    for box, canvas in (((5, 5, 5, 9), (4, 4)), ((5, 9, 9, 5), (4, 4)), ((0, 0, 9, np.nan), (4, 4))):
        with pytest.raises(ValueError, match="area"):
            FilmFit.onto(box, canvas)
    with pytest.raises(ValueError, match="area"):
        FilmFit.onto((0, 0, 9, 9), (0, 4))


def literal(film, box, canvas, margin):
    """Mean of the film over each canvas pixel, film pixel by film pixel, without any affine; zero off the film."""
    x0, y0, x1, y1 = box
    side = max((y1 - y0) * (1 + 2 * margin) / canvas[0], (x1 - x0) * (1 + 2 * margin) / canvas[1])  # of a canvas pixel
    left, upper = (x0 + x1) / 2 - side * canvas[1] / 2, (y0 + y1) / 2 - side * canvas[0] / 2
    out = np.zeros(canvas)
    for row in range(canvas[0]):
        for column in range(canvas[1]):
            for i in range(film.shape[0]):
                for j in range(film.shape[1]):
                    height = min(i + 1, upper + side * (row + 1)) - max(i, upper + side * row)
                    width = min(j + 1, left + side * (column + 1)) - max(j, left + side * column)
                    out[row, column] += film[i, j] * max(height, 0) * max(width, 0) / side**2
    return out


@pytest.mark.parametrize("box", [(4.0, 3.5, 15.0, 12.0), (0.0, 0.0, 21.0, 17.0), (15.0, 10.25, 21.0, 17.0)])
@pytest.mark.parametrize("canvas", [(6, 8), (11, 5)])
def test_the_placed_film_is_the_literal_area_interpolation_of_the_cut_film(tmp_path, box, canvas):
    film = np.random.default_rng(0).integers(0, 256, (17, 21), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), film)
    fit = FilmFit.onto(box, canvas, 0.1)
    placed = read_film(tmp_path / "a.png", canvas, fit=fit)
    assert (placed.height, placed.width) == film.shape
    np.testing.assert_allclose(placed.pixels, literal(film, box, canvas, 0.1), atol=0.501)


def test_deep_films_are_stretched_as_a_whole_and_jpegs_decoded_as_the_larger_scale_needs(tmp_path, monkeypatch):
    rows, columns = np.mgrid[:200, :160]
    grey = (90 + 60 * np.sin(rows / 9) * np.cos(columns / 7)).astype(np.uint8)
    deep = grey.astype(np.uint16) * 200
    deep[0, 0], deep[-1, -1] = 0, 65535  # both outside the box
    box, canvas = (60.0, 60.0, 100.0, 110.0), (30, 24)
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    fit = FilmFit.onto(box, canvas)
    wanted = deep[60:110, 60:100].astype(float) / 257
    found = read_film(tmp_path / "a.png", canvas, fit=fit).pixels
    assert found.mean() == pytest.approx(wanted.mean(), abs=1)
    cv2.imwrite(str(tmp_path / "a.jpg"), grey, [cv2.IMWRITE_JPEG_QUALITY, 98])
    flags = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda data, flag: flags.append(flag) or decode(data, flag))
    whole, aligned = read_film(tmp_path / "a.jpg", canvas), read_film(tmp_path / "a.jpg", canvas, fit=fit)
    reduced = [bool(flag & cv2.IMREAD_REDUCED_GRAYSCALE_4 & ~cv2.IMREAD_GRAYSCALE) for flag in flags]
    assert reduced == [True, False]
    assert (whole.height, whole.width) == (aligned.height, aligned.width) == grey.shape
    cv2.imwrite(str(tmp_path / "b.png"), grey)
    np.testing.assert_allclose(aligned.pixels, read_film(tmp_path / "b.png", canvas, fit=fit).pixels, atol=4)


def with_boxes(table, seed=0, without=()):
    """Each film has a box of its own that holds its middle; readers differ about it."""
    generator, boxes = np.random.default_rng(seed), {}
    for row in table.frame.itertuples():
        if row.image_id not in without:
            low, high = generator.uniform(0, 12, 2), generator.uniform(0, 12, 2)
            boxes[row.sample_id] = (low[0], low[1], row.width - high[0], row.height - high[1])
    return replace(table, chest_boxes=boxes)


class Aligned(MadeUpDataModule):
    def __init__(self, table, cache_dir, chest_margin=0.1, **options):
        super().__init__(table, cache_dir, **options)
        self.align, self.chest_margin = "chest_box", chest_margin


def ready(kind, table, tmp_path, stage="fit", **options):
    module = kind(table, tmp_path / "cache", **options)
    module.prepare_data()
    module.setup(stage)
    return module


def centre(image):
    rows, columns = np.indices(image.shape) + 0.5
    weight = image.astype(float)
    return (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()


def test_points_sigmas_outlines_and_visible_parts_land_where_their_pixels_land(tmp_path):
    table = with_boxes(make_table(tmp_path / "films", visible=True), without=("i1", "i7"))
    module = ready(Aligned, table, tmp_path, image_size=(96, 80), chest_margin=0.4)
    fits = dict(zip(table.frame["sample_id"], module.film_fits(), strict=True))
    compared = 0
    for part in ("train", "validate"):
        dataset = module._datasets[part]
        for index, name in enumerate(dataset.sample_ids):
            sample = dataset[index]
            row = table.frame.set_index("sample_id").loc[name]
            fit = fits[name] or FilmFit.of((row["height"], row["width"]), (96, 80))
            assert (fits[name] is None) == (row["image_id"] in ("i1", "i7"))
            x0, y0, x1, y1 = fit.box((row["height"], row["width"]))
            wanted = (max(x0, 0), max(y0, 0), min(x1, 80), min(y1, 96))
            np.testing.assert_allclose(sample["film_box"], wanted, rtol=1e-6)
            for x, y, _, sigma_x, sigma_y in sample["fixations"]:
                # the film is a spot of the fixation's sigma around it; 4 sigma of it lie on the canvas
                if min(x, y, 80 - x, 96 - y) < 4 * sigma_x:
                    continue
                compared += 1
                at = centre(sample["image"][0])
                np.testing.assert_allclose(at, (x, y), atol=0.15)
                spread = np.sqrt(
                    (sample["image"][0] * (np.arange(80) + 0.5 - at[0]) ** 2).sum() / sample["image"].sum(dtype=float)
                )
                assert spread == pytest.approx(sigma_x, rel=0.06)
                assert sigma_x == sigma_y == pytest.approx(4 * fit.scale, rel=1e-6)
                shown = table.fixations[name].visible
                if shown is not None:
                    moved = shown[0] * fit.scale + np.tile([fit.offset_x, fit.offset_y], 2)
                    np.testing.assert_allclose(sample["visible"][0], moved, rtol=1e-5)
                if part == "validate":
                    (k,) = np.flatnonzero(sample["lesion_mask"].any(axis=(1, 2)))
                    np.testing.assert_allclose(centre(sample["lesion_mask"][k]), (x, y), atol=0.5)
    assert compared > 15


def test_augmentation_moves_what_is_shown_and_the_film_box_is_cut_before_it(tmp_path):
    module = ready(Aligned, with_boxes(make_table(tmp_path / "films")), tmp_path, augmentation="strong")
    for index in range(len(module._datasets["train"])):
        sample = module._datasets["train"][(0, index)]
        x0, y0, x1, y1 = sample["film_box"]
        assert 0 <= x0 < x1 <= 40
        assert 0 <= y0 < y1 <= 48
        outside = sample["image"][0].copy()
        low_x, low_y = max(int(x0) - 1, 0), max(int(y0) - 1, 0)  # interpolation reaches one pixel further
        outside[low_y : int(np.ceil(y1)) + 1, low_x : int(np.ceil(x1)) + 1] = 0
        assert not outside.any()


def test_a_film_has_the_mean_box_of_its_readers_and_those_without_one_are_counted(tmp_path):
    table = with_boxes(with_readers(make_table(tmp_path / "films", 20)), without=("i2", "i3"))
    fits = chest_fits(table, CANVAS, 0.2)
    frame = table.frame
    assert len(fits) == frame["image_path"].nunique()
    for fit, (_, readings) in zip(fits, frame.groupby("image_path", sort=False), strict=True):
        boxes = [table.chest_boxes[name] for name in readings["sample_id"] if name in table.chest_boxes]
        assert fit == (FilmFit.onto(tuple(np.mean(boxes, axis=0).tolist()), CANVAS, 0.2) if boxes else None)
    module = ready(Aligned, table, tmp_path)
    assert module.table().notes[-1] == (
        "films aligned by their chest boxes: 18 of 20; 2 without one are placed whole and are not aligned"
    )
    module = Aligned(table, tmp_path / "cache")
    module.reader_policy = "mean_map"
    means = module.film_fits()
    expected = chest_fits(table, CANVAS, 0.1)
    for one, other in zip(means, expected, strict=True):
        assert (one is None) == (other is None)
        assert one is None or (one.scale, one.offset_x) == pytest.approx((other.scale, other.offset_x))


def test_no_box_at_all_and_an_impossible_margin_are_refused(tmp_path):
    table = make_table(tmp_path / "films", 10)
    with pytest.raises(DataError, match=r"no film has one.*align: film"):
        Aligned(table, tmp_path).prepare_data()
    for margin in (-0.1, float("nan")):
        with pytest.raises(DataError, match="chest_margin"):
            Aligned(with_boxes(table), tmp_path, chest_margin=margin).prepare_data()


def test_aligned_and_whole_films_never_share_a_cache_and_whole_ones_keep_their_key(tmp_path):
    table = with_boxes(make_table(tmp_path / "films", 20))
    paths = table.frame["image_path"].tolist()
    stated = table.frame[["height", "width"]].to_numpy()
    whole, aligned = ready(MadeUpDataModule, table, tmp_path), ready(Aligned, table, tmp_path)
    wider = ready(Aligned, table, tmp_path, chest_margin=0.3)
    modules = (whole, aligned, wider)
    assert len({module._cache.path for module in modules}) == 3
    assert len({module.fingerprint() for module in modules}) == 3
    assert whole._cache.path.stem.endswith(fingerprint(paths, stated, CANVAS))
    assert ready(Aligned, table, tmp_path)._cache.path == aligned._cache.path
    assert ready(Aligned, table, tmp_path).fingerprint() == aligned.fingerprint()
    for row, path in enumerate(paths):
        np.testing.assert_array_equal(whole._cache[row], read_film(Path(path), CANVAS).pixels)
        np.testing.assert_array_equal(
            aligned._cache[row], read_film(Path(path), CANVAS, fit=aligned.film_fits()[row]).pixels
        )


def test_a_key_of_whole_films_is_that_of_before_there_was_alignment(tmp_path):
    """The recipe written out: caches that were built before stay valid."""
    film = tmp_path / "a.png"
    cv2.imwrite(str(film), np.eye(5, dtype=np.uint8))
    status = film.stat()
    digest = hashlib.sha256(b"4 (8, 9) stored")
    digest.update(f"\n{film}\t{(status.st_size, status.st_mtime_ns)}\t5 5".encode())
    assert fingerprint([film], [(5, 5)], (8, 9)) == digest.hexdigest()[:20]


def test_an_unfinished_aligned_cache_goes_on_with_its_fits(tmp_path):
    table = with_boxes(make_table(tmp_path / "films", 8))
    paths, names = table.frame["image_path"].tolist(), ["row"] * 8
    fits, stated = chest_fits(table, CANVAS, 0.1), [(0, 0)] * 8
    kept = Path(paths[5]).read_bytes()
    status = Path(paths[5]).stat()
    Path(paths[5]).write_bytes(b"x" * len(kept))
    os.utime(paths[5], ns=(status.st_mtime_ns, status.st_mtime_ns))
    with pytest.raises(DataError):
        open_cache(paths, stated, CANVAS, tmp_path / "cache", names, progress=False, fits=fits)
    Path(paths[5]).write_bytes(kept)
    os.utime(paths[5], ns=(status.st_mtime_ns, status.st_mtime_ns))
    cache = open_cache(paths, stated, CANVAS, tmp_path / "cache", names, progress=False, fits=fits)
    for row, path in enumerate(paths):
        np.testing.assert_array_equal(cache[row], read_film(Path(path), CANVAS, fit=fits[row]).pixels)


def test_the_mean_training_map_is_the_mean_of_the_training_maps_on_the_canvas(tmp_path):
    table = with_boxes(with_readers(make_table(tmp_path / "films", 30)), without=("i4",))
    module = ready(Aligned, table, tmp_path, "test", saliency_size=CANVAS)
    maps = []
    train = module._datasets["train"]
    for index in range(len(train)):
        x, y, weight, sigma_x, sigma_y = train[index]["fixations"].astype(float).T
        if len(x):
            maps.append(render_saliency(x, y, weight, sigma_x, sigma_y, CANVAS))
    wanted = np.mean([one for one in maps if one.sum() > 0], axis=0)
    wanted /= wanted.sum()
    batch = module.on_after_batch_transfer(next(iter(module.test_dataloader())), 0)
    assert len(batch["mean_saliency"]) > 2
    for found in batch["mean_saliency"][:, 0].numpy():
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(module.mean_training_gaze().numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("source", ["shuffled", "mean"])
def test_gaze_of_others_is_carried_over_on_the_canvas(tmp_path, source):
    table = with_boxes(make_table(tmp_path / "films", 30))
    own, foreign = ready(Aligned, table, tmp_path), ready(Aligned, table, tmp_path, gaze_source=source)
    having = [index for index, gaze in enumerate(own._datasets["train"].gaze) if len(gaze)]
    points = [own._datasets["train"][index]["fixations"] for index in having]
    found = [foreign._datasets["train"][index]["fixations"] for index in having]
    if source == "mean":
        for other in found[1:]:
            np.testing.assert_allclose(other, found[0], rtol=1e-4, atol=1e-4)
        return
    subjects = [own._datasets["train"].subjects[index] for index in range(len(own._datasets["train"]))]
    on_canvas = [Fixations.empty() for _ in subjects]
    for index, own_points in zip(having, points, strict=True):
        x, y, weight, sigma_x, sigma_y = own_points.astype(float).T
        on_canvas[index] = Fixations(x, y, weight, sigma_x, sigma_y, np.zeros(len(x)))
    wanted = shuffled_gaze(on_canvas, [CANVAS] * len(subjects), subjects, 0)
    for index, other in zip(having, found, strict=True):
        np.testing.assert_allclose(other[:, 0], wanted[index].x, atol=1e-4)
        np.testing.assert_allclose(other[:, 1], wanted[index].y, atol=1e-4)


def test_without_alignment_the_frame_is_the_film_and_gaze_is_not_touched():
    sizes = np.array([(50, 60), (60, 50)], dtype=np.int32)
    fits, films = FilmFits(sizes, CANVAS), np.array([1, 0])
    gaze = [Fixations([1.0], [2.0], [3.0], [4.0], [5.0], [0.0])] * 2
    assert all(after is before for after, before in zip(fits.to_frame(gaze, films), gaze, strict=True))
    assert all(after is before for after, before in zip(fits.from_frame(gaze, films), gaze, strict=True))
    assert fits.frame_sizes(films).tolist() == [[60, 50], [50, 60]]
    assert fits.box(0) == FilmFit.of((50, 60), CANVAS).box((50, 60))


def shifted_films(folder, n=40):
    """The same chest at another place and size on every film, with noise; its box is known."""
    folder.mkdir()
    table = make_table(folder, n)
    generator, boxes = np.random.default_rng(3), {}
    for row in table.frame.itertuples():
        side = generator.uniform(20, 30)
        left, upper = generator.uniform(0, row.width - side), generator.uniform(0, row.height - side)
        y, x = np.mgrid[: row.height, : row.width] + 0.5
        u, v = (x - left) / side, (y - upper) / side
        lungs = sum(np.exp(-(((u - at) / 0.12) ** 2 + ((v - 0.5) / 0.3) ** 2)) for at in (0.28, 0.72))
        film = 60 + 150 * lungs + 10 * generator.standard_normal(lungs.shape)
        cv2.imwrite(row.image_path, np.clip(film, 0, 255).astype(np.uint8))
        boxes[row.sample_id] = (left, upper, left + side, upper + side)
    return replace(table, chest_boxes=boxes)


def covered(box):
    """Share of every pixel that lies in a box, pixel by pixel."""
    x0, y0, x1, y1 = box
    share = np.zeros(CANVAS)
    for y in range(CANVAS[0]):
        for x in range(CANVAS[1]):
            share[y, x] = max(0, min(x1, x + 1) - max(x0, x)) * max(0, min(y1, y + 1) - max(y0, y))
    return share


def test_the_mean_film_gains_structure(tmp_path):
    table = shifted_films(tmp_path / "films")
    structure = {}
    for kind in (MadeUpDataModule, Aligned):
        module = ready(kind, table, tmp_path)
        found = module.film_statistics()
        common, own = np.zeros(CANVAS), []
        films = np.unique(module._datasets["train"].films).tolist()
        covers = {film: covered(module._fits.box(film)) for film in films}
        inside = found.coverage.numpy() >= 0.5
        for film in films:
            there = inside & (covers[film] >= 0.5)
            common += np.where(there, module._cache[film] / 255, 0)
            own.append((module._cache[film][there] / 255).std())
        count = sum(covers[film] >= 0.5 for film in films)
        literally = (common[inside] / count[inside]).std() / np.mean(own)
        assert found.structure == pytest.approx(literally, rel=1e-3)
        structure[kind] = found.structure
    assert structure[Aligned] > 0.85
    assert structure[Aligned] > structure[MadeUpDataModule] + 0.3


def test_coverage_counts_what_lies_on_the_canvas(tmp_path):
    table = with_boxes(make_table(tmp_path / "films"), without=("i4",))
    module = ready(Aligned, table, tmp_path, chest_margin=0.0)
    films = np.unique(module._datasets["train"].films).tolist()
    wanted = np.zeros(CANVAS)
    for film in films:
        row = table.frame.iloc[film]
        fit = module.film_fits()[film] or FilmFit.of((row["height"], row["width"]), CANVAS)
        right, lower = fit.offset_x + fit.scale * row["width"], fit.offset_y + fit.scale * row["height"]
        wanted += covered((fit.offset_x, fit.offset_y, right, lower)) / len(films)
    found = module.film_statistics().coverage
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert found.min() < 0.9 < found.max(), "some films leave a margin"


class Smallest(LightningModule):
    """A linear model on reduced films."""

    def __init__(self, classes):
        super().__init__()
        self.linear = torch.nn.Linear(16, classes)
        self.seen = []

    def training_step(self, batch, batch_idx):
        pooled = torch.nn.functional.adaptive_avg_pool2d(batch["image"], 4).flatten(1)
        known = ~batch["label"].isnan()
        label = batch["label"].nan_to_num()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(self.linear(pooled), label, reduction="none")
        return loss[known].mean()

    def test_step(self, batch, batch_idx):
        self.seen += batch["mean_saliency"].sum(dim=(1, 2, 3)).tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_the_phantom_as_reflacx_trains_aligned_and_its_chests_fill_the_image(phantom_root, tmp_path):
    options = {"root": str(phantom_root), "image_size": (64, 48), "saliency_size": (16, 12), "batch_size": 4}
    modules = {
        align: ReflacxDataModule(align=align, cache_dir=str(tmp_path), augmentation="light", **options)
        for align in ("film", "chest_box")
    }
    data = modules["chest_box"]
    model = Smallest(len(data.class_names))
    before = model.linear.weight.detach().clone()
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    assert not torch.equal(model.linear.weight, before)
    assert model.seen == pytest.approx([1.0] * len(model.seen), abs=1e-5)
    assert len(model.seen) == len(data._datasets["test"])
    table = data.table()
    assert "films aligned by their chest boxes" in table.notes[-1]
    modules["film"].prepare_data()
    modules["film"].setup("fit")
    assert data.film_statistics().structure > modules["film"].film_statistics().structure
    assert data.fingerprint() != modules["film"].fingerprint()
    compared = 0
    for film, (_, readings) in enumerate(table.frame.groupby("image_path", sort=False)):
        boxes = [table.chest_boxes[name] for name in readings["sample_id"] if name in table.chest_boxes]
        if boxes:
            compared += 1
            x0, y0, x1, y1 = np.mean(boxes, axis=0)
            assert data._fits.fit(film).scale * max((x1 - x0) / 48, (y1 - y0) / 64) == pytest.approx(1 / 1.2)
    assert compared > 10


@pytest.mark.parametrize("readers", ["separate", "mean_map", "random_reader"])
def test_both_sources_together_are_aligned_whatever_is_made_of_several_readers(phantom_root, tmp_path, readers):
    sizes = {"image_size": CANVAS, "saliency_size": (12, 10), "batch_size": 8}
    options = {"root": str(phantom_root), "cache_dir": str(tmp_path), "split": "official", **sizes}
    data = JointDataModule(readers=readers, align="chest_box", **options)
    data.prepare_data()
    data.setup("fit")
    single, table = JointDataModule(**options).table(), data.table()
    boxes = {path: [] for path in single.frame["image_path"]}
    for path, name in zip(single.frame["image_path"], single.frame["sample_id"], strict=True):
        if name in single.chest_boxes:
            boxes[path].append(single.chest_boxes[name])
    fits = data.film_fits()
    with_box = sum(fit is not None for fit in fits)
    assert 50 < with_box < len(fits)
    assert f"{with_box} of {len(fits)}; {len(fits) - with_box} without one" in table.notes[-1]
    assert max(len(of_film) for of_film in boxes.values()) > 1
    for path, fit in zip(dict.fromkeys(table.frame["image_path"]), fits, strict=True):
        assert (fit is None) == (not boxes[path])
        if fit is not None:
            onto = FilmFit.onto(tuple(np.mean(boxes[path], axis=0).tolist()), CANVAS, 0.1)
            assert (fit.scale, fit.offset_x, fit.offset_y) == pytest.approx((onto.scale, onto.offset_x, onto.offset_y))
    train, shown = data._datasets["train"], 0
    for index, film in enumerate(train.films.tolist()):
        fit, gaze = data._fits.fit(film), train.gaze[index]
        moved = np.stack([gaze.x * fit.scale + fit.offset_x, gaze.y * fit.scale + fit.offset_y], axis=1)
        for x, y, *_ in train[index]["fixations"]:
            shown += 1
            assert np.abs(moved - (x, y)).max(axis=1).min() < 1e-3
    assert shown > 500
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    count = len(np.unique(train.films)) if readers == "random_reader" else len(train)
    assert len(batches) == count // 8
    for batch in batches:
        sums = batch["saliency"].sum(dim=(1, 2, 3))
        torch.testing.assert_close(sums, batch["has_gaze"].float(), rtol=0, atol=1e-5)
    assert data.mean_training_gaze().sum() == pytest.approx(1, abs=1e-5)


def test_the_cache_command_finds_the_aligned_cache(phantom_root, tmp_path, capsys):
    arguments = [
        "--data=ReflacxDataModule",
        f"--data.init_args.root={phantom_root}",
        f"--data.init_args.cache_dir={tmp_path}",
        "--data.init_args.image_size=[32,24]",
        "--data.init_args.align=chest_box",
    ]
    cache_command([], arguments)
    (built,) = tmp_path.glob("*.npy")
    capsys.readouterr()
    cache_command([], [*arguments, "--dry_run=true"])
    assert f"built already, {built}" in capsys.readouterr().out
    cache_command([], [*arguments[:-1], "--dry_run=true"])
    assert "built already" not in capsys.readouterr().out


@pytest.mark.parametrize("align", ["film", "chest_box", None])
def test_predicting_a_folder_warns_if_the_model_was_trained_on_aligned_films(tmp_path, align):
    config, checkpoint = tmp_path / "config.yaml", tmp_path / "best.ckpt"
    options = {"image_size": [32, 24], "batch_size": 4, "num_workers": 0} | ({"align": align} if align else {})
    config.write_text(yaml.safe_dump({"data": {"class_path": "data_modules.ReflacxDataModule", "init_args": options}}))
    torch.save({"hyper_parameters": {"class_names": ["a", "b"], "label_type": "multi"}}, checkpoint)
    arguments = ["--config", str(config), "--ckpt_path", str(checkpoint)]
    (tmp_path / "changed").mkdir()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        changed = _predict_folder(arguments, tmp_path / "films", tmp_path / "changed")
    said = [str(warning.message) for warning in caught]
    assert len(said) == (align == "chest_box")
    for words in ("have no boxes and are placed whole", "cropped to the chest", "chest_box_columns"):
        assert all(words in one for one in said)
    data = yaml.safe_load(Path(changed[1]).read_text())["data"]
    assert data["class_path"] == "data_modules.FolderDataModule"
    assert "align" not in data["init_args"]


def manifest(tmp_path, rows, **options):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        cv2.imwrite(str(tmp_path / name), np.random.default_rng(0).integers(0, 255, (40, 30), dtype=np.uint8))
    columns = ["image", "sick", "split", "left", "top", "right", "bottom"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "images.csv", index=False)
    return ManifestDataModule(
        root=str(tmp_path),
        images_csv="images.csv",
        label_columns=["sick"],
        split_column="split",
        align="chest_box",
        cache_dir=str(tmp_path / "cache"),
        image_size=(32, 24),
        **options,
    )


BOX = ["left", "top", "right", "bottom"]
ROWS = [
    ("a.png", 1, "train", 5, 6, 25, 36),
    ("b.png", 0, "train", "", "", "", ""),
    ("c.png", 1, "validate", -3, 2, 99, 38.5),
    ("d.png", 0, "test", 1, 1, 29, 39),
]


def test_own_films_name_the_columns_of_their_boxes(tmp_path):
    module = manifest(tmp_path, ROWS, chest_box_columns=BOX)
    assert module.table().chest_boxes == {"a.png": (5, 6, 25, 36), "c.png": (0, 2, 30, 38.5), "d.png": (1, 1, 29, 39)}
    assert [fit is None for fit in module.film_fits()] == [False, True, False, False]
    module.prepare_data()
    module.setup("fit")
    assert "3 of 4; 1 without one" in module.table().notes[-1]


def test_own_films_without_columns_or_with_wrong_boxes_are_refused(tmp_path):
    with pytest.raises(DataError, match="chest_box_columns"):
        manifest(tmp_path, ROWS).table()
    with pytest.raises(ValueError, match="four different columns"):
        manifest(tmp_path, ROWS, chest_box_columns=BOX[:3]).table()
    wrong = [(25, 6, 5, 36), (5, "", 25, 36), (31, 6, 40, 36)]
    rows = [(*row[:3], *box) for row, box in zip(ROWS, wrong, strict=False)]
    with pytest.raises(DataError, match="row 2") as caught:
        manifest(tmp_path, [*rows, ROWS[3]], chest_box_columns=BOX).table()
    assert caught.value.rows == ("row 2", "row 3", "row 4")
