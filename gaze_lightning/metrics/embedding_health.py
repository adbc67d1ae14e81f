"""Whether embeddings collapse: their spread, uniformity and effective rank over a stage."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from gaze_lightning.metrics.functional.embedding_health import effective_rank, embedding_std, uniformity
from gaze_lightning.metrics.hashed_choice import hashed_keys, smallest_keys


class EmbeddingHealth(Metric):
    """Spread, uniformity and effective rank of the embeddings of a stage.

    The mean over batches of these values depends on how the samples were cut into batches. This one keeps embeddings
    until ``compute`` (``dist_reduce_fx='cat'``), so the values depend neither on batches nor on ranks. With keys, the
    ``most_samples`` samples whose keys have the smallest hashes are kept and the others are forgotten: a random choice,
    but the same in every epoch, in any order and on any number of ranks. A key counts once, also where a distributed
    sampler repeats samples. Without keys all samples are kept, repeated ones too.

    Args:
        most_samples: kept at most, if samples have keys; at least 2.
        kwargs: Passed to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: ``most_samples`` too small.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    embedding: list[Tensor]
    key: list[Tensor]

    def __init__(self, most_samples: int = 4096, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if most_samples < 2:
            raise ValueError(f"most_samples is {most_samples}: at least 2")
        self.most_samples = most_samples
        self.add_state("embedding", default=[], dist_reduce_fx="cat")
        self.add_state("key", default=[], dist_reduce_fx="cat")

    def update(self, embedding: Tensor, key: Sequence[str] | None = None) -> None:
        """Add embeddings ``[B, D]``.

        Args:
            embedding: kept in float32, or float64 if it comes so.
            key: ``B`` strings that tell samples apart, e.g. sample ids; in every call or in none.

        Raises:
            ValueError: another shape, different numbers of embeddings and keys, or keys in some calls only.
        """
        if embedding.ndim != 2:
            raise ValueError(f"embeddings must be [B, D], got {tuple(embedding.shape)}")
        if key is not None and len(key) != len(embedding):
            raise ValueError(f"{len(embedding)} embeddings and {len(key)} keys: one of each per sample")
        samples, keys = sum(map(len, self.embedding)), sum(map(len, self.key))
        if samples and len(embedding) and (keys > 0) != (key is not None):
            raise ValueError("keys came with some samples only: pass them in every call or in none")
        embedding = embedding.detach()
        self.embedding.append(embedding if embedding.dtype == torch.float64 else embedding.float())
        self.key.append(hashed_keys(key or (), embedding.device))
        if keys > 2 * self.most_samples:  # not each time, so that little is copied
            chosen = smallest_keys(dim_zero_cat(self.key), self.most_samples)
            self.embedding = [dim_zero_cat(self.embedding)[chosen]]
            self.key = [dim_zero_cat(self.key)[chosen]]

    def compute(self) -> dict[str, Tensor]:
        """Return ``embedding_std``, ``uniformity`` and ``effective_rank``, float64 scalars; NaN below two samples.

        They are those of :func:`~gaze_lightning.metrics.embedding_std`, :func:`~gaze_lightning.metrics.uniformity` and
        :func:`~gaze_lightning.metrics.effective_rank`.

        Raises:
            ValueError: an embedding has NaN or infinite values.
        """
        if len(self.embedding) == 0:  # a list, or one tensor after synchronisation
            undefined = torch.tensor(torch.nan, dtype=torch.float64, device=self.device)
            return {"embedding_std": undefined, "uniformity": undefined, "effective_rank": undefined}
        embedding, key = dim_zero_cat(self.embedding), dim_zero_cat(self.key)
        if len(key):
            embedding = embedding[smallest_keys(key, self.most_samples)]
        return {
            "embedding_std": embedding_std(embedding),
            "uniformity": uniformity(embedding),
            "effective_rank": effective_rank(embedding),
        }
