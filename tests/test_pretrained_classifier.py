"""Training that starts from a pre-training run."""

import csv
import logging
import re
import shutil
import warnings
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.models import Backbone
from gaze_lightning.tasks.pretrained_classifier import PretrainedClassifier

CLASSES = ["normal", "other"]


class Patients(LightningDataModule):
    """Names patients, and has two films to train on."""

    def __init__(self, tested, trained=("a",)):
        super().__init__()
        self.parts = {"train": frozenset(trained), "validate": frozenset(), "test": frozenset(tested)}

    def patients(self, part):
        return self.parts[part]

    def train_dataloader(self):
        one = {"image": torch.rand(2, 1, 32, 32), "sample_id": ["x", "y"], "label": torch.tensor([0, 1])}
        return DataLoader([one], batch_size=None)


@cache
def weights(backbone, in_chans):
    """Of an online network and its momentum copy."""
    torch.manual_seed(1)
    return [Backbone(backbone, in_chans=in_chans).net.state_dict() for _ in range(2)]


SPLIT = (("a", "train"), ("b", "validate"), ("c", "test"))


def make_run(folder, backbone="resnet18", split=SPLIT, in_chans=1, pretrained=False):
    """A run folder as a pre-training leaves it: online network, momentum copy, projector."""
    online, target = weights(backbone, in_chans)
    state = {f"model.backbone.net.{key}": value for key, value in online.items()}
    state |= {f"target.module.backbone.net.{key}": value for key, value in target.items()}
    state |= {"model.projector.0.weight": torch.zeros(2, 2)}
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("model: {}\n")
    stored = {"state_dict": state, "hyper_parameters": {"backbone": backbone, "pretrained": str(pretrained)}}
    if isinstance(pretrained, bool):
        stored["hyper_parameters"]["pretrained"] = pretrained
    torch.save(stored, folder / "checkpoints" / "best.ckpt")
    if split is not None:
        with (folder / "split.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sample_id", "subject", "split"])
            writer.writerows([f"reading of {subject}", subject, part] for subject, part in split)
    return online


def set_up(pretrained, tested=("c", "d"), backbone="resnet18", trained=("a",)):
    """What Lightning calls before the first step of a training that does not resume."""
    task = PretrainedClassifier(CLASSES, pretrained=str(pretrained), backbone=backbone)
    task._trainer = SimpleNamespace(datamodule=Patients(tested, trained))
    task.setup("fit")
    task.on_fit_start()
    return task


def warnings_of(*arguments, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        set_up(*arguments, **options)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize("inside", ["", "checkpoints/best.ckpt"])
def test_the_online_network_of_a_run_is_loaded_whole(tmp_path, inside, caplog):
    caplog.set_level(logging.INFO)
    online = make_run(tmp_path / "run")
    task = set_up(tmp_path / "run" / inside)
    own = task.model.backbone.net.state_dict()
    assert own.keys() == online.keys()
    assert all(torch.equal(own[key], online[key]) for key in own)
    assert f"{len(own)} matched; 0 missing" in caplog.text
    assert "None of the 2 test patients was in the pre-training" in caplog.text


def test_without_a_run_the_experiment_names_what_it_needs():
    with pytest.raises(ConfigurationError, match="make train EXP=mcgip_moco_resnet18"):
        PretrainedClassifier(CLASSES, backbone="resnet18")


def test_scratch_must_be_asked_for_and_says_so(caplog):
    caplog.set_level(logging.INFO)
    torch.manual_seed(5)
    task = PretrainedClassifier(CLASSES, pretrained="scratch", backbone="resnet18")
    before = {key: value.clone() for key, value in task.state_dict().items()}
    task.setup("fit")
    task.on_fit_start()
    assert all(torch.equal(value, before[key]) for key, value in task.state_dict().items())
    assert "none, as asked" in caplog.text


@pytest.mark.parametrize("leaked", [["a"], ["b", "c"]])
def test_patients_of_the_pretraining_are_not_tested(tmp_path, leaked):
    make_run(tmp_path / "run")
    with pytest.raises(ConfigurationError, match=f"1 of the {len(leaked) + 1} test patients were in the training"):
        set_up(tmp_path / "run", tested=[*leaked, "e"])


def test_another_backbone_is_refused_although_some_keys_would_fit(tmp_path):
    make_run(tmp_path / "run")
    with pytest.raises(ConfigurationError, match="has pre-trained resnet18, and this experiment has resnet50"):
        set_up(tmp_path / "run", backbone="resnet50")


def test_a_run_of_other_channels_is_refused(tmp_path):
    make_run(tmp_path / "run", in_chans=3)
    with pytest.raises(ConfigurationError, match="1 mismatched"):
        set_up(tmp_path / "run")


def test_weights_of_which_nothing_fits_are_refused(tmp_path):
    torch.save({"elsewhere": torch.zeros(3)}, tmp_path / "w.pt")
    with pytest.raises(ConfigurationError, match="none of its 1 tensors fits"):
        set_up(tmp_path / "w.pt")


@pytest.mark.parametrize("missing", ["nowhere", "nowhere.pt", "run/checkpoints/best.ckpt"])
def test_what_does_not_exist_is_named(tmp_path, missing):
    with pytest.raises(ConfigurationError, match=r"no such|does not exist") as refused:
        set_up(tmp_path / missing)
    assert "true" not in str(refused.value)  # these are options of other tasks


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"it has no config\.yaml"):
        set_up(tmp_path)


def test_what_cannot_be_checked_is_said(tmp_path):
    make_run(tmp_path / "run", split=None)
    with pytest.warns(UserWarning, match=r"there is no split\.csv"):
        set_up(tmp_path / "run")
    torch.save(Backbone("resnet18").net.state_dict(), tmp_path / "w.pt")
    with pytest.warns(UserWarning, match=r"w\.pt is not a run of this project"):
        set_up(tmp_path / "w.pt")


def test_testing_a_run_does_not_need_the_weights():
    PretrainedClassifier(CLASSES, pretrained="gone", backbone="resnet18").setup("test")


def test_a_training_that_resumes_does_not_need_the_pretraining(tmp_path):
    make_run(tmp_path / "run")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    given = {"pretrained": str(tmp_path / "run"), "backbone": "resnet18", "lr": 0.0}
    data = {"datamodule": Patients(["c"])}
    first = Trainer(default_root_dir=tmp_path, max_epochs=1, **quiet)
    first.fit(PretrainedClassifier(CLASSES, **given), **data)
    first.save_checkpoint(tmp_path / "kept.ckpt")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(ConfigurationError, match=r"run does not exist: give the folder of a pre-training run"):
        Trainer(default_root_dir=tmp_path, max_epochs=1, **quiet).fit(PretrainedClassifier(CLASSES, **given), **data)
    second, resumed = Trainer(default_root_dir=tmp_path, max_epochs=2, **quiet), PretrainedClassifier(CLASSES, **given)
    second.fit(resumed, **data, ckpt_path=tmp_path / "kept.ckpt", weights_only=True)
    assert second.global_step == 2
    before = dict(first.lightning_module.named_parameters())
    assert all(torch.equal(parameter, before[key]) for key, parameter in resumed.named_parameters())


def test_patients_that_are_named_differently_are_not_called_safe(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    make_run(tmp_path / "run")
    (told,) = warnings_of(tmp_path / "run", tested=["p1"], trained=["p2"])
    assert "no patient in common: either these are other patients, or patients are named differently" in told
    assert "says nothing" in told
    assert "None of the" not in caplog.text
    # a patient in the pre-training's test part, or in training here, shows that names are the same
    assert not warnings_of(tmp_path / "run", tested=["c"], trained=["p2"])
    assert not warnings_of(tmp_path / "run", tested=["p1"], trained=["b"])
    assert caplog.text.count("None of the 1 test patients was in the pre-training") == 2


@pytest.mark.parametrize("inside", ["", "checkpoints/best.ckpt"])
def test_what_the_pretraining_started_from_must_not_have_seen_test_patients_either(tmp_path, inside, caplog):
    caplog.set_level(logging.INFO)
    make_run(tmp_path / "oldest", split=[("x", "train"), ("w", "test")])
    make_run(tmp_path / "older", split=[("z", "validate")], pretrained=tmp_path / "oldest" / inside)
    make_run(tmp_path / "run", pretrained=tmp_path / "older" / inside)
    for leaked in ("x", "z", "a"):
        with pytest.raises(ConfigurationError, match=r"1 of the 2 test patients.*or of a run from which that one"):
            set_up(tmp_path / "run", tested=[leaked, "c"])
    assert not warnings_of(tmp_path / "run", tested=["c", "w"])
    assert not warnings_of(tmp_path / "run", tested=["w"], trained=["q"])  # known from the oldest run
    assert caplog.text.count("test patients was in the pre-training") == 2


def test_what_of_its_history_cannot_be_checked_is_said_and_the_rest_is_checked(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    torch.save(Backbone("resnet18").net.state_dict(), tmp_path / "w.pt")
    for name, start, why in (
        ("one", tmp_path / "gone", r"started from .*gone, which is not there any more"),
        ("two", tmp_path / "w.pt", r"started from .*w\.pt, which is not a run of this project"),
        ("three", tmp_path, r"started from .*, which is not a whole run any more"),
    ):
        make_run(tmp_path / name, pretrained=start)
        (told,) = warnings_of(tmp_path / name)
        assert re.search(why, told)
        with pytest.raises(ConfigurationError, match="1 of the 1 test patients"), pytest.warns(UserWarning, match=why):
            set_up(tmp_path / name, tested=["a"])
    assert "None of the" not in caplog.text
    make_run(tmp_path / "bare", split=None)
    make_run(tmp_path / "four", pretrained=tmp_path / "bare")
    assert re.search(r"bare/checkpoints/best\.ckpt: there is no split\.csv beside it", *warnings_of(tmp_path / "four"))
    for start in (True, False, "scratch"):  # timm's weights, or none: no films of ours
        make_run(tmp_path / f"plain{start}", pretrained=start)
        assert not warnings_of(tmp_path / f"plain{start}")


def test_a_run_that_names_itself_ends_the_search(tmp_path):
    make_run(tmp_path / "run", pretrained=tmp_path / "run")
    assert not warnings_of(tmp_path / "run")
