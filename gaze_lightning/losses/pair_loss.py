"""What losses of labelled pairs have in common."""

from typing import Protocol

from torch import Tensor

from gaze_lightning.losses.label_pairs import LabelPairs


class PairLoss(Protocol):
    """A loss of embeddings and of the relations between their samples."""

    def __call__(self, embedding: Tensor, pairs: LabelPairs) -> Tensor:
        """Scalar loss; 0 with a gradient graph where it is not defined."""
        ...

    def is_defined(self, pairs: LabelPairs) -> Tensor:
        """Scalar bool: whether the batch holds any term of the loss, active or not."""
        ...
