"""Films with labels to compare with, the gaze of the training part, and who its patients are."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from data_modules.alignment import chest_fits
from data_modules.gaze_sources import reaches
from data_modules.geometry import FilmFit
from data_modules.manifest import ManifestDataModule
from data_modules.mimic_cxr import MimicCXRDataModule
from data_modules.training_films import draw_balanced
from gaze_lightning.gaze.similarity import RelationMatrix
from gaze_lightning.protocols import NamesPatients, OffersTrainingGaze, OffersTwoViews
from tests.made_up_table import MadeUpDataModule, make_table, with_readers

FRAME = (1024, 1024)


class Aligned(MadeUpDataModule):
    align = "chest_box"


@pytest.fixture
def module(tmp_path):
    def build(stage="fit", kind=MadeUpDataModule, label_type="single", change=None, **options):
        table = with_readers(make_table(tmp_path / "films", 40, label_type=label_type))
        table = table if change is None else change(table)
        built = kind(table, tmp_path / "cache", **options)
        built.prepare_data()
        built.setup(stage)
        return built

    return build


def finished(built, loader):
    return [built.on_after_batch_transfer(batch, 0) for batch in loader]


def names_of(loader):
    return [name for batch in loader for name in batch["sample_id"]]


def labels_of(built):
    return dict(zip(built.table().frame["sample_id"], built.table().labels, strict=True))


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
@pytest.mark.parametrize("part", ["train", "validate"])
def test_every_film_of_the_part_is_there_once_as_the_cache_has_it(module, stage, part):
    built = module(stage, augmentation="strong", gaze_source="shuffled")
    frame = built.readings[built.readings["split"] == part]
    batches = finished(built, built.reference_loader(part, None))
    found = [name for batch in batches for name in batch["sample_id"]]
    assert found == frame.drop_duplicates("image_path")["sample_id"].tolist()
    for batch in batches:
        assert "warp" not in batch
        assert "lesion_mask" not in batch
        for image, film, name, label in zip(
            batch["image"], batch["film"], batch["sample_id"], batch["label"], strict=True
        ):
            assert torch.equal(image[0], torch.from_numpy(built._cache[int(film)]).float() / 255)
            assert label == labels_of(built)[name]
    assert built._datasets["train"].augmenter is not None, "training itself is still augmented"


@pytest.mark.parametrize("label_type", ["single", "multi"])
def test_a_few_films_are_drawn_balanced(module, label_type):
    built = module(label_type=label_type)
    everything, few = names_of(built.reference_loader("train", None)), names_of(built.reference_loader("train", 6))
    labels = np.stack([labels_of(built)[name] for name in everything])
    assert few == [everything[index] for index in draw_balanced(labels, 6, seed=0)]
    assert names_of(built.reference_loader("train", 6)) == few
    assert names_of(built.reference_loader("train", 1000)) == everything


def test_films_without_any_known_value_are_left_out(module):
    def forget(table):
        labels = table.labels.copy()
        labels[np.arange(len(labels)) % 4 != 3] = np.nan  # of some films the first reading, of some all
        return replace(table, labels=labels)

    built = module(label_type="multi", change=forget)
    frame = built.readings[built.readings["split"] == "train"]
    known = frame[[not np.isnan(labels_of(built)[name]).all() for name in frame["sample_id"]]]
    assert 0 < known["image_path"].nunique() < frame["image_path"].nunique()
    found = names_of(built.reference_loader("train", None))
    assert found == known.drop_duplicates("image_path")["sample_id"].tolist()


@pytest.mark.parametrize("labels", [None, "unknown"])
def test_without_labels_there_is_no_reference(module, labels):
    def forget(table):
        if labels is None:
            return replace(table, labels=None, class_names=())
        return replace(table, labels=np.full_like(table.labels, np.nan))

    built = module(label_type="multi", change=forget)
    assert built.reference_loader("train", None) is None
    assert built.reference_loader("validate", 3) is None


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("n", [None, 7, 6])
def test_ranks_share_the_films_in_equally_many_batches(module, monkeypatch, world, n):
    built = module(eval_batch_size=2)
    alone = names_of(built.reference_loader("train", n))
    together, batches = [], []
    for rank in range(world):
        monkeypatch.setattr(built, "_place", lambda rank=rank: (rank, world))
        loader = built.reference_loader("train", n)
        batches.append(len(loader))
        together.append(names_of(loader))
    assert sorted(name for names in together for name in names) == sorted(alone)
    assert len(set(batches)) == 1


def test_fewer_films_than_processes_are_no_reference_on_any_of_them(module, monkeypatch):
    built = module()
    for rank in range(4):
        monkeypatch.setattr(built, "_place", lambda rank=rank: (rank, 4))
        with pytest.warns(UserWarning, match="3 reference film"):
            assert built.reference_loader("train", 3) is None
        assert built.reference_loader("train", 4) is not None


def test_no_films_are_not_to_be_drawn(module):
    with pytest.raises(ValueError, match="positive"):
        module().reference_loader("train", 0)


def test_patients_are_those_of_the_readings(module):
    built = module()
    assert isinstance(built, NamesPatients)
    parts = [built.patients(part) for part in ("train", "validate", "test")]
    for part, found in zip(("train", "validate", "test"), parts, strict=True):
        assert found == set(built.readings.loc[built.readings["split"] == part, "subject"])
        assert found
    assert len(frozenset.union(*parts)) == sum(len(found) for found in parts), "no patient is in two"


@pytest.mark.parametrize("source", ["own", "shuffled", "mean"])
def test_training_gaze_is_what_the_samples_are_given_on_a_square_frame(module, source):
    built = module(gaze_source=source, augmentation="strong")
    found, dataset = built.training_gaze(), built._datasets["train"]
    assert found is built.training_gaze()
    assert found.frame == FRAME
    assert found.films.dtype == np.int64
    place = {name: row for row, name in enumerate(dataset.sample_ids)}
    frame = built.table().frame.set_index("sample_id")
    for name, own, film, label in zip(found.sample_ids, found.gaze, found.films, found.labels, strict=True):
        height, width = frame.loc[name, ["height", "width"]]
        fit = FilmFit.of((height, width), FRAME)
        given = dataset.gaze[place[name]].affine(fit.scale, fit.scale, fit.offset_x, fit.offset_y)
        given = given.select(reaches(given, FRAME))
        assert film == dataset.films[place[name]]
        assert label == labels_of(built)[name]
        for key in ("x", "y", "duration", "sigma_x", "sigma_y", "start"):
            np.testing.assert_array_equal(getattr(own, key), getattr(given, key))
    assert set(found.sample_ids) == {name for name in place if len(dataset.gaze[place[name]])}
    assert found.scan_paths == (source != "mean")
    other = module(gaze_source=source, image_size=(24, 30)).training_gaze()
    assert other.sample_ids == found.sample_ids
    for one, two in zip(found.gaze, other.gaze, strict=True):
        np.testing.assert_array_equal(one.x, two.x)


class OnePerFilm(MadeUpDataModule):
    reader_policy = "mean_map"


def test_joined_readers_are_no_scan_paths(module):
    assert module().training_gaze().scan_paths
    assert not module(kind=OnePerFilm).training_gaze().scan_paths

    def single(table):
        first = ~table.frame["image_id"].duplicated().to_numpy()
        return replace(table, frame=table.frame[first].reset_index(drop=True), labels=table.labels[first])

    assert module(kind=OnePerFilm, change=single).training_gaze().scan_paths
    assert not module(kind=OnePerFilm, change=single, gaze_weight="count").training_gaze().scan_paths


def test_points_and_readings_that_do_not_reach_the_frame_are_left_out(module):
    plain = module().training_gaze()
    count = [len(own) for own in plain.gaze]
    several = next(n for n in range(2, len(count)) if count[n] > 1)
    far, short, some = (plain.sample_ids[n] for n in (0, 1, several))

    def astray(table):
        gaze = dict(table.fixations)
        gaze[far] = replace(gaze[far], x=gaze[far].x + 1e4)
        gaze[short] = replace(gaze[short], duration=0 * gaze[short].duration)
        gaze[some] = replace(gaze[some], x=np.where(np.arange(count[several]) == 0, 1e4, gaze[some].x))
        return replace(table, fixations=gaze)

    found = module(change=astray).training_gaze()
    assert set(found.sample_ids) == set(plain.sample_ids) - {far, short}
    assert len(found.gaze[found.sample_ids.index(some)]) == count[several] - 1


def test_gaze_on_aligned_films_is_aligned_on_the_square(module):
    def boxed(table):
        boxes = {name: (5.0 + n % 4, 8.0, 40.0, 45.0 + n % 3) for n, name in enumerate(table.frame["sample_id"])}
        return replace(table, chest_boxes=boxes)

    built = module(kind=Aligned, change=boxed)
    found, dataset = built.training_gaze(), built._datasets["train"]
    fits = chest_fits(built.table(), FRAME, built.chest_margin)
    place = {name: row for row, name in enumerate(dataset.sample_ids)}
    for name, own, film in zip(found.sample_ids, found.gaze, found.films, strict=True):
        fit, given = fits[film], dataset.gaze[place[name]]
        moved = given.affine(fit.scale, fit.scale, fit.offset_x, fit.offset_y)
        np.testing.assert_array_equal(own.x, moved.x[reaches(moved, FRAME)])
    canvas = module(kind=Aligned, change=boxed, image_size=(30, 60)).training_gaze()
    assert canvas.sample_ids == found.sample_ids


def test_films_of_mimic_cxr_with_and_without_gaze_train_together(phantom_root: Path, tmp_path: Path) -> None:
    built = MimicCXRDataModule(
        root=str(phantom_root), gaze_sources=["egd_cxr"], labels=["Edema", "Pneumonia"], blank="negative",
        image_size=(48, 40), saliency_size=(12, 10), batch_size=6, augmentation="contrastive",
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    _drop_gaze(built)
    built.prepare_data()
    built.setup("fit")
    assert isinstance(built, OffersTwoViews)
    assert isinstance(built, OffersTrainingGaze)
    gaze = built.training_gaze()
    total = int((built.readings["split"] == "train").sum())
    assert 3 < len(gaze.sample_ids) == built.with_gaze("train") < total - 3
    assert gaze.labels is not None
    assert gaze.labels.shape == (len(gaze.sample_ids), 2)
    n = len(gaze.sample_ids)
    related = ~np.eye(n, dtype=bool)
    rows, columns = np.nonzero(related)
    relations = RelationMatrix(
        gaze.sample_ids, np.ones(n, np.bool_), np.arange(n + 1, dtype=np.int64) * (n - 1), columns.astype(np.int32),
        np.ones(len(rows), np.float32), 0.5,
    )  # fmt: skip
    before = sorted(names_of(built.train_dataloader()))
    built.draw_related_together(relations, 1.0)
    built.show_two_views()
    batches = finished(built, built.train_dataloader())
    order = [name in gaze.sample_ids for batch in batches for name in batch["sample_id"]]
    assert sum(a and b for a, b in pairwise(order)) >= min(sum(order), n) - 1
    assert len(order) == len(before)
    assert {bool(value) for batch in batches for value in batch["has_gaze"]} == {True, False}
    assert all(batch["second_view"].shape == batch["image"].shape for batch in batches)
    reference = built.reference_loader("train", 8)
    assert reference is not None
    assert len(names_of(reference)) == 8


def _drop_gaze(built: MimicCXRDataModule) -> None:
    """Forget the gaze of every second film, as in MIMIC-CXR, where few films have any."""
    table = built.table()
    kept = {name: own for n, (name, own) in enumerate(table.fixations.items()) if n % 2}
    built._table = replace(table, fixations=kept)


def test_data_without_gaze_say_what_to_do(module, tmp_path: Path) -> None:
    assert "data/egd_cxr" in module().gaze_remedy
    assert "data.init_args.gaze_sources=[egd_cxr]" in MimicCXRDataModule().gaze_remedy
    assert "no film of reflacx is in the training part" in MimicCXRDataModule(gaze_sources=["reflacx"]).gaze_remedy
    own = {"root": str(tmp_path), "images_csv": "images.csv"}
    assert "data.init_args.fixations_csv" in ManifestDataModule(**own).gaze_remedy
    assert "data.init_args.split" in ManifestDataModule(**own, fixations_csv="gaze.csv").gaze_remedy
