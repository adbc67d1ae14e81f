"""Two processes that read other weights; importable by processes that tests start."""

from pathlib import Path

import torch
from pytorch_lightning import Callback, Trainer
from torch.utils.data import DataLoader

from gaze_lightning.tasks import Classifier
from tests.staged_ranks import batch


class Unlike(Classifier):
    """Finds its rank in each weight, as from files that differ between two nodes."""

    def read_weights(self) -> None:
        """Called when a training starts."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(self.global_rank + 1)


class Save(Callback):
    """What a process starts with."""

    def on_train_start(self, trainer, pl_module):
        torch.save(dict(pl_module.state_dict()), Path(trainer.default_root_dir) / f"{trainer.global_rank}.pt")


def read(folder: str) -> None:
    """Start a training on both processes."""
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        callbacks=[Save()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_steps=1,
    )
    task = Unlike(["Normal", "CHF"], backbone="test_resnet.r160_in1k")
    trainer.fit(task, DataLoader([batch(0, 0)], batch_size=None))
