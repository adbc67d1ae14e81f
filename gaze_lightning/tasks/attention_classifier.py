"""A classifier that weighs the pixels of its films: global spatial attention and its controls."""

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from gaze_lightning.batch import Batch
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.losses import SaliencyKLLoss, total_variation
from gaze_lightning.metrics.attention_agreement import attention_agreement, global_map_values
from gaze_lightning.models import BatchStackAttention, FreeMask, GlobalAttention, LocalAttention
from gaze_lightning.models.fit_map import fit_map
from gaze_lightning.models.fuse import Fusion, fuse
from gaze_lightning.models.shared_map import SharedMap
from gaze_lightning.models.warp import warp
from gaze_lightning.protocols import FilmStatistics, LabelType, OffersTrainingFilms
from gaze_lightning.tasks.anchors import AnchorContent, make_anchors
from gaze_lightning.tasks.base import OptimizerName, ScheduleName
from gaze_lightning.tasks.classifier import Classifier, Losses

AttentionName = Literal["anchor_set", "batch_stack", "free_mask", "local"]

LITTLE_STRUCTURE = 0.3
"""Below this share one map for all films means little: chest films as they are reach 0.68, shifted at random by a
quarter of their width (standard deviation) about 0.37, photographs of anything 0.14, films rolled at random 0.06."""

_CHECKPOINT_KEY = "anchor_digest"


class AttentionClassifier(Classifier):
    """Xu, Huang, Nitanda, Yamanishi, Asaoka: one importance map for all films (arXiv 2007.15897).

    The paper's text was not at hand. What is built follows its abstract: the map is the output of a binary classifier
    over pixels whose features at a pixel are the intensities of all images there, trained together with the CNN by the
    classification loss alone. Everything beyond these words is a labelled reconstruction (docs/global_attention.md).

    The map multiplies films in canonical geometry; the geometric augmentation of the data module follows, as an affine
    of the product, through which the gradient reaches the map. Inside the network (``position``) it moves the features.

    In training the map is computed anew in every step, once per process. Otherwise, and in every checkpoint, it is a
    stored map: evaluation and prediction need no training films. The reference films are in no checkpoint; a resumed
    training draws them again and compares their digest.

    Logs what ``Classifier`` logs, and of the global map ``train/attention_mean``, ``_std``, ``_min``, ``_max``,
    ``train/attention_film_cc`` (correlation with the mean training film) and, with gaze, ``train/attention_gaze_cc``
    and ``train/attention_gaze_kl`` (against the mean training gaze), see ``global_map_values``. The test adds
    ``attention_cc`` and so on: the map against the gaze of each reading.

    Args:
        class_names: names of the ``K`` classes, in the order of labels and maps.
        label_type: ``"single"`` (exclusive classes) or ``"multi"`` (independent classes).
        backbone: any timm CNN that returns a feature map, or torchvision's ``googlenet``.
        in_chans: channels of its first layer; 3 repeats the film.
        pretrained: ``false``, ``true`` or the path of a weights file; read when training starts.
        output_stride: pixels per cell of the maps.
        mean: subtracted from the films (range [0, 1]) after they are weighed.
        std: divides the films.
        divide_by_max: divide each film by its maximum before that.
        cam_scale: ``mean`` (published 1/C; stalls short trainings) or ``sum``.
        channels_last: memory format; faster on CPUs and with mixed precision.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        lr: learning rate of the CNN, with a schedule its largest value.
        weight_decay: of the CNN's matrices and kernels only.
        schedule: ``constant``, ``one_cycle`` or ``cosine``.
        warmup: rising fraction of a schedule.
        attention: ``anchor_set`` (one map of a fixed set of training films), ``batch_stack`` (the films of the batch
            are the features: its size is fixed, the map differs from batch to batch and between processes; evaluation
            uses the mean map of the epoch), or a control: ``free_mask`` (one free logit per pixel) or ``local`` (CBAM's
            spatial attention: a map for each film).
        anchors: what the anchor set holds, see ``make_anchors``; other than ``films``: controls.
        n_anchors: number of films drawn, balanced over the classes; null: all training films.
        max_images: more films than that are replaced by as many principal images.
        anchor_seed: of the draw; the same for all runs, so that runs differ in training alone.
        pixel_classifier: ``linear`` (a logistic regression per pixel) or ``conv`` (3x3, ReLU, 1x1).
        start: logit of the map at the start: 0 gives 0.5 on average, 2 gives 0.88.
        rescale: divide the map by its mean.
        position: ``input``, or where in the backbone: ``stem``, ``stage1`` and so on.
        fusion: ``multiply`` by the map, or ``residual``: by one plus the map.
        attention_lr: learning rate of the map's parameters. One step of Adam moves a logit of ``n`` anchors by up to
            this times the sum of their ``n`` intensities, that of a free mask by this alone: each needs its own.
        sparsity: weight of the map's mean in the loss.
        total_variation: weight of the mean difference of neighbouring pixels.
        freeze_epoch: from this epoch on the map stays as it is and the CNN trains on; null: never. (Weights of an
            earlier epoch that a callback loads bring their own map.)
        start_from_gaze: beyond the paper: the map starts near the mean gaze of the training readings.
        gaze_weight: beyond the paper: weight of KL(mean training gaze || map) in the loss.
    """

    def __init__(
        self,
        class_names: list[str],
        label_type: LabelType = "single",
        backbone: str = "resnet18",
        in_chans: int = 1,
        pretrained: bool | str = False,
        output_stride: int = 32,
        mean: float = 0.0,
        std: float = 1.0,
        divide_by_max: bool = False,
        cam_scale: Literal["mean", "sum"] = "sum",
        channels_last: bool = False,
        optimizer: OptimizerName = "adam",
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        schedule: ScheduleName = "constant",
        warmup: float = 0.25,
        attention: AttentionName = "anchor_set",
        anchors: AnchorContent = "films",
        n_anchors: int | None = 256,
        max_images: int = 512,
        anchor_seed: int = 0,
        pixel_classifier: Literal["linear", "conv"] = "linear",
        start: float = 0.0,
        rescale: bool = False,
        position: str = "input",
        fusion: Fusion = "multiply",
        attention_lr: float = 3e-3,
        sparsity: float = 0.0,
        total_variation: float = 0.0,
        freeze_epoch: int | None = None,
        start_from_gaze: bool = False,
        gaze_weight: float = 0.0,
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
        if position not in ("input", *self.model.backbone.positions):
            raise ValueError(
                f"position is {position!r}: {backbone} offers input, {', '.join(self.model.backbone.positions)}"
            )
        if n_anchors is not None and n_anchors < 1:
            raise ValueError(f"n_anchors is {n_anchors}: give a positive number, or null for all training films")
        if max_images < 1:
            raise ValueError(f"max_images is {max_images}: at least one image is needed")
        if min(sparsity, total_variation, gaze_weight) < 0:
            raise ValueError("sparsity, total_variation and gaze_weight are weights of a loss: none may be negative")
        shared_only = {
            "start_from_gaze": start_from_gaze,
            "gaze_weight": gaze_weight > 0,
            "freeze_epoch": freeze_epoch is not None,
            "rescale": rescale,
        }
        if attention == "local" and any(shared_only.values()):
            refused = ", ".join(name for name, used in shared_only.items() if used)
            raise ValueError(f"{refused}: only with one map for all films, attention: local has one for each")
        if sparsity and rescale:
            raise ValueError("sparsity is the map's mean, and rescale makes that 1: choose one of them")
        if start_from_gaze and attention == "batch_stack":
            raise ValueError(
                "start_from_gaze: the map of a batch stack depends on the batch; use attention: anchor_set"
            )
        self._kind, self._content, self._fusion, self._position = attention, anchors, fusion, position
        self._n_anchors, self._max_images, self._anchor_seed = n_anchors, max_images, anchor_seed
        self._pixel_classifier, self._start, self._rescale = pixel_classifier, start, rescale
        self._attention_lr, self._freeze_epoch = attention_lr, freeze_epoch
        self._sparsity, self._total_variation = sparsity, total_variation
        self._start_from_gaze, self._gaze_weight = start_from_gaze, gaze_weight
        self.saliency_loss = SaliencyKLLoss()
        # Made when the number of anchors and the size of the films are known: in `setup`, or from a checkpoint.
        self.attention: GlobalAttention | BatchStackAttention | FreeMask | LocalAttention | None = (
            LocalAttention() if attention == "local" else None
        )
        self.register_buffer("mean_gaze", None, persistent=False)
        self.one_image_size = attention != "local"
        self.one_batch_size = attention == "batch_stack"
        self._digest: str | None = None
        self._statistics: FilmStatistics | None = None
        self._weighed_by: Tensor | None = None
        # the same in all processes; DDP would send them from the first one to the others in every step
        self._ddp_params_and_buffers_to_ignore = ["attention.anchors", "mean_gaze"]

    def setup(self, stage: str) -> None:
        """Called by Lightning; before a training makes the map of what the data module shows of its training films.

        Raises:
            ConfigurationError: the data module shows no training films, or no gaze where it is needed.
        """
        super().setup(stage)
        if stage != "fit" or self._kind == "local":
            return
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, OffersTrainingFilms):
            raise ConfigurationError(
                "global attention is made of the training films: it needs a data module with training_films, "
                "film_statistics, mean_training_gaze and leave_geometry_to_task (see OffersTrainingFilms)"
            )
        self._statistics = data.film_statistics()
        if self._statistics is None:
            raise ConfigurationError(
                "there are no training films to make a map of: choose other data, or another split"
            )
        self._say_structure(self._statistics)
        self.mean_gaze = data.mean_training_gaze()
        if self.mean_gaze is None and (self._start_from_gaze or self._gaze_weight):
            raise ConfigurationError(
                "start_from_gaze and gaze_weight need gaze, and no training reading has any: choose other data"
            )
        height, width = data.image_size
        images, n, digest = None, data.batch_size, f"{self._kind}:{height}x{width}"
        if self._kind == "batch_stack":
            digest += f":{n}"
        elif self._kind == "anchor_set":
            anchors = make_anchors(data, self._content, self._n_anchors, self._max_images, self._anchor_seed)
            rank_zero_info(f"Anchors: {anchors.note}; digest {anchors.digest}")
            images, n, digest = anchors.images, len(anchors.images), anchors.digest
        known = self.attention is not None
        if known:
            self._refuse_other_anchors(digest)
        else:
            self.attention, self._digest = self._build(n, data.image_size), digest
        if isinstance(self.attention, GlobalAttention):
            self.attention.set_anchors(images)
        if self._start_from_gaze and self.mean_gaze is not None and not known:
            target = 0.1 + 0.8 * self.mean_gaze / self.mean_gaze.max()
            reached = fit_map(cast(GlobalAttention | FreeMask, self.attention), target)
            rank_zero_info(f"The map starts with a correlation of {reached:.3f} with the mean training gaze")
        cast(SharedMap, self.attention).store_map()
        data.leave_geometry_to_task()

    def teardown(self, stage: str) -> None:
        """Called by Lightning; from here on the data module moves its films itself."""
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and self._kind != "local" and isinstance(data, OffersTrainingFilms):
            data.leave_geometry_to_task(False)

    def _say_structure(self, statistics: FilmStatistics) -> None:
        share = f"{statistics.structure:.2f} of the contrast of a single one"
        text = f"The mean of {statistics.n:,} training films has {share}"
        if statistics.structure < LITTLE_STRUCTURE:
            rank_zero_warn(
                f"{text} (below {LITTLE_STRUCTURE:g}): they are not aligned, and one map for all of them means little. "
                "Align them first (data.init_args.align: chest_box where the source has chest boxes)"
            )
        else:
            rank_zero_info(f"{text} (0: not aligned, 1: all the same)")

    def _build(self, n_images: int, size: tuple[int, int]) -> GlobalAttention | BatchStackAttention | FreeMask:
        seed = torch.initial_seed() % 2**31  # that of the run, whatever was drawn before
        match self._kind:
            case "anchor_set":
                return GlobalAttention(n_images, size, self._pixel_classifier, self._start, self._rescale, seed)
            case "batch_stack":
                return BatchStackAttention(n_images, size, self._pixel_classifier, self._start, self._rescale, seed)
            case _:
                return FreeMask(size, self._start, self._rescale)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called by Lightning; adds the digest of the anchors."""
        checkpoint[_CHECKPOINT_KEY] = self._digest

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called by Lightning before the weights are loaded; makes the map in the shape that the checkpoint has.

        Raises:
            ConfigurationError: a training goes on with other anchors than those of the checkpoint.
        """
        super().on_load_checkpoint(checkpoint)
        if self._kind == "local":
            return
        digest = checkpoint.get(_CHECKPOINT_KEY)
        trainer = getattr(self, "_trainer", None)
        if trainer is not None and trainer.state.fn == "fit":
            self._refuse_other_anchors(digest)
            return
        if digest is None or digest != self._digest:  # another map than the one at hand: it needs no film to predict
            weights = checkpoint["state_dict"]
            height, width = weights["attention.stored_map"].shape[-2:]
            pixels = [value for name, value in weights.items() if name.startswith("attention.pixels.")]
            self.attention = self._build(pixels[0].shape[1] if pixels else 0, (height, width))
            self._digest = digest

    def _refuse_other_anchors(self, digest: str | None) -> None:
        if digest != self._digest:
            raise ConfigurationError(
                f"the map was made of anchors with the digest {self._digest}, these have {digest}: the training films, "
                "their split, image_size, batch_size (of a batch stack), n_anchors, max_images or anchor_seed differ. "
                "Use those of the run that is to go on, or start a new one"
            )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The CNN's groups, and the map's parameters with a learning rate of their own and without decay."""
        if self.attention is None:
            raise RuntimeError("the map is made in setup, which has to come before the optimiser")
        own = list(self.attention.parameters())
        known = {id(parameter) for parameter in own}
        groups = [
            group | {"params": [p for p in group["params"] if id(p) not in known]}
            for group in super().parameter_groups()
        ]
        own = [parameter for parameter in own if parameter.requires_grad]
        return [*groups, {"params": own, "weight_decay": 0.0, "lr": self._attention_lr, "name": "attention"}]

    def pure_parts(self) -> list[nn.Module]:
        """What can be compiled (``HasPureParts``): the network behind the map.

        Raises:
            ConfigurationError: the map acts inside the network, through a hook that is another one in each step.
        """
        if self._position != "input":
            raise ConfigurationError(
                f"acceleration.compile: with position: {self._position} the map acts inside the network, which cannot "
                "be compiled then: use position: input, or acceleration.compile: false"
            )
        return super().pure_parts()

    def forward(self, image: Tensor, matrix: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Films to logits and class activation maps.

        Args:
            image: ``[B, 1, H, W]`` in [0, 1], in canonical geometry.
            matrix: ``[B, 2, 3]``: the affine of the geometric augmentation, pixels; None: none.

        Returns:
            Logits ``[B, K]`` and maps ``[B, K, h, w]`` in augmented geometry.
        """
        canvas = (int(image.shape[-2]), int(image.shape[-1]))

        def weigh(features: Tensor) -> Tensor:
            attention = self._attention()(features if self._kind == "local" else image)
            self._weighed_by = attention
            product = fuse(features, attention, self._fusion)
            return product if matrix is None else warp(product, matrix, canvas)

        if self._position == "input":
            logits, maps = self.model(weigh(image))
        else:
            logits, maps = self.model(image, self._position, weigh)
        return logits, maps

    def outputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits and maps of a batch; a training batch is augmented here."""
        logits, maps = self(batch["image"], batch.get("warp"))
        return logits, maps

    def losses(self, terms: frozenset[str], batch: Batch, logits: Tensor, maps: Tensor) -> Losses:
        """The classification loss and what the options add for the map of the last forward."""
        losses = super().losses(terms, batch, logits, maps)
        assert self._weighed_by is not None
        attention, total = self._weighed_by.float(), losses.total  # a map of features comes in their precision
        if self._sparsity:
            total = total + self._sparsity * attention.mean()
        if self._total_variation:
            total = total + self._total_variation * total_variation(attention)
        if self._gaze_weight and self.mean_gaze is not None:
            log_density = attention.clamp(min=1e-12).log() - attention.sum().log()
            there = torch.ones(1, dtype=torch.bool, device=attention.device)
            total = total + self._gaze_weight * self.saliency_loss(log_density, self.mean_gaze[None, None], there).loss
        return Losses(total=total, classification=losses.classification)

    def global_map(self) -> Tensor | None:
        """The stored map: float32 ``[H, W]``, not negative; None of a model that weighs each film by its own."""
        attention = self._attention()
        return None if isinstance(attention, LocalAttention) else attention.stored_map[0, 0]

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Called by Lightning; also scores the map against the gaze of each reading, on the film."""
        result = super().test_step(batch, batch_idx)
        if "saliency" in batch and self._weighed_by is not None:
            result["values"] |= attention_agreement(self._weighed_by.detach(), batch)
        return result

    def on_train_start(self) -> None:
        """Called by Lightning; a training that goes on in the middle of an epoch has no start of that epoch."""
        self._freeze_in_time()

    def on_train_epoch_start(self) -> None:
        """Called by Lightning; freezes the map when it is time, and starts the mean of a batch stack anew."""
        self._freeze_in_time()
        if isinstance(self.attention, BatchStackAttention):
            self.attention.start_epoch()

    def _freeze_in_time(self) -> None:
        attention = self._attention()
        if isinstance(attention, LocalAttention) or attention.frozen or self._freeze_epoch is None:
            return
        if self.current_epoch >= self._freeze_epoch:  # the map of the weights at hand is stored already
            attention.freeze()
            rank_zero_info(f"epoch {self.current_epoch}: the map is frozen")

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Called by Lightning; a frozen map does not move, not even by momentum."""
        if getattr(self.attention, "frozen", False):
            self.skip_in_step(list(self._attention().parameters()))

    def on_validation_start(self) -> None:
        """Called by Lightning; in a training the map of the weights at hand is stored, and used from here on."""
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self._store_map()

    def on_train_batch_end(self, outputs: Tensor | Mapping[str, Any] | None, batch: Any, batch_idx: int) -> None:
        """Called by Lightning; the last batch of an epoch leaves its map stored, for whatever comes next."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.trainer.is_last_batch:
            self._store_map()

    def on_train_epoch_end(self) -> None:
        """Called by Lightning; logs what the map is like."""
        if self._kind == "local":
            return
        self._store_map()  # an epoch that a limit of steps ends has no last batch
        attention, known = self.global_map(), self._statistics
        assert attention is not None
        assert known is not None
        film, coverage = (values.to(attention.device) for values in (known.mean, known.coverage))
        values = global_map_values(attention, film, coverage, self.mean_gaze)
        self.log_dict({f"train/attention_{name}": value for name, value in values.items()}, sync_dist=True)

    def _attention(self) -> GlobalAttention | BatchStackAttention | FreeMask | LocalAttention:
        if self.attention is None:
            raise RuntimeError("the map is made in setup, or from a checkpoint: neither was there")
        return self.attention

    @torch.no_grad()
    def _store_map(self) -> None:
        attention = self._attention()
        if isinstance(attention, BatchStackAttention):  # each process has stacks of its own: one mean of all of them
            attention.map_sum = cast(Tensor, self.trainer.strategy.reduce(attention.map_sum, reduce_op="mean"))
        if not isinstance(attention, LocalAttention):
            attention.store_map()
