"""The order of an epoch in which readings that were looked at alike lie beside each other."""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from data_modules.errors import DataError
from gaze_lightning.gaze.similarity import RelationMatrix

Rows = npt.NDArray[np.int64]

_CHANCES = 1 << 16
"""Random numbers that are drawn at once; how many does not change them."""


class RelatedOrder:
    """Re-orders the draws of an epoch: a draw is followed, by chance, by one of a related reading of another film.

    Every reading is drawn as often as before, the others keep their order. A draw that was moved forward is followed by
    a related one with the same chance, so that chains arise; a chain ends where no related reading is left in the
    epoch. It takes O(draws + pairs), and an epoch 4 bytes per pair besides.

    Args:
        rows: int64 ``[n]``: row of each reading in what follows, -1 for one that is related to none.
        indptr: int64 ``[R + 1]``: row ``r`` has the entries ``indptr[r] : indptr[r + 1]``.
        indices: int32 ``[pairs]``: rows of related readings of other films.
        share: chance that a draw that has a related one left is followed by one, 0 to 1. 0 changes nothing.
    """

    def __init__(self, rows: Rows, indptr: Rows, indices: npt.NDArray[np.int32], share: float) -> None:
        self.rows = rows
        self.indptr = indptr
        self.indices = indices
        self.share = share

    @classmethod
    def of(cls, relations: RelationMatrix, sample_ids: Sequence[str], films: Rows, share: float) -> Self:
        """Take the pairs of two films from a relation matrix.

        Args:
            relations: of some of the readings.
            sample_ids: of all training readings.
            films: int64 ``[n]``: number of each reading's film.
            share: see the class.

        Raises:
            DataError: if the matrix has other readings, or the share is none.
        """
        if not 0 <= share <= 1:
            raise DataError(f"The share of related readings that are drawn together must be 0 to 1, got {share}.")
        row_of = {name: row for row, name in enumerate(relations.ids)}
        rows = np.array([row_of.get(name, -1) for name in sample_ids], dtype=np.int64)
        known = np.flatnonzero(rows >= 0)
        if len(known) < len(row_of):
            raise DataError(
                f"{len(row_of) - len(known)} of the {len(row_of)} readings of the relation matrix are not in the "
                "training part. Build the matrix of these data, split and label_fraction."
            )
        film = np.empty(len(row_of), dtype=np.int64)
        film[rows[known]] = films[known]
        first = np.repeat(np.arange(len(row_of), dtype=np.int32), np.diff(relations.indptr))
        second = relations.indices
        apart = film[first] != film[second]
        counts = np.bincount(first[apart], minlength=len(row_of))
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows[known] = np.where(counts[rows[known]] > 0, rows[known], -1)
        return cls(rows, indptr, second[apart], share)

    def __call__(self, order: Rows, generator: np.random.Generator) -> Rows:
        """Return the draws of an epoch in their new order.

        Args:
            order: int64 ``[draws]``: reading of each draw.
            generator: of the chances.
        """
        rows = self.rows[order]
        linked = np.flatnonzero(rows >= 0)
        if self.share == 0 or not len(linked):
            return order
        heads, members = self._chains(rows[linked], generator)
        reading = np.empty(len(self.indptr) - 1, dtype=np.int64)
        reading[rows[linked]] = order[linked]
        alone = np.flatnonzero(rows < 0)
        places = np.concatenate([alone, linked[heads]])  # a chain takes the place of its first draw
        return np.concatenate([order[alone], reading[members]])[np.argsort(places, kind="stable")]

    def _chains(self, rows: Rows, generator: np.random.Generator) -> tuple[Rows, Rows]:
        """Where the chain of each draw begins, and its row, in the new order; both int64 ``[linked draws]``."""
        left = np.bincount(rows, minlength=len(self.indptr) - 1).tolist()  # draws still to come
        moved = [0] * len(left)  # of these, draws whose old places are to be passed over
        entries = self.indices.copy().data  # as quick as a list, a ninth of its size
        starts, ends = self.indptr[:-1].tolist(), self.indptr[1:].tolist()
        chances = _chances(generator)
        heads, members = [], []
        for place, row in enumerate(rows.tolist()):
            if moved[row]:
                moved[row] -= 1
                continue
            current = row
            while current >= 0:
                left[current] -= 1
                heads.append(place)
                members.append(current)
                follower = -1
                if next(chances) < self.share:
                    start = starts[current]
                    while follower < 0 and ends[current] > start:
                        at = start + int(next(chances) * (ends[current] - start))
                        if left[entries[at]]:
                            follower = entries[at]
                            moved[follower] += 1
                        else:  # it will not come back in this epoch: the last entry takes its place
                            ends[current] -= 1
                            entries[at] = entries[ends[current]]
                current = follower
        return np.array(heads, dtype=np.int64), np.array(members, dtype=np.int64)


def _chances(generator: np.random.Generator) -> Iterator[float]:
    """Random numbers in [0, 1) without end."""
    while True:
        yield from generator.random(_CHANCES).tolist()


def related_pairs_per_batch(order: Rows, related: RelatedOrder, batch_size: int) -> float:
    """Return the mean number of pairs of related readings in the whole batches of an epoch.

    Args:
        order: int64 ``[draws]``: reading of each draw.
        related: knows the pairs.
        batch_size: over all processes.
    """
    rows = related.rows[order[: len(order) // batch_size * batch_size]].reshape(-1, batch_size)
    pairs = 0
    for own in rows:
        present = np.bincount(own[own >= 0], minlength=len(related.indptr) - 1)
        for row in np.flatnonzero(present).tolist():
            partners = related.indices[related.indptr[row] : related.indptr[row + 1]]
            pairs += int(present[row] * present[partners].sum())
    return pairs / 2 / max(len(rows), 1)
