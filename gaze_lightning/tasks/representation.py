"""What is measured of a network that learns without labels: its embeddings, and simple classifiers on them."""

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from gaze_lightning.batch import Batch
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.metrics import ClassificationReport, EmbeddingHealth, NearestNeighbours
from gaze_lightning.models import Embedder
from gaze_lightning.protocols import LabelType, OffersTwoViews
from gaze_lightning.same_on_all import same_on_all
from gaze_lightning.tasks.base import GazeTask, OptimizerName, ScheduleName
from gaze_lightning.tasks.reference_bank import ReferenceBank

if TYPE_CHECKING:
    from gaze_lightning.evaluation.linear_probe import LinearProbe

_HEALTH = ("embedding_std", "uniformity", "effective_rank")


class RepresentationTask(GazeTask):
    """Base of tasks whose network has no classifier; what it has learnt is measured by nearest neighbours and a probe.

    Validation logs ``val/embedding_std``, ``val/uniformity`` and ``val/effective_rank`` of the L2-normalised
    projections of films that are not augmented, and, where the data have labels, ``val/knn_auroc_macro`` and
    ``val/knn_accuracy``: the vote of the nearest labelled training films, by the cosine of the backbone's pooled
    features.

    A test fits a linear probe on the features of labelled training films, its strength chosen on the validation films,
    and takes the vote of the nearest of these training films. Nothing here trains the network. Where ``probe_films``
    leaves films out, the rest is balanced over the classes (by the data module's ``reference_loader``), and the
    probabilities are those of films in which rare classes are more frequent than in all.

    Args:
        class_names: names of the ``K`` classes; may be empty.
        label_type: ``"single"`` or ``"multi"``.
        neighbours: nearest films that vote.
        neighbour_temperature: of their votes, ``exp(cosine / temperature)``.
        reference_films: labelled training films among which validation looks for them; None: all.
        probe_films: labelled training films on which a test fits the linear probe and among which it looks for
            neighbours; None: all, in memory (``C`` features of 4 to 8 bytes each) and through scikit-learn.
        optimizer: see ``GazeTask``.
        lr: see ``GazeTask``.
        weight_decay: see ``GazeTask``.
        schedule: see ``GazeTask``.
        warmup: see ``GazeTask``.

    Attributes:
        model: the network, set by the method.

    Raises:
        ValueError: ``neighbours``, ``reference_films``, ``probe_films`` or the temperature are not positive.
    """

    needs_classes = False
    classifier_note = "linear probe on frozen features"
    """Where the probabilities of a test come from."""
    result_notes: tuple[str, ...] = ()
    """Sentences that readers of the test's results must know; the table repeats them."""
    model: Embedder

    def __init__(
        self,
        *,
        class_names: list[str],
        label_type: LabelType,
        neighbours: int,
        neighbour_temperature: float,
        reference_films: int | None,
        probe_films: int | None,
        optimizer: OptimizerName,
        lr: float,
        weight_decay: float,
        schedule: ScheduleName,
        warmup: float,
    ) -> None:
        super().__init__(
            class_names=class_names,
            label_type=label_type,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup=warmup,
        )
        numbers = [number for number in (neighbours, reference_films, probe_films) if number is not None]
        if min(numbers) < 1 or not neighbour_temperature > 0:
            raise ValueError(
                f"neighbours is {neighbours}, neighbour_temperature {neighbour_temperature}, reference_films "
                f"{reference_films}, probe_films {probe_films}: all must be positive"
            )
        self._neighbours, self._temperature = neighbours, neighbour_temperature
        self._reference_films, self._probe_films = reference_films, probe_films
        self.val_health = EmbeddingHealth()
        self.val_report = ClassificationReport(class_names, label_type) if class_names else None
        self._neighbourhood: NearestNeighbours | None = None
        self._probe: LinearProbe | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Films ``[B, 1, H, W]`` in [0, 1] to the backbone's pooled features ``[B, C]``, float32."""
        features: Tensor = self.model(image).features
        return features

    def logged_values(self, terms: frozenset[str]) -> frozenset[str]:
        """Names of the values that validation logs, whatever the terms."""
        knn = ("knn_auroc_macro", "knn_accuracy") if self.class_names else ()
        return frozenset(f"val/{name}" for name in (*_HEALTH, *knn))

    def on_validation_epoch_start(self) -> None:
        """Called by Lightning; features of the reference films by the network as it is now."""
        if not self.class_names:
            return
        # after a training step each process has statistics of its own; DDP evens them out in the first validation step
        same_on_all(self.model.buffers())
        most = self.trainer.num_sanity_val_steps if self.trainer.sanity_checking else math.inf
        self._neighbourhood = self._voters(self._reference("train", self._reference_films, most))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Called by Lightning."""
        embedded = self.model(batch["image"])
        self.val_health.update(F.normalize(embedded.projection.float(), dim=1), batch["sample_id"])
        if self._neighbourhood is not None and self.val_report is not None and "label" in batch:
            label, probability = batch["label"], self._neighbourhood.probabilities(embedded.features)
            if self.label_type == "single":
                probability, label = probability[label >= 0], label[label >= 0]
            self.val_report.update(probability, label)

    def on_validation_epoch_end(self) -> None:
        """Called by Lightning."""
        values = {f"val/{name}": value.float() for name, value in self.val_health.compute().items()}
        self.val_health.reset()
        if self._neighbourhood is not None and self.val_report is not None:
            report = self.val_report.compute()
            self.val_report.reset()
            self.log("knn_auroc", report["auroc_macro"].float(), prog_bar=True, logger=False, sync_dist=True)
            values["val/knn_auroc_macro"] = report["auroc_macro"].float()
            values["val/knn_accuracy"] = report["accuracy"].float()
        self._neighbourhood = None
        self.log_dict(values, sync_dist=True)

    def on_test_epoch_start(self) -> None:
        """Called by Lightning; fits the linear probe on the frozen features, where the data have labels.

        Raises:
            ConfigurationError: there are no labelled training films.
        """
        self._neighbourhood, self._probe, self.result_notes = None, None, ()
        if not self.class_names:
            return
        bank = self._reference("train", self._probe_films)
        validate = self._reference("validate", None)
        if bank is None:
            raise ConfigurationError(
                "the test of a pre-training fits a linear probe on labelled training films, and there are none: test "
                "with the data of the training"
            )
        if self._probe_films is not None and len(bank.label) >= self._probe_films:
            self.result_notes = (
                f"Linear probe and neighbours have learnt from {len(bank.label):,} training films, the most that"
                " model.init_args.probe_films allows; if there are more, these are balanced over the classes."
                " Accuracy and likelihood then refer to other base rates than those of the data; AUROC does not.",
            )
        self._neighbourhood = self._voters(bank)
        probe = _fit_probe(bank, validate, self.label_type, self.class_names) if self.global_rank == 0 else None
        self._probe = self.trainer.strategy.broadcast(probe)  # fitted once, the same in every process

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Called by Lightning.

        Returns:
            What ``predict_step`` does; with labels also ``label``, ``probability`` ``[B, K]`` of the linear probe and
            ``extra_probabilities`` ``{"knn": [B, K]}`` of the nearest neighbours.
        """
        result = self.predict_step(batch, batch_idx)
        if self._probe is None or self._neighbourhood is None:
            return result
        features = result["features"]
        probability = torch.from_numpy(self._probe.probabilities(features.cpu().numpy()))
        return result | {
            "label": batch["label"],
            "probability": probability,
            "extra_probabilities": {"knn": self._neighbourhood.probabilities(features)},
        }

    def on_test_epoch_end(self) -> None:
        """Called by Lightning."""
        self._neighbourhood, self._probe = None, None

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Called by Lightning; needs ``image`` and ``sample_id`` only.

        Returns:
            ``sample_id`` and ``subject`` (lists; a sample is its own subject where none is known), ``probability``
            ``[B, 0]`` and ``features`` ``[B, C]`` of the backbone, float32.
        """
        features = self(batch["image"]).float()
        return {
            "sample_id": list(batch["sample_id"]),
            "subject": list(batch.get("subject", batch["sample_id"])),
            "probability": features.new_zeros(len(features), 0),
            "features": features,
        }

    def two_views(self) -> OffersTwoViews:
        """The data module.

        Raises:
            ConfigurationError: it is none that shows two views and reference films.
        """
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, OffersTwoViews):
            raise ConfigurationError(
                f"{type(self).__name__} learns from two views of each film: it needs a data module with show_two_views "
                "and reference_loader (see OffersTwoViews)"
            )
        return data

    def _reference(
        self, part: Literal["train", "validate"], n: int | None, most_batches: float = math.inf
    ) -> ReferenceBank | None:
        most = int(self.trainer.fast_dev_run) or most_batches  # type: ignore[attr-defined]
        loader = self.two_views().reference_loader(part, n)
        return ReferenceBank.of(self, loader, self.forward, None if math.isinf(most) else int(most))

    def _voters(self, bank: ReferenceBank | None) -> NearestNeighbours | None:
        if bank is None:
            return None
        return NearestNeighbours(*bank, self._neighbours, self._temperature, len(self.class_names), self.label_type)


def _fit_probe(
    train: ReferenceBank, validate: ReferenceBank | None, label_type: LabelType, class_names: list[str]
) -> "LinearProbe":
    # scikit-learn: a second that only tests shall wait
    from gaze_lightning.evaluation.linear_probe import FIXED_STRENGTH, STRENGTHS, LinearProbe

    def arrays(bank: ReferenceBank) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
        return bank.features.cpu().numpy(), bank.label.cpu().numpy()

    n, features = train.features.shape
    tried = (FIXED_STRENGTH,) if validate is None else STRENGTHS
    rank_zero_info(
        f"Linear probe: fitting {len(class_names)} classes on {features:,} features of {n:,} films, with the L2 "
        f"strengths per film {', '.join(f'{strength:g}' for strength in tried)}"
    )
    held_out = None if validate is None else arrays(validate)
    return LinearProbe.fit(*arrays(train), label_type, len(class_names), validation=held_out)
