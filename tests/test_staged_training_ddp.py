"""Two real processes: whatever stages do, both must end with the same weights and buffers."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy

from callbacks import Stage
from callbacks.stage_checks import check_strategy

SCRIPT = """
import os, sys
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import BackboneFinetuning
from torch import nn
from torch.utils.data import DataLoader

from callbacks import EpochSeed, Stage, StagedCheckpoint, StagedTraining
from gaze_lightning.tasks import GGCAM

out, kind, strategy = sys.argv[1:]
torch.set_num_threads(1)
rank = int(os.environ.get("LOCAL_RANK", "0"))
os.environ["PL_GLOBAL_SEED"] = "3"


class Save(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        name = f"{out}/{trainer.current_epoch}-{trainer.global_rank}.pt"
        torch.save({"start": start, "end": dict(pl_module.state_dict())}, name)

    def on_train_end(self, trainer, pl_module):
        torch.save(dict(pl_module.state_dict()), f"{out}/final-{trainer.global_rank}.pt")


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


class Parts(LightningModule):
    # BatchNorm and dropout; the second process leaves out one part in its first step
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.2), nn.Flatten())
        self.sometimes = nn.Linear(144, 1)
        self.head = nn.Linear(144, 1)

    def training_step(self, batch, batch_idx):
        maps = self.backbone(batch)
        loss = (self.head(maps) - 1).square().mean()
        return loss if self.global_rank == 1 and batch_idx == 0 else loss + self.sometimes(maps).square().mean()

    def validation_step(self, batch, batch_idx):
        scores = torch.tensor([1.0, 5.0, 2.0, 3.0, 4.0, 3.0, 9.0, 9.0])
        self.log("val/score", scores[self.current_epoch], sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=1e-2)


STAGES = {
    "freeze": [Stage("head", 1, freeze=["model.backbone"]), Stage("all", 2)],
    "terms": [Stage("gaze", 1, loss_terms=["gaze"]), Stage("joint", 2)],
    "init": [
        Stage("head", 3, train=["head"], lr=0.05),
        Stage("backbone", 4, train=["backbone", "sometimes"], init_from="head", patience=1),
        Stage("all", 2, init_from="backbone", freeze=["backbone.1"]),
    ],
}


def main():
    global start
    torch.manual_seed(0)
    task = Parts() if kind in ("init", "upstream") else GGCAM(["x", "y"], backbone="test_resnet", lr=1e-2)
    start = {key: value.clone() for key, value in task.state_dict().items()}
    if isinstance(task, Parts):
        draw = torch.Generator().manual_seed(rank)
        batches = [torch.rand(4, 1, 8, 8, generator=draw) for _ in range(2)]
    else:
        batches = [batch(rank, step) for step in range(2)]
    data = DataLoader(batches, batch_size=None, collate_fn=lambda x: x)
    if kind == "upstream":
        staging = [BackboneFinetuning(unfreeze_backbone_at_epoch=1, backbone_initial_lr=1e-2)]
    else:
        checkpoint = StagedCheckpoint(f"{out}/checkpoints", "best", "val/score", mode="max", save_last=True)
        staging = [StagedTraining(STAGES[kind]), *([checkpoint] if kind == "init" else [])]
    trainer = Trainer(
        default_root_dir=out, accelerator="cpu", devices=2, strategy=strategy, max_epochs=9 if kind == "init" else 3,
        logger=False, enable_checkpointing=kind == "init", enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, num_sanity_val_steps=0, limit_val_batches=1 if kind == "init" else 0,
        callbacks=[EpochSeed(), *staging, Save()],
    )
    trainer.fit(task, data, data)


if __name__ == "__main__":
    main()
"""


def run(tmp_path, kind, strategy):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), kind, strategy],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def ranks(tmp_path, name):
    return [torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in range(2)]


def differences(a, b):
    assert a.keys() == b.keys()
    return {name for name in a if not torch.equal(a[name], b[name])}


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "strategy"), [("freeze", "ddp_find_unused_parameters_true"), ("terms", "ddp")])
def test_ranks_stay_bit_identical_through_stages(tmp_path, kind, strategy):
    run(tmp_path, kind, strategy)
    for epoch in range(3):
        first, second = ranks(tmp_path, epoch)
        differing = differences(first["end"], second["end"])
        if epoch in (0, 2):  # the ends of the stages
            assert not differing
        assert all("running" in name for name in differing)  # within a stage statistics are each rank's own
        moved = {name for name, value in first["end"].items() if not torch.equal(value, first["start"][name])}
        backbone = {name for name in moved if name.startswith("model.backbone")}
        if kind == "freeze":
            assert bool(backbone) == (epoch > 0)  # frozen: neither weights nor statistics move
        else:
            assert backbone
            assert ("weighting.log_sigma_gaze" in moved) == (epoch > 0)


@pytest.mark.ddp
@pytest.mark.slow
def test_ranks_stay_bit_identical_through_train_patterns_init_from_and_parts_that_one_rank_does_not_use(tmp_path):
    done = run(tmp_path, "init", "ddp_find_unused_parameters_true")
    ends = {2: {"head"}, 5: {"backbone", "sometimes"}, 7: {"backbone", "head", "sometimes"}}  # patience ends the second
    before = ranks(tmp_path, 0)[0]["start"]
    for epoch, trained in ends.items():
        first, second = ranks(tmp_path, epoch)
        assert not differences(first["end"], second["end"]), epoch
        moved = {name.split(".")[0] for name in differences(before, first["end"])}
        assert moved == trained, epoch
        source = {2: "best-head", 5: "best-backbone", 7: "best"}[epoch]
        before = torch.load(tmp_path / "checkpoints" / f"{source}.ckpt", weights_only=True)["state_dict"]
    assert not (tmp_path / "8-0.pt").exists()
    assert not differences(*ranks(tmp_path, "final"))
    assert done.stderr.count("weights of stage 'head': epoch 1") == 1
    norm = {f"backbone.1.{name}" for name in ("weight", "running_mean", "running_var")}
    last = ranks(tmp_path, 7)[0]["end"]
    best = torch.load(tmp_path / "checkpoints" / "best-backbone.ckpt", weights_only=True)["state_dict"]
    assert not norm & differences(best, last)


@pytest.mark.ddp
@pytest.mark.slow
def test_lightnings_own_callback_still_leaves_every_rank_with_weights_of_its_own(tmp_path):
    """Lightning issue 20340, which the documentation names: once this fails, the claim has to go."""
    run(tmp_path, "upstream", "ddp_find_unused_parameters_true")
    assert not any(name.startswith("backbone.0") for name in differences(*(one["end"] for one in ranks(tmp_path, 0))))
    assert {"backbone.0.weight", "backbone.0.bias"} <= differences(*(one["end"] for one in ranks(tmp_path, 2)))


@pytest.mark.parametrize("stage", [Stage("one", freeze=["model.backbone"]), Stage("one", train=["head"])])
def test_freezing_under_plain_ddp_says_which_strategy_it_needs(stage):
    with pytest.raises(ValueError, match="ddp_find_unused_parameters_true"):
        check_strategy([stage], DDPStrategy())
    check_strategy([Stage("one", loss_terms=["gaze"])], DDPStrategy())
    check_strategy([stage], DDPStrategy(find_unused_parameters=True))
