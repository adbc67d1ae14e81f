"""MT-UNet: diagnosis and gaze by one UNet, trained jointly."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gaze_lightning.batch import Batch
from gaze_lightning.losses import UncertaintyWeighting
from gaze_lightning.models import MTUNet, MTUNetOutput
from gaze_lightning.protocols import LabelType
from gaze_lightning.tasks.base import OptimizerName, ScheduleName
from gaze_lightning.tasks.multi_task import MultiTask, Prediction, Term


class MultiTaskUNet(MultiTask):
    """Zhu, Salcudean, Rohling: multi-task UNet for diagnosis and gaze (the released code of MT-UNet, spec ggcam.md 12).

    The loss is ``CE / s_c^2 + ln(1 + s_c) + KL / (2 s_s^2) + ln(1 + s_s)`` with ``log s_c`` trained from 0 and
    ``s_s = 1``; a stage may use one term alone, the other then stays in the graph times zero. Data without labels train
    the gaze term alone; so do samples without gaze the other one. Logs what ``MultiTask`` logs, and ``train/sigma_c``.

    Args:
        class_names: names of the ``K`` classes; may be empty.
        label_type: ``"single"`` (exclusive classes) or ``"multi"`` (independent classes).
        width: factor of all channels; 1 as published (34.6 million parameters).
        mean: subtracted from the films (range [0, 1]).
        std: divides the films.
        divide_by_max: divide each film by its maximum before that.
        channels_last: memory format; faster on CPUs and with mixed precision.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        lr: learning rate, with a schedule its largest value.
        weight_decay: of matrices and kernels only.
        schedule: ``constant``, ``one_cycle`` or ``cosine``.
        warmup: rising fraction of a schedule.
    """

    loss_terms: tuple[str, ...] = ("classification", "saliency")

    def __init__(
        self,
        class_names: list[str],
        label_type: LabelType = "single",
        width: float = 1.0,
        mean: float = 0.0,
        std: float = 1.0,
        divide_by_max: bool = False,
        channels_last: bool = False,
        optimizer: OptimizerName = "adam",
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        schedule: ScheduleName = "constant",
        warmup: float = 0.25,
    ) -> None:
        if not class_names:
            self.loss_terms = ("saliency",)
        super().__init__(
            class_names=class_names,
            label_type=label_type,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup=warmup,
        )
        self.save_hyperparameters(logger=False)
        self.model = MTUNet(len(class_names), width, mean, std, divide_by_max)
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.weighting = UncertaintyWeighting(0.0, 0.0, train_gaze=False) if class_names else None

    def pure_parts(self) -> list[nn.Module]:
        """What can be compiled (``HasPureParts``)."""
        return [self.model]

    def predict(self, image: Tensor) -> Prediction:
        """Run the network on films ``[B, 1, H, W]`` in [0, 1]."""
        output = self.model(image)
        return Prediction(output.log_saliency, output.logits, output.maps if self.class_names else None)

    def term_losses(self, terms: frozenset[str], batch: Batch) -> dict[str, Term]:
        """Both losses, whatever the terms: the network has one forward pass."""
        return self._losses(self.model(batch["image"]), batch)

    def combine(self, losses: Mapping[str, Term], terms: frozenset[str]) -> Tensor:
        """The weighted sum, or one term with the rest times zero so that every rank has the same graph."""
        saliency = losses["saliency"]
        if self.weighting is None:
            return saliency.loss
        classification = losses["classification"].loss
        joint: Tensor = self.weighting(classification, saliency.loss, (saliency.n > 0).float())
        match sorted(terms):
            case ["classification"]:
                return classification + 0.0 * joint
            case ["saliency"]:
                return saliency.loss + 0.0 * joint
            case _:
                return joint

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Called by Lightning."""
        output = self.model(batch["image"])
        losses = {name: term for name, term in self._losses(output, batch).items() if name in self.active_loss_terms}
        logits = output.logits if "classification" in losses else None
        self.note_validation(losses, batch, logits, output.log_saliency)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Called by Lightning; a weight that no active term uses must not move by momentum."""
        if self.weighting is not None and len(self.active_loss_terms) == 1:
            self.skip_in_step([self.weighting.log_sigma_cls])

    def on_train_epoch_end(self) -> None:
        """Called by Lightning."""
        if self.weighting is not None:
            self.log("train/sigma_c", self.weighting.log_sigma_cls.detach().exp(), sync_dist=True)

    def classes_in(self, terms: frozenset[str]) -> bool:
        """Whether the class head is trained by these terms."""
        return "classification" in terms

    def saliency_in(self, terms: frozenset[str]) -> bool:
        """The decoder is always in use."""
        return True

    def _losses(self, output: MTUNetOutput, batch: Batch) -> dict[str, Term]:
        losses = {"saliency": self.saliency_term(output.log_saliency, batch)}
        if self.class_names:
            losses["classification"] = self.class_term(output.logits, batch)
        return losses
