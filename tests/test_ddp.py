"""Two real processes through the command line, as a node with two devices would start them."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

pytestmark = [pytest.mark.ddp, pytest.mark.slow]


def _run(*arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GAZE_LIGHTNING_RUN")}
    done = subprocess.run(
        [sys.executable, "-m", "gaze_lightning", *arguments],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_training_on_two_processes_has_one_folder_and_the_numbers_of_one_process(phantom_arguments, tmp_path):
    _run(
        "train",
        "--config=ggcam_resnet50",
        *phantom_arguments,
        f"--data.init_args.cache_dir={tmp_path / 'cache'}",
        "--data.init_args.batch_size=4",
        "--data.init_args.image_size=[48,40]",
        "--data.init_args.saliency_size=[24,20]",
        "--model.init_args.backbone=test_resnet.r160_in1k",
        "--model.init_args.output_stride=32",
        "--trainer.max_epochs=3",
        "--trainer.accelerator=cpu",
        "--trainer.devices=2",
        "--trainer.strategy=ddp",
        "--trainer.enable_progress_bar=false",
        f"--runs={tmp_path / 'runs'}",
    )
    (run,) = (tmp_path / "runs" / "ggcam_resnet50").iterdir()
    predictions = pd.read_csv(run / "predictions.csv", dtype={"sample_id": str})
    split = pd.read_csv(run / "split.csv", dtype=str)
    assert sorted(predictions["sample_id"]) == sorted(split.loc[split["split"] == "test", "sample_id"])
    assert list(run.glob("cams/test/*.png"))
    _run("test", "--run", str(run), "--trainer.devices=1", "--trainer.strategy=auto", f"--run_dir={tmp_path / 'one'}")
    two, one = (json.loads((folder / "results.json").read_text()) for folder in (run, tmp_path / "one"))
    assert two["n"] == one["n"] == len(predictions)
    for name, measured in one["metrics"].items():
        # batches of another size round differently in float32, which can swap neighbours in rank-based metrics
        assert two["metrics"][name]["value"] == pytest.approx(measured["value"], abs=1e-4, nan_ok=True), name
    again = pd.read_csv(tmp_path / "one" / "predictions.csv", dtype={"sample_id": str}).set_index("sample_id")
    for column in ("prob_Normal", "prob_CHF", "prob_pneumonia"):
        given = predictions.set_index("sample_id")[column]
        assert given.to_numpy() == pytest.approx(again.loc[given.index, column].to_numpy(), abs=1e-5)
