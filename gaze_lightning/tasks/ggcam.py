"""GG-CAM: class activation maps that are pulled towards a reader's gaze during training."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gaze_lightning.batch import Batch
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze import render_saliency_batch
from gaze_lightning.losses import GazeCAMLoss, GazeTarget, UncertaintyWeighting
from gaze_lightning.protocols import LabelType
from gaze_lightning.tasks.base import OptimizerName, ScheduleName
from gaze_lightning.tasks.classifier import Classifier, Losses

_RELEASED_LOG_SIGMA_CLS = 7.0
_RELEASED_LOG_SIGMA_GAZE = {"resnet": -23.0, "efficientnet": -16.0}
_TWO_PHASE_LOG_SIGMAS = (0.6, -1.2)


class GGCAM(Classifier):
    """Zhu, Salcudean, Rohling: Gaze-Guided Class Activation Mapping (arXiv 2202.07107).

    The classifier with three more scalars: the weights of classification and gaze loss (``UncertaintyWeighting``) and
    the scale inside the gaze loss's sigmoid (``GazeCAMLoss``). Gaze is needed in training only; samples without are
    left out of the gaze loss, a batch without any leaves the gaze weight alone.

    The terms of the loss: with both active the joint loss; with ``gaze`` alone (first phase of ``two_phase``, set by
    the ``StagedTraining`` callback) ``L_gaze`` plus 0 times everything else, with ``classification`` alone ``L_cls``
    likewise, so that the graph has the same parameters in every stage and on every rank. Parameters of inactive terms
    only (the sigmas; the class biases or kappa) then keep their values bit for bit.

    Logs what ``Classifier`` logs, and ``train/gaze_mse``, ``val/gaze_mse``, ``train/sigma_c``, ``train/sigma_d``,
    ``train/kappa`` (log of the scale).

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
        gaze_target: ``intended`` (the method as described), ``released`` (what the released code does) or ``raw_true``.
        train_beta: a fourth parameter, the shift inside the sigmoid.
        released_channel: the class whose map ``released`` guides.
        curriculum: ``two_phase``: sigmas start near their equilibrium, gaze first by ``StagedTraining``;
            ``released_init``: the released sigmas, joint from the first step, float32 without gradient clipping only.
        log_sigma_cls: initial log of the classification uncertainty; by default that of the curriculum (0.6 or 7).
        log_sigma_gaze: initial log of the gaze uncertainty; by default that of the curriculum (-1.2; released: -23
            for a ResNet, -16 for an EfficientNet).
    """

    loss_terms = ("classification", "gaze")

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
        gaze_target: GazeTarget = "intended",
        train_beta: bool = False,
        released_channel: int = 0,
        curriculum: Literal["two_phase", "released_init"] = "two_phase",
        log_sigma_cls: float | None = None,
        log_sigma_gaze: float | None = None,
    ) -> None:
        super().__init__(
            class_names=class_names,
            label_type=label_type,
            backbone=backbone,
            in_chans=in_chans,
            pretrained=pretrained,
            output_stride=output_stride,
            mean=mean,
            std=std,
            divide_by_max=divide_by_max,
            cam_scale=cam_scale,
            channels_last=channels_last,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup=warmup,
        )
        self.save_hyperparameters(logger=False)  # config.yaml has them; a path among them is nobody else's business
        if not 0 <= released_channel < len(class_names):
            raise ValueError(f"released_channel is {released_channel}: there are {len(class_names)} classes from 0")
        self.curriculum = curriculum
        self._before_step: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        default_cls, default_gaze = _initial_log_sigmas(curriculum, backbone, log_sigma_gaze)
        self.gaze_loss = GazeCAMLoss(gaze_target, train_beta, released_channel)
        self.weighting = UncertaintyWeighting(
            default_cls if log_sigma_cls is None else log_sigma_cls,
            default_gaze if log_sigma_gaze is None else log_sigma_gaze,
        )

    def check_loss_terms(self, terms: frozenset[str]) -> None:
        """Refuse stages of single terms with ``released_init``."""
        if self.curriculum == "released_init" and terms != frozenset(self.loss_terms):
            raise ValueError(
                "curriculum: released_init trains both losses from the first step; remove the stages: "
                "--staged_training.stages=null"
            )

    def on_fit_start(self) -> None:
        """Called by Lightning.

        Raises:
            ConfigurationError: ``released_init`` with half precision (its loss starts near 1e19) or gradient clipping.
        """
        super().on_fit_start()
        if self.curriculum != "released_init":
            return
        if self.trainer.precision not in ("32-true", "64-true"):
            raise ConfigurationError(
                f"curriculum: released_init starts with losses near 1e19, precision {self.trainer.precision} cannot "
                "hold them: set trainer.precision: 32-true, or curriculum: two_phase"
            )
        if self.trainer.gradient_clip_val:
            raise ConfigurationError(
                "curriculum: released_init relies on huge gradients of the gaze loss, clipping undoes it: remove "
                "trainer.gradient_clip_val, or use curriculum: two_phase"
            )

    def gaze_target_map(self, batch: Batch, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Render the gaze map ``G`` on the grid of the maps.

        Returns:
            float ``[B, 1, h, w]`` in [0, 1] with maximum 1, all zero without gaze, and ``has_gaze`` bool ``[B]``.
        """
        image = batch["image"]
        if "fixations" not in batch:
            nothing = torch.zeros(len(image), dtype=torch.bool, device=image.device)
            return torch.zeros(len(image), 1, *size, device=image.device), nothing
        mask = batch["fixation_mask"]
        target = render_saliency_batch(
            batch["fixations"],
            mask,
            size,
            canvas=(image.shape[-2], image.shape[-1]),
            visible=batch.get("visible"),
            normalise="max",
        )
        return target, batch.get("has_gaze", mask.any(dim=1))

    def logged_values(self, terms: frozenset[str]) -> frozenset[str]:
        """Names of the values that validation logs, whatever the terms."""
        return super().logged_values(terms) | {"val/gaze_mse"}

    def losses(self, terms: frozenset[str], batch: Batch, logits: Tensor, maps: Tensor) -> Losses:
        """The joint loss, or the only term with the others times zero."""
        classification = self.classification_loss(logits, batch["label"])
        target, has_gaze = self.gaze_target_map(batch, (maps.shape[-2], maps.shape[-1]))
        gaze, n = self.gaze_loss(maps, batch["label"], target, has_gaze)
        total = self._total(terms, classification, gaze, n > 0)
        return Losses(total=total, classification=classification, gaze=gaze, n_gaze=n)

    def _total(self, terms: frozenset[str], classification: Tensor, gaze: Tensor, any_gaze: Tensor) -> Tensor:
        joint: Tensor = self.weighting(classification, gaze, any_gaze.float())
        match sorted(terms):
            case ["gaze"]:
                return gaze + 0.0 * joint
            case ["classification"]:
                return classification + 0.0 * joint
        return joint

    def validation_loss(self, classification: Tensor) -> Tensor:
        """``val/loss``: the joint loss is no mean over batches, for one without gaze has no term of gaze."""
        gaze = self.val_gaze_mse.compute()  # NaN without any gaze
        return self._total(self.active_loss_terms, classification, gaze.nan_to_num(0.0), ~gaze.isnan()).detach()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Called by Lightning after the gradients are reduced over ranks.

        Remembers ``s_d`` and kappa with whether any rank saw gaze: momentum would move them without evidence.
        """
        self.skip_in_step(self._idle_parameters())
        gaze_only = [p for p in self.weighting.parameters() if p is not self.weighting.log_sigma_cls]
        gaze_only += self.gaze_loss.parameters()
        self._before_step = [(p, p.detach().clone(), p.grad.ne(0)) for p in gaze_only if p.grad is not None]

    @torch.no_grad()
    def on_train_batch_end(self, outputs: Tensor | Mapping[str, Any] | None, batch: Any, batch_idx: int) -> None:
        """Called by Lightning; undoes the step of parameters that a batch without gaze says nothing about."""
        for parameter, before, has_evidence in self._before_step:
            parameter.copy_(torch.where(has_evidence, parameter, before))
        self._before_step = []
        super().on_train_batch_end(outputs, batch, batch_idx)

    def on_train_epoch_end(self) -> None:
        """Called by Lightning."""
        weighting = self.weighting
        self.log("train/sigma_c", weighting.log_sigma_cls.detach().exp(), sync_dist=True)
        self.log("train/sigma_d", weighting.log_sigma_gaze.detach().exp(), sync_dist=True)
        self.log("train/kappa", self.gaze_loss.kappa.detach(), sync_dist=True)

    def _idle_parameters(self) -> list[nn.Parameter]:
        """Parameters that only inactive terms use."""
        sigmas = list(self.weighting.parameters())
        match sorted(self.active_loss_terms):
            case ["gaze"]:
                return [*sigmas, self.model.head.bias]
            case ["classification"]:
                return [*sigmas, *self.gaze_loss.parameters()]
            case _:
                return []


def _initial_log_sigmas(curriculum: str, backbone: str, log_sigma_gaze: float | None) -> tuple[float, float]:
    if curriculum == "two_phase":
        return _TWO_PHASE_LOG_SIGMAS
    for family, value in _RELEASED_LOG_SIGMA_GAZE.items():
        if family in backbone:
            return _RELEASED_LOG_SIGMA_CLS, value
    if log_sigma_gaze is None:
        raise ValueError(
            f"there is no released log_sigma_gaze for {backbone}: set it (ResNet50 -23, EfficientNetV2 -16)"
        )
    return _RELEASED_LOG_SIGMA_CLS, log_sigma_gaze
