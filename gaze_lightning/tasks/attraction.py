"""What the methods share that only attract: BYOL and SimSiam."""

from torch import Tensor, nn

from gaze_lightning.losses import AttractionLoss
from gaze_lightning.models import Pairs, ProjectionHead
from gaze_lightning.tasks.contrastive import ContrastiveTask


class AttractionTask(ContrastiveTask):
    """Base of methods in which a predictor guesses, from one view, the projections of the other.

    Attributes:
        predictor: from the projection of one view to that of the other one.
        contrastive_loss: of one direction.
    """

    predictor: ProjectionHead
    contrastive_loss: AttractionLoss

    def pure_parts(self) -> list[nn.Module]:
        """What can be compiled (``HasPureParts``)."""
        return [*super().pure_parts(), self.predictor]

    def attraction(self, a: Tensor, b: Tensor, of_a: Tensor, of_b: Tensor, pairs: Pairs) -> Tensor:
        """Sum of both directions, ``l(1 -> 2) + l(2 -> 1)``, of the films of all processes; a scalar in [-2, 2].

        Args:
            a: projections ``[B, D]`` of this process's first views, from which the predictor guesses.
            b: of its second views.
            of_a: targets ``[B, D]`` of the first views, without gradient.
            of_b: of the second views.
            pairs: of all processes' films, bool ``[W B, W B]``.
        """
        positive = pairs.same | pairs.related
        towards_b = self._one_way(a, of_b, positive)
        total: Tensor = towards_b + self._one_way(b, of_a, positive)
        return total

    def _one_way(self, projection: Tensor, target: Tensor, positive: Tensor) -> Tensor:
        prediction = self.on_all_ranks(self.predictor(projection))
        loss: Tensor = self.contrastive_loss(prediction, self.on_all_ranks(target), positive)
        return loss
