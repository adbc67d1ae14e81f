"""The samples that each process sees; importable by processes that tests start."""

import json
from pathlib import Path

import pytorch_lightning as pl
import torch

from tests.made_up_table import MadeUpDataModule, make_table


class Recorder(pl.LightningModule):
    """Remembers what it is shown."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), []

    def training_step(self, batch, index):
        self.seen += [(self.current_epoch, name) for name in batch["sample_id"]]
        return self.weight * batch["saliency"].sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def record(folder: str, devices: int) -> None:
    """Three epochs with balanced classes; writes ``seen_<devices>_<rank>.json``."""
    place, task = Path(folder), Recorder()
    data = MadeUpDataModule(
        make_table(place / "films", 40), place / "cache", batch_size=2, split="stratified", sampling="class_balanced"
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=3,
        logger=False,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
    )
    trainer.fit(task, datamodule=data)
    (place / f"seen_{devices}_{trainer.global_rank}.json").write_text(json.dumps(task.seen))
