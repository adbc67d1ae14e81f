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
class HasLossTerms(Protocol):
    """A task whose loss is a sum of named terms that a curriculum can switch on and off."""

    loss_terms: tuple[str, ...]
    """Names of all terms."""

    active_loss_terms: frozenset[str]
    """The terms in use. Setting an empty set or an unknown name raises ``ValueError``."""
