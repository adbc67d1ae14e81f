"""``gaze-lightning resume``: a run that was killed ends as one that was not, bit for bit.

Killed means SIGKILL for the process, which nothing can react to. Most processes come from a server that has imported
everything already; they run the command line from its first argument to its last line all the same.
"""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from gaze_lightning.main import main
from tests.interruption import CALLBACKS, assert_same_run, command, digests, order, same_metrics, weight_difference

SIZES = {
    "contrastive": {"epochs": 2, "lr": 0.01, "image_scale": 0.5, "schedule": "cosine", "warmup": 0.25},
    "classify": {"epochs": 1, "lr": 0.01, "schedule": "cosine"},
    "saliency": {"epochs": 2, "lr": 0.01, "batch_size": 4},
    "fusion": {"epochs": 2, "lr": 0.01, "schedule": "cosine"},
}
EPOCHS = 7
BACKBONE = "--model.init_args.backbone=test_resnet.r160_in1k"
FOUR = {  # one experiment of each other task: 4 epochs, of which a killed run has done 2
    "baseline_resnet18": ["--data.init_args.augmentation=light"],
    "mcgip_moco_resnet18": ["hidden=16", "dim=8", "queue_size=20", "--trainer.accumulate_grad_batches=2"],
    "ssl_byol_resnet50": ["hidden=16", "dim=8"],
    "ssl_simsiam_resnet50": ["hidden=16", "dim=8", "predictor_hidden=4"],
    "mcgip_simclr_resnet50": ["hidden=16", "dim=8", "drop_prob=0.3"],
    "finetune_resnet18": ["pretrained={pretraining}"],
    "linear_probe_resnet18": ["pretrained={pretraining}"],
}
"""Options of a task without dots; queue and momentum copy where gradients accumulate, killed between two steps."""


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.interruption", "gaze_lightning.commands.run", "timm"])
    return context


@pytest.fixture(scope="module")
def go(processes, tmp_path_factory):
    """Run the command line in a process of its own, to its end or to the moment of its death."""
    logs = tmp_path_factory.mktemp("logs")

    def run(
        arguments: list[str], moment: str = "", status: int = 0, killed_when: Callable[[], bool] | None = None
    ) -> str:
        log = logs / f"{len(list(logs.iterdir()))}.txt"
        process = processes.Process(target=command, args=(arguments, str(log), moment))
        process.start()
        try:
            if killed_when is None:
                process.join(600)
            deadline = time.monotonic() + 600
            while killed_when is not None and not killed_when():
                assert process.is_alive(), log.read_text()[-3000:]
                assert time.monotonic() < deadline
                time.sleep(0.005)
            alive = process.is_alive()
        finally:
            process.kill()
            process.join()
        text = log.read_text()
        assert alive == (killed_when is not None), text[-3000:]
        assert process.exitcode == (-signal.SIGKILL if moment or killed_when else status), text[-3000:]
        return text

    return run


@pytest.fixture(scope="module")
def arguments(phantom_arguments, tmp_path_factory):
    """Arguments that make an experiment small, by its name."""
    cache = tmp_path_factory.mktemp("cache")
    shared = [
        *phantom_arguments,
        f"--data.init_args.cache_dir={cache}",
        "--data.init_args.batch_size=8",
        "--data.init_args.image_size=[48,40]",
        "--data.init_args.saliency_size=[24,20]",
        "--cam_logger.every_n_epochs=0",
        "--cam_logger.on_test=false",
        "--test_report.n_boot=10",
        "--trainer.log_every_n_steps=2",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        CALLBACKS,
    ]
    width = "--model.init_args.width=0.0625"
    own = {
        "cooperative_densenet201": [
            BACKBONE,
            width,
            f"--staged_training.sizes={yaml.safe_dump(SIZES, width=10**6, default_flow_style=True).strip()}",
        ],
        "ggcam_resnet50": [BACKBONE, "--model.init_args.output_stride=32", "--trainer.max_epochs=5"],
        "mtunet": [
            width,
            "--trainer.max_epochs=3",
            "--data.init_args.augmentation=light",
            "--data.init_args.num_workers=1",
        ],
    }
    for name in ("global_attention_resnet18", "global_attention_resnet18_batch_stack"):
        own[name] = [
            BACKBONE,
            "--model.init_args.output_stride=32",
            "--model.init_args.n_anchors=12",
            "--model.init_args.pixel_classifier=conv",
            "--model.init_args.freeze_epoch=3",
            "--data.init_args.augmentation=light",
            "--trainer.max_epochs=4",
        ]
    pretraining = tmp_path_factory.mktemp("pretraining") / "run"
    for name, options in FOUR.items():
        given = [one if one.startswith("--") else f"--model.init_args.{one}" for one in options]
        own[name] = [BACKBONE, "--trainer.max_epochs=4", "--model.init_args.output_stride=32"]
        own[name] += [one.format(pretraining=pretraining) for one in given]
    shared.append(f"--relations.folder={tmp_path_factory.mktemp('relations')}")
    return lambda name: ["train", f"--config={name}", *shared, *own[name]]


@pytest.fixture(scope="module")
def whole(go, arguments, tmp_path_factory):
    """Folders of runs that nothing interrupted, by experiment."""
    folder, done = tmp_path_factory.mktemp("whole"), {}

    def run(name: str) -> Path:
        if name not in done:
            go([*arguments(name), f"--run_dir={folder / name}"])
            done[name] = folder / name
        return done[name]

    return run


@pytest.fixture(scope="module")
def pretraining(arguments, whole):
    """The folder of the pre-training from which others start, as they name it; not the run itself: it may go away."""
    start = next(one for one in arguments("finetune_resnet18") if one.startswith("--model.init_args.pretrained="))
    folder = Path(start.partition("=")[2])
    shutil.copytree(whole("mcgip_moco_resnet18"), folder)
    return folder


@pytest.fixture(scope="module")
def table():
    """Rows for docs/results.md, written where the environment variable RESUME_TABLE says."""
    rows = [
        "| experiment | epochs | killed at | largest weight difference | metrics | batches |",
        "|---|---|---|---|---|---|",
    ]
    yield rows
    if path := os.environ.get("RESUME_TABLE"):
        Path(path).write_text("\n".join(rows) + "\n")


def _check(go, arguments, whole, table, run: Path, name: str, *moments: str, meanwhile=lambda: None) -> list[str]:
    first, texts = whole(name), []
    for number, moment in enumerate(moments):
        texts.append(go(["resume", "--run", str(run)] if number else [*arguments(name), f"--run_dir={run}"], moment))
    meanwhile()
    texts.append(go(["resume", "--run", str(run)]))
    same = {True: "equal", False: "not equal"}
    table.append(
        f"| {name} | {len(digests(first))} | {', '.join(moments)} | {weight_difference(first, run):g} | "
        f"{same[same_metrics(first, run)]} | {same[order(first) == order(run)]} |"
    )
    assert_same_run(first, run)
    return texts


@pytest.mark.parametrize(
    "moments",
    [
        # one epoch before a boundary, after two boundaries, one step after the last
        pytest.param(["batch_end 1 1", "batch_end 3 4", "batch_end 5 0"], id="three-times-in-mid-epoch"),
        # with the weights just taken over; validated, but not finished before a boundary; while testing
        pytest.param(["epoch_start 2", "validation_end 4", "test_end 7"], id="three-times-on-boundaries"),
        pytest.param(["batch_end 1 0"], id="once"),
    ],
)
def test_a_cooperative_run_that_was_killed_and_resumed_equals_one_that_was_not(
    go, arguments, whole, table, tmp_path, moments
):
    _check(go, arguments, whole, table, tmp_path / "run", "cooperative_densenet201", *moments)


def test_a_kill_between_an_epochs_checkpoint_and_its_row_of_means_costs_that_row_and_nothing_else(
    go, arguments, whole, tmp_path
):
    """Lightning logs an epoch's means after the last hook of the epoch, in which the checkpoint is written."""
    run = tmp_path / "run"
    go([*arguments("cooperative_densenet201"), f"--run_dir={run}"], "epoch_end 4")
    go(["resume", "--run", str(run)])
    uninterrupted = tmp_path / "whole"
    shutil.copytree(whole("cooperative_densenet201"), uninterrupted)
    rows = pd.read_csv(uninterrupted / "metrics.csv", dtype=str)
    lost = (rows["epoch"] == "4") & rows["stage"].notna()
    assert lost.sum() == 1
    rows[~lost].to_csv(uninterrupted / "metrics.csv", index=False)
    assert_same_run(uninterrupted, run, named=whole("cooperative_densenet201"))


@pytest.mark.parametrize("moment", ["epoch_start 1", "batch_end 3 2"])
def test_ggcams_two_phases_with_a_schedule_over_both_survive_a_kill(go, arguments, whole, table, tmp_path, moment):
    _check(go, arguments, whole, table, tmp_path / "run", "ggcam_resnet50", moment)


@pytest.mark.parametrize("name", ["global_attention_resnet18", "global_attention_resnet18_batch_stack"])
def test_global_attention_draws_the_same_anchors_again_after_a_kill(go, arguments, whole, table, tmp_path, name):
    _check(go, arguments, whole, table, tmp_path / "run", name, "batch_end 1 1", "epoch_start 3")


def test_augmentation_in_a_process_of_its_own_survives_a_kill(go, arguments, whole, table, tmp_path):
    _check(go, arguments, whole, table, tmp_path / "run", "mtunet", "batch_end 1 1", "batch_end 2 0")


@pytest.mark.parametrize("name", [name for name in FOUR if not any("pretrained" in one for one in FOUR[name])])
def test_four_epochs_are_two_and_a_kill_and_two_more(go, arguments, whole, table, tmp_path, name):
    _check(go, arguments, whole, table, tmp_path / "run", name, "batch_end 2 0")


@pytest.mark.parametrize("name", [name for name in FOUR if any("pretrained" in one for one in FOUR[name])])
def test_what_started_from_a_pretraining_goes_on_without_its_folder(
    go, arguments, whole, table, pretraining, tmp_path, name
):
    aside = pretraining.with_name("aside")
    kill = ("batch_end 2 0",)
    began, went_on = _check(
        go, arguments, whole, table, tmp_path / "run", name, *kill, meanwhile=lambda: pretraining.rename(aside)
    )
    aside.rename(pretraining)
    assert "Pre-trained weights: " in began
    assert "Pre-trained weights: " not in went_on


def test_a_run_killed_from_outside_and_resumed_equals_a_run_that_was_not(go, arguments, whole, tmp_path):
    """It dies wherever it is, a few steps into the third stage. As a shell starts it: test_ddp."""
    run = tmp_path / "run"
    go([*arguments("cooperative_densenet201"), f"--run_dir={run}"], killed_when=lambda: _steps_of_epoch(run, 3))
    assert 3 <= torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] + 1 < EPOCHS
    go(["resume", "--run", str(run)])
    assert_same_run(whole("cooperative_densenet201"), run)


def _steps_of_epoch(run: Path, epoch: int) -> bool:
    """Whether a step of this epoch is in the curves: it has not come to its end then."""
    metrics = run / "metrics.csv"
    return metrics.is_file() and f"\n{epoch},," in metrics.read_text()


def test_resuming_a_finished_run_trains_nothing_and_tests_again(go, whole, tmp_path):
    run = tmp_path / "moved"
    shutil.copytree(whole("cooperative_densenet201"), run)
    for name in ("results.json", "predictions.csv"):
        (run / name).unlink()
    text = go(["resume", "--run", str(run)])
    assert "images/s; about" not in text
    assert f"checkpoint path at {run / 'checkpoints' / 'best.ckpt'}" in text
    assert len(digests(run)) == EPOCHS
    assert len((run / "digest_0.txt").read_text().splitlines()) == EPOCHS
    names = ["metrics.csv", "results.json", "predictions.csv", "stages.json", "split.csv", "config.yaml"]
    for path in [*run.glob("checkpoints/*.ckpt"), *(run / name for name in names)]:
        earlier = whole("cooperative_densenet201") / path.relative_to(run)
        assert path.read_bytes() == earlier.read_bytes(), path


def test_a_run_that_cannot_go_on_says_why_and_loses_nothing(go, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole("cooperative_densenet201"), run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    staged = config["staged_training"]
    staged["stages"][1]["name"] = staged["stages"][2]["init_from"] = "diagnose"
    staged["sizes"]["diagnose"] = staged["sizes"].pop("classify")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    before = _contents(run)
    text = go(["resume", "--run", str(run)], status=2)
    assert "stage 2 is 'classify'; here the stages are contrastive, diagnose, saliency, fusion" in text
    assert _contents(run) == before
    text = go(["resume", "--run", str(run), "--trainer.max_epoch=3"], status=2)
    assert "max_epoch" in text
    assert _contents(run) == before


def _contents(run: Path) -> dict[Path, bytes]:
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "provenance.json"]
    return {path: path.read_bytes() for path in files}


def test_a_folder_without_a_run_and_a_run_without_an_epoch_cannot_be_resumed(go, arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["resume", "--run", str(tmp_path)])
    assert stop.value.code == 2
    assert "is not the folder of a run" in capsys.readouterr().err
    run = tmp_path / "run"
    go([*arguments("ggcam_resnet50"), f"--run_dir={run}"], "batch_end 0 1")
    before = _contents(run)
    with pytest.raises(SystemExit) as stop:
        main(["resume", "--run", str(run)])
    assert stop.value.code == 2
    assert "before its first epoch was over" in capsys.readouterr().err
    assert _contents(run) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which run"),
        (["--run", "run", "--run_dir=other"], "goes on in its own folder"),
        (["--run", "run", "--ckpt", "best"], "from its last checkpoint"),
    ],
)
def test_resume_without_a_run_or_with_another_folder_or_checkpoint_exits_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(["resume", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
