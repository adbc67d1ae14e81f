# ruff: noqa: NPY002  the legacy global generator is what an observer must leave alone
"""A model of a few hundred weights and data in memory: enough for every callback, ready in milliseconds."""

import os

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, Dataset

os.environ.setdefault("GAZE_LIGHTNING_ID_KEY", "key of the tests")

NAMES = ["Normal", "CHF", "Pneumonia"]
H, W = 24, 20


class TinyDataset(Dataset):
    """Reading a sample draws random numbers, as careless data sets do: an observer must not let that show."""

    def __init__(self, n, multi=False, ids=None):
        self.ids = ids or [f"patient{i // 2}/film{i}" for i in range(n)]
        self.multi = multi

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        np.random.rand()
        torch.rand(1)
        rng = np.random.default_rng(i)
        lesion = np.zeros((3, H, W), bool)
        if i % 3:
            lesion[i % 3, 8:14, 5:10] = True
        label = i % 3
        if self.multi:
            label = torch.tensor([float(i % 2), float(i % 3 == 0), float("nan") if i == 0 else float(i % 4 == 0)])
        return {
            "image": torch.from_numpy(rng.integers(0, 256, (1, H, W), dtype=np.uint8)),
            "sample_id": self.ids[i],
            "subject": f"patient{i // 2}",
            "label": label,
            "has_gaze": i % 5 != 0,
            "lesion_mask": torch.from_numpy(lesion),
            "fixations": torch.from_numpy(rng.uniform(2, 18, (4, 5)).astype(np.float32)),
        }


def collate(samples):
    batch = {key: [sample[key] for sample in samples] for key in samples[0]}
    for key in ("image", "lesion_mask", "fixations"):
        batch[key] = torch.stack(batch[key])
    first = batch["label"][0]
    batch["label"] = torch.stack(batch["label"]) if isinstance(first, torch.Tensor) else torch.tensor(batch["label"])
    batch["has_gaze"] = torch.tensor(batch["has_gaze"])
    batch["fixation_mask"] = batch["has_gaze"][:, None].expand(-1, 4)
    return batch


class TinyData(LightningDataModule):
    class_names = NAMES
    data_note = "synthetic phantom: not clinical evidence"
    open_data = False

    def __init__(self, multi=False, n_test=9, test_sampler=None, test_ids=None):
        super().__init__()
        self.label_type = "multi" if multi else "single"
        self.multi, self.n_test, self.test_sampler, self.test_ids = multi, n_test, test_sampler, test_ids
        self.splits_written = []

    def fingerprint(self):
        return "abc123"

    def write_split(self, path):
        path.write_text("subject,split\n")
        self.splits_written.append(path)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        batch["image"] = batch["image"].float() / 255
        saliency = torch.rand(len(batch["image"]), 1, 6, 5) * batch["has_gaze"][:, None, None, None]
        batch["saliency"] = saliency / saliency.sum((1, 2, 3), keepdim=True).clamp(min=1e-9)
        batch["film_box"] = torch.tensor([[0.0, 2.0, W, H - 2.0]]).repeat(len(saliency), 1)
        return batch

    def _loader(self, n, **kwargs):
        return DataLoader(
            TinyDataset(n, self.multi, kwargs.pop("ids", None)), batch_size=4, collate_fn=collate, **kwargs
        )

    def train_dataloader(self):
        return self._loader(12, shuffle=True)

    def val_dataloader(self):
        return self._loader(10)

    def test_dataloader(self):
        return self._loader(self.n_test, sampler=self.test_sampler, ids=self.test_ids)

    def predict_dataloader(self):
        return self._loader(5)


class ModelWithoutCAMs(LightningModule):
    """A classifier that cannot explain itself."""

    def __init__(self, label_type="single"):
        super().__init__()
        self.class_names, self.label_type = list(NAMES), label_type
        self.body = nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Conv2d(4, 3, 1)

    def _maps(self, batch):
        return self.head(self.body(batch["image"])).float()

    def _said(self, batch):
        cam = self._maps(batch)
        logits = cam.mean((2, 3))
        probability = logits.sigmoid() if self.label_type == "multi" else logits.softmax(1)
        return {key: batch[key] for key in ("sample_id", "subject")} | {"probability": probability, "cam": cam}

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self._maps(batch).mean((2, 3)), batch["label"])

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.training_step(batch, batch_idx), batch_size=len(batch["image"]))

    def test_step(self, batch, batch_idx):
        index = torch.tensor([float(name.split("film")[1]) for name in batch["sample_id"]])
        nothing = torch.full_like(index, float("nan"))
        values = {
            "gaze_cc": torch.where(batch["has_gaze"], index, nothing),
            "pointing_lesion": (index % 2).float(),
            "pointing_lesion_chance": torch.full_like(index, 0.25),
        }
        return self._said(batch) | {"label": batch["label"], "values": values}

    def predict_step(self, batch, batch_idx):
        return self._said(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class TinyModel(ModelWithoutCAMs):
    def class_activation_maps(self, batch):
        return self._maps(batch)


@pytest.fixture
def trainer_in(tmp_path):
    """Make a quiet one-process trainer whose run folder is ``tmp_path``."""

    def make(*callbacks, logger=False, **kwargs):
        return Trainer(
            default_root_dir=tmp_path,
            accelerator="cpu",
            devices=1,
            logger=logger,
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            **{"max_epochs": 2, "num_sanity_val_steps": 1, **kwargs},
        )

    return make


@pytest.fixture
def tiny():
    """The classes of this file, for tests that need several of them."""
    from types import SimpleNamespace

    return SimpleNamespace(
        Model=TinyModel, ModelWithoutCAMs=ModelWithoutCAMs, Data=TinyData, Dataset=TinyDataset, names=NAMES
    )
