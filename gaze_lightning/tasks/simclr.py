"""SimCLR, with or without positives by gaze."""

from typing import Literal

import torch

from gaze_lightning.batch import Batch
from gaze_lightning.losses import MultiPositiveNTXent, Normalise
from gaze_lightning.models import PositivesMode, ProjectionHead
from gaze_lightning.protocols import LabelType
from gaze_lightning.tasks.base import OptimizerName, ScheduleName
from gaze_lightning.tasks.contrastive import Contrast, ContrastiveTask


class SimCLR(ContrastiveTask):
    """SimCLR (Chen et al., ICML 2020), and McGIP on it.

    Each view of a film shall find the other one among both views of all films of the batch (of all processes), and the
    views of related films (``MultiPositiveNTXent``). The projection head is the paper's, one hidden layer without batch
    norm.

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
        normalise: ``global`` (published: each positive weighs the same) or ``per_anchor`` (each view).
        gaze_block: ``all``: related films are positives in any two views; ``released``: in the first views only, and
            negatives elsewhere.
        temperature: of the softmax; 0.07 as in McGIP's released configuration.
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
    """

    shares_batch_statistics = True
    """The original normalises over the batches of all processes."""

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
        gaze_block: Literal["all", "released"] = "all",
        temperature: float = 0.07,
        hidden: int | None = None,
        dim: int = 128,
        neighbours: int = 20,
        neighbour_temperature: float = 0.07,
        reference_films: int | None = 2048,
        probe_films: int | None = 20000,
        optimizer: OptimizerName = "lars",
        lr: float = 0.3,
        weight_decay: float = 1e-6,
        schedule: ScheduleName = "cosine",
        warmup: float = 0.05,
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
        self.contrastive_loss = MultiPositiveNTXent(temperature, normalise, gaze_block)

    def contrast(self, batch: Batch) -> Contrast:
        """Compute the loss of a training batch; both views go through the network together."""
        both = self.model(torch.cat([batch["image"], batch["second_view"]])).projection
        a, b = both.chunk(2)
        pairs = self.pairs_of_all(batch)
        loss = self.contrastive_loss(self.on_all_ranks(a), self.on_all_ranks(b), *pairs)
        return Contrast(loss, a, b, pairs.related)
