"""Pre-training and what follows it, through the command line."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from jsonargparse import Namespace
from torch import nn

from gaze_lightning.cli import _shares_batch_statistics
from gaze_lightning.layers import ROOT
from gaze_lightning.main import main
from gaze_lightning.models import Backbone
from gaze_lightning.sync_batch_norm import SyncBatchNorm

TINY = "--model.init_args.backbone=test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def small(phantom_arguments, tmp_path_factory):
    """Arguments that make any of the experiments small but for its network."""
    return [
        *phantom_arguments,
        f"--data.init_args.cache_dir={tmp_path_factory.mktemp('cache')}",
        "--data.init_args.image_size=[64, 56]",
        "--data.init_args.batch_size=8",
        "--trainer.max_epochs=2",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
    ]


@pytest.fixture(scope="module")
def arguments(small, tmp_path_factory):
    """Of a pre-training."""
    return [
        "--config=mcgip_moco_resnet18",
        TINY,
        *small,
        f"--relations.folder={tmp_path_factory.mktemp('relations')}",
        "--relations.positive_rate=0.1",
        "--model.init_args.queue_size=20",
        "--model.init_args.schedule=constant",  # does not know the length of the training
    ]


@pytest.fixture(scope="module")
def pretraining(arguments, tmp_path_factory):
    """The folder of a finished pre-training."""
    runs = tmp_path_factory.mktemp("runs")
    main(["train", *arguments, f"--runs={runs}"])
    (run,) = (runs / "mcgip_moco_resnet18").iterdir()
    return run


def curve(run, name):
    return pd.read_csv(run / "metrics.csv")[name].dropna().tolist()


def test_a_run_shows_its_health_and_its_pairs(pretraining):
    for name in ("train/alignment", "train/embedding_std", "val/uniformity", "val/effective_rank", "val/knn_accuracy"):
        assert len(curve(pretraining, name)) == 2, name
        assert np.isfinite(curve(pretraining, name)).all()
    assert curve(pretraining, "train/gaze_pairs")[-1] > 0
    relations = json.loads((pretraining / "relations.json").read_text())
    readings = pd.read_csv(pretraining / "split.csv")
    assert relations["positive_rate"] == 0.1
    assert not any(name in json.dumps(relations) for name in readings["sample_id"])
    assert (pretraining / "relations.png").stat().st_size > 10_000


def test_its_test_reports_frozen_features_with_intervals(pretraining):
    results = json.loads((pretraining / "results.json").read_text())
    assert results["classifier"] == "linear probe on frozen features"
    for name in ("auroc_macro", "knn/auroc_macro", "knn/accuracy"):
        measured = results["metrics"][name]
        assert measured["low"] <= measured["value"] <= measured["high"]
        assert measured["n"] == results["n"]


def test_the_last_epoch_is_kept_because_labels_choose_nothing(pretraining):
    best, last = (
        torch.load(pretraining / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last")
    )
    assert best["epoch"] == last["epoch"] == 1
    assert all(torch.equal(best["state_dict"][key], value) for key, value in last["state_dict"].items())


def test_a_training_that_was_stopped_ends_as_one_that_was_not(pretraining, arguments, tmp_path):
    main(["fit", *arguments, f"--run_dir={tmp_path / 'run'}", "--trainer.max_epochs=1"])
    config = tmp_path / "run" / "config.yaml"  # of a run that was to have two epochs and died after the first
    content = yaml.safe_load(config.read_text())
    content["trainer"]["max_epochs"] = 2
    config.write_text(yaml.safe_dump(content))
    main(["resume", f"--run={tmp_path / 'run'}"])
    whole, resumed = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (pretraining, tmp_path / "run")
    )
    for key in ("queue.keys", "queue.identities", "target.module.backbone.net.layer1.0.conv1.weight"):
        assert torch.equal(whole["state_dict"][key], resumed["state_dict"][key])
    assert all(torch.equal(resumed["state_dict"][key], value) for key, value in whole["state_dict"].items())
    assert (tmp_path / "run" / "results.json").read_text() == (pretraining / "results.json").read_text()


@pytest.mark.parametrize("experiment", ["finetune_resnet18", "linear_probe_resnet18"])
def test_downstream_starts_from_the_run(experiment, pretraining, small, tmp_path):
    weights = f"--model.init_args.pretrained={pretraining}"
    main(
        [
            "train",
            f"--config={experiment}",
            TINY,
            *small,
            weights,
            "--data.init_args.label_fraction=0.3",
            f"--runs={tmp_path}",
        ]
    )
    (run,) = (tmp_path / experiment).iterdir()
    assert "auroc_macro" in json.loads((run / "results.json").read_text())["metrics"]
    before = torch.load(pretraining / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    after = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    kept = [torch.equal(after[key], value) for key, value in before.items() if key.startswith("model.backbone.net.")]
    assert all(kept) == (experiment == "linear_probe_resnet18")
    train = (pd.read_csv(run / "split.csv")["split"] == "train").sum()
    assert train < (pd.read_csv(pretraining / "split.csv")["split"] == "train").sum() / 2


@pytest.mark.parametrize("experiment", ["finetune_resnet18", "finetune_resnet50", "linear_probe_resnet18"])
def test_without_weights_it_stops_and_names_the_pretraining(experiment, small, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", f"--config={experiment}", *small, f"--runs={tmp_path}"])
    assert stopped.value.code == 2
    assert f"make train EXP=mcgip_moco_{experiment.split('_')[-1]}" in capsys.readouterr().err
    assert not list((tmp_path / experiment).iterdir())


def test_weights_that_have_seen_test_patients_are_refused(pretraining, small, tmp_path, capsys):
    arguments = [TINY, *small, "--data.init_args.split=stratified", f"--model.init_args.pretrained={pretraining}"]
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--config=finetune_resnet18", *arguments, f"--runs={tmp_path}"])
    assert stopped.value.code == 2
    assert "test patients were in the training or validation part" in capsys.readouterr().err


def test_a_pretraining_that_holds_these_patients_out_is_accepted(pretraining, arguments, small, tmp_path):
    other = ["--data.init_args.split=stratified", "--data.init_args.split_seed=5"]
    held_out = f"--data.init_args.held_out=[{pretraining / 'split.csv'}]"
    short = ["--trainer.max_epochs=1", "--trainer.limit_val_batches=1", "--data.init_args.batch_size=4"]
    main(["fit", *arguments, *other, held_out, *short, f"--run_dir={tmp_path / 'run'}"])
    weights = f"--model.init_args.pretrained={tmp_path / 'run'}"
    main(
        ["fit", "--config=linear_probe_resnet18", TINY, *small, weights, "--trainer.max_epochs=1", f"--runs={tmp_path}"]
    )


def test_features_of_a_folder_of_films_are_written(pretraining, phantom_root, tmp_path):
    films = sorted((phantom_root / "physionet.org").rglob("*.jpg"))[:3]
    for number, film in enumerate(films):
        shutil.copy(film, tmp_path / f"film{number}.jpg")
    main(["predict", f"--run={pretraining}", f"--images={tmp_path}", f"--run_dir={tmp_path / 'out'}"])
    features = np.load(tmp_path / "out" / "features.npy")
    assert features.shape == (3, 96)
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == 3


@pytest.mark.parametrize(
    ("experiment", "trainer", "cuda", "shared"),
    [
        ("mcgip_simclr_resnet50", "ddp", True, True),
        ("mcgip_byol_resnet50", "ddp", True, True),
        ("mcgip_simsiam_resnet50", "ddp", True, True),
        ("mcgip_moco_resnet50", "ddp", True, False),  # shuffles its keys over the processes instead
        ("mcgip_simclr_resnet50", "ddp", False, False),  # torch has it for CUDA only
        ("mcgip_simclr_resnet50", "gpu", True, False),
        ("baseline_resnet50", "ddp", True, False),
    ],
)
def test_batch_statistics_are_shared_where_the_original_does(experiment, trainer, cuda, shared):
    content = [yaml.safe_load((ROOT / f"{name}.yaml").read_text()) for name in (experiment, f"trainer/{trainer}")]
    strategy = content[1]["trainer"].get("strategy", "auto")
    config = Namespace(
        trainer=Namespace(strategy=strategy, accelerator=content[1]["trainer"]["accelerator"]),
        model=Namespace(class_path=f"gaze_lightning.tasks.{content[0]['model']['class_path']}"),
    )
    assert _shares_batch_statistics(config, cuda) == shared


@pytest.mark.parametrize("backbone", ["resnet18", "densenet121", "tf_efficientnetv2_s"])
def test_synchronised_batch_norm_computes_the_same_function(backbone):
    torch.manual_seed(0)
    network = Backbone(backbone).eval()
    films = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        before = network(films)
        network = SyncBatchNorm().apply(network)
        assert any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
        torch.testing.assert_close(network(films), before)
