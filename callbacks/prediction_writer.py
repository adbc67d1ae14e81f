"""What a model says about films without labels."""

import hashlib
import re
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info

from callbacks.cam_cases import cases_of
from callbacks.cam_panels import draw_overlay
from callbacks.gathering import all_ranks
from callbacks.panel_parts import save_png
from gaze_lightning.batch import Batch
from gaze_lightning.evaluation.outputs import SampleOutputs, SampleRow, predicted_classes, rows_of
from gaze_lightning.protocols import LabelType


class PredictionWriter(Callback):
    """Write ``predictions.csv`` and, for models with CAMs or predicted gaze, one overlay per film in ``predict``.

    Both lie in the run folder. ``predictions.csv`` has every film once on any number of processes: ``sample_id``,
    ``subject``, ``predicted``, ``prob_<class>``. ``overlays/<sample id>.png`` shows the film and beside it the
    predicted gaze, if any, and the class activation map of the predicted class; in multi-label the classes at
    probability 0.5 or more (the most probable one if there is none).

    Args:
        overlays: draw the overlays.
        most_classes: maps per overlay at most.
    """

    def __init__(self, overlays: bool = True, most_classes: int = 3) -> None:
        super().__init__()
        if most_classes < 1:
            raise ValueError(f"most_classes={most_classes} must be positive")
        self.overlays = overlays
        self.most_classes = most_classes
        self._rows: list[SampleRow] = []

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start empty."""
        self._rows = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the probabilities and draw the overlays of this batch."""
        self._rows += rows_of({**outputs, "label": None})
        if not self.overlays or (outputs.get("cam") is None and outputs.get("saliency") is None):
            return
        folder = Path(trainer.default_root_dir) / "overlays"
        names, label_type = _classes_of(pl_module)
        ids = list(outputs["sample_id"])
        for sample_id, case in zip(ids, cases_of(batch, outputs, label_type, ids), strict=True):
            classes = predicted_classes(case.probability, label_type) or predicted_classes(case.probability, "single")
            figure = draw_overlay(case, names, classes[: self.most_classes] if len(case.cams) else [])
            save_png(figure, folder / f"{file_stem(sample_id)}.png")

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the probabilities of all processes and write them."""
        rows = all_ranks(self._rows)
        self._rows = []
        if not trainer.is_global_zero:
            return
        outputs = SampleOutputs.from_rows(rows)
        path = Path(trainer.default_root_dir) / "predictions.csv"
        outputs.write_csv(path, *_classes_of(pl_module))
        rank_zero_info(f"Predictions of {len(outputs)} films: {path}")


def _classes_of(module: LightningModule) -> tuple[list[str], LabelType]:
    """Names of a task's classes and the type of its labels; a task that only predicts gaze may have neither."""
    names: list[str] = list(getattr(module, "class_names", []))
    label_type: LabelType = getattr(module, "label_type", "single")
    return names, label_type


def file_stem(sample_id: str) -> str:
    """A file name for a sample: its id where that is a plain name, else a cleaned one with a part of its hash.

    Args:
        sample_id: any string, e.g. a relative path.

    Returns:
        A name without separators; different ids have different names.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", sample_id).lstrip(".")[:120]
    if plain == sample_id:
        return plain
    return f"{plain}-{hashlib.sha256(sample_id.encode()).hexdigest()[:10]}"
