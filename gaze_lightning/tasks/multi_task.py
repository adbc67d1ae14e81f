"""What the methods share that predict a diagnosis and gaze with one network."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torchmetrics import MeanMetric

from gaze_lightning.batch import Batch
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze import render_saliency_batch
from gaze_lightning.losses import ClassificationLoss, SaliencyKLLoss
from gaze_lightning.metrics import ClassificationReport, SaliencyReport, cam_agreement
from gaze_lightning.metrics.saliency_agreement import SALIENCY_VALUES, gaze_references, saliency_agreement
from gaze_lightning.protocols import CountsGaze, LabelType
from gaze_lightning.tasks.base import GazeTask, OptimizerName, ScheduleName


class Term(NamedTuple):
    """One term of a loss.

    Attributes:
        loss: scalar, mean over the samples that count; 0 with its graph if there is none.
        n: scalar, how many count.
    """

    loss: Tensor
    n: Tensor


class Prediction(NamedTuple):
    """What the whole network says about films.

    Attributes:
        log_saliency: ``[B, 1, H, W]``, logarithm of a density over the pixels.
        logits: ``[B, K]``; ``[B, 0]`` without classes.
        maps: class activation maps ``[B, K, h, w]``; None without classes.
    """

    log_saliency: Tensor
    logits: Tensor
    maps: Tensor | None


class MultiTask(GazeTask):
    """Base of the tasks that predict gaze and, where the data have labels, classes.

    A method says how its network predicts (``predict``), what its terms are (``term_losses``), how they are added up
    (``combine``) and what a validation batch gives (``validation_step``).

    Logs ``train/loss``, ``train/<term>_loss``; in validation ``val/<term>_loss`` of the active terms (NaN where no
    sample has one), ``val/loss`` (the plain sum of the defined ones, so that epochs compare whatever the trained
    weights are), the values of
    ``ClassificationReport`` while a class head is trained and of ``SaliencyReport`` while the decoder is in use.

    Args:
        class_names: names of the ``K`` classes; may be empty.
        label_type: ``"single"`` or ``"multi"``.
        optimizer: see ``GazeTask``.
        lr: see ``GazeTask``.
        weight_decay: see ``GazeTask``.
        schedule: see ``GazeTask``.
        warmup: see ``GazeTask``.
    """

    needs_classes = False

    def __init__(
        self,
        *,
        class_names: list[str],
        label_type: LabelType,
        optimizer: OptimizerName,
        lr: float,
        weight_decay: float,
        schedule: ScheduleName,
        warmup: float,
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
        self.classification_loss = ClassificationLoss(label_type)
        self.saliency_loss = SaliencyKLLoss()
        self.val_report = ClassificationReport(class_names, label_type) if class_names else None
        self.val_saliency = SaliencyReport()
        self.val_losses = torch.nn.ModuleDict({term: MeanMetric() for term in self.loss_terms})

    @abstractmethod
    def predict(self, image: Tensor) -> Prediction:
        """Run the whole network on films ``[B, 1, H, W]`` in [0, 1]."""

    @abstractmethod
    def term_losses(self, terms: frozenset[str], batch: Batch) -> dict[str, Term]:
        """Losses of a training batch, one per term; only what the terms need is computed."""

    @abstractmethod
    def combine(self, losses: Mapping[str, Term], terms: frozenset[str]) -> Tensor:
        """Make the loss of these terms out of what ``term_losses`` gave for them."""

    def loss_for(self, terms: frozenset[str], batch: Batch) -> Tensor:
        """Loss of a batch with these terms, a scalar with its graph."""
        return self.combine(self.term_losses(terms, batch), terms)

    def gaze_target(self, batch: Batch, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Give the gaze as a density over the cells of a grid: the batch's map where it has this grid, else rendered.

        Args:
            batch: a batch; without fixations nobody has gaze.
            size: (h, w) of the grid.

        Returns:
            float32 ``[B, 1, h, w]``, each map sums to 1 or is all zero, and bool ``[B]``: which have gaze.
        """
        image = batch["image"]
        if "fixations" not in batch:
            nobody = torch.zeros(len(image), dtype=torch.bool, device=image.device)
            return torch.zeros(len(image), 1, *size, device=image.device), nobody
        mask = batch["fixation_mask"]
        has_gaze = batch.get("has_gaze", mask.any(dim=1))
        if "saliency" in batch and batch["saliency"].shape[-2:] == size:
            target = batch["saliency"]
        else:
            canvas = (int(image.shape[-2]), int(image.shape[-1]))
            target = render_saliency_batch(batch["fixations"], mask, size, canvas=canvas, visible=batch.get("visible"))
        return target, has_gaze & (target.sum(dim=(1, 2, 3)) > 0)

    def saliency_term(self, log_saliency: Tensor, batch: Batch) -> Term:
        """KL divergence of the prediction ``[B, 1, H, W]`` from the batch's gaze on the same grid."""
        target, has_gaze = self.gaze_target(batch, (log_saliency.shape[-2], log_saliency.shape[-1]))
        return Term(*self.saliency_loss(log_saliency, target, has_gaze))

    def class_term(self, logits: Tensor, batch: Batch) -> Term:
        """Classification loss of logits ``[B, K]``; samples count, of independent classes the known entries."""
        label = batch["label"]
        return Term(self.classification_loss(logits, label), self.classification_loss.count(label))

    def predict_saliency(self, batch: Batch) -> Tensor:
        """Density ``[B, 1, H, W]`` of where a radiologist looks."""
        return self.predict(batch["image"]).log_saliency.exp()

    def class_activation_maps(self, batch: Batch) -> Tensor:
        """Maps ``[B, K, h, w]`` of all classes; ``[B, 0, 1, 1]`` without classes."""
        maps = self.predict(batch["image"]).maps
        return batch["image"].new_zeros(len(batch["image"]), 0, 1, 1) if maps is None else maps

    def on_fit_start(self) -> None:
        """Called by Lightning.

        Raises:
            ConfigurationError: gaze is to be predicted, and no training reading has any.
        """
        if "saliency" in self.active_loss_terms and self._gaze_in("train") == 0:
            raise ConfigurationError(
                f"{type(self).__name__} learns from gaze, and no training reading has any: choose data with gaze (for "
                "mimic_cxr: data.init_args.gaze_sources), or a method that needs none"
            )
        if "saliency" in self.loss_terms and self._gaze_in("validate") == 0:
            rank_zero_warn("no validation reading has gaze: values of predicted gaze are NaN, val/loss is without them")
        super().on_fit_start()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Called by Lightning."""
        losses = self.term_losses(self.active_loss_terms, batch)
        total = self.combine(losses, self.active_loss_terms)
        n = len(batch["image"])
        self.log("loss", total.detach(), prog_bar=True, logger=False)  # for the eye; the file has train/loss
        self.log("train/loss", total, on_step=True, on_epoch=True, batch_size=n, sync_dist=True)
        for name, term in losses.items():
            self.log(f"train/{name}_loss", term.loss, on_step=False, on_epoch=True, batch_size=n, sync_dist=True)
        return total

    def note_validation(
        self, losses: Mapping[str, Term], batch: Batch, logits: Tensor | None, log_saliency: Tensor | None
    ) -> None:
        """Remember what a validation batch gave.

        Args:
            losses: of the terms that are means over samples.
            batch: the batch.
            logits: of the class head in training, ``[B, K]``.
            log_saliency: ``[B, 1, H, W]`` where the decoder is in use.
        """
        for name, term in losses.items():
            cast(MeanMetric, self.val_losses[name]).update(term.loss, term.n)
        if logits is not None and self.val_report is not None:
            self.val_report.update(self.probabilities(logits), batch["label"])
        if log_saliency is not None and "saliency" in batch:
            self.val_saliency.update(log_saliency.exp(), batch)

    def on_validation_epoch_end(self) -> None:
        """Called by Lightning."""
        values = self.validation_losses()
        losses = torch.stack([value.float() for value in values.values()])
        # a term that nothing in the validation part has (no gaze at all) is left out; without any the sum is NaN
        total = losses.nansum() if not losses.isnan().all() else losses.sum()
        self.log("val/loss", total, prog_bar=True, sync_dist=True)
        if self.val_report is not None and self.classes_in(self.active_loss_terms):
            report = self.val_report.compute()
            self.val_report.reset()
            self.log("val/auroc_macro", report.pop("auroc_macro").float(), prog_bar=True, sync_dist=True)
            values |= {f"val/{name}": value for name, value in report.items()}
        if self.saliency_in(self.active_loss_terms):
            values |= {f"val/{name}": value for name, value in self.val_saliency.compute().items()}
            self.val_saliency.reset()
        self.log_dict({name: value.float() for name, value in values.items()}, sync_dist=True)

    def validation_losses(self) -> dict[str, Tensor]:
        """Losses of the active terms over the validation part, by logged name."""
        values = {}
        for name in sorted(self.active_loss_terms & self.val_losses.keys()):
            metric = cast(MeanMetric, self.val_losses[name])
            values[f"val/{name}_loss"] = metric.compute()
            metric.reset()
        return values

    def logged_values(self, terms: frozenset[str]) -> frozenset[str]:
        """Names of the values that validation logs while these terms are active; not those that are NaN for certain."""
        names = {"val/loss"} | {f"val/{term}_loss" for term in terms}
        if self.val_report is not None and self.classes_in(terms):
            names |= {f"val/{name}" for name in self.val_report.names}
        if self.saliency_in(terms):
            names |= {f"val/{name}" for name in SALIENCY_VALUES}
        if self._gaze_in("validate") == 0:
            names -= {"val/saliency_loss", *(f"val/{name}" for name in SALIENCY_VALUES)}
            names -= {"val/loss"} if terms == {"saliency"} else set()
        return frozenset(names)

    def _gaze_in(self, part: Literal["train", "validate"]) -> int | None:
        """How many readings of a part have gaze; None where nobody knows."""
        data = None if self._trainer is None else getattr(self._trainer, "datamodule", None)
        return data.with_gaze(part) if isinstance(data, CountsGaze) else None

    @abstractmethod
    def classes_in(self, terms: frozenset[str]) -> bool:
        """Whether a class head is trained by these terms."""

    @abstractmethod
    def saliency_in(self, terms: frozenset[str]) -> bool:
        """Whether these terms use the saliency decoder."""

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Called by Lightning; see ``predict_step``, with ``label`` and per-sample ``values`` in addition."""
        result = self.predict_step(batch, batch_idx)
        values: dict[str, Tensor] = {}
        if "saliency" in batch:
            values |= saliency_agreement(result["saliency"], batch) | gaze_references(batch)
        if "label" in batch and "cam" in result:
            values |= cam_agreement(result["cam"], batch, self.label_type)
            result["label"] = batch["label"]
        return result | {"values": values}

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Called by Lightning; needs ``image`` and ``sample_id`` only, and always runs the whole network.

        Returns:
            ``sample_id`` and ``subject`` (lists; a sample is its own subject where none is known), ``probability``
            ``[B, K]``, ``saliency`` ``[B, 1, H, W]`` (sums to 1) and, with classes, ``cam`` ``[B, K, h, w]``; float32.
        """
        prediction = self.predict(batch["image"])
        logits = prediction.logits
        result = {
            "sample_id": list(batch["sample_id"]),
            "subject": list(batch.get("subject", batch["sample_id"])),
            "probability": self.probabilities(logits) if logits.shape[1] else logits.float(),
            "saliency": prediction.log_saliency.float().exp(),
        }
        return result if prediction.maps is None else result | {"cam": prediction.maps.float()}
