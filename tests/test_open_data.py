"""The data layers of the open data sets: parsed always, read where GAZE_OPEN_DATA says where the data are."""

import os
from pathlib import Path

import numpy as np
import pytest
from jsonargparse import ArgumentParser
from pytorch_lightning import LightningDataModule

import data_modules
from data_modules import GazeDataModule, ManifestDataModule
from data_modules.sources import FixationColumns
from gaze_lightning.layers import resolve

FOLDERS = {"nih_cxr": "nih_cxr", "osie": "osie_gaze", "cxr_p": "cxr_p_gaze"}


def module(layer: str, *args: str) -> GazeDataModule:
    for name in data_modules.__all__:  # short class names are found among the classes imported so far
        getattr(data_modules, name)
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(LightningDataModule, "data", required=True)
    files = [f"--config={file}" for file in resolve([f"data/{layer}"]).files]
    data = parser.instantiate_classes(parser.parse_args([*files, *args])).data
    assert isinstance(data, GazeDataModule)
    return data


@pytest.fixture
def open_data() -> Path:
    if not os.environ.get("GAZE_OPEN_DATA"):
        pytest.skip("GAZE_OPEN_DATA is not set")
    return Path(os.environ["GAZE_OPEN_DATA"])


@pytest.mark.parametrize("layer", FOLDERS)
def test_each_layer_makes_a_data_module(layer: str) -> None:
    data = module(layer)
    assert type(data).__name__ == ("CxrPDataModule" if layer == "cxr_p" else "ManifestDataModule")
    assert data.open_data is (layer != "cxr_p")  # the films of CXR-P have terms of their own
    assert data.class_names == {"nih_cxr": ["pneumonia"], "osie": []}.get(layer, ["no pneumothorax", "pneumothorax"])


def test_units_and_spaces_of_fixations_can_be_declared_on_the_command_line() -> None:
    options = ["duration_unit=milliseconds", "recorded_on=[1080, 1920]", "whole_pixels=true"]
    data = module("osie", *(f"--data.init_args.fixation_columns.{option}" for option in options))
    assert isinstance(data, ManifestDataModule)
    assert data.fixation_columns == FixationColumns(
        duration="duration_s",
        order="order",
        reader="viewer",
        whole_pixels=True,
        duration_unit="milliseconds",
        recorded_on=(1080, 1920),
    )


def test_the_demo_setting_of_own_films_keeps_the_other_settings() -> None:
    for data, special in (("manifest", []), ("nih_cxr", ["nih_cxr.Classifier.yaml"])):
        layers = resolve(["baseline_resnet18", f"data/{data}"])
        assert layers.choice["setting"] == "demo"
        names = [file.name for file in layers.files]
        assert names[names.index("demo.yaml") :] == ["demo.yaml", "Classifier.yaml", f"{data}.yaml", *special]


def test_real_films_are_split_by_patient(open_data: Path, tmp_path: Path) -> None:
    data = module(
        "nih_cxr",
        f"--data.init_args.root={open_data / FOLDERS['nih_cxr']}",
        "--data.init_args.image_size=[32, 32]",
        f"--data.init_args.cache_dir={tmp_path}",
    )
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    parts = data.readings.groupby("subject")["split"].nunique()
    assert len(parts) == 407
    assert (parts == 1).all()
    patients = data.readings.groupby("split")["subject"].nunique()
    assert np.allclose(patients[["train", "validate", "test"]] / 407, [0.7, 0.1, 0.2], atol=0.01)
    batch = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    assert 0.2 < float(batch["image"].mean()) < 0.8
    assert not batch["has_gaze"].any()
    assert set(np.unique(batch["label"])) == {0.0, 1.0}


def test_real_photographs_carry_the_gaze_of_every_viewer(open_data: Path, tmp_path: Path) -> None:
    data = module(
        "osie",
        f"--data.init_args.root={open_data / FOLDERS['osie']}",
        "--data.init_args.image_size=[48, 64]",
        "--data.init_args.saliency_size=[48, 64]",
        f"--data.init_args.cache_dir={tmp_path}",
    )
    data.prepare_data()
    data.setup("predict")
    assert len(data.readings) == 200 * 15 - sum(data.excluded["readings"].values())
    batch = data.on_after_batch_transfer(next(iter(data.predict_dataloader())), 0)
    assert batch["has_gaze"].all()
    np.testing.assert_allclose(batch["saliency"].sum((1, 2, 3)), 1, atol=1e-5)


def test_photographs_train_on_gaze_alone_with_a_split_of_150_and_50(open_data: Path, tmp_path: Path) -> None:
    root = open_data / FOLDERS["osie"]
    names = sorted(file.name for file in (root / "images").iterdir())
    parts = ["train"] * 135 + ["validate"] * 15 + ["test"] * 50
    rows = [f"images/{name},{part}" for name, part in zip(names, parts, strict=True)]
    (tmp_path / "osie.csv").write_text("\n".join(["subject,split", *rows]))
    data = module(
        "osie",
        f"--data.init_args.root={root}",
        "--data.init_args.image_size=[24, 32]",
        "--data.init_args.saliency_size=[24, 32]",
        f"--data.init_args.cache_dir={tmp_path}",
        "--data.init_args.split=file",
        f"--data.init_args.split_file={tmp_path / 'osie.csv'}",
    )
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    assert data.readings.groupby("split").size().to_dict() == {"train": 2025, "validate": 225, "test": 750}
    assert len(data.train_dataloader().sampler) == 135  # type: ignore[arg-type]
    batch = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    assert "label" not in batch
    for key in ("saliency", "mean_saliency", "other_saliency"):
        np.testing.assert_allclose(batch[key].sum((1, 2, 3)), 1, atol=1e-5)
