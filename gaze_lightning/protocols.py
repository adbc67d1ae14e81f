"""What callbacks may ask of a task; they use these protocols and never test for a particular method."""

from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from gaze_lightning.batch import Batch

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
class CountsGaze(Protocol):
    """A data module that knows how many of its readings have gaze."""

    def with_gaze(self, part: Literal["train", "validate", "test"]) -> int:
        """Number of readings of this part that have gaze."""
        ...
