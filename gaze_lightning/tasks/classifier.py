"""The plain classifier: same backbone and head as GG-CAM, no gaze."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torchmetrics import MeanMetric

from gaze_lightning.batch import Batch
from gaze_lightning.losses import ClassificationLoss
from gaze_lightning.metrics import ClassificationReport, CorrelationCoefficient
from gaze_lightning.metrics.cam_agreement import cam_agreement, resize_map, true_class_map
from gaze_lightning.metrics.saliency_agreement import gaze_references
from gaze_lightning.models import Backbone, CAMClassifier
from gaze_lightning.protocols import LabelType
from gaze_lightning.tasks.base import GazeTask, OptimizerName, ScheduleName

_STALLED = 0.95
"""A classification loss above this fraction of that of guessing means that nothing was learned."""


@dataclass(frozen=True)
class Losses:
    """Losses of one batch, scalars.

    Attributes:
        total: what is minimised.
        classification: mean classification loss in nats.
        gaze: mean squared distance between map and gaze, if the method has one.
        n_gaze: number of samples in ``gaze``.
    """

    total: Tensor
    classification: Tensor
    gaze: Tensor | None = None
    n_gaze: Tensor | None = None


class Classifier(GazeTask):
    """Classify films and explain each class by its activation map.

    Logs ``train/loss``, ``train/classification_loss``, ``val/loss``, ``val/classification_loss``, ``val/cam_cc``
    (correlation of the true class's map with gaze) and the values of ``ClassificationReport`` under ``val/``.
    The outputs of ``test_step`` are for the ``TestReport`` callback. Gaze is never needed; where a batch has it, the
    maps are scored against it.

    Args:
        class_names: names of the ``K`` classes, in the order of labels and maps.
        label_type: ``"single"`` (exclusive classes) or ``"multi"`` (independent classes).
        backbone: any timm CNN that returns a feature map.
        in_chans: channels of its first layer; 3 repeats the film.
        pretrained: ``false``, ``true`` (timm's weights) or the path of a weights file; read when training starts.
        output_stride: pixels per cell of the maps.
        mean: subtracted from the films (range [0, 1]).
        std: divides the films.
        divide_by_max: divide each film by its maximum before that.
        cam_scale: ``mean`` (published 1/C; stalls short trainings) or ``sum``.
        channels_last: memory format; faster on CPUs and with mixed precision.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        lr: learning rate, with a schedule its largest value.
        weight_decay: of matrices and kernels only.
        schedule: ``constant``, ``one_cycle`` or ``cosine``.
        warmup: rising fraction of a schedule.
    """

    def __init__(
        self,
        class_names: list[str],
        label_type: LabelType = "single",
        backbone: str = "resnet50",
        in_chans: int = 1,
        pretrained: bool | str = False,
        output_stride: int = 32,
        mean: float = 0.0,
        std: float = 1.0,
        divide_by_max: bool = False,
        cam_scale: Literal["mean", "sum"] = "sum",
        channels_last: bool = False,
        optimizer: OptimizerName = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: ScheduleName = "constant",
        warmup: float = 0.25,
    ) -> None:
        super().__init__(
            class_names=class_names,
            label_type=label_type,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup=warmup,
        )
        self.save_hyperparameters(logger=False)  # config.yaml has them; a path among them is nobody else's business
        self._pretrained = pretrained
        network = Backbone(backbone, in_chans, False, output_stride, mean, std, divide_by_max, channels_last)
        self.model = CAMClassifier(network, len(class_names), cam_scale)
        self.classification_loss = ClassificationLoss(label_type)
        # a loss that is no number must show, and not be left out of the mean
        self.val_classification, self.val_rest = MeanMetric(nan_strategy=math.nan), MeanMetric(nan_strategy=math.nan)
        self.val_report = ClassificationReport(class_names, label_type)
        self.val_cam_cc = CorrelationCoefficient()
        self.train_gaze_mse, self.val_gaze_mse = MeanMetric(), MeanMetric()

    def read_weights(self) -> None:
        """Fill the backbone with pretrained weights, if there are to be any."""
        report = self.model.backbone.load_pretrained(self._pretrained)
        if report is not None:
            rank_zero_info(f"Pretrained weights: {report}")

    def pure_parts(self) -> list[nn.Module]:
        """What can be compiled (``HasPureParts``)."""
        return [self.model]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Films ``[B, 1, H, W]`` in [0, 1] to logits ``[B, K]`` and maps ``[B, K, h, w]``."""
        logits, maps = self.model(image)
        return logits, maps

    def outputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits ``[B, K]`` and maps ``[B, K, h, w]`` of a batch; methods that need more than the films override it."""
        logits, maps = self(batch["image"])
        return logits, maps

    def class_activation_maps(self, batch: Batch) -> Tensor:
        """Maps ``[B, K, h, w]`` of all classes."""
        return self.outputs(batch)[1]

    def losses(self, terms: frozenset[str], batch: Batch, logits: Tensor, maps: Tensor) -> Losses:
        """The losses of a batch with these terms; methods override this."""
        loss = self.classification_loss(logits, batch["label"])
        return Losses(total=loss, classification=loss)

    def loss_for(self, terms: frozenset[str], batch: Batch) -> Tensor:
        """Loss of a batch with these terms, a scalar with its graph."""
        return self.losses(terms, batch, *self.outputs(batch)).total

    def logged_values(self, terms: frozenset[str]) -> frozenset[str]:
        """Names of the values that validation logs, whatever the terms."""
        own = {"val/loss", "val/classification_loss", "val/cam_cc"}
        return frozenset(own | {f"val/{name}" for name in self.val_report.names})

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Called by Lightning."""
        logits, maps = self.outputs(batch)
        losses = self.losses(self.active_loss_terms, batch, logits, maps)
        n = len(batch["image"])
        self.log("loss", losses.total.detach(), prog_bar=True, logger=False)  # for the eye; the file has train/loss
        self.log("train/loss", losses.total, on_step=True, on_epoch=True, batch_size=n, sync_dist=True)
        self._log_epoch("train/classification_loss", losses.classification, n)
        if losses.gaze is not None and losses.n_gaze is not None:
            self.train_gaze_mse.update(losses.gaze.detach(), losses.n_gaze)
            self.log("train/gaze_mse", self.train_gaze_mse, on_step=False, on_epoch=True, batch_size=n)
        return losses.total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Called by Lightning."""
        logits, maps = self.outputs(batch)
        losses = self.losses(self.active_loss_terms, batch, logits, maps)
        n = len(batch["image"])
        self.val_classification.update(losses.classification, self.classification_loss.count(batch["label"]))
        self.val_rest.update(losses.total - losses.classification, n)
        if losses.gaze is not None and losses.n_gaze is not None:
            self.val_gaze_mse.update(losses.gaze, losses.n_gaze)
            self.log("val/gaze_mse", self.val_gaze_mse, on_step=False, on_epoch=True, batch_size=n)
        self.val_report.update(self.probabilities(logits), batch["label"])
        if "saliency" in batch:
            gaze = batch["saliency"][:, 0].double()
            own, _ = true_class_map(maps, batch["label"], self.label_type)
            self.val_cam_cc.update(resize_map(own, (gaze.shape[-2], gaze.shape[-1])), gaze)

    def validation_loss(self, classification: Tensor) -> Tensor:
        """``val/loss``; methods in which the rest of the loss is no mean over films override this.

        Args:
            classification: the classification loss of the whole validation part.
        """
        return classification + self.val_rest.compute()

    def on_validation_epoch_end(self) -> None:
        """Called by Lightning; losses are those of the whole validation part, however it fell into batches."""
        values = {f"val/{name}": value.float() for name, value in self.val_report.compute().items()}
        classification = self.val_classification.compute()
        values |= {"val/classification_loss": classification, "val/loss": self.validation_loss(classification)}
        for metric in (self.val_report, self.val_classification, self.val_rest):
            metric.reset()
        self.log("val/auroc_macro", values.pop("val/auroc_macro"), prog_bar=True, sync_dist=True)
        self.log_dict(values, sync_dist=True)
        self.log("val/cam_cc", self.val_cam_cc.compute().float(), sync_dist=True)
        self.val_cam_cc.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Called by Lightning; see ``predict_step``, with ``label`` and ``values`` in addition.

        ``values`` are those of ``cam_agreement`` and, for batches with gaze, of ``gaze_references``.
        """
        result = self.predict_step(batch, batch_idx)
        return result | {
            "label": batch["label"],
            "values": cam_agreement(result["cam"], batch, self.label_type) | gaze_references(batch),
        }

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Called by Lightning; needs ``image`` and ``sample_id`` only.

        Returns:
            ``sample_id`` and ``subject`` (lists; a sample is its own subject where none is known), ``probability``
            ``[B, K]`` and ``cam`` ``[B, K, h, w]``, float32.
        """
        logits, maps = self.outputs(batch)
        return {
            "sample_id": list(batch["sample_id"]),
            "subject": list(batch.get("subject", batch["sample_id"])),
            "probability": self.probabilities(logits),
            "cam": maps.float(),
        }

    def on_train_end(self) -> None:
        """Called by Lightning; warns if the classifier has learned nothing."""
        if self.label_type != "single":  # with rare findings guessing is their frequencies, not one half
            return
        loss = self.trainer.callback_metrics.get("train/classification_loss")
        guessing = math.log(len(self.class_names))
        if loss is not None and "classification" in self.active_loss_terms and float(loss) > _STALLED * guessing:
            rank_zero_warn(
                f"the classification loss of the last epoch, {float(loss):.3f}, is hardly below that of guessing "
                f"({guessing:.3f}): the classifier has not learned. Train longer or change the learning rate; "
                f"cam_scale is {self.model.head.scale!r} (the published 'mean' stalls short trainings, 'sum' does not)"
            )

    def _log_epoch(self, name: str, value: Tensor, n: int) -> None:
        self.log(name, value, on_step=False, on_epoch=True, batch_size=n, sync_dist=True)
