"""What a model says about films without labels."""

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info

from callbacks.cam_cases import cases_of
from callbacks.cam_panels import draw_overlay
from callbacks.feature_parts import FeaturePart, join_parts
from callbacks.gathering import all_ranks
from callbacks.panel_parts import save_png
from gaze_lightning.batch import Batch
from gaze_lightning.evaluation.outputs import SampleOutputs, SampleRow, predicted_classes, rows_of
from gaze_lightning.protocols import LabelType


class PredictionWriter(Callback):
    """Write ``predictions.csv`` and, for models with CAMs or predicted gaze, one overlay per film in ``predict``.

    Both lie in the run folder. ``predictions.csv`` has every film once on any number of processes: ``sample_id``,
    ``subject``, ``predicted``, ``prob_<class>``; of models without ``probability`` the first two columns only.
    ``overlays/<sample id>.png`` shows the film and beside it the predicted gaze, if any, and the class activation map
    of the predicted class; in multi-label the classes at probability 0.5 or more (the most probable if there is none).

    Where ``predict_step`` returns ``features`` ``[B, C]``, ``features.npy`` has them as float32 ``[n, C]``, its rows in
    the order of ``predictions.csv``. Each process writes its part into the run folder, which must be the same for all
    of them, and the first one joins the parts.

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
        self._features: FeaturePart | None = None

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start empty."""
        self._rows = []
        self._features = FeaturePart(Path(trainer.default_root_dir), trainer.global_rank)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the probabilities, write the features and draw the overlays of this batch.

        Raises:
            ValueError: features of another shape or number.
        """
        none = torch.zeros(len(outputs["sample_id"]), 0)
        self._rows += rows_of({"probability": none, **outputs, "label": None})
        if self._features is not None:
            if outputs.get("features") is not None:
                self._features.add(outputs["features"])
            if self._features.shape[0] not in (0, len(self._rows)):
                raise ValueError(
                    f"{self._features.shape[0]} features for {len(self._rows)} films: one for each, always"
                )
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
        """Gather the probabilities of all processes and write them; join the features.

        Raises:
            ValueError: some films have features and others none.
            RuntimeError: the parts of the features are not all in this run folder.
        """
        own = (0, 0)
        if self._features is not None:
            self._features.close()
            own = self._features.shape
            self._features = None
        rows, shapes = all_ranks(self._rows), all_ranks([own])  # the second waits until all parts are closed
        self._rows = []
        if not trainer.is_global_zero:
            return
        outputs = SampleOutputs.from_rows(rows)
        path = Path(trainer.default_root_dir) / "predictions.csv"
        names, label_type = _classes_of(pl_module)
        outputs.write_csv(path, names if outputs.probability.shape[1] else [], label_type)
        rank_zero_info(f"Predictions of {len(outputs)} films: {path}")
        featured = sum(n for n, _ in shapes)
        if featured:
            if featured != len(rows):
                raise ValueError(f"{featured} features for {len(rows)} films: predict_step must return them always")
            first = {row.sample_id: place for place, row in reversed(list(enumerate(rows)))}
            features = join_parts(path.parent, shapes, [first[sample_id] for sample_id in outputs.sample_id])
            rank_zero_info(f"Features: {features}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no part of features behind."""
        if self._features is not None:
            self._features.remove()
            self._features = None


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
