"""What all tasks share: optimiser and schedule, loss terms, guard against diverging losses."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from timm.optim.lars import Lars
from torch import Tensor, nn

from gaze_lightning.batch import Batch
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.privacy import opaque_id
from gaze_lightning.protocols import LabelType
from gaze_lightning.same_on_all import same_on_all

OptimizerName = Literal["adam", "adamw", "sgd", "lars"]
ScheduleName = Literal["constant", "one_cycle", "cosine"]


class GazeTask(LightningModule):
    """Base of the tasks; it knows nothing of any method.

    Args:
        class_names: names of the ``K`` classes, in the order of labels and maps.
        label_type: ``"single"`` (exclusive classes) or ``"multi"`` (independent classes).
        optimizer: ``adam``, ``adamw``, ``sgd`` (Nesterov, momentum 0.9) or ``lars`` (You et al. 2017, arXiv 1708.03888;
            momentum 0.9, rates of matrices and kernels adapted, those of vectors and scalars not).
        lr: learning rate, with a schedule its largest value.
        weight_decay: decay of matrices and kernels; never of vectors and scalars (norms, biases, sigmas).
        schedule: ``constant``, ``one_cycle`` (torch's, per step), or ``cosine`` to zero, per step.
        warmup: fraction of the steps during which a ``one_cycle`` or ``cosine`` schedule rises.

    Attributes:
        loss_terms: names of the terms of the loss.
        needs_classes: whether data without labels are refused.
        has_unused_parameters: whether some parameters may get no gradient in a step; DDP must then look for them.
        one_image_size: whether all images must have one size; no stage of a training may then have another one.
        one_batch_size: the same of training batches.
    """

    loss_terms: tuple[str, ...] = ("classification",)
    needs_classes = True
    has_unused_parameters = False
    one_image_size = False
    one_batch_size = False

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
        super().__init__()
        if self.needs_classes and not class_names:
            raise ConfigurationError(
                f"{type(self).__name__} learns classes, and these data have no labels: choose other data"
            )
        if class_names and len(class_names) < (2 if label_type == "single" else 1):
            raise ValueError(f"class_names is {class_names}: too few for label_type {label_type!r}")
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup is {warmup}: it is a fraction of the training, from 0 to below 1")
        self.class_names, self.label_type = list(class_names), label_type
        self._optimizer, self._lr, self._weight_decay = optimizer, lr, weight_decay
        self._schedule, self._warmup = schedule, warmup
        self._active = frozenset(self.loss_terms)
        self._reads_weights = False
        self._unchecked: list[tuple[list[str], Tensor]] = []

    @property
    def active_loss_terms(self) -> frozenset[str]:
        """The terms of the loss in use; a curriculum sets them, all are in use otherwise."""
        return self._active

    @active_loss_terms.setter
    def active_loss_terms(self, terms: frozenset[str]) -> None:
        unknown = sorted(set(terms) - set(self.loss_terms))
        if unknown or not terms:
            raise ValueError(f"loss terms {sorted(terms)}: choose at least one of {', '.join(self.loss_terms)}")
        self.check_loss_terms(frozenset(terms))
        self._active = frozenset(terms)

    @abstractmethod
    def loss_for(self, terms: frozenset[str], batch: Batch) -> Tensor:
        """Loss of a batch with these terms, a scalar with its graph."""

    @abstractmethod
    def logged_values(self, terms: frozenset[str]) -> frozenset[str]:
        """Names of the values that validation logs while these terms are active."""

    def read_weights(self) -> None:
        """Read the weights from which a training starts; methods that have an option for them override it."""

    def setup(self, stage: str) -> None:
        """Called by Lightning."""
        self._reads_weights = stage == "fit"

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called by Lightning; the checkpoint brings weights, and the others need not be there any more."""
        self._reads_weights = False

    def on_fit_start(self) -> None:
        """Called by Lightning; reads the weights from which to start, unless a checkpoint has brought some.

        DDP has made the processes alike before; the file of the first one counts.
        """
        if self._reads_weights:
            self._reads_weights = False
            self.read_weights()
            same_on_all([*self.parameters(), *self.buffers()])

    def check_loss_terms(self, terms: frozenset[str]) -> None:
        """Raise ``ValueError`` where the method cannot use this choice of its terms; methods override it."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities ``[B, K]`` float32: softmax of exclusive classes, sigmoid of independent ones."""
        logits = logits.float()
        return logits.softmax(dim=1) if self.label_type == "single" else logits.sigmoid()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of the optimiser; a group may have an ``lr`` of its own. Methods add groups."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self._weight_decay, "name": "decayed"},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "name": "not decayed"},
        ]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Called by Lightning. All parameters enter now, also those that a later stage trains first."""
        groups = [group for group in self.parameter_groups() if group["params"]]
        optimizer: torch.optim.Optimizer
        match self._optimizer:
            case "adam":
                optimizer = torch.optim.Adam(groups, lr=self._lr)
            case "adamw":
                optimizer = torch.optim.AdamW(groups, lr=self._lr)
            case "sgd":
                optimizer = torch.optim.SGD(groups, lr=self._lr, momentum=0.9, nesterov=True)
            case "lars":  # timm adapts groups without decay only where it is told to
                for group in groups:
                    group["always_adapt"] = any(parameter.ndim > 1 for parameter in group["params"])
                optimizer = Lars(groups, lr=self._lr, momentum=0.9)
        if self._schedule == "constant":
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self._scheduler(optimizer), "interval": "step"},
        }

    def _scheduler(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        steps = self.trainer.estimated_stepping_batches
        if not 0 < steps < math.inf:
            raise ValueError(
                f"schedule {self._schedule!r} needs to know the length: set trainer.max_epochs or max_steps"
            )
        steps = max(int(steps), 2)  # torch's schedule needs a step that rises and one that falls
        if self._schedule == "one_cycle":
            lrs = [group["lr"] for group in optimizer.param_groups]
            rise = min(max(self._warmup, 1.5 / steps), 1 - 0.5 / steps)
            return torch.optim.lr_scheduler.OneCycleLR(optimizer, lrs, total_steps=steps, pct_start=rise)
        rising = round(self._warmup * steps)

        def factor(step: int) -> float:
            if step < rising:
                return (step + 1) / (rising + 1)
            return (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def on_train_batch_end(self, outputs: Tensor | Mapping[str, Any] | None, batch: Any, batch_idx: int) -> None:
        """Called by Lightning; looks at the losses once per logging interval, so that no step waits for the device.

        Raises:
            FloatingPointError: a loss was NaN or infinite; names the batch by opaque ids. The training stops before the
                next checkpoint, the previous one stays the last good one.
        """
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            self._unchecked.append((list(batch["sample_id"]), loss.detach()))
        every = max(1, int(getattr(self.trainer, "log_every_n_steps", 50)))
        if self._unchecked and ((batch_idx + 1) % every == 0 or self.trainer.is_last_batch):
            losses = torch.stack([value for _, value in self._unchecked])
            finite = torch.isfinite(losses).tolist()
            if not all(finite):
                ids, value = self._unchecked[finite.index(False)]
                names = ", ".join(opaque_id(identifier) for identifier in ids)
                raise FloatingPointError(
                    f"epoch {self.current_epoch}: the loss is {float(value)} for the batch of samples {names}. Lower "
                    "the learning rate, use 32-bit precision, or look at these samples; the last checkpoint is intact"
                )
            self._unchecked.clear()

    def skip_in_step(self, parameters: list[nn.Parameter]) -> None:
        """Forget gradients, so that the optimiser skips these parameters: zero gradients still move by momentum."""
        for parameter in parameters:
            parameter.grad = None
