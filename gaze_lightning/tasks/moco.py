"""MoCo v2, with or without positives by gaze."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gaze_lightning.batch import Batch
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.losses import MultiPositiveInfoNCE, Normalise
from gaze_lightning.models import KeyQueue, MomentumCopy, PositivesMode, ProjectionHead
from gaze_lightning.protocols import LabelType
from gaze_lightning.tasks.base import OptimizerName, ScheduleName
from gaze_lightning.tasks.contrastive import Contrast, ContrastiveTask


class MoCo(ContrastiveTask):
    """Momentum contrast, version 2 (He et al., CVPR 2020; Chen et al., arXiv 2003.04297), and McGIP on it.

    The first view is the query, the second one, through the momentum copy (``target``), the key; the keys of earlier
    batches wait in a queue. There a slot is positive if its film is related to the anchor's, and, with ``own_slots:
    positive``, if it is the anchor's film; the other filled slots are negatives, empty ones take no part.

    Under several processes the films of all of them are shuffled among them before they become keys, so that batch
    norms cannot tell a query's key by its company (He et al., section 3.3); all keys enter the queue of each process.

    Logs what ``ContrastiveTask`` logs.

    Args:
        class_names: names of the ``K`` classes; may be empty.
        label_type: ``"single"`` (exclusive classes) or ``"multi"`` (independent classes).
        backbone: any timm CNN that returns a feature map.
        in_chans: channels of its first layer; 3 repeats the film.
        pretrained: ``false``, ``true`` (timm's weights), a weights file, or the folder of a pre-training run or one of
            its checkpoints; read when training starts.
        output_stride: pixels per cell of the last map.
        mean: subtracted from the films (range [0, 1]).
        std: divides the films.
        divide_by_max: divide each film by its maximum before that.
        channels_last: memory format; faster on CPUs and with mixed precision.
        positives: ``none``, ``gaze``, ``shuffled`` (as many, but of random films) or ``label`` (films of one class).
        drop_prob: probability with which a pair of different films is left out of a step; 0: McGIP, 0.5: GzPT.
        shuffle_seed: of ``shuffled``.
        normalise: ``global`` (published: each positive weighs the same) or ``per_anchor`` (each film).
        own_slots: what slots of the queue with the anchor's own film are; ``negative`` as published for MoCo.
        temperature: of the softmax.
        momentum: of the momentum copy, per step of the optimiser.
        queue_size: number of keys. 65,536 in MoCo for 1.3 million images; with more keys than films, each film has
            several slots.
        key_groups: parts in which a process encodes its keys, each with batch statistics of its own, of at least two
            films; the original shuffles over eight processes.
        hidden: width of the projection head's hidden layer; None: as many as the backbone has features.
        dim: length of a projection.
        neighbours: nearest films that vote in validation and test.
        neighbour_temperature: of their votes, ``exp(cosine / temperature)``.
        reference_films: labelled training films among which validation looks for them; None: all.
        probe_films: labelled training films on which a test fits the linear probe and among which it looks for
            neighbours, balanced over the classes; None: all.
        optimizer: ``adam``, ``adamw``, ``sgd`` or ``lars``.
        lr: learning rate, with a schedule its largest value; published for 256 films in a step.
        weight_decay: of matrices and kernels only.
        schedule: ``constant``, ``one_cycle`` or ``cosine``.
        warmup: rising fraction of a schedule.

    Attributes:
        target: the momentum copy of ``model``.
        queue: keys of earlier batches, of all processes.
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
        channels_last: bool = False,
        positives: PositivesMode = "none",
        drop_prob: float = 0.0,
        shuffle_seed: int = 0,
        normalise: Normalise = "global",
        own_slots: Literal["positive", "negative"] = "positive",
        temperature: float = 0.2,
        momentum: float = 0.999,
        queue_size: int = 4096,
        key_groups: int = 4,
        hidden: int | None = None,
        dim: int = 128,
        neighbours: int = 20,
        neighbour_temperature: float = 0.07,
        reference_films: int | None = 2048,
        probe_films: int | None = 20000,
        optimizer: OptimizerName = "sgd",
        lr: float = 0.03,
        weight_decay: float = 1e-4,
        schedule: ScheduleName = "cosine",
        warmup: float = 0.0,
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
            channels_last=channels_last,
            positives=positives,
            drop_prob=drop_prob,
            shuffle_seed=shuffle_seed,
            neighbours=neighbours,
            neighbour_temperature=neighbour_temperature,
            reference_films=reference_films,
            probe_films=probe_films,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup=warmup,
            projector=lambda features: ProjectionHead(features, [hidden or features], dim, False, "none"),
        )
        self.save_hyperparameters(logger=False)  # config.yaml has them; a path among them is nobody else's business
        if own_slots not in ("positive", "negative"):
            raise ConfigurationError(f"own_slots is {own_slots!r}: choose 'positive' or 'negative'")
        if not 0 <= momentum <= 1:
            raise ConfigurationError(f"momentum is {momentum}: it must lie between 0 and 1")
        if key_groups < 1:
            raise ConfigurationError(f"key_groups is {key_groups}: it must be positive")
        self._own_slots, self._momentum, self._key_groups = own_slots, momentum, key_groups
        self.contrastive_loss = MultiPositiveInfoNCE(temperature, normalise)
        self.target = MomentumCopy(self.model)
        self.queue = KeyQueue(queue_size, dim)
        self._ddp_params_and_buffers_to_ignore += [f"queue.{name}" for name, _ in self.queue.named_buffers()]

    def contrast(self, batch: Batch) -> Contrast:
        """Compute the loss of a training batch, and the keys that enter the queue after it."""
        query = self.model(batch["image"]).projection
        keys, identities = self._keys(batch["second_view"]), self.on_all_ranks(self.identities(batch))
        own = slice(self.global_rank * len(query), (self.global_rank + 1) * len(query))
        pairs = self.positives.pairs(identities[own], self.queue.identities, self.global_step)
        positive = pairs.related | pairs.same if self._own_slots == "positive" else pairs.related
        usable = self.queue.filled.expand_as(positive)
        # the anchors of each process are a part of the mean over all, whatever their number of positives
        count = (len(query) + (positive & usable).sum()).float()
        total = self.on_all_ranks(count[None]).mean()
        loss = self.contrastive_loss(query, keys[own], self.queue.keys, positive, usable, total)
        return Contrast(loss, query, keys[own], pairs.related, keys, identities)

    def remember(self, contrast: Contrast) -> None:
        """Put the keys of all processes into the queue."""
        assert contrast.keys is not None  # `contrast` fills them in
        assert contrast.identities is not None
        self.queue.push(contrast.keys, contrast.identities)

    def after_optimizer_step(self) -> None:
        """Move the momentum copy."""
        self.target.update(self.model, self._momentum)

    @torch.no_grad()
    def _keys(self, image: Tensor) -> Tensor:
        """Unit keys ``[W B, D]`` of the films of all processes; each process encodes a random part of them, in groups.

        Batch norm sees other films beside a key than beside its query, or it would give the pair away (He et al. 2020,
        section 3.3, "Shuffling BN").
        """
        everywhere = self.on_all_ranks(image)
        order = shuffled_order(len(everywhere), self.global_step, image.device)
        part = everywhere[order[self.global_rank * len(image) : (self.global_rank + 1) * len(image)]]
        groups = part.tensor_split(min(self._key_groups, max(1, len(part) // 2)))
        keys = torch.cat([self.target(group).projection for group in groups])
        return self.on_all_ranks(F.normalize(keys.float(), dim=1))[order.argsort()]


def shuffled_order(n: int, step: int, device: torch.device) -> Tensor:
    """Order int64 ``[n]`` of the films of all processes: the same in each of them, whatever they have drawn so far."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(step)).to(device)
