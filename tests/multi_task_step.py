"""One contrastive step of the cooperative method on one process or two; importable by processes that tests start."""

import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from gaze_lightning.tasks import Cooperative
from tests.test_tasks import make_batch


class Still(Cooperative):
    """Batch norms use their statistics: each process would see a part of the batch."""

    def on_train_batch_start(self, batch, batch_idx):
        self.eval()


def step(folder: str, devices: int, contrastive: str) -> None:
    """Write the encoder to ``<contrastive>_start.pt`` and, after the step, ``<contrastive>_<devices>_<rank>.pt``."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options = {"backbone": "test_resnet", "width": 1 / 16, "contrastive": contrastive, "optimizer": "sgd", "lr": 0.5}
    task = Still(["a", "b", "c"], **options)
    if devices == 1:
        torch.save(task.model.encoder.state_dict(), f"{folder}/{contrastive}_start.pt")
    task.active_loss_terms = frozenset({"contrastive"})
    whole = make_batch(12, planted=True)
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=devices,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        strategy="ddp_find_unused_parameters_true" if devices > 1 else "auto",
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    size = 12 // devices
    rows = slice(trainer.global_rank * size, (trainer.global_rank + 1) * size)
    part = {key: value[rows] for key, value in whole.items()}
    trainer.fit(task, DataLoader([part], batch_size=None, collate_fn=lambda batch: batch))
    torch.save(task.model.encoder.state_dict(), f"{folder}/{contrastive}_{devices}_{trainer.global_rank}.pt")
