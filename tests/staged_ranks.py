"""Staged trainings on two processes; importable by processes that tests start."""

import os
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import BackboneFinetuning
from torch import nn
from torch.utils.data import DataLoader

from callbacks import EpochSeed, Stage, StagedCheckpoint, StagedTraining
from gaze_lightning.tasks import GGCAM

STAGES = {
    "freeze": [Stage("head", 1, freeze=["model.backbone"]), Stage("all", 2)],
    "terms": [Stage("gaze", 1, loss_terms=["gaze"]), Stage("joint", 2)],
    "init": [
        Stage("head", 3, train=["head"], lr=0.05),
        Stage("backbone", 4, train=["backbone", "sometimes"], init_from="head", patience=1),
        Stage("all", 2, init_from="backbone", freeze=["backbone.1"]),
    ],
}


class Save(Callback):
    """Weights and buffers before the training, after each epoch and at the end."""

    def __init__(self, out, start):
        self.out, self.start = out, start

    def on_train_epoch_end(self, trainer, pl_module):
        name = self.out / f"{trainer.current_epoch}-{trainer.global_rank}.pt"
        torch.save({"start": self.start, "end": dict(pl_module.state_dict())}, name)

    def on_train_end(self, trainer, pl_module):
        torch.save(dict(pl_module.state_dict()), self.out / f"final-{trainer.global_rank}.pt")


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
    """BatchNorm and dropout; the second process leaves out one part in its first step."""

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


def train(folder: str, kind: str, strategy: str) -> None:
    """Train with the stages called ``kind`` (``upstream``: with Lightning's callback instead)."""
    out, rank = Path(folder), int(os.environ["RANK"])
    os.environ["PL_GLOBAL_SEED"] = "3"
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
        checkpoint = StagedCheckpoint(str(out / "checkpoints"), "best", "val/score", mode="max", save_last=True)
        staging = [StagedTraining(STAGES[kind]), *([checkpoint] if kind == "init" else [])]
    trainer = Trainer(
        default_root_dir=out,
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        max_epochs=9 if kind == "init" else 3,
        logger=False,
        enable_checkpointing=kind == "init",
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=1 if kind == "init" else 0,
        callbacks=[EpochSeed(), *staging, Save(out, start)],
    )
    trainer.fit(task, data, data)
