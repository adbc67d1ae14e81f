"""BYOL, with or without positives by gaze."""

import math

import torch

from gaze_lightning.batch import Batch
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.losses import AttractionLoss, Normalise
from gaze_lightning.models import MomentumCopy, PositivesMode, ProjectionHead
from gaze_lightning.protocols import LabelType
from gaze_lightning.tasks.attraction import AttractionTask
from gaze_lightning.tasks.base import OptimizerName, ScheduleName
from gaze_lightning.tasks.contrastive import Contrast


class BYOL(AttractionTask):
    """Bootstrap your own latent (Grill et al., NeurIPS 2020), and McGIP on it.

    From the projection of each view the predictor guesses the projection of the other view by the momentum copy
    (``target``), which gets no gradient; related films are guessed as well. With ``A`` of the positive pairs, the
    diagonal included, ``l(a -> b) = -1 / (sum A)  sum_ij A_ij cos(p_a,i , t_b,j)``::

        loss = 2 [ l(1 -> 2) + l(2 -> 1) ]

    which without other positives is the published loss less 4. Nothing repels: with too many positives everything
    becomes the same (``train/embedding_std``).

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
        momentum: of the momentum copy at the start, per step of the optimiser.
        momentum_end: the same at the end of the training, to which a half cosine leads.
        hidden: width of the hidden layers of projection head and predictor.
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
        predictor: from the projection of one view to that of the other one by ``target``.
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
        momentum: float = 0.99,
        momentum_end: float = 1.0,
        hidden: int = 4096,
        dim: int = 256,
        neighbours: int = 20,
        neighbour_temperature: float = 0.07,
        reference_films: int | None = 2048,
        probe_films: int | None = 20000,
        optimizer: OptimizerName = "lars",
        lr: float = 0.2,
        weight_decay: float = 1.5e-6,
        schedule: ScheduleName = "cosine",
        warmup: float = 0.01,
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
            projector=lambda features: ProjectionHead(features, [hidden], dim, True, "none"),
        )
        self.save_hyperparameters(logger=False)  # config.yaml has them; a path among them is nobody else's business
        for name, value in (("momentum", momentum), ("momentum_end", momentum_end)):
            if not 0 <= value <= 1:
                raise ConfigurationError(f"{name} is {value}: it must lie between 0 and 1")
        self._momentum, self._momentum_end = momentum, momentum_end
        self.predictor = ProjectionHead(dim, [hidden], dim, True, "none")
        self.contrastive_loss = AttractionLoss(normalise)
        self.target = MomentumCopy(self.model)

    def contrast(self, batch: Batch) -> Contrast:
        """Compute the loss of a training batch; it lies in [-4, 4]."""
        a, b = (self.model(batch[view]).projection for view in ("image", "second_view"))
        with torch.no_grad():
            of_a, of_b = (self.target(batch[view]).projection for view in ("image", "second_view"))
        pairs = self.pairs_of_all(batch)
        return Contrast(2 * self.attraction(a, b, of_a, of_b, pairs), a, b, pairs.related)

    def on_train_start(self) -> None:
        """Called by Lightning.

        Raises:
            ConfigurationError: the momentum changes over the training, and nobody knows how long that is.
        """
        if self._momentum != self._momentum_end and not 0 < self.trainer.estimated_stepping_batches < math.inf:
            raise ConfigurationError(
                "the momentum goes from momentum to momentum_end over the training, and its length is unknown: set "
                "trainer.max_epochs or max_steps, or give both the same value"
            )

    def momentum(self) -> float:
        """Of this step of the optimiser: ``end - (end - start) (cos(pi k / K) + 1) / 2`` after ``k`` of ``K`` steps."""
        if self._momentum == self._momentum_end:
            return self._momentum
        done = min(self.global_step / self.trainer.estimated_stepping_batches, 1.0)
        return self._momentum_end - (self._momentum_end - self._momentum) * (math.cos(math.pi * done) + 1) / 2

    def after_optimizer_step(self) -> None:
        """Move the momentum copy."""
        self.target.update(self.model, self.momentum())
