"""Reports of nine samples on two processes; importable by processes that tests start."""

import importlib.util
from pathlib import Path

import torch
from pytorch_lightning import Trainer

from callbacks import CAMLogger, PredictionWriter, TestReport


def report(folder: str) -> None:
    """Train, test and predict ``tests/callbacks/conftest.py``'s tiny model, on both processes."""
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parent / "callbacks" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)

    class Featured(tiny.TinyModel):
        def predict_step(self, batch, batch_idx):
            said = super().predict_step(batch, batch_idx)
            return said | {"features": said["probability"]}

    torch.manual_seed(0)
    reporting = [TestReport(n_boot=20, print_table=False), CAMLogger(every_n_epochs=1, n_cases=2), PredictionWriter()]
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        callbacks=reporting,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=1,
    )
    model, data = Featured(), tiny.TinyData()
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    trainer.predict(model, datamodule=data, return_predictions=False)
