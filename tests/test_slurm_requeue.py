"""A job that is pre-empted, requeued and goes on: real processes with SLURM's variables, and a stand-in scontrol."""

import json
import os
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gaze_lightning.main import main
from tests.interruption import assert_same_run, digests
from tests.slurm_tasks import CALLBACKS, Step, environment, stand_in_scontrol
from tests.wandb_records import history, records_of

pytestmark = [pytest.mark.ddp, pytest.mark.slow]


@pytest.fixture
def step():
    """Start a step of a job; none outlives its test."""
    with ExitStack() as stack:
        yield lambda *given, **more: stack.enter_context(Step(*given, **more))


@pytest.fixture
def train(phantom_arguments, tmp_path):
    return [
        "train",
        "--config=ggcam_resnet50",
        "--config=trainer/slurm",
        *phantom_arguments,
        f"--data.init_args.cache_dir={tmp_path / 'cache'}",
        "--data.init_args.batch_size=4",
        "--data.init_args.num_workers=1",
        "--data.init_args.image_size=[48,40]",
        "--data.init_args.saliency_size=[24,20]",
        "--model.init_args.backbone=test_resnet.r160_in1k",
        "--model.init_args.output_stride=32",
        "--cam_logger.every_n_epochs=0",
        "--cam_logger.on_test=false",
        "--test_report.n_boot=10",
        "--trainer.max_epochs=3",
        "--trainer.log_every_n_steps=1",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        CALLBACKS,
        f"--runs={tmp_path / 'runs'}",
    ]


def _states(run: Path) -> list[tuple[str, str]]:
    entries = json.loads((run / "provenance.json").read_text())["entries"]
    return [(entry["stage"], entry["state"]) for entry in entries]


def _sent(run: Path) -> tuple[set[str], list[float], list[float]]:
    """Ids of the offline runs of W&B in a run folder; what they would send of the value that selects, and its best."""
    logs = sorted(run.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    assert len(logs) == 2
    rows = [row for path in logs for row in history(records_of(path))]
    values = [[row[name] for row in rows if name in row] for name in ("val/auroc_macro", "best/val/auroc_macro")]
    return {path.stem.removeprefix("run-") for path in logs}, values[0], values[1]


def test_two_tasks_that_are_preempted_and_requeued_end_as_two_that_are_not_in_one_run_of_wandb(train, step, tmp_path):
    pytest.importorskip("wandb")
    whole = step(train, tmp_path / "whole", "100001")
    assert whole.end() == [0, 0], whole.text()[-8000:]

    asked = stand_in_scontrol(tmp_path / "bin")
    (hold := tmp_path / "hold").mkdir()
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    train = [*train, "--config=logger/wandb"]
    environ = {"PATH": path, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    first = step(train, tmp_path / "first", "100002", HOLD_IN=str(hold), **environ)
    first.wait_for(hold / "batch_1_0", hold / "batch_1_1")
    first.send(signal.SIGUSR1)
    (hold / "go_on").touch()
    first.wait_for(hold / "batch_2_0", hold / "batch_2_1")
    assert asked.read_text() == "requeue 100002\n"
    first.send(signal.SIGUSR1)
    first.send(signal.SIGTERM)  # what follows a requeue
    ended, other = first.end(timeout=120)
    # 1: its loading process was ended before it has stopped (the signal comes to all), or its connection to the other
    assert ended in (128 + signal.SIGTERM, 1), first.text()[-8000:]
    assert other in (0, 1), first.text()[-8000:]
    assert asked.read_text() == "requeue 100002\n"
    folder = tmp_path / "runs" / "ggcam_resnet50"
    run = folder / "slurm-100002"
    assert _states(run) == [("fit", "pre-empted in epoch 2")]
    assert "It will go on in this folder from its last complete epoch" in first.text()

    second = step(train, tmp_path / "second", "100002", SLURM_RESTART_COUNT="1", **environ)
    assert second.end() == [0, 0], second.text()[-8000:]
    assert "Restart 1 of job 100002" in second.text()
    assert sorted(one.name for one in folder.iterdir()) == ["slurm-100001", "slurm-100002"]
    ids, values, best = _sent(run)
    assert ids == {json.loads((run / "wandb_run.json").read_text())["id"]}
    curves = pd.read_csv(run / "metrics.csv")
    assert values == pytest.approx(curves["val/auroc_macro"].dropna().tolist())
    assert len(values) == 3
    assert best == list(np.maximum.accumulate(values[1:]))  # the first stage, of one epoch, selects nothing
    assert best[0] == best[1], "otherwise the best of before the stop does not show after it"
    shutil.rmtree(run / "wandb")
    (run / "wandb_run.json").unlink()
    assert_same_run(folder / "slurm-100001", run)
    assert digests(run, 0) == digests(run, 1) == digests(folder / "slurm-100001", 1)
    assert len((run / "digest_0.txt").read_text().splitlines()) == 3
    assert _states(run)[1:] == [("fit", "finished"), ("test", "finished")]


def test_a_job_without_a_complete_epoch_starts_anew_in_its_folder(train, step, tmp_path, monkeypatch, capfd):
    first = step(train, tmp_path / "first", "100003", tasks=1, INTERRUPT_AT="batch_end 0 2")
    assert first.end() == [-signal.SIGKILL], first.text()[-8000:]
    run = tmp_path / "runs" / "ggcam_resnet50" / "slurm-100003"
    assert not (run / "checkpoints" / "last.ckpt").exists()

    for name, value in environment("100003").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        main(train)
    assert stop.value.code == 2
    assert "holds a run already" in capfd.readouterr().err

    second = step(train, tmp_path / "second", "100003", tasks=1, SLURM_RESTART_COUNT="1")
    assert second.end() == [0], second.text()[-8000:]
    assert "starts anew, for no epoch of it was complete" in second.text()
    assert list(digests(run)) == [0, 1, 2]
    rows = pd.read_csv(run / "metrics.csv")
    steps = rows.loc[rows["train/loss_step"].notna(), "step"].tolist()
    assert steps == sorted(set(steps))
    assert steps[0] == 0
