"""A loss of pairs of samples, over all samples of a stage or a fixed choice of them."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from gaze_lightning.losses.label_pairs import label_pairs
from gaze_lightning.losses.pair_loss import PairLoss
from gaze_lightning.metrics.hashed_choice import hashed_keys, smallest_keys

_CELLS = 2**24
"""Distances of feature maps, rows times samples squared: some four seconds of a triplet loss on one CPU thread."""


class EmbeddingLoss(Metric):
    """Triplet or supervised contrastive loss over all pairs of samples at once.

    The mean over batches of such a loss depends on how the samples were cut into batches. This one keeps embeddings and
    labels until ``compute`` (``dist_reduce_fx='cat'``) and compares all of them, in float64, so the value depends
    neither on batches nor on ranks.

    Time and memory grow with the square of the number of samples. With keys, the ``most_samples`` samples whose keys
    have the smallest hashes are compared and the others are forgotten: a random choice, but the same in every epoch, in
    any order and on any number of ranks. A key counts once, also where a distributed sampler repeats samples. Without
    keys all samples are compared, repeated ones too. A loss that is a sum over triplets is the sum over those compared.

    Embeddings ``[B, C, h, w]`` have a distance per channel and row, of which the published size has 19,200. At most
    ``most_rows`` of them are kept, and fewer compared if ``rows * samples^2`` passes 2^24 (512 samples: 64 rows; 108:
    all that are kept). Which ones is as good as random and always the same.

    Args:
        loss: :class:`~gaze_lightning.losses.TripletLoss`, :class:`~gaze_lightning.losses.SupConLoss` or another module
            of their interface, without parameters.
        label_type: as in :func:`~gaze_lightning.losses.label_pairs`.
        most_samples: compared at most, if samples have keys; at least 2.
        most_rows: of embeddings ``[B, C, h, w]``, kept at most of ``C * h``; at least 1.
        kwargs: Passed to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: ``most_samples`` or ``most_rows`` too small.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    embedding: list[Tensor]
    label: list[Tensor]
    key: list[Tensor]

    def __init__(
        self,
        loss: PairLoss,
        label_type: Literal["single", "multi"],
        most_samples: int = 512,
        most_rows: int = 1024,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if most_samples < 2 or most_rows < 1:
            raise ValueError(f"most_samples is {most_samples}, most_rows {most_rows}: at least 2 and 1")
        self.loss = loss
        self.label_type = label_type
        self.most_samples, self.most_rows = most_samples, most_rows
        self.add_state("embedding", default=[], dist_reduce_fx="cat")
        self.add_state("label", default=[], dist_reduce_fx="cat")
        self.add_state("key", default=[], dist_reduce_fx="cat")

    def update(self, embedding: Tensor, label: Tensor, key: Sequence[str] | None = None) -> None:
        """Add embeddings ``[B, D]`` (``[B, C, h, w]`` if the loss takes them) and their labels.

        Args:
            embedding: kept in float32, or float64 if it comes so.
            label: int64 ``[B]`` (single-label) or float ``[B, K]`` in {0, 1, NaN} (multi-label).
            key: ``B`` strings that tell samples apart, e.g. sample ids; in every call or in none.

        Raises:
            ValueError: different numbers of embeddings, labels and keys, or keys in some calls only.
        """
        if len(embedding) != len(label):
            raise ValueError(f"{len(embedding)} embeddings and {len(label)} labels: one of each per sample")
        if key is not None and len(key) != len(embedding):
            raise ValueError(f"{len(embedding)} embeddings and {len(key)} keys: one of each per sample")
        samples, keys = sum(map(len, self.embedding)), sum(map(len, self.key))
        if samples and len(embedding) and (keys > 0) != (key is not None):
            raise ValueError("keys came with some samples only: pass them in every call or in none")
        embedding = embedding.detach()
        if embedding.ndim == 4:
            embedding = self._some_rows(embedding)
        self.embedding.append(embedding if embedding.dtype == torch.float64 else embedding.float())
        self.label.append(label)
        self.key.append(hashed_keys(key or (), embedding.device))
        if keys > 2 * self.most_samples:  # not each time, so that little is copied
            chosen = smallest_keys(dim_zero_cat(self.key), self.most_samples)
            for name in ("embedding", "label", "key"):
                setattr(self, name, [dim_zero_cat(getattr(self, name))[chosen]])

    def compute(self) -> Tensor:
        """Return the loss, a float64 scalar; NaN where the samples hold no term of it."""
        undefined = torch.tensor(torch.nan, dtype=torch.float64, device=self.device)
        if len(self.embedding) == 0:  # a list, or one tensor after synchronisation
            return undefined
        embedding, label, key = (dim_zero_cat(state) for state in (self.embedding, self.label, self.key))
        if len(key):
            chosen = smallest_keys(key, self.most_samples)
            embedding, label = embedding[chosen], label[chosen]
        pairs = label_pairs(label, self.label_type)
        if not self.loss.is_defined(pairs):
            return undefined
        if embedding.ndim == 4:
            embedding = embedding[:, : max(1, _CELLS // len(embedding) ** 2)]
        return self.loss(embedding.double(), pairs)

    def _some_rows(self, maps: Tensor) -> Tensor:
        """Rows of ``[B, C, h, w]`` as ``[B, R, 1, w]`` in random order, so that the first ones are a choice as well."""
        rows = maps.flatten(1, 2)
        # On the CPU with a seed of its own: the same on all devices and ranks, and no other draw changes.
        order = torch.randperm(rows.shape[1], generator=torch.Generator().manual_seed(0))[: self.most_rows]
        return rows[:, order.to(rows.device), None]
