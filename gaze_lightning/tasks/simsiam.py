"""SimSiam, with or without positives by gaze."""

from gaze_lightning.batch import Batch
from gaze_lightning.losses import AttractionLoss, Normalise
from gaze_lightning.models import PositivesMode, ProjectionHead
from gaze_lightning.protocols import LabelType
from gaze_lightning.tasks.attraction import AttractionTask
from gaze_lightning.tasks.base import OptimizerName, ScheduleName
from gaze_lightning.tasks.contrastive import Contrast


class SimSiam(AttractionTask):
    """Simple siamese networks (Chen and He, CVPR 2021), and McGIP on them.

    From the projection of each view the predictor guesses that of the other view, which gets no gradient from it;
    related films are guessed as well. With ``A`` of the positive pairs, the diagonal included,
    ``l(a -> b) = -1 / (sum A)  sum_ij A_ij cos(p_a,i , z_b,j)``::

        loss = 0.5 [ l(1 -> 2) + l(2 -> 1) ]

    Nothing repels: with too many positives everything becomes the same (``train/embedding_std``). The predictor's
    learning rate follows the schedule; the authors' code can keep it constant.

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
        hidden: width of the projection head's two hidden layers.
        dim: length of a projection.
        predictor_hidden: width of the predictor's hidden layer.
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
        predictor: from the projection of one view to that of the other one.
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
        hidden: int = 2048,
        dim: int = 2048,
        predictor_hidden: int = 512,
        neighbours: int = 20,
        neighbour_temperature: float = 0.07,
        reference_films: int | None = 2048,
        probe_films: int | None = 20000,
        optimizer: OptimizerName = "sgd",
        lr: float = 0.05,
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
            projector=lambda features: ProjectionHead(features, [hidden, hidden], dim, True, "plain"),
        )
        self.save_hyperparameters(logger=False)  # config.yaml has them; a path among them is nobody else's business
        self.predictor = ProjectionHead(dim, [predictor_hidden], dim, True, "none")
        self.contrastive_loss = AttractionLoss(normalise)

    def contrast(self, batch: Batch) -> Contrast:
        """Compute the loss of a training batch; it lies in [-1, 1]."""
        a, b = (self.model(batch[view]).projection for view in ("image", "second_view"))
        pairs = self.pairs_of_all(batch)
        return Contrast(0.5 * self.attraction(a, b, a.detach(), b.detach(), pairs), a, b, pairs.related)
