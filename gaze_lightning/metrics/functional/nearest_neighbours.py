"""Classes of the films whose embeddings lie nearest."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gaze_lightning.metrics.functional.label_targets import label_targets

_CELLS = 2**24
"""Numbers of a block of queries: similarities to the bank and labels of the neighbours; 64 MB in float32."""


class NearestNeighbours:
    """Classification by the weighted vote of the nearest embeddings with known labels (Wu et al. 2018, section 3.4).

    The ``neighbours`` embeddings of the bank with the highest cosine similarity vote with weights
    ``exp(cosine / temperature)``. Embeddings of the bank without any known label are no neighbours. In multi-label, a
    class's probability is the weighted mean over those of the neighbours whose label of it is known; where none is, it
    is the share of positives among the bank's known labels of the class, or 0.5 where the bank knows none.

    Args:
        bank: ``[m, C]``, any length; divided by it once, here.
        bank_label: int64 ``[m]`` (single-label, negative: unknown) or float ``[m, K]`` in {0, 1, NaN} (multi-label).
        neighbours: how many vote; all where the bank has fewer.
        temperature: of the weights; 0.07 in the paper.
        num_classes: ``K``.
        label_type: ``single`` or ``multi``.

    Raises:
        ValueError: shapes or labels that do not fit, a bank without known labels, ``neighbours`` or ``temperature``
            not positive.
    """

    def __init__(
        self,
        bank: Tensor,
        bank_label: Tensor,
        neighbours: int,
        temperature: float,
        num_classes: int,
        label_type: Literal["single", "multi"],
    ) -> None:
        if bank.ndim != 2:
            raise ValueError(f"the bank must be [m, C], got {tuple(bank.shape)}")
        if neighbours < 1 or not temperature > 0:
            raise ValueError(f"neighbours is {neighbours}, temperature {temperature}: both must be positive")
        if len(bank_label) != len(bank):
            raise ValueError(f"{len(bank)} embeddings of the bank have labels {tuple(bank_label.shape)}")
        label = label_targets(bank_label, num_classes, label_type).float()
        there = ~label.isnan().all(1)
        if not there.any():
            raise ValueError(f"none of the {len(bank)} embeddings of the bank has a known label: there is no neighbour")
        self._units = _unit(bank[there])
        label = label[there].to(bank.device)
        self._known = ~label.isnan()
        count = self._known.sum(0)
        self._label = label.nan_to_num(0.0)
        self._base_rate = torch.where(count > 0, self._label.sum(0) / count.clamp(min=1), 0.5)
        self._neighbours, self._temperature = min(neighbours, len(self._units)), temperature

    def probabilities(self, query: Tensor) -> Tensor:
        """Classify.

        Args:
            query: ``[n, C]``, any length, on the device of the bank.

        Returns:
            float32 ``[n, K]`` in [0, 1]; in single-label each row sums to 1.

        Raises:
            ValueError: another number of features.
        """
        if query.ndim != 2 or query.shape[1] != self._units.shape[1]:
            raise ValueError(
                f"query and bank must be [n, C] and [m, C], got {tuple(query.shape)} and [m, {self._units.shape[1]}]"
            )
        classes = self._label.shape[1]
        rows = max(1, _CELLS // max(len(self._units), self._neighbours * classes))
        said = [query.new_zeros(0, classes, dtype=torch.float32)]
        with torch.autocast(query.device.type, enabled=False):
            for block in torch.split(_unit(query), rows):
                cosine, place = (block.to(self._units.dtype) @ self._units.T).topk(self._neighbours, dim=1)
                # softmax is the normalised weight; over the known ones alone, so that no class divides by nothing
                voter = self._known[place]
                score = (cosine[:, :, None] / self._temperature).masked_fill(~voter, -torch.inf)
                nobody = ~voter.any(1, keepdim=True)
                weight = score.masked_fill(nobody, 0.0).softmax(1)
                vote = (weight * self._label[place]).sum(1)
                said.append(torch.where(nobody[:, 0], self._base_rate, vote).clamp(0, 1).float())
        return torch.cat(said)


def _unit(values: Tensor) -> Tensor:
    """Of length one, in float32, or float64 if it comes so."""
    values = values if values.dtype == torch.float64 else values.float()
    return F.normalize(values, dim=1)
