import logging
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

import data_modules
from data_modules import EyeGazeDataModule, FolderDataModule, ManifestDataModule, PhantomDataModule, ReflacxDataModule
from data_modules.errors import DataError
from tests.made_up_table import MadeUpDataModule, make_table
from tests.trees import Egd, MadeUpFilm, Mimic, write_image


@pytest.fixture
def made_up(tmp_path):
    def build(**options):
        n = options.pop("n", 40)
        module = MadeUpDataModule(make_table(tmp_path / "films", n), tmp_path / "cache", **options)
        module.prepare_data()
        return module

    return build


class Recorder(pl.LightningModule):
    """Learns nothing; remembers which samples it saw."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {"train": [], "validate": [], "test": [], "predict": []}

    def training_step(self, batch, index):
        key = (self.current_epoch, tuple(batch["sample_id"]), batch["image"].double().sum().item())
        self.seen["train"].append((*key, batch["fixations"].double().sum().item()))
        return self.weight * batch["saliency"].sum()

    def validation_step(self, batch, index):
        self.seen["validate"] += batch["sample_id"]

    def test_step(self, batch, index):
        self.seen["test"] += batch["sample_id"]

    def predict_step(self, batch, index):
        self.seen["predict"] += batch["sample_id"]

    def configure_optimizers(self):
        assert self.trainer.estimated_stepping_batches > 0  # makes the training loader before a checkpoint is loaded
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    return pl.Trainer(accelerator="cpu", devices=1, default_root_dir=folder, **quiet | options)


def parts(module):
    return {
        part: module.readings.loc[module.readings["split"] == part, "sample_id"].tolist() for part in module._datasets
    }


@pytest.mark.parametrize("augmentation", ["none", "strong"])
def test_workers_change_nothing(made_up, tmp_path, augmentation):
    seen = []
    for workers in (0, 2):
        model = Recorder()
        trainer(tmp_path, max_epochs=2, enable_checkpointing=False).fit(
            model, datamodule=made_up(num_workers=workers, augmentation=augmentation)
        )
        seen.append(model.seen)
    assert seen[0] == seen[1]
    epochs = [[entry[1:] for entry in seen[0]["train"] if entry[0] == epoch] for epoch in (0, 1)]
    assert len(epochs[0]) > 3
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(made_up, tmp_path, workers):
    options = {"num_workers": workers, "augmentation": "light"}
    whole, first, second = Recorder(), Recorder(), Recorder()
    trainer(tmp_path, max_epochs=3, enable_checkpointing=False).fit(whole, datamodule=made_up(**options))
    early = trainer(tmp_path, max_epochs=2, enable_checkpointing=False)
    early.fit(first, datamodule=made_up(**options))
    early.save_checkpoint(tmp_path / "early.ckpt")
    trainer(tmp_path, max_epochs=3, enable_checkpointing=False).fit(
        second, datamodule=made_up(**options), ckpt_path=tmp_path / "early.ckpt", weights_only=True
    )
    assert first.seen["train"] + second.seen["train"] == whole.seen["train"]


def test_loading_draws_nothing_from_the_global_generator(made_up):
    module = made_up(augmentation="strong")
    module.setup("fit")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert list(module.train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_every_evaluation_sample_is_seen_exactly_once(made_up, tmp_path):
    module, model = made_up(eval_batch_size=3), Recorder()
    run = trainer(tmp_path)
    for name in ("validate", "test", "predict"):
        getattr(run, name)(model, datamodule=module)
    expected = parts(module)
    assert model.seen["validate"] == expected["validate"]
    assert model.seen["test"] == model.seen["predict"] == expected["test"]
    assert len(expected["test"]) % 3, "the last batch must be incomplete for this to be a test"


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_evaluation_without_repeating_a_sample(made_up, monkeypatch, world):
    module = made_up(eval_batch_size=2)
    module.setup("test")
    seen, batches = [], []
    for rank in range(world):
        monkeypatch.setattr(module, "_place", lambda rank=rank: (rank, world))
        loader = module.test_dataloader()
        batches.append(len(loader))
        seen += [name for batch in loader for name in batch["sample_id"]]
    assert sorted(seen) == sorted(parts(module)["test"])
    assert len(set(batches)) == 1


def test_a_patient_in_two_parts_stops_the_run(made_up):
    module = made_up()
    frame = module.made_up.frame
    twice = frame["subject"].duplicated(keep=False)
    frame.loc[frame.index[twice][0], "split"] = "test"
    frame.loc[frame.index[twice][1], "split"] = "train"
    with pytest.raises(DataError, match="1 patients are in more than one part"):
        module.setup("fit")


def test_too_few_readings_for_a_batch_is_a_clear_error(made_up):
    module = made_up(batch_size=500)
    module.setup("fit")
    with pytest.raises(DataError, match="smaller batch_size"):
        module.train_dataloader()


def test_an_empty_part_names_the_filter(made_up):
    module = made_up()
    module.made_up.frame["split"] = "train"
    with pytest.raises(DataError, match=r"validate.*made up \(3 readings\)"):
        module.setup("fit")


def test_unreadable_films_stop_the_run_or_are_dropped_and_counted(made_up, tmp_path, caplog):
    made_up()
    path = tmp_path / "films" / "film 5.png"
    table = make_table(tmp_path / "films")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"1 of 40 films.*\n.*made_up.csv row 7"):
        MadeUpDataModule(table, tmp_path / "cache").prepare_data()
    module = MadeUpDataModule(table, tmp_path / "cache", missing="drop")
    module.prepare_data()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        module.setup("fit")
    assert "readings of films that cannot be read 1" in caplog.text
    assert "s5" not in module.readings["sample_id"].tolist()
    assert len(module.readings) == 39


def test_what_was_left_out_is_told_apart_printed_and_kept(tmp_path, caplog):
    table = replace(make_table(tmp_path / "films"), excluded_points={"fixations off the film": 700})
    table.frame["split"] = table.frame["split"].replace("validate", "train")
    module = MadeUpDataModule(table, tmp_path / "cache")
    module.prepare_data()
    with (
        caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"),
        pytest.raises(DataError, match=r"validate.*removed the most: made up \(3 readings\)"),
    ):
        module.setup("fit")
    assert "readings left out: made up 3\n" in caplog.text
    assert "gaze and outlines left out: fixations off the film 700\n" in caplog.text
    assert "readings without gaze (kept): 8\n" in caplog.text
    assert module.excluded == {"readings": {"made up": 3}, "gaze and outlines": {"fixations off the film": 700}}


def test_a_class_that_training_knows_nothing_of_is_named(tmp_path):
    table = make_table(tmp_path / "films", label_type="multi")
    table.labels[table.frame["split"] == "train", 1] = np.nan
    module = MadeUpDataModule(table, tmp_path / "cache")
    module.prepare_data()
    with pytest.warns(UserWarning, match="No training reading has a known value of b:"):
        module.setup("fit")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="No training reading")
        module.setup("test")


def test_two_readings_of_one_id_are_refused(tmp_path):
    table = make_table(tmp_path / "films", 4)
    with pytest.raises(DataError, match="same sample_id") as caught:
        replace(table, frame=table.frame.assign(sample_id=["a", "b", "a", "c"]))
    assert caught.value.rows == ("made_up.csv row 2", "made_up.csv row 4")


def test_a_split_column_is_the_official_split_or_refused():
    assert ManifestDataModule(split_column="part").split == "official"
    assert ManifestDataModule(split_column="part", split="official").split == "official"
    assert ManifestDataModule().split == "stratified"
    assert ManifestDataModule(split="file").split == "file"
    with pytest.raises(ValueError, match="split_column"):
        ManifestDataModule(split_column="part", split="stratified")


def eye_gaze(folder, **options):
    films = [MadeUpFilm(n, split=("train", "validate", "test")[n % 3]) for n in range(6)]
    egd, mimic = Egd(), Mimic(films)
    for n, film in enumerate(films):
        egd.film(film, ("Normal", "CHF", "pneumonia")[n % 2])
        egd.look(film.dicom_id, 10, 20)
    egd.write(folder)
    paths = [mimic.write(folder) / film.path for film in films]
    options = {"split": "official", "image_size": (48, 40), "cache_dir": str(folder / "cache")} | options
    return EyeGazeDataModule(str(folder), **options), paths


def test_films_of_another_size_and_damaged_films_stop_eye_gaze_and_can_be_dropped(tmp_path):
    module, paths = eye_gaze(tmp_path)
    write_image(paths[1], 50, 60)
    paths[3].write_bytes(paths[3].read_bytes()[:200])
    with pytest.raises(DataError, match="2 of 6 films cannot be used") as caught:
        module.prepare_data()
    first, second = caught.value.rows
    assert first.startswith(
        "master_sheet.csv row 3: The image has 50 x 60 pixels (height x width), its table states 60"
    )
    assert second.startswith("master_sheet.csv row 5: The image")
    assert "10000001" not in str(caught.value)
    write_image(paths[1], 60, 50)
    module, paths = eye_gaze(tmp_path, missing="drop")
    write_image(paths[1], 50, 60)
    module.prepare_data()
    module.setup("fit")
    assert module.excluded["readings"] == {"readings of films that cannot be read": 1}
    assert len(module.readings) == 5


def test_when_all_films_are_missing_the_error_says_so(tmp_path):
    module, paths = eye_gaze(tmp_path, missing="drop")
    for path in paths:
        path.unlink()
    module.prepare_data()
    with pytest.raises(DataError, match=r"No reading is left.*films missing on disk \(6 readings\)"):
        module.setup("fit")


def test_the_summary_counts_and_shows_no_id(made_up, caplog):
    module = made_up()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        module.setup("fit")
        module.setup("test")
    assert caplog.text.count("no patient is in two parts") == 1
    train = next(line.split() for line in caplog.text.splitlines() if line.strip().startswith("train"))
    chosen = module.readings[module.readings["split"] == "train"]
    gaze = sum(name in module.made_up.fixations for name in chosen["sample_id"])
    assert train[1:4] == [str(len(chosen)), str(chosen["subject"].nunique()), str(gaze)]
    assert sum(map(int, train[4:])) == len(chosen)
    assert not any(subject in caplog.text for subject in module.readings["subject"])
    assert not any(f"{name} " in caplog.text for name in module.readings["sample_id"])


def test_constant_films_are_reported(made_up, tmp_path):
    table = make_table(tmp_path / "films")
    cv2.imwrite(str(tmp_path / "films" / "film 1.png"), np.full((60, 50), 8, np.uint8))
    module = MadeUpDataModule(table, tmp_path / "cache")
    module.prepare_data()
    with pytest.warns(UserWarning, match="1 films have the same value everywhere"):
        module.setup("fit")


def change_gaze(table, **values):
    table.fixations["s1"] = replace(table.fixations["s1"], **values)


def test_the_fingerprint_changes_with_labels_and_gaze(made_up):
    def fingerprint(change=None):
        module = made_up()
        if change:
            change(module.made_up)
        module.setup("fit")
        return module.fingerprint()

    base = fingerprint()
    assert base == fingerprint()
    assert base != fingerprint(lambda table: table.labels.__setitem__(0, 1))
    assert base != fingerprint(lambda table: table.fixations.pop("s1"))
    assert base != fingerprint(lambda table: change_gaze(table, start=np.ones(1)))
    assert base != fingerprint(lambda table: change_gaze(table, visible=np.array([[0.0, 0, 9, 9]])))


def test_the_dataset_can_be_sent_to_a_spawned_worker(made_up):
    module = made_up()
    module.setup("fit")
    copy = pickle.loads(pickle.dumps(module._datasets["train"]))  # noqa: S301
    np.testing.assert_array_equal(copy[3]["image"], module._datasets["train"][3]["image"])


@pytest.mark.parametrize(
    "name", [name for name in data_modules.__all__ if name.endswith("DataModule") and "Gaze" not in name[:4]]
)
def test_every_data_module_is_built_from_plain_values_without_touching_the_disk(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    required = {"FolderDataModule": {"root": "films", "class_names": ["a"]}}.get(name, {})
    module = getattr(data_modules, name)(**required)
    assert isinstance(module.class_names, list)
    assert module.label_type in ("single", "multi")
    assert not list(tmp_path.iterdir())


def test_every_public_name_is_there():
    assert set(data_modules._HOME) == set(data_modules.__all__)
    assert all(getattr(data_modules, name).__name__ == name for name in data_modules.__all__)
    with pytest.raises(AttributeError, match="SiimDataModule"):
        _ = data_modules.SiimDataModule


def test_processes_that_draw_phantom_films_import_neither_torch_nor_lightning():
    code = (
        "import sys, data_modules.phantom.write; print([m for m in ('torch', 'pytorch_lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_roots_say_what_to_set():
    for module in (EyeGazeDataModule(), ReflacxDataModule(), ManifestDataModule()):
        with pytest.raises(DataError, match="DATA_ROOT"):
            module.prepare_data()


def phantom(root, knobs, tmp_path, **options):
    return PhantomDataModule(
        root=str(root), n_train=knobs.n_train, n_validate=knobs.n_validate, n_test=knobs.n_test, height=knobs.height,
        width=knobs.width, phantom_seed=knobs.seed, missing_gaze=knobs.missing_gaze, cache_dir=str(tmp_path / "cache"),
        **options,
    )  # fmt: skip


def test_the_phantom_comes_with_gaze_lesions_and_its_official_split(phantom_root, phantom_knobs, tmp_path):
    module = phantom(phantom_root, phantom_knobs, tmp_path)
    model = Recorder()
    run = trainer(tmp_path, max_epochs=1, enable_checkpointing=False)
    run.fit(model, datamodule=module)
    run.test(model, datamodule=module)
    assert module.open_data
    assert module.readings.groupby("split")["subject"].nunique().to_dict() == {"train": 24, "validate": 9, "test": 18}
    lesions = [sample["lesion_mask"].any(axis=(1, 2)) for sample in module._datasets["test"]]
    labels = [int(sample["label"]) for sample in module._datasets["test"]]
    for lesion, label in zip(lesions, labels, strict=True):
        assert lesion.tolist() == [k == label and k > 0 for k in range(3)]
    assert np.mean([len(sample["fixations"]) > 0 for sample in module._datasets["train"]]) > 0.8


def test_the_phantom_is_written_when_absent(phantom_knobs, tmp_path):

    knobs = replace(phantom_knobs, n_train=3, n_validate=3, n_test=3, height=64, width=64)
    module = phantom(tmp_path / "new phantom", knobs, tmp_path, batch_size=2)
    module.prepare_data()
    module.setup("fit")
    assert (tmp_path / "new phantom" / "phantom_truth" / "truth.csv").is_file()
    assert len(next(iter(module.train_dataloader()))["sample_id"]) == 2


def test_the_phantom_can_be_read_as_reflacx_and_as_egd_cxr(phantom_root, tmp_path):
    common = {"root": str(phantom_root), "image_size": (48, 40), "batch_size": 2, "cache_dir": str(tmp_path / "cache")}
    for module, k in ((ReflacxDataModule(**common), 14), (EyeGazeDataModule(**common, split="official"), 3)):
        module.prepare_data()
        module.setup("fit")
        batch = next(iter(module.val_dataloader()))
        assert ("visible" in batch) == (k == 14)
        assert len(module.class_names) == k
        assert batch["label"].shape[1:] == ((14,) if k == 14 else ())


def test_a_folder_of_films_is_predicted_in_order(tmp_path):
    make_table(tmp_path / "to predict", 5)
    module = FolderDataModule(
        str(tmp_path / "to predict"), ["a", "b"], image_size=(48, 40), batch_size=2, cache_dir=None
    )
    model = Recorder()
    trainer(tmp_path).predict(model, datamodule=module)
    assert model.seen["predict"] == [f"film {i}.png" for i in range(5)]
    assert "label" not in module._datasets["predict"][0]


def test_own_films_with_gaze(tmp_path):
    table = make_table(tmp_path / "films", 30)
    names = [Path(path).name for path in table.frame["image_path"]]
    pd.DataFrame(
        {"image": names, "patient": table.frame["subject"], "diagnosis": np.array(["ill", "well"])[table.labels]}
    ).to_csv(tmp_path / "films" / "images.csv", index=False)
    rows = [
        (name, table.fixations[sample].x[0], table.fixations[sample].y[0], 0.5)
        for name, sample in zip(names, table.frame["sample_id"], strict=True)
        if sample in table.fixations
    ]
    pd.DataFrame(rows, columns=["image", "x", "y", "duration"]).to_csv(tmp_path / "films" / "gaze.csv", index=False)
    module = ManifestDataModule(
        root=str(tmp_path / "films"),
        images_csv="images.csv",
        fixations_csv="gaze.csv",
        subject_column="patient",
        class_column="diagnosis",
        class_names=["ill", "well"],
        image_size=(48, 40),
        batch_size=4,
        cache_dir=str(tmp_path / "cache"),
    )
    module.prepare_data()
    module.setup("fit")
    assert len(module.readings) == 30
    batch = next(iter(module.train_dataloader()))
    assert batch["has_gaze"].any()
    with pytest.raises(ValueError, match="class_names"):
        ManifestDataModule(root="x", images_csv="y", class_column="diagnosis")


def test_a_loading_process_uses_one_thread():
    from threadpoolctl import threadpool_info, threadpool_limits

    from data_modules.loading import start_worker

    with threadpool_limits(limits=2):
        assert any(pool["num_threads"] == 2 for pool in threadpool_info())
        start_worker(0)
        assert all(pool["num_threads"] == 1 for pool in threadpool_info())
    assert cv2.getNumThreads() <= 1
