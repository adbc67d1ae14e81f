"""A tiny task and tiny data for the tests of staged training; importable by the processes that some of them start."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from callbacks import EpochSeed, Stage, StagedCheckpoint, StagedTraining


class Plain(LightningModule):
    """BatchNorm, dropout, two heads; validation logs real losses and a scripted score. No terms of the loss."""

    def __init__(self, scores=(), schedule=False, momentum=False):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)
        self.idle = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.scores, self.schedule, self.momentum = list(scores), schedule, momentum

    def training_step(self, batch, batch_idx):
        a, b = self.parts(batch)
        return a + b

    def parts(self, batch):
        out = self.head(self.body(batch))
        return out[:, 0].square().mean(), (out[:, 1] - 1).square().mean()

    def validation_step(self, batch, batch_idx):
        a, b = self.parts(batch)
        self.log_dict({"val/a": a, "val/b": b}, batch_size=len(batch))
        if self.scores:
            self.log("val/score", torch.tensor(float(self.scores[self.current_epoch])), batch_size=len(batch))

    def configure_optimizers(self):
        if self.momentum:
            return torch.optim.SGD(self.parameters(), lr=1e-2, momentum=0.9)
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.1)
        if self.schedule:
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]
        return optimizer


class Tiny(Plain):
    """The same with terms of the loss."""

    loss_terms = ("a", "b")
    active_loss_terms = frozenset({"a", "b"})

    def loss_for(self, terms: frozenset[str], batch: Tensor) -> Tensor:
        a, b = self.parts(batch)
        return ("a" in terms) * a + ("b" in terms) * b

    def training_step(self, batch, batch_idx):
        return self.loss_for(self.active_loss_terms, batch)

    def logged_values(self, terms: frozenset[str]) -> frozenset[str]:
        return frozenset({"val/a", "val/b"} | ({"val/score"} if self.scores else set()))


class Order(Sampler[int]):
    """An order that depends on the epoch only."""

    def __init__(self, length: int) -> None:
        self.length, self.epoch = length, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self.length, generator=torch.Generator().manual_seed(self.epoch)).tolist())


class TinyData(LightningDataModule):
    """Sixteen rows; the size of batches and of "images" (a factor) follows the stage."""

    image_size = (10, 10)

    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.rows = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
        self.own, self.now, self.calls = batch_size, (None, None), []

    def follow_stage(self, batch_size: int | None, image_size: tuple[int, int] | None) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}")
        self.now = (batch_size, image_size)
        self.calls.append(self.now)

    def train_dataloader(self) -> Any:
        return DataLoader(self.rows, batch_size=self.now[0] or self.own, sampler=Order(16))

    def val_dataloader(self) -> Any:
        return DataLoader(self.rows, batch_size=8)

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
        return batch * ((self.now[1] or self.image_size)[0] / 10)


class Watch(Callback):
    """What every epoch ended with, and every step used."""

    def __init__(self):
        self.states, self.optimizers, self.modes, self.trained, self.terms = [], [], [], [], []
        self.rates, self.step_rates, self.sizes, self.stages = [], [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.step_rates.append((trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]))
        self.sizes.append((trainer.current_epoch, len(batch)))

    def on_train_epoch_end(self, trainer, pl_module):
        self.states.append(copy.deepcopy(pl_module.state_dict()))
        self.optimizers.append(copy.deepcopy(trainer.optimizers[0].state_dict()))
        self.modes.append({name: module.training for name, module in pl_module.named_modules()})
        self.trained.append({name for name, parameter in pl_module.named_parameters() if parameter.requires_grad})
        self.terms.append(set(getattr(pl_module, "active_loss_terms", ())))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.stages.append(next((one.stage_position(trainer) for one in _staged(trainer)), None))


def _staged(trainer):
    return [callback for callback in trainer.callbacks if isinstance(callback, StagedTraining)]


def task(cls=Tiny, **options):
    torch.manual_seed(1)
    return cls(**options)


def fixed_data():
    return DataLoader(torch.randn(6, 8, 4, generator=torch.Generator().manual_seed(0)), batch_size=None)


def run(path, stages, model=None, epochs=4, callbacks=(), ckpt_path=None, data=None, staged=None, **options):
    """Fit; returns (task, Watch, Trainer)."""
    torch.manual_seed(0)
    model = task() if model is None else model
    watch = Watch()
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False} | options
    if not any(isinstance(callback, StagedCheckpoint) for callback in callbacks):
        options["enable_checkpointing"] = False
    trainer = Trainer(
        default_root_dir=path,
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[*callbacks, staged or StagedTraining(stages), watch],
        **({"num_sanity_val_steps": 1} | options),
    )
    if data is None:
        trainer.fit(model, fixed_data(), fixed_data(), ckpt_path=ckpt_path)
    else:
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return model, watch, trainer


def checkpoint(path, **options):
    return StagedCheckpoint(
        **({"dirpath": path, "filename": "best", "monitor": "val/score", "mode": "max", "save_last": True} | options)
    )


def equal(a, b, prefix=""):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a if key.startswith(prefix))


def same_optimizer(a, b):
    """Whether two states of an optimiser are bit for bit the same."""
    states = a["state"].keys() == b["state"].keys() and all(equal(a["state"][i], b["state"][i]) for i in a["state"])
    return states and a["param_groups"] == b["param_groups"]


SCORES = [0, 1, 5, 9, 2, 3, 4, 6, 5, 0, 0]
"""The stage ``body`` of `eventful_stages` is best in epoch 3 and ends after epoch 5 instead of 6."""


def eventful_stages() -> list[Stage]:
    """Train patterns, terms, schedule, early end, init_from and sizes, in nine of at most ten epochs."""
    return [
        Stage("head", 2, train=["head"], loss_terms=["a"], batch_size=4, monitor="val/a", mode="min"),
        Stage("body", 5, freeze=["head"], lr=0.05, schedule="cosine", warmup=0.25, patience=2, init_from="head"),
        Stage("all", 3, init_from="body", batch_size=2, image_size=(5, 5)),
    ]


def eventful_run(folder: Path, callbacks=(), resume: bool = False):
    """A run with all that can be lost by an interruption, dropout included, in its folder."""
    model = task(scores=SCORES)
    last = folder / "checkpoints" / "last.ckpt"
    before = [EpochSeed(), *callbacks, checkpoint(folder / "checkpoints")]
    return run(
        folder,
        eventful_stages(),
        model,
        epochs=-1,
        callbacks=before,
        data=TinyData(),
        ckpt_path=last if resume else None,
        num_sanity_val_steps=0,
    )


def stages_json(path):
    return json.loads((path / "stages.json").read_text())
