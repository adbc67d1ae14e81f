"""Multi-stage cooperative learning: contrastive, classification, saliency, fusion, one after the other."""

from collections.abc import Mapping
from typing import Literal

from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn

from gaze_lightning.batch import Batch
from gaze_lightning.losses import SupConLoss, TripletLoss, UncertaintyWeighting, label_pairs
from gaze_lightning.metrics import EmbeddingLoss
from gaze_lightning.models import Backbone, DualEncoderUNet, Taps
from gaze_lightning.protocols import LabelType
from gaze_lightning.tasks.base import OptimizerName, ScheduleName
from gaze_lightning.tasks.multi_task import MultiTask, Prediction, Term

ClassHead = Literal["fusion", "linear", "none"]


class Cooperative(MultiTask):
    """Qiu, Rivaz, Xiao: multi-stage cooperative learning (arXiv 2403.16970, Medical Physics 52(7), 2025).

    The network is ``DualEncoderUNet``. Its terms, of which ``StagedTraining`` uses one after the other:

    * ``contrastive``: samples of one class together, others apart, on the first encoder's features;
    * ``classify``: classification loss of the linear head on the first encoder;
    * ``saliency``: KL divergence of the predicted map from the gaze;
    * ``fusion``: classification loss of the head that sees both the first encoder and the saliency decoder.

    ``saliency`` and ``fusion`` together are the joint loss of MT-UNet (``CE / s_c^2 + ln(1 + s_c) + KL / (2 s_s^2) +
    ln(1 + s_s)``, ``log s_c`` trained from 0, ``s_s = 1``); any other choice is the plain sum. Only what the terms need
    is computed, so what they do not need must be frozen by the stage (or DDP would wait for its gradients).

    Under several processes the contrastive term sees the samples of all of them. In validation it is computed over the
    whole part at once (512 samples of a larger one, always the same), so it depends on neither batches nor processes.
    Logs what ``MultiTask`` logs, and ``train/sigma_c`` where both are trained. Without labels only ``saliency`` is
    left.

    Args:
        class_names: names of the ``K`` classes; may be empty.
        label_type: ``"single"`` (exclusive classes) or ``"multi"`` (independent classes; two samples then attract each
            other if they share a finding, see ``label_pairs``).
        backbone: first encoder, any timm CNN that returns a feature map.
        in_chans: channels of its first layer; 3 repeats the film.
        pretrained: ``false``, ``true`` (timm's weights) or the path of a weights file; read when training starts.
        width: factor of second encoder, decoder and saliency head; 1 as published (66.6 million parameters in all).
        fusion_inputs: what the fusion head sees; ``encoder`` or ``decoder`` alone are controls.
        head: which head gives the probabilities in test and prediction; ``none``: gaze only.
        mean: subtracted from the films (range [0, 1]).
        std: divides the films.
        divide_by_max: divide each film by its maximum before that.
        channels_last: memory format; faster on CPUs and with mixed precision.
        contrastive: ``triplet`` (batch-all) or ``supcon``.
        embedding: ``pooled`` (mean of the features) or ``per_row`` (released code: raw map, distances along its rows;
            triplet only).
        margin: of the triplets.
        triplet_reduction: ``mean`` over active terms, or ``sum`` (released).
        temperature: of ``supcon``.
        projection: width of a two-layer head before ``supcon``, which prediction does not use; None: no head.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        lr: learning rate, with a schedule its largest value; a stage may have its own.
        weight_decay: of matrices and kernels only.
        schedule: ``constant``, ``one_cycle`` or ``cosine`` over the whole training; stages have schedules of their own.
        warmup: rising fraction of a schedule.
    """

    loss_terms: tuple[str, ...] = ("contrastive", "classify", "saliency", "fusion")
    has_unused_parameters = True

    def __init__(
        self,
        class_names: list[str],
        label_type: LabelType = "single",
        backbone: str = "densenet201",
        in_chans: int = 3,
        pretrained: bool | str = False,
        width: float = 1.0,
        fusion_inputs: Literal["both", "encoder", "decoder"] = "both",
        head: ClassHead = "fusion",
        mean: float = 0.0,
        std: float = 1.0,
        divide_by_max: bool = False,
        channels_last: bool = False,
        contrastive: Literal["triplet", "supcon"] = "triplet",
        embedding: Literal["pooled", "per_row"] = "pooled",
        margin: float = 1.0,
        triplet_reduction: Literal["mean", "sum"] = "mean",
        temperature: float = 0.1,
        projection: int | None = None,
        optimizer: OptimizerName = "adam",
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        schedule: ScheduleName = "constant",
        warmup: float = 0.25,
    ) -> None:
        if head == "none" or not class_names:
            head, self.loss_terms = "none", ("saliency",)
        if embedding == "per_row" and contrastive == "supcon":
            raise ValueError("embedding: per_row is a reading of the triplet loss; supcon needs embedding: pooled")
        super().__init__(
            class_names=[] if head == "none" else class_names,
            label_type=label_type,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup=warmup,
        )
        self.save_hyperparameters(logger=False)  # config.yaml has them; a path among them is nobody else's business
        self.head: ClassHead = head
        self.embedding = embedding
        self._pretrained = pretrained
        encoder = Backbone(backbone, in_chans, False, 32, mean, std, divide_by_max, channels_last)
        self.model = DualEncoderUNet(encoder, 0 if self.head == "none" else len(class_names), width, fusion_inputs)
        self.contrastive_loss = (
            TripletLoss(margin, triplet_reduction) if contrastive == "triplet" else SupConLoss(temperature)
        )
        features = encoder.num_features
        self.projection: nn.Module | None = None
        self.weighting: UncertaintyWeighting | None = None
        self.val_contrastive: EmbeddingLoss | None = None
        if self.head != "none":
            if contrastive == "supcon" and projection is not None:
                self.projection = nn.Sequential(
                    nn.Linear(features, features), nn.ReLU(), nn.Linear(features, projection)
                )
            self.weighting = UncertaintyWeighting(0.0, 0.0, train_gaze=False)
            self.val_contrastive = EmbeddingLoss(self.contrastive_loss, label_type)
            self.val_losses.pop("contrastive")  # no mean over batches: it is computed over the whole part

    def read_weights(self) -> None:
        """Fill the first encoder with pretrained weights, if there are to be any."""
        report = self.model.encoder.load_pretrained(self._pretrained)
        if report is not None:
            rank_zero_info(f"Pretrained weights: {report}")

    def pure_parts(self) -> list[nn.Module]:
        """What can be compiled (``HasPureParts``); the terms of the loss use parts of the network."""
        model = self.model
        heads = [head for head in (model.linear_head, model.fusion_head) if head is not None]
        return [*model.encoder.tapped_parts(), model.residual_encoder, model.decoder, model.saliency_head, *heads]

    def predict(self, image: Tensor) -> Prediction:
        """Run the whole network on films ``[B, 1, H, W]`` in [0, 1]."""
        output = self.model(image)
        terms = self.active_loss_terms
        # a stage that trains the linear head alone is looked at through it; outside a training all terms are active
        match "linear" if self.head == "fusion" and "classify" in terms and "fusion" not in terms else self.head:
            case "fusion":
                assert self.model.fusion_head is not None
                maps = self.model.fusion_head.class_maps(self.model.fused(output.features, output.decoded))
                return Prediction(output.log_saliency, output.logits, maps)
            case "linear":
                return Prediction(output.log_saliency, output.linear_logits, output.linear_maps)
            case _:
                return Prediction(output.log_saliency, image.new_zeros(len(image), 0), None)

    def term_losses(self, terms: frozenset[str], batch: Batch) -> dict[str, Term]:
        """Losses of the terms; only the parts of the network that they need run."""
        taps = self.model.encode(batch["image"])
        losses: dict[str, Term] = {}
        if "contrastive" in terms:
            embedding, label = self._on_all_ranks(self._embed(taps), batch["label"])
            loss = self.contrastive_loss(embedding, label_pairs(label, self.label_type))
            losses["contrastive"] = Term(loss, loss.new_tensor(float(len(label))))
        return losses | self._means(terms, batch, taps)[0]

    def combine(self, losses: Mapping[str, Term], terms: frozenset[str]) -> Tensor:
        """The joint loss where diagnosis by fusion and gaze are trained together, else the sum."""
        rest = dict(losses)
        total: Tensor | None = None
        if self.weighting is not None and {"fusion", "saliency"} <= rest.keys():
            fusion, saliency = rest.pop("fusion"), rest.pop("saliency")
            total = self.weighting(fusion.loss, saliency.loss, (saliency.n > 0).float())
        for term in rest.values():
            total = term.loss if total is None else total + term.loss
        assert total is not None  # the setter of active_loss_terms refuses an empty set
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Called by Lightning."""
        terms = self.active_loss_terms
        taps = self.model.encode(batch["image"])
        if "contrastive" in terms and self.val_contrastive is not None:
            self.val_contrastive.update(self._embed(taps), batch["label"], batch["sample_id"])
        losses, logits, log_saliency = self._means(terms, batch, taps)
        self.note_validation(losses, batch, logits, log_saliency)

    def validation_losses(self) -> dict[str, Tensor]:
        """Losses of the active terms over the validation part, by logged name."""
        if "contrastive" not in self.active_loss_terms or self.val_contrastive is None:
            return super().validation_losses()
        value = self.val_contrastive.compute()
        self.val_contrastive.reset()
        return {"val/contrastive_loss": value} | super().validation_losses()

    def on_train_epoch_end(self) -> None:
        """Called by Lightning."""
        if self.weighting is not None and {"fusion", "saliency"} <= self.active_loss_terms:
            self.log("train/sigma_c", self.weighting.log_sigma_cls.detach().exp(), sync_dist=True)

    def classes_in(self, terms: frozenset[str]) -> bool:
        """Whether a class head is trained by these terms."""
        return bool(terms & {"classify", "fusion"})

    def saliency_in(self, terms: frozenset[str]) -> bool:
        """Whether these terms use the saliency decoder."""
        return bool(terms & {"saliency", "fusion"})

    def _means(
        self, terms: frozenset[str], batch: Batch, taps: Taps
    ) -> tuple[dict[str, Term], Tensor | None, Tensor | None]:
        """Losses that are means over samples, logits of the last head in training, and the predicted log density."""
        losses: dict[str, Term] = {}
        logits: Tensor | None = None
        log_saliency: Tensor | None = None
        if "classify" in terms:
            assert self.model.linear_head is not None  # without classes there is no such term
            logits = self.model.linear_head(taps.features)[0]
            losses["classify"] = self.class_term(logits, batch)
        if not self.saliency_in(terms):
            return losses, logits, None
        decoded = self.model.decode(batch["image"], taps.raw)
        if "saliency" in terms or not self.training:
            log_saliency = self.model.saliency_head(decoded)
        if "saliency" in terms and log_saliency is not None:
            losses["saliency"] = self.saliency_term(log_saliency, batch)
        if "fusion" in terms:
            assert self.model.fusion_head is not None
            logits = self.model.fusion_head(self.model.fused(taps.features, decoded))
            losses["fusion"] = self.class_term(logits, batch)
        return losses, logits, log_saliency

    def _embed(self, taps: Taps) -> Tensor:
        """What the contrastive loss compares: ``[B, C]``, or the raw map ``[B, C, h, w]``."""
        if self.embedding == "per_row":
            return taps.raw
        pooled = taps.features.float().mean(dim=(2, 3))
        if self.projection is None:
            return pooled
        projected: Tensor = self.projection(pooled)
        return projected

    def _on_all_ranks(self, embedding: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings and labels of the batches of all processes, with gradients to all."""
        if self._trainer is None or self.trainer.world_size == 1:
            return embedding, label
        everywhere = self.all_gather(embedding, sync_grads=True)
        labels = self.all_gather(label)
        assert isinstance(everywhere, Tensor)
        assert isinstance(labels, Tensor)
        return everywhere.flatten(0, 1), labels.flatten(0, 1)
