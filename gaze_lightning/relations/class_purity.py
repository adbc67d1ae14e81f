"""How many partners of a reading show its class, for each class alone."""

import numpy as np
import numpy.typing as npt

from gaze_lightning.relations.label_agreement import Labels


class ClassPurity:
    """Counts ordered pairs of an anchor and a partner, block by block.

    Of class ``k``, with the pairs whose anchor shows ``k`` and of whose partner ``k`` is known: the share whose partner
    shows ``k`` too. Rare classes cannot hide in it: where a measure pairs films of the commoner class with each other,
    the share of all pairs with the same class rises, that of the rare class does not.

    Args:
        labels: int64 ``[N]`` (below 0: unknown), with as many classes as the highest label says, or float32 ``[N, K]``
            in {0, 1, NaN = unknown}.
    """

    def __init__(self, labels: Labels) -> None:
        if labels.ndim == 1:
            classes = np.arange(labels.max(initial=-1) + 1)
            shows = labels[:, None] == classes
            known = np.broadcast_to(labels[:, None] >= 0, shows.shape)
        else:
            shows, known = labels == 1, ~np.isnan(labels)
        self._shows, self._known = shows.astype(np.float32), known.astype(np.float32)
        self._agreeing, self._told = np.zeros(shows.shape[1]), np.zeros(shows.shape[1])

    def add(self, rows: slice, pairs: npt.NDArray[np.bool_]) -> None:
        """Count these pairs.

        Args:
            rows: the anchors.
            pairs: bool ``[r, N]``: their partners.
        """
        partners = pairs.astype(np.float32)  # float32 counts up to 2^24 partners of an anchor exactly
        anchors = self._shows[rows]
        self._agreeing += (anchors * (partners @ self._shows)).sum(axis=0, dtype=np.float64)
        self._told += (anchors * (partners @ self._known)).sum(axis=0, dtype=np.float64)

    def shares(self) -> tuple[float | None, ...]:
        """The share of each class, 0 to 1; None where there is no such pair."""
        counts = zip(self._agreeing.tolist(), self._told.tolist(), strict=True)
        return tuple(agreeing / told if told else None for agreeing, told in counts)


def balanced(shares: tuple[float | None, ...]) -> float | None:
    """Mean over the classes that have a share; None where none has."""
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known else None
