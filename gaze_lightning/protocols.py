"""What callbacks may ask of a task; they use these protocols and never test for a particular method."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from gaze_lightning.batch import Batch
from gaze_lightning.gaze import Fixations
from gaze_lightning.gaze.similarity import RelationMatrix

LabelType = Literal["single", "multi"]
"""``single``: exclusive classes, integer labels; ``multi``: independent classes, labels in {0, 1, NaN}."""


@runtime_checkable
class MakesCAMs(Protocol):
    """A task that explains its classes by maps."""

    class_names: list[str]
    label_type: LabelType

    def class_activation_maps(self, batch: Batch) -> Tensor:
        """Maps ``[B, K, h, w]`` of the classes: float32, any range, on the network's own grid; no labels needed."""
        ...


@runtime_checkable
class PredictsSaliency(Protocol):
    """A task that predicts where a radiologist looks."""

    def predict_saliency(self, batch: Batch) -> Tensor:
        """Density ``[B, 1, H, W]`` over the network's pixels: float32, not negative, sums to 1; no gaze needed."""
        ...


@runtime_checkable
class HasLossTerms(Protocol):
    """A task whose loss is a sum of named terms that a curriculum can switch on and off."""

    loss_terms: tuple[str, ...]
    """Names of all terms."""

    active_loss_terms: frozenset[str]
    """The terms in use. Setting an empty set or an unknown name raises ``ValueError``."""

    def loss_for(self, terms: frozenset[str], batch: Batch) -> Tensor:
        """Loss of a training batch with these terms, a scalar with its graph."""
        ...

    def logged_values(self, terms: frozenset[str]) -> frozenset[str]:
        """Names of the values that validation logs while these terms are active."""
        ...


@runtime_checkable
class HasPureParts(Protocol):
    """A task that says which parts of it can be compiled."""

    def pure_parts(self) -> list[nn.Module]:
        """Modules that make tensors of tensors and do nothing else; none holds another.

        They are only ever called as such, not by methods of their own.

        Raises:
            ConfigurationError: as it is configured, the task has none.
        """
        ...


@runtime_checkable
class FollowsStages(Protocol):
    """A data module that can change the size of its batches and images between the stages of a training."""

    def follow_stage(self, batch_size: int | None, image_size: tuple[int, int] | None) -> None:
        """Use this batch size in training and this size (H, W) of images everywhere; None: its own.

        Loaders made from now on have the batch size; images have their size from the next batch on.

        Raises:
            ValueError: the sizes are not possible.
        """
        ...


@runtime_checkable
class NeedsOneSize(Protocol):
    """A task that says whether it can follow stages with sizes of their own; asked when it has been set up."""

    one_image_size: bool
    """All images must have one size."""

    one_batch_size: bool
    """All training batches must have one size."""


@runtime_checkable
class HasSizes(Protocol):
    """A data module that tells the sizes of its batches, those without any stage."""

    image_size: tuple[int, int]
    """(H, W) of the canvas, pixels."""

    batch_size: int
    """Per process, in training."""


@runtime_checkable
class CountsGaze(Protocol):
    """A data module that knows how many of its readings have gaze."""

    def with_gaze(self, part: Literal["train", "validate", "test"]) -> int:
        """Number of readings of this part that have gaze."""
        ...


class TrainingFilms(Protocol):
    """Films of the training part in canonical (not augmented) geometry, read block by block."""

    sample_ids: tuple[str, ...]
    """One reading of each film, in the order of the films. Real ids: they stay in memory."""

    class_counts: dict[str, int]
    """Class -> films that show it; empty without labels."""

    @property
    def digest(self) -> str:
        """Hash of the films' pixels in their order."""
        ...

    def __len__(self) -> int:
        """Return the number of films."""
        ...

    def blocks(self, size: int) -> Iterator[Tensor]:
        """Yield the films in their order, uint8 ``[b, 1, H, W]`` with ``b`` at most ``size``."""
        ...


class FilmStatistics(NamedTuple):
    """What the training films have in common, in canonical geometry."""

    mean: Tensor
    """float32 ``[H, W]`` in [0, 1]: the mean film."""
    structure: float
    """Standard deviation of the mean of the films that cover a pixel, over the mean of the films' own, over the pixels
    that at least half of the films cover: near 0 for films that are not aligned, 1 for films that are all the same."""
    coverage: Tensor
    """float32 ``[H, W]`` in [0, 1]: share of the films that cover the pixel."""
    n: int
    """Number of films that were averaged."""


@runtime_checkable
class OffersTrainingFilms(HasSizes, Protocol):
    """A data module that shows a task what its training films are like; everything after ``setup``."""

    def training_films(self, n: int | None, seed: int) -> TrainingFilms:
        """Draw ``n`` films of the training part, balanced over the classes; None: all of them."""
        ...

    def film_statistics(self) -> FilmStatistics | None:
        """Mean, structure and coverage of the training films; None where the training part is empty."""
        ...

    def mean_training_gaze(self) -> Tensor | None:
        """Mean of the training readings' maps on the canvas: float32 ``[H, W]``, sums to 1; None without gaze."""
        ...

    def leave_geometry_to_task(self, leave: bool = True) -> None:
        """From now on training batches hold films before their geometric augmentation, and its affine as ``warp``.

        False undoes it: films are moved again, and there is no ``warp``.
        """
        ...


@runtime_checkable
class HasGlobalMap(Protocol):
    """A task that weighs the pixels of all films by one map."""

    def global_map(self) -> Tensor | None:
        """The stored map: float32 ``[H, W]``, not negative; None where this model weighs each film by its own."""
        ...


class TrainingGaze(NamedTuple):
    """The training readings that have gaze, all on one square frame: what relations between them are made of."""

    sample_ids: tuple[str, ...]
    """Real ids: they stay on the machine."""
    gaze: tuple[Fixations, ...]
    """Fixations of each reading, frame pixels."""
    frame: tuple[int, int]
    """(H, W) of the frame, pixels: films are fitted into it as into the canvas."""
    films: npt.NDArray[np.int64]
    """``[n]``: number of each reading's film, as ``Batch.film``."""
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float32] | None
    """int64 ``[n]``, float32 ``[n, K]`` in {0, 1, NaN}, or None without labels."""
    scan_paths: bool = True
    """Whether each reading's gaze is one scan path: fixations in order of time, with durations of their own. False
    where several readers are joined, or the points are cells of a mean map: they give a map only."""


@runtime_checkable
class OffersTrainingGaze(Protocol):
    """A data module that shows the gaze of its training readings, after ``setup``."""

    def training_gaze(self) -> TrainingGaze:
        """Gaze of the training samples as they train (``gaze_source``), not augmented."""
        ...

    def draw_related_together(self, relations: RelationMatrix, share: float) -> None:
        """From now on the order of training samples puts related readings beside each other.

        Args:
            relations: of the training readings: those that the task learns from (`LearnsFromRelations`).
            share: how many of the samples that have a related one left in the epoch are followed by one, 0 to 1.
        """
        ...


@runtime_checkable
class LearnsFromRelations(Protocol):
    """A task that takes pairs of films with similar gaze as positives."""

    needs_relations: bool
    """Whether it does in this configuration."""

    relations_used_as: str
    """What it makes of them: ``gaze``, pairs as they are; ``shuffled``, the pairs of other readings (a control)."""

    def set_relations(self, relations: RelationMatrix) -> RelationMatrix:
        """Learn from these; called once, before training.

        Returns:
            Those that it really learns from, of the same readings: these, or what it has made of them.
        """
        ...


@runtime_checkable
class OffersTwoViews(Protocol):
    """A data module that can show each training film twice, differently augmented; everything after ``setup``."""

    flips: bool
    """Whether its augmentation may mirror films."""

    def show_two_views(self) -> None:
        """Training batches made from now on have ``second_view``.

        Raises:
            DataError: there is no augmentation: both views would be the same.
        """
        ...

    def reference_loader(self, part: Literal["train", "validate"], n: int | None) -> Iterable[Any] | None:
        """Films of a part that have labels, not augmented, each once over all processes, equally many batches on each.

        Its batches are as the other loaders': ``on_after_batch_transfer`` finishes them on the device.

        Args:
            part: of the split.
            n: at most so many films, balanced over the classes; None: all.

        Returns:
            None where the part has no films with labels.
        """
        ...


@runtime_checkable
class NamesPatients(Protocol):
    """A data module that says which patients are in which part, after ``setup``."""

    def patients(self, part: Literal["train", "validate", "test"]) -> frozenset[str]:
        """Real ids of the patients of a part."""
        ...


@runtime_checkable
class SharesPictures(Protocol):
    """A logger that sends pictures elsewhere where that is allowed, and otherwise says that they stay."""

    def share_pictures(self, key: str, pages: Sequence[Path], what: str) -> None:
        """Send image files under a name; ``what`` they are called, in the plural, with a capital letter."""
        ...
