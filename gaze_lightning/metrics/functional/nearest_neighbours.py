"""Classes of the films whose embeddings lie nearest."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

_CELLS = 2**24
"""Numbers of a block of queries: similarities to the bank and labels of the neighbours; 64 MB in float32."""


def nearest_neighbour_probabilities(
    query: Tensor,
    bank: Tensor,
    bank_label: Tensor,
    neighbours: int,
    temperature: float,
    num_classes: int,
    label_type: Literal["single", "multi"],
) -> Tensor:
    """Classify by the weighted vote of the nearest embeddings with known labels (Wu et al. 2018, section 3.4).

    The ``neighbours`` embeddings of the bank with the highest cosine similarity vote with weights
    ``exp(cosine / temperature)``. Embeddings of the bank without any known label are no neighbours. In multi-label, a
    class's probability is the weighted mean over those of the neighbours whose label of it is known; where none is, it
    is the share of positives among the bank's known labels of the class, or 0.5 where the bank knows none.

    Args:
        query: ``[n, C]``, any length.
        bank: ``[m, C]``, any length.
        bank_label: int64 ``[m]`` (single-label, negative: unknown) or float ``[m, K]`` in {0, 1, NaN} (multi-label).
        neighbours: how many vote; all where the bank has fewer.
        temperature: of the weights; 0.07 in the paper.
        num_classes: ``K``.
        label_type: ``single`` or ``multi``.

    Returns:
        float32 ``[n, K]`` in [0, 1]; in single-label each row sums to 1.

    Raises:
        ValueError: shapes or labels that do not fit, a bank without known labels, ``neighbours`` or ``temperature``
            not positive.
    """
    if query.ndim != 2 or bank.ndim != 2 or query.shape[1] != bank.shape[1]:
        raise ValueError(f"query and bank must be [n, C] and [m, C], got {tuple(query.shape)} and {tuple(bank.shape)}")
    if neighbours < 1 or not temperature > 0:
        raise ValueError(f"neighbours is {neighbours}, temperature {temperature}: both must be positive")
    label = _targets(bank_label, len(bank), num_classes, label_type)
    there = ~label.isnan().all(1)
    if not there.any():
        raise ValueError(f"none of the {len(bank)} embeddings of the bank has a known label: there is no neighbour")
    with torch.autocast(query.device.type, enabled=False):
        label = label[there].to(query.device)
        units = _unit(bank[there]).to(query.device)
        known = ~label.isnan()
        count = known.sum(0)
        label = label.nan_to_num(0.0)
        base_rate = torch.where(count > 0, label.sum(0) / count.clamp(min=1), 0.5)
        neighbours = min(neighbours, len(units))
        rows = max(1, _CELLS // max(len(units), neighbours * num_classes))
        said = [query.new_zeros(0, num_classes, dtype=torch.float32)]
        for block in torch.split(_unit(query), rows):
            cosine, place = (block.to(units.dtype) @ units.T).topk(neighbours, dim=1)
            # softmax is the normalised weight; over the known ones alone, so that no class divides by nothing
            voter = known[place]
            score = (cosine[:, :, None] / temperature).masked_fill(~voter, -torch.inf)
            nobody = ~voter.any(1, keepdim=True)
            weight = score.masked_fill(nobody, 0.0).softmax(1)
            vote = (weight * label[place]).sum(1)
            said.append(torch.where(nobody[:, 0], base_rate, vote).clamp(0, 1).float())
    return torch.cat(said)


def _unit(values: Tensor) -> Tensor:
    """Of length one, in float32, or float64 if it comes so."""
    values = values if values.dtype == torch.float64 else values.float()
    return F.normalize(values, dim=1)


def _targets(label: Tensor, n: int, num_classes: int, label_type: Literal["single", "multi"]) -> Tensor:
    """Float ``[m, K]`` in {0, 1, NaN}."""
    if label_type == "multi":
        if label.shape != (n, num_classes):
            raise ValueError(f"labels must be [{n}, {num_classes}] for {n} embeddings, got {tuple(label.shape)}")
        return label.float()
    if label.shape != (n,) or label.is_floating_point():
        raise ValueError(f"labels must be integers [{n}] for {n} embeddings, got {label.dtype} {tuple(label.shape)}")
    if n and int(label.max()) >= num_classes:
        raise ValueError(f"a label is {int(label.max())}, but there are {num_classes} classes")
    target = F.one_hot(label.long().clamp(min=0), num_classes).float()
    return target.masked_fill((label < 0)[:, None], torch.nan)
