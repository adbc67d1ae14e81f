"""Training that starts from a pre-training run."""

import csv
import logging
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import LightningDataModule

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.models import Backbone
from gaze_lightning.tasks.pretrained_classifier import PretrainedClassifier

CLASSES = ["normal", "other"]


class Patients(LightningDataModule):
    def __init__(self, tested):
        super().__init__()
        self.tested = frozenset(tested)

    def patients(self, part):
        assert part == "test"
        return self.tested


def make_run(folder, backbone="resnet18", split=(("a", "train"), ("b", "validate"), ("c", "test")), in_chans=1):
    """A run folder as a pre-training leaves it: online network, momentum copy, projector."""
    torch.manual_seed(1)
    online, target = (Backbone(backbone, in_chans=in_chans).net.state_dict() for _ in range(2))
    state = {f"model.backbone.net.{key}": value for key, value in online.items()}
    state |= {f"target.module.backbone.net.{key}": value for key, value in target.items()}
    state |= {"model.projector.0.weight": torch.zeros(2, 2)}
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("model: {}\n")
    stored = {"state_dict": state, "hyper_parameters": {"backbone": backbone}}
    torch.save(stored, folder / "checkpoints" / "best.ckpt")
    if split is not None:
        with (folder / "split.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sample_id", "subject", "split"])
            writer.writerows([f"reading of {subject}", subject, part] for subject, part in split)
    return online


def set_up(pretrained, tested=("c", "d"), backbone="resnet18"):
    task = PretrainedClassifier(CLASSES, pretrained=str(pretrained), backbone=backbone)
    task._trainer = SimpleNamespace(datamodule=Patients(tested))
    task.setup("fit")
    return task


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
    with pytest.raises(ConfigurationError, match=r"no such|does not exist"):
        set_up(tmp_path / missing)


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
