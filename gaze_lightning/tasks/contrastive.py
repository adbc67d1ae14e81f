"""What the methods share that learn from two views of each film and need no labels."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn

from gaze_lightning.batch import Batch
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze.similarity import RelationMatrix
from gaze_lightning.metrics import alignment, embedding_std
from gaze_lightning.models import Backbone, Embedder, MomentumCopy, Pairs, Positives, PositivesMode
from gaze_lightning.models.positives import MOST_CLASSES
from gaze_lightning.protocols import LabelType
from gaze_lightning.tasks.base import OptimizerName, ScheduleName
from gaze_lightning.tasks.collapse_warning import CollapseWarning
from gaze_lightning.tasks.pretraining_run import read_pretrained
from gaze_lightning.tasks.representation import RepresentationTask

_CHECKPOINT_KEY = "relations_digest"


@dataclass(frozen=True)
class Contrast:
    """What a method makes of one training batch.

    Attributes:
        loss: scalar, with its graph.
        first: projections ``[B, D]`` of this process's first views.
        second: of its second views, by the same network or its momentum copy.
        related: bool ``[A, M]``: which of the films or keys, to which the anchors are compared, are their positives by
            gaze or label; not the same film. MoCo: this process's ``B`` films against the slots of the queue; the
            others: the films of all processes against each other.
        keys: ``[M, D]`` of all processes, to which later steps compare; None where they do not.
        identities: int64 ``[M, 3]``, of the keys.
    """

    loss: Tensor
    first: Tensor
    second: Tensor
    related: Tensor
    keys: Tensor | None = None
    identities: Tensor | None = None


class ContrastiveTask(RepresentationTask):
    """Base of the pre-training methods; films that were looked at alike can be positives of each other (McGIP).

    Zhao et al., AAAI 2024 (doi 10.1609/aaai.v38i7.28586). A method says what it makes of a batch (``contrast``); where
    its positives come from is ``positives``, the same for all methods.

    Logs ``train/loss``, ``train/gaze_pairs`` (positives by gaze or label per anchor and step), ``train/alignment``
    (mean squared distance of the two views' normalised projections), ``train/embedding_std`` (spread of those of the
    first views in a batch; 1: even over the sphere, 0: collapsed) and what ``RepresentationTask`` logs. Labels choose
    nothing and train nothing, except with ``positives: label``.

    Under several processes the loss is that of all their batches together, so batches must be equally large.

    Args:
        class_names: names of the ``K`` classes; may be empty.
        label_type: ``"single"`` (exclusive classes) or ``"multi"`` (independent classes).
        backbone: any timm CNN that returns a feature map.
        in_chans: channels of its first layer; 3 repeats the film.
        pretrained: ``false``, ``true`` (timm's weights), a weights file, or the folder of a pre-training run or one of
            its checkpoints (its online network); read when training starts, not when it resumes.
        output_stride: pixels per cell of the last map.
        mean: subtracted from the films (range [0, 1]).
        std: divides the films.
        divide_by_max: divide each film by its maximum before that.
        channels_last: memory format; faster on CPUs and with mixed precision.
        positives: ``none``, ``gaze``, ``shuffled`` (as many, but of random films) or ``label`` (films of one class).
        drop_prob: probability with which a pair of different films is left out of a step, 0 to 1.
        shuffle_seed: of ``shuffled``.
        neighbours: nearest films that vote in validation and test.
        neighbour_temperature: of their votes, ``exp(cosine / temperature)``.
        reference_films: labelled training films among which validation looks for them; None: all.
        probe_films: labelled training films on which a test fits the linear probe and among which it looks for
            neighbours, balanced over the classes; None: all.
        optimizer: ``adam``, ``adamw``, ``sgd`` or ``lars``.
        lr: learning rate, with a schedule its largest value.
        weight_decay: of matrices and kernels only.
        schedule: ``constant``, ``one_cycle`` or ``cosine``.
        warmup: rising fraction of a schedule.
        projector: makes the projection head for a number of features.

    Attributes:
        model: the online network: backbone and projection head.
        positives: which films are positives of each other.

    Raises:
        ConfigurationError: ``positives: label`` without labels, or with more than 62 classes.
    """

    loss_terms: tuple[str, ...] = ("contrastive",)
    shares_batch_statistics = False
    """Whether batch norm must see the batches of all processes together, as in the original; else a process's own."""

    def __init__(
        self,
        *,
        class_names: list[str],
        label_type: LabelType,
        backbone: str,
        in_chans: int,
        pretrained: bool | str,
        output_stride: int,
        mean: float,
        std: float,
        divide_by_max: bool,
        channels_last: bool,
        positives: PositivesMode,
        drop_prob: float,
        shuffle_seed: int,
        neighbours: int,
        neighbour_temperature: float,
        reference_films: int | None,
        probe_films: int | None,
        optimizer: OptimizerName,
        lr: float,
        weight_decay: float,
        schedule: ScheduleName,
        warmup: float,
        projector: Callable[[int], nn.Module],
    ) -> None:
        super().__init__(
            class_names=class_names,
            label_type=label_type,
            neighbours=neighbours,
            neighbour_temperature=neighbour_temperature,
            reference_films=reference_films,
            probe_films=probe_films,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup=warmup,
        )
        if positives == "label" and not 0 < len(class_names) <= MOST_CLASSES:
            raise ConfigurationError(
                f"positives: label works with 1 to {MOST_CLASSES} classes and needs labels, and these data have "
                f"{len(class_names)} classes: choose other data, or none, gaze or shuffled"
            )
        self._pretrained = pretrained
        network = Backbone(backbone, in_chans, False, output_stride, mean, std, divide_by_max, channels_last)
        self.model = Embedder(network, projector(network.num_features))
        self.positives = Positives(positives, drop_prob, shuffle_seed)
        self._digest: str | None = None
        self._collapse = CollapseWarning()
        # the same in all processes; DDP would send them from the first one to the others in every step
        self._ddp_params_and_buffers_to_ignore = ["positives.indptr", "positives.indices"]

    @abstractmethod
    def contrast(self, batch: Batch) -> Contrast:
        """Compute the loss of a training batch, and what is logged and remembered of it."""

    def after_optimizer_step(self) -> None:
        """Called after each step of the optimiser (not each batch); momentum copies move here."""

    def remember(self, contrast: Contrast) -> None:
        """Called once with each training batch, after its loss; methods with a memory override it."""

    def pure_parts(self) -> list[nn.Module]:
        """What can be compiled (``HasPureParts``); methods add their own parts."""
        return [self.model, *(copy.module for copy in self.children() if isinstance(copy, MomentumCopy))]

    @property
    def needs_relations(self) -> bool:
        """Whether relations between the gaze of films are needed."""
        return self.positives.needs_relations

    @property
    def relations_used_as(self) -> str:
        """The mode of ``positives``."""
        return self.positives.mode

    def set_relations(self, relations: RelationMatrix) -> RelationMatrix:
        """Learn from these relations; called before ``setup``.

        Returns:
            Those that it learns from; ``positives: shuffled`` permutes the given ones.
        """
        learnt = self.positives.set_relations(relations)
        self._digest = learnt.digest if self.needs_relations else None
        return learnt

    def setup(self, stage: str) -> None:
        """Called by Lightning; before a training asks for two views.

        Raises:
            ConfigurationError: the data module shows no two views, or there are no relations where they are needed.
        """
        super().setup(stage)
        if stage != "fit":
            return
        data = self.two_views()
        if self.needs_relations and self._digest is None:
            raise ConfigurationError(
                f"positives: {self.positives.mode} needs the relations between the gaze of films, and none were given: "
                "say how they are made in the section relations, or use positives: none"
            )
        data.show_two_views()

    def read_weights(self) -> None:
        """Fill the backbone, and those of momentum copies, with pretrained weights, if there are to be any.

        Raises:
            ConfigurationError: they do not exist or do not fit.
        """
        backbone = self.model.backbone
        if isinstance(self._pretrained, str):
            report, _ = read_pretrained(backbone, self._pretrained)
        elif (of_timm := backbone.load_pretrained(self._pretrained)) is not None:
            report = of_timm
        else:
            return
        rank_zero_info(f"Pretrained weights: {report}")
        for copy in self.children():
            if isinstance(copy, MomentumCopy):
                copy.module.load_state_dict(self.model.state_dict())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called by Lightning; adds the digest of the relations."""
        checkpoint[_CHECKPOINT_KEY] = self._digest

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called by Lightning.

        Raises:
            ConfigurationError: a training is to go on with other relations.
        """
        super().on_load_checkpoint(checkpoint)
        known = checkpoint.get(_CHECKPOINT_KEY)
        if self._trainer is not None and self.trainer.state.fn == "fit" and known != self._digest:
            raise ConfigurationError(
                f"the checkpoint has learnt from relations with the digest {known}, these have {self._digest}: the "
                "training films, their gaze, the measure or its threshold differ, or positives or shuffle_seed. Use "
                "those of the run that is to go on, or start a new one"
            )

    def loss_for(self, terms: frozenset[str], batch: Batch) -> Tensor:
        """Loss of a batch, a scalar with its graph; nothing is remembered."""
        return self.contrast(batch).loss

    def identities(self, batch: Batch) -> Tensor:
        """What tells this process's films apart and which belong together: int64 ``[B, 3]``."""
        return self.positives.identities(batch["sample_id"], batch["film"], batch.get("label"))

    def pairs_of_all(self, batch: Batch) -> Pairs:
        """Pairs within the batches of all processes together, bool ``[W B, W B]``."""
        everybody = self.on_all_ranks(self.identities(batch))
        return self.positives.pairs(everybody, everybody, self.global_step)

    def on_all_ranks(self, rows: Tensor) -> Tensor:
        """Rows ``[B, ...]`` of all processes as ``[W B, ...]``, in the order of their ranks, with gradients to all."""
        if self._trainer is None or self.trainer.world_size == 1:
            return rows
        everywhere = self.all_gather(rows, sync_grads=rows.requires_grad)
        assert isinstance(everywhere, Tensor)
        return everywhere.flatten(0, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Called by Lightning."""
        contrast = self.contrast(batch)
        self.remember(contrast)
        n, first, second = len(batch["image"]), contrast.first.detach(), contrast.second.detach()
        pairs = contrast.related.sum(dim=1).float().mean()
        self.log("loss", contrast.loss.detach(), prog_bar=True, logger=False)  # for the eye; the file has train/loss
        self.log("gaze_pairs", pairs, prog_bar=True, logger=False)
        self.log("train/loss", contrast.loss, on_step=True, on_epoch=True, batch_size=n, sync_dist=True)
        values = {"train/gaze_pairs": pairs, "train/alignment": alignment(first, second).float()}
        if n > 1:
            values["train/embedding_std"] = spread = embedding_std(first).float()
            self._collapse.update(spread)
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=n, sync_dist=True)
        return contrast.loss

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Called by Lightning when the gradients of all accumulated batches are there."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.after_optimizer_step()

    def on_train_epoch_end(self) -> None:
        """Called by Lightning; warns once if all films have come to look the same to the network."""
        self._collapse.end_epoch(self.current_epoch)
