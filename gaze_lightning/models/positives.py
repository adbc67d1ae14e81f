"""Which films count as positives of each other."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze.similarity import RelationMatrix

PositivesMode = Literal["none", "gaze", "shuffled", "label"]
"""Beyond the film itself: nothing (the plain framework); films looked at alike (McGIP); as many pairs at random, by the
same matrix with its readings permuted (a control); films with the same label (an upper bound)."""

MOST_CLASSES = 62
"""Of ``label``: as many bits as an identity has for them."""


class Pairs(NamedTuple):
    """Relations of anchors to others; no pair is in both.

    Attributes:
        same: bool ``[B, M]``: readings of one film, the sample itself included.
        related: bool ``[B, M]``: positives beyond that.
    """

    same: Tensor
    related: Tensor


class Positives(nn.Module):
    """Positive pairs for contrastive losses: the plug-in of McGIP (Zhao et al., AAAI 2024, arXiv 2312.06069).

    A sample is known by its *identity*, int64 ``[3]``: number of its film; its row of the relation matrix, -1 if it is
    not in it; its label as bits, 0 if unknown or not used. Identities travel with embeddings: into the queue, to other
    processes. ``-1, -1, -1`` is nothing: an empty slot of a queue, positive to nobody.

    Samples without gaze have only their own film as positive. The ids of the relation matrix are not compared with
    those of the data here: an id that it does not know is a film without gaze.

    ``drop_prob`` leaves out each related pair with that probability (GzPT, IEEE TMI 2025; 0: McGIP), the same film
    never. Which ones follows from the two films and the step alone: both directions agree, all processes agree, and the
    order of the samples does not matter.

    There are no parameters, and nothing enters the checkpoint. The relations move with the module.

    Args:
        mode: see ``PositivesMode``.
        drop_prob: 0 to 1.
        seed: of the permutation of ``shuffled``.

    Raises:
        ConfigurationError: an unknown mode, or ``drop_prob`` outside [0, 1].
    """

    indptr: Tensor
    indices: Tensor

    def __init__(self, mode: PositivesMode = "none", drop_prob: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        if mode not in get_args(PositivesMode):
            raise ConfigurationError(f"positives is {mode!r}: choose one of {', '.join(get_args(PositivesMode))}")
        if not 0 <= drop_prob <= 1:
            raise ConfigurationError(f"drop_prob is {drop_prob}: a probability lies between 0 and 1")
        self.mode, self.drop_prob, self.seed = mode, drop_prob, seed
        self._row: dict[str, int] | None = None
        self._most = 0  # relations of one reading
        self.register_buffer("indptr", torch.zeros(2, dtype=torch.int64), persistent=False)
        self.register_buffer("indices", torch.zeros(1, dtype=torch.int32), persistent=False)

    @property
    def needs_relations(self) -> bool:
        """Whether a relation matrix must be set before pairs are asked for."""
        return self.mode in ("gaze", "shuffled")

    def set_relations(self, relations: RelationMatrix) -> RelationMatrix:
        """Take pairs from this matrix from now on; identities made before have other rows.

        Args:
            relations: of the training readings. ``shuffled`` permutes the ids of its valid rows; ``none`` and ``label``
                do not look at it.

        Returns:
            The matrix from which pairs are taken: the given one, or in mode ``shuffled`` the permuted one.
        """
        if not self.needs_relations:
            return relations
        if self.mode == "shuffled":
            relations = relations.shuffled(self.seed)
        self._row = {sample_id: row for row, sample_id in enumerate(relations.ids)}
        self._most = int(relations.degrees.max(initial=0))
        # One empty row more, for samples without gaze, and one entry more, which is no column, for short rows.
        indptr = np.append(relations.indptr, relations.indptr[-1]).astype(np.int64)
        indices = np.append(relations.indices, len(relations)).astype(np.int32)
        self.indptr = torch.from_numpy(indptr).to(self.indptr.device)
        self.indices = torch.from_numpy(indices).to(self.indices.device)
        return relations

    def identities(self, sample_ids: Sequence[str], film: Tensor, label: Tensor | None) -> Tensor:
        """Find the identities of a batch.

        Args:
            sample_ids: ``B`` ids.
            film: int64 ``[B]``, not negative.
            label: int64 ``[B]``, negative if unknown, or float ``[B, K]`` in {0, 1, NaN = unknown}; only mode
                ``label`` looks at it.

        Returns:
            int64 ``[B, 3]`` on the device of ``film``.

        Raises:
            ConfigurationError: relations are needed and not set; labels are needed and there are none, or they have
                more than 62 classes (single-label: looked for on the CPU only, whoever knows the number checks it).
            ValueError: not as many films as ids, or labels of another shape or kind.
        """
        if film.shape != (len(sample_ids),):
            raise ValueError(f"expected a film number for each of {len(sample_ids)} samples, got {tuple(film.shape)}")
        rows = torch.full_like(film, -1)
        if self.needs_relations:
            known = self._relations()
            rows = torch.tensor([known.get(sample_id, -1) for sample_id in sample_ids], dtype=torch.int64)
        bits = torch.zeros_like(film)
        if self.mode == "label":
            if label is None:
                raise ConfigurationError(
                    "positives: label needs labels, and the training data have none: choose none, gaze or shuffled"
                )
            if len(label) != len(sample_ids):
                raise ValueError(f"expected a label for each of {len(sample_ids)} samples, got {tuple(label.shape)}")
            bits = _label_bits(label)
        return torch.stack([film, rows.to(film.device), bits.to(film.device)], dim=1)

    def pairs(self, anchors: Tensor, others: Tensor, step: int = 0) -> Pairs:
        """Find which anchors and others are positives of each other.

        Args:
            anchors: identities, int64 ``[B, 3]``.
            others: identities, int64 ``[M, 3]``, on the same device.
            step: of the training; which pairs are dropped depends on it.

        Raises:
            ConfigurationError: relations are needed and not set.
        """
        film, of_film = anchors[:, :1], others[:, 0]
        same = (film == of_film) & (film >= 0)
        if self.mode == "none":
            return Pairs(same, torch.zeros_like(same))
        if self.mode == "label":
            related = (anchors[:, 2:] & others[:, 2]) != 0
        else:
            related = self._in_matrix(anchors[:, 1], others[:, 1])
        related = related & ~same & (film >= 0) & (of_film >= 0)
        if self.drop_prob > 0:
            related = related & ~_dropped(anchors[:, 0], of_film, step, self.drop_prob)
        return Pairs(same, related)

    def _relations(self) -> dict[str, int]:
        if self._row is None:
            raise ConfigurationError(
                f"positives: {self.mode} needs relations between the training readings, and none were set: run with a "
                "relation matrix (the command relations builds one), or choose positives: none"
            )
        return self._row

    def _in_matrix(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Which entries the matrix has, bool ``[B, M]``; none in row or column -1."""
        size = len(self._relations())
        rows, columns = (torch.where(index < 0, size, index) for index in (rows, columns))
        start, end = self.indptr[rows, None], self.indptr[rows + 1, None]
        entries = start + torch.arange(self._most, device=rows.device)
        entries = torch.where(entries < end, entries, len(self.indices) - 1)
        table = torch.zeros(len(rows), size + 1, dtype=torch.bool, device=rows.device)
        table.scatter_(1, self.indices[entries].long(), True)
        table[:, size] = False
        return table[:, columns]


def _label_bits(label: Tensor) -> Tensor:
    """Int64 ``[B]``; two labels have a bit in common if they agree in a class or in showing none of the findings."""
    if label.ndim == 1 and not label.is_floating_point():
        if label.device.type == "cpu" and bool((label >= MOST_CLASSES).any()):  # on a GPU each step would wait for it
            raise ConfigurationError(f"positives: label works with up to {MOST_CLASSES} classes, the data have more")
        known = label >= 0
        return torch.where(known, torch.ones_like(label) << label.clamp(min=0), 0)
    if label.ndim != 2:
        raise ValueError(f"expected labels int64 [B] or float [B, K], got {label.dtype} {tuple(label.shape)}")
    classes = label.shape[1]
    if classes > MOST_CLASSES:
        raise ConfigurationError(f"positives: label works with up to {MOST_CLASSES} classes, the data have {classes}")
    present, known = label == 1, ~label.isnan()
    none_of_them = known.any(dim=1) & ~present.any(dim=1)
    shown = torch.cat([present, none_of_them[:, None]], dim=1).long()
    return (shown << torch.arange(classes + 1, device=label.device)).sum(dim=1)


def _dropped(film: Tensor, of_film: Tensor, step: int, probability: float) -> Tensor:
    """Bool ``[B, M]``, true with this probability, decided by the unordered pair of films and the step."""
    when = _mixed(torch.full((), step, dtype=torch.int64, device=film.device))
    number = _mixed(_mixed(film)[:, None] + _mixed(of_film) + when)
    dropped: Tensor = (number & 0x7FFFFFFF) < round(probability * 2**31)
    return dropped


def _mixed(number: Tensor) -> Tensor:
    """Spread int64 numbers evenly over all int64: SplitMix64 (Steele et al., OOPSLA 2014), which wraps around."""
    z = number + _signed(0x9E3779B97F4A7C15)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return torch.bitwise_xor(z, _shifted(z, 31))


def _shifted(number: Tensor, places: int) -> Tensor:
    """Shift right as unsigned; torch's shift copies the sign."""
    return torch.bitwise_and(number >> places, 2 ** (64 - places) - 1)


def _signed(number: int) -> int:
    """The int64 with the bits of this unsigned number."""
    return number - 2**64 if number >= 2**63 else number
