"""Two real processes through the command line, as a node with two devices would start them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.interruption import CALLBACKS, assert_same_run, digests
from tests.made_up_table import make_table

_ROOT = str(Path(__file__).parent.parent)

pytestmark = [pytest.mark.ddp, pytest.mark.slow]


def _run(*arguments: str, interrupt_at: str = "") -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GAZE_LIGHTNING_RUN")}
    done = subprocess.run(
        [sys.executable, "-m", "gaze_lightning", *arguments],
        env=environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": _ROOT, "INTERRUPT_AT": interrupt_at},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if interrupt_at else 0), done.stderr[-3000:]
    return done.stdout


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
    _assert_one_process_gives_the_same(run, predictions, tmp_path / "one")


def _assert_one_process_gives_the_same(run: Path, predictions: pd.DataFrame, folder: Path) -> None:
    _run("test", "--run", str(run), "--trainer.devices=1", "--trainer.strategy=auto", f"--run_dir={folder}")
    two, one = (json.loads((folder / "results.json").read_text()) for folder in (run, folder))
    assert two["n"] == one["n"] == len(predictions)
    for name, measured in one["metrics"].items():
        # batches of another size round differently in float32, which can swap neighbours in rank-based metrics
        assert two["metrics"][name]["value"] == pytest.approx(measured["value"], abs=1e-4, nan_ok=True), name
    again = pd.read_csv(folder / "predictions.csv", dtype={"sample_id": str}).set_index("sample_id")
    for column in ("prob_Normal", "prob_CHF", "prob_pneumonia"):
        given = predictions.set_index("sample_id")[column]
        assert given.to_numpy() == pytest.approx(again.loc[given.index, column].to_numpy(), abs=1e-5)


def test_stages_on_two_processes_keep_them_identical_and_survive_a_kill(phantom_arguments, tmp_path):
    small = [
        *phantom_arguments,
        f"--data.init_args.cache_dir={tmp_path / 'cache'}",
        "--data.init_args.batch_size=4",
        "--data.init_args.image_size=[48,40]",
        "--data.init_args.saliency_size=[24,20]",
        "--model.init_args.backbone=test_resnet.r160_in1k",
        "--model.init_args.width=0.0625",
        "--staged_training.sizes={contrastive: {epochs: 2, lr: 0.01, image_scale: 0.5}, classify: {epochs: 1, lr: 0.01}"
        ", saliency: {epochs: 2, lr: 0.01, schedule: cosine}, fusion: {epochs: 1, lr: 0.01}}",
        "--cam_logger.n_cases=2",
        "--trainer.accelerator=cpu",
        "--trainer.devices=2",
        "--trainer.strategy=ddp",
        "--trainer.enable_progress_bar=false",
        CALLBACKS,
    ]
    text = _run("train", "--config=cooperative_densenet201", *small, f"--runs={tmp_path / 'runs'}")
    (run,) = (tmp_path / "runs" / "cooperative_densenet201").iterdir()
    assert all(name in text.partition("Stages")[2] for name in ("contrastive", "classify", "saliency", "fusion"))
    assert [row["epochs"] for row in json.loads((run / "stages.json").read_text())] == [2, 1, 2, 1]
    assert list(run.glob("cams/test/*.png"))
    first, second = digests(run, 0), digests(run, 1)
    assert list(first) == list(range(6))
    assert len(set(first.values())) == 6
    assert first == second
    predictions = pd.read_csv(run / "predictions.csv", dtype={"sample_id": str})
    _assert_one_process_gives_the_same(run, predictions, tmp_path / "one")

    resumed = tmp_path / "resumed"
    train = ["train", "--config=cooperative_densenet201", *small, f"--run_dir={resumed}"]
    _run(*train, interrupt_at="batch_end 4 1")
    _run("resume", "--run", str(resumed))
    assert_same_run(run, resumed)
    assert digests(resumed, 1) == second


@pytest.mark.parametrize("name", ["global_attention_resnet18", "global_attention_resnet18_batch_stack"])
def test_one_map_on_two_processes(phantom_arguments, tmp_path, name):
    _run(
        "train",
        f"--config={name}",
        *phantom_arguments,
        f"--data.init_args.cache_dir={tmp_path / 'cache'}",
        "--data.init_args.batch_size=4",
        "--data.init_args.image_size=[48,40]",
        "--data.init_args.saliency_size=[24,20]",
        "--data.init_args.augmentation=light",
        "--model.init_args.backbone=test_resnet.r160_in1k",
        "--model.init_args.output_stride=32",
        "--model.init_args.n_anchors=12",
        "--model.init_args.freeze_epoch=2",
        "--trainer.max_epochs=3",
        "--trainer.accelerator=cpu",
        "--trainer.devices=2",
        "--trainer.strategy=ddp",
        "--trainer.enable_progress_bar=false",
        CALLBACKS,
        f"--runs={tmp_path / 'runs'}",
    )
    (run,) = (tmp_path / "runs" / name).iterdir()
    first, second = digests(run, 0), digests(run, 1)
    assert list(first) == list(range(3))
    assert len(set(first.values())) == 3
    assert first == second
    assert (run / "attention" / "map.png").is_file()
    predictions = pd.read_csv(run / "predictions.csv", dtype={"sample_id": str})
    _assert_one_process_gives_the_same(run, predictions, tmp_path / "one")


_RECORD = """
import json, sys
from pathlib import Path
import pytorch_lightning as pl, torch
from tests.interruption import CALLBACKS, assert_same_run, digests
from tests.made_up_table import MadeUpDataModule, make_table

folder, devices = Path(sys.argv[1]), int(sys.argv[2])


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), []

    def training_step(self, batch, index):
        self.seen += [(self.current_epoch, name) for name in batch["sample_id"]]
        return self.weight * batch["saliency"].sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_end(self):
        (folder / f"seen_{devices}_{self.global_rank}.json").write_text(json.dumps(self.seen))


data = MadeUpDataModule(
    make_table(folder / "films", 40), folder / "cache", batch_size=2, split="stratified", sampling="class_balanced"
)
trainer = pl.Trainer(
    accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=3, logger=False,
    use_distributed_sampler=False, enable_checkpointing=False, enable_progress_bar=False, limit_val_batches=0,
)
trainer.fit(Recorder(), datamodule=data)
"""


def test_processes_share_the_draws_of_a_balanced_epoch_among_them(tmp_path):
    script = tmp_path / "record.py"
    script.write_text(_RECORD)
    make_table(tmp_path / "films", 40)
    seen = {}
    for devices in (1, 2):
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path), str(devices)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": _ROOT},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        seen[devices] = [json.loads((tmp_path / f"seen_{devices}_{rank}.json").read_text()) for rank in range(devices)]
    for epoch in range(3):
        alone = [name for number, name in seen[1][0] if number == epoch]
        ranks = [[name for number, name in rank if number == epoch] for rank in seen[2]]
        together = [name for pair in zip(*ranks, strict=True) for name in pair]
        length = min(len(alone), len(together))  # the last incomplete batch is left out, which differs
        assert length >= len(alone) - 2
        assert together[:length] == alone[:length]
