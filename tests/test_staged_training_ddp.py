"""Two real processes: freezing and unfreezing must leave both with the same weights."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from pytorch_lightning import Trainer

from callbacks.staged_training import Stage, StagedTraining
from gaze_lightning.tasks import GGCAM

SCRIPT = """
import os, sys
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from callbacks.staged_training import Stage, StagedTraining
from gaze_lightning.tasks import GGCAM

out, kind, strategy = sys.argv[1:]
torch.set_num_threads(1)


class Save(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        name = f"{out}/{trainer.current_epoch}-{trainer.global_rank}.pt"
        torch.save({"start": start, "end": dict(pl_module.state_dict())}, name)


def batch(rank, step):
    generator = torch.Generator().manual_seed(10 * step + rank)
    gaze = rank == 0 or step > 0  # in the first step the second process has no gaze at all
    return {
        "image": torch.rand(4, 1, 64, 64, generator=generator),
        "sample_id": [f"{rank}-{step}-{i}" for i in range(4)],
        "label": torch.tensor([0, 1, 0, 1]),
        "has_gaze": torch.full((4,), gaze),
        "fixations": torch.tensor([[[20.0, 40.0, 1.0, 6.0, 6.0]]] * 4),
        "fixation_mask": torch.full((4, 1), gaze),
    }


def main():
    global start
    torch.manual_seed(0)
    task = GGCAM(["x", "y"], backbone="test_resnet", lr=1e-2)
    start = {key: value.clone() for key, value in task.state_dict().items()}
    stages = {
        "freeze": [Stage("head", 1, freeze=["model.backbone"]), Stage("all", 2)],
        "terms": [Stage("gaze", 1, loss_terms=["gaze"]), Stage("joint", 2)],
    }[kind]
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    data = DataLoader([batch(rank, step) for step in range(2)], batch_size=None, collate_fn=lambda x: x)
    trainer = Trainer(
        default_root_dir=out, accelerator="cpu", devices=2, strategy=strategy, max_epochs=3, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[StagedTraining(stages), Save()],
    )
    trainer.fit(task, data)


if __name__ == "__main__":
    main()
"""


def run(tmp_path, kind, strategy):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    return subprocess.run(
        [sys.executable, str(script), str(tmp_path), kind, strategy],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "strategy"), [("freeze", "ddp_find_unused_parameters_true"), ("terms", "ddp")])
def test_ranks_stay_bit_identical_through_stages(tmp_path, kind, strategy):
    result = run(tmp_path, kind, strategy)
    assert result.returncode == 0, result.stderr[-3000:]
    for epoch in range(3):
        first, second = (torch.load(tmp_path / f"{epoch}-{rank}.pt", weights_only=True) for rank in range(2))
        for name, value in first["end"].items():
            if "running" not in name:  # BatchNorm statistics are each rank's own without sync_batchnorm
                assert torch.equal(value, second["end"][name]), (epoch, name)
        moved = {name for name, value in first["end"].items() if not torch.equal(value, first["start"][name])}
        backbone = {name for name in moved if name.startswith("model.backbone")}
        if kind == "freeze":
            assert bool(backbone) == (epoch > 0)  # frozen: neither weights nor statistics move
        else:
            assert backbone
            assert ("weighting.log_sigma_gaze" in moved) == (epoch > 0)


def test_freezing_under_plain_ddp_says_which_strategy_it_needs():
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False)
    with pytest.raises(ValueError, match="ddp_find_unused_parameters_true"):
        StagedTraining([Stage("one", freeze=["model.backbone"])]).on_fit_start(
            trainer, GGCAM(["x", "y"], backbone="test_resnet")
        )
