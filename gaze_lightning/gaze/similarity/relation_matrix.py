"""Which readings were looked at alike."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class RelationMatrix:
    """Pairs of readings whose gaze is similar: symmetric, boolean, kept sparse, accessed by id.

    A reading is always related to itself; these pairs are not stored. Rows that are not valid have no others.

    Attributes:
        ids: ``N`` sample ids, no two alike, in the order of the rows.
        valid: bool ``[N]``: whether the reading has gaze enough to be compared.
        indptr: int64 ``[N + 1]``: row ``i`` has the entries ``indptr[i] : indptr[i + 1]``.
        indices: int32 ``[nnz]``: columns, ascending in each row; (i, j) is there if (j, i) is.
        scores: float32 ``[nnz]``: similarity of each pair.
        threshold: pairs with a similarity above it are related.
        digest: of what the matrix was made from: ids, gaze, measure and threshold.

    Raises:
        ValueError: the arrays do not fit together, or break one of the rules above; the message names which.
    """

    ids: tuple[str, ...]
    valid: npt.NDArray[np.bool_]
    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    threshold: float
    digest: str = ""

    def __post_init__(self) -> None:
        n, entries = len(self.ids), len(self.indices)
        kinds = (("valid", np.bool_), ("indptr", np.int64), ("indices", np.int32), ("scores", np.float32))
        for (name, kind), length in zip(kinds, (n, n + 1, entries, entries), strict=True):
            array = getattr(self, name)
            if array.dtype != kind or array.shape != (length,):
                raise ValueError(
                    f"RelationMatrix.{name} is {array.dtype} {array.shape}, expected {np.dtype(kind)} ({length},)"
                )
        if len(set(self.ids)) != n:
            raise ValueError(
                f"RelationMatrix.ids holds {n - len(set(self.ids))} repeated ids among {n}: one row per id"
            )
        if np.isnan(self.threshold):
            raise ValueError("RelationMatrix.threshold is NaN")
        if self.indptr[0] != 0 or self.indptr[-1] != entries or (np.diff(self.indptr) < 0).any():
            raise ValueError(f"RelationMatrix.indptr does not ascend from 0 to the number of entries, {entries}")
        if entries and not 0 <= self.indices.min() <= self.indices.max() < n:
            raise ValueError(f"RelationMatrix.indices leaves the {n} rows")
        rows, columns = self._rows(), self.indices.astype(np.int64)
        key = rows * n + columns
        if (np.diff(key) <= 0).any():
            raise ValueError("RelationMatrix.indices does not ascend in each row")
        if (rows == columns).any():
            raise ValueError("RelationMatrix holds pairs of a reading with itself, which are not stored")
        if not self.valid[rows].all():
            raise ValueError("RelationMatrix relates readings that are not valid")
        if not np.array_equal(np.sort(columns * n + rows), key):
            raise ValueError("RelationMatrix is not symmetric")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def degrees(self) -> npt.NDArray[np.int64]:
        """int64 ``[N]``: number of other readings that each is related to."""
        return np.diff(self.indptr)

    @classmethod
    def of(
        cls,
        ids: tuple[str, ...],
        valid: npt.NDArray[np.bool_],
        similarity: npt.NDArray[np.float32],
        threshold: float,
        digest: str = "",
        films: npt.NDArray[np.int64] | None = None,
    ) -> Self:
        """Keep the pairs of valid readings whose similarity is greater than the threshold.

        Args:
            ids: of the rows.
            valid: bool ``[N]``.
            similarity: float32 ``[N, N]``, symmetric; may be a memory map, it is read row by row.
            threshold: strict; compared as float32, as precise as similarities are.
            digest: see the class.
            films: int64 ``[N]``, number of each reading's film: pairs of one film are left out, they are positives
                anyway; None: no two readings are of one film.

        Raises:
            ValueError: the similarities are not ``[N, N]``, or not symmetric about the threshold.
        """
        n = len(ids)
        if similarity.shape != (n, n) or valid.shape != (n,):
            raise ValueError(f"{n} ids need similarities [{n}, {n}], got {similarity.shape}, valid {valid.shape}")
        bound = np.float32(threshold)
        indptr = np.zeros(n + 1, dtype=np.int64)
        indices, scores = [np.zeros(0, dtype=np.int32)], [np.zeros(0, dtype=np.float32)]
        for i in range(n):
            indptr[i + 1] = indptr[i]
            if not valid[i]:
                continue
            row = np.asarray(similarity[i], dtype=np.float32)
            above = valid & (row > bound)
            above[i] = False
            if films is not None:
                above &= films != films[i]
            columns = np.flatnonzero(above)
            indptr[i + 1] += len(columns)
            indices.append(columns.astype(np.int32))
            scores.append(row[columns])
        return cls(ids, valid, indptr, np.concatenate(indices), np.concatenate(scores), float(threshold), digest)

    def shuffled(self, seed: int) -> Self:
        """Give the rows of the valid readings to one another at random: the control "random pairs".

        The number of pairs and the distribution of degrees stay; which readings are related does not depend on their
        gaze any more. Readings that are not valid stay alone.

        Args:
            seed: equal seeds give equal pairs.
        """
        rows = np.flatnonzero(self.valid)
        ids = list(self.ids)
        for row, source in zip(rows, np.random.default_rng(seed).permutation(rows), strict=True):
            ids[row] = self.ids[source]
        return replace(self, ids=tuple(ids), digest=f"{self.digest}-shuffled{seed}")

    def dense(self) -> npt.NDArray[np.bool_]:
        """Return bool ``[N, N]``, true on the diagonal."""
        related = np.eye(len(self), dtype=np.bool_)
        related[self._rows(), self.indices] = True
        return related

    def _rows(self) -> npt.NDArray[np.int64]:
        """int64 ``[nnz]``: row of each entry."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.degrees)
