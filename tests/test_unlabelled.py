"""Data with gaze but without labels: they are split and train what needs no labels; prediction needs no split."""

import csv

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from data_modules import FolderDataModule, ManifestDataModule
from data_modules.doctor.examine import examine
from data_modules.errors import DataError
from data_modules.sources import FixationColumns

N = 30


@pytest.fixture
def source(tmp_path):
    """A folder with films of three per patient, two readers of each; no labels."""
    root = tmp_path / "own films"
    root.mkdir()
    generator = np.random.default_rng(0)
    with (root / "gaze.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "reader", "x", "y", "duration"])
        for n in range(N):
            cv2.imwrite(str(root / f"f{n}.png"), generator.integers(0, 255, (48, 40), dtype=np.uint8))
            for reader in "ab":
                at = np.concatenate([generator.uniform(14, 26, (4, 2)), generator.uniform(1, [39, 47], (1, 2))])
                writer.writerows([f"f{n}.png", reader, *place, 0.2] for place in at)
    with (root / "films.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "patient", "part"])
        part = ("train", "train", "train", "validate", "test")
        writer.writerows([f"f{n}.png", f"p{n // 3}", part[n // 3 % 5]] for n in range(N))
    return root


@pytest.fixture
def module(source, tmp_path):
    def build(**options):
        fixed = {"images_csv": "films.csv", "fixations_csv": "gaze.csv", "subject_column": "patient"}
        small = {"image_size": (48, 40), "saliency_size": (12, 10), "batch_size": 4, "cache_dir": str(tmp_path / "c")}
        columns = FixationColumns(duration="duration", reader="reader")
        built = ManifestDataModule(str(source), **fixed | small | {"fixation_columns": columns} | options)
        built.prepare_data()
        return built

    return build


class Saliency(pl.LightningModule):
    """Learns one map for all films."""

    def __init__(self):
        super().__init__()
        self.map = torch.nn.Parameter(torch.zeros(120))

    def training_step(self, batch, index):
        assert "label" not in batch
        return -(self.map.log_softmax(0) * batch["saliency"].flatten(1)).sum(1).mean()

    def validation_step(self, batch, index):
        assert batch["has_gaze"].all()
        self.log("loss", self.training_step(batch, index), batch_size=len(batch["sample_id"]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def split_file(root):
    path = root / "split.csv"
    parts = ["test" if n < 10 else "validate" if n < 15 else "train" for n in range(N)]
    rows = "".join(f"f{n}.png#{reader},{part}\n" for n, part in enumerate(parts) for reader in "ab")
    path.write_text("sample_id,split\n" + rows)
    return path


@pytest.mark.parametrize("kind", ["stratified", "kfold", "file", "official", "fixations only"])
def test_gaze_alone_trains_validates_and_tests(module, source, tmp_path, kind):
    options = {
        "stratified": {},
        "kfold": {"split": "kfold", "folds": 5, "fold": 1},
        "file": {"split": "file", "split_file": str(split_file(source)), "subject_column": None},
        "official": {"split_column": "part"},
        "fixations only": {"images_csv": None, "subject_column": None},
    }[kind]
    built = module(**options)
    assert (built.class_names, built.label_type) == ([], "multi")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(default_root_dir=tmp_path, max_epochs=3, enable_checkpointing=False, **quiet)
    model = Saliency()
    trainer.fit(model, datamodule=built)
    assert trainer.callback_metrics["loss"] < np.log(120) - 0.05, "it has learnt where people look"
    built.setup("test")
    parts = built.readings.groupby("split")["subject"].nunique()
    assert set(parts.index) == {"train", "validate", "test"}
    assert (built.readings.groupby("subject")["split"].nunique() == 1).all()
    assert len(built.readings) == 2 * N
    batch = built.on_after_batch_transfer(next(iter(built.test_dataloader())), 0)
    assert {"saliency", "mean_saliency", "other_saliency"} < set(batch)
    assert not {"label", "lesion_mask", "anatomy_mask"} & set(batch)


def test_prediction_alone_takes_everything_and_needs_no_split(module, source):
    (source / "films.csv").write_text("image,patient,part\n" + "".join(f"f{n}.png,p{n},\n" for n in range(N)))
    built = module(split_column="part")  # of which no row states a part
    built.setup("predict")
    assert len(built.predict_dataloader().dataset) == 2 * N
    assert (built.readings["split"] == "").all()
    with pytest.raises(DataError, match="have no official split"):
        built.setup("fit")


def test_prediction_after_training_takes_the_test_part(module):
    built = module()
    built.setup("predict")
    everything = len(built.predict_dataloader().dataset)
    built.setup("fit")
    built.setup("predict")
    tested = (built.readings["split"] == "test").sum()
    assert len(built.predict_dataloader().dataset) == tested < everything == 2 * N


def test_one_reader_per_film_and_epoch_also_without_labels(module):
    built = module(readers="random_reader")
    built.setup("fit")
    training = (built.readings["split"] == "train").sum()
    assert len(built.train_dataloader().sampler) == training // 2
    assert len(built.test_dataloader().dataset) == (built.readings["split"] == "test").sum()


def test_class_balanced_sampling_without_labels_says_what_to_set(module):
    built = module(sampling="class_balanced")
    built.setup("fit")
    with pytest.raises(DataError, match=r"class_balanced needs labels\. Set data\.init_args\.sampling to shuffled"):
        built.train_dataloader()


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_what_has_nothing_to_learn_from_is_refused_before_any_step(module, source, tmp_path, stage):
    built = module(fixations_csv=None, fixation_columns=None)
    with pytest.raises(DataError, match="neither labels nor gaze"):
        built.setup(stage)
    named = module(class_names=["a", "b"])
    with pytest.raises(DataError, match=r"no labels, but the names of 2 class\(es\).*leave class_names out"):
        named.setup(stage)
    folder = FolderDataModule(str(source), ["a", "b"], image_size=(48, 40), cache_dir=str(tmp_path / "folder"))
    with pytest.raises(DataError, match="predicted only"):
        folder.setup(stage)
    for given in (built, named, folder):
        given.setup("predict")
        assert len(given.predict_dataloader().dataset) >= N


def test_a_papers_split_needs_classes(module):
    built = module(split="released_mod10")
    with pytest.raises(DataError, match=r"exactly one class each.* or none"):
        built.setup("fit")


def test_the_doctor_says_what_may_be_trained(module, source):
    report = examine(module(), progress=False)
    assert report.verdict.startswith("No labels: training may start for methods that need gaze only")
    assert (report.may_train, report.may_predict) == (True, True)
    assert [table.title for table in report.tables if table.area == "patients"] == ["Split stratified"]
    (source / "films.csv").write_text("image,patient,part\n" + "".join(f"f{n}.png,p{n},\n" for n in range(N)))
    report = examine(module(split_column="part"), progress=False)
    assert report.verdict.startswith("No labels: these data can be predicted and previewed, not trained on")
    assert (report.may_train, report.may_predict) == (False, True)
    (refused,) = [finding for finding in report.findings if "official split" in finding.title]
    assert refused.level == "warning"
    named = examine(module(class_names=["a"]), progress=False)
    assert (named.may_train, named.may_predict) == (False, True)
