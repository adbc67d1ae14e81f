"""What makes a threshold of similarity interpretable."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gaze_lightning.gaze.similarity import RelationMatrix
from gaze_lightning.relations.class_purity import ClassPurity, balanced
from gaze_lightning.relations.digest import basis_digest
from gaze_lightning.relations.label_agreement import Labels, label_agreement
from gaze_lightning.relations.thresholds import Threshold, number_of_pairs, order_statistics

_ROWS = 256
_QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
CANDIDATES = (
    *(Threshold(positive_rate=rate) for rate in (0.003, 0.01, 0.03, 0.1)),
    *(Threshold(tau=tau) for tau in (0.5, 0.7, 0.9, 0.95)),
)
"""Thresholds whose consequences are shown beside those of the chosen one."""

_Above = Callable[[slice], npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class ThresholdStatistics:
    """Consequences of one threshold. Pairs are of two valid readings of different films; anchors are valid readings.

    Attributes:
        asked: ``tau-0.7`` or ``rate-0.01``.
        threshold: the similarity above which a pair is related.
        pairs: related pairs.
        share: of all pairs; None without pairs.
        mean: number of extra positives of an anchor, mean over the anchors; so the next ones.
        least: minimum.
        low: 10 % quantile.
        median: 50 % quantile.
        high: 90 % quantile.
        most: maximum.
        alone: share of the anchors that have none.
        same_class: share of the related pairs that have the same class, of those whose labels tell; None where there
            are none.
        unknown: related pairs whose labels do not tell.
        by_class: of the partners of anchors that show a class, the share that shows it too (`ClassPurity`): mean over
            the classes that have such partners; None where none has.
        classes: the same of each class; empty without labels.
    """

    asked: str
    threshold: float
    pairs: int
    share: float | None
    mean: float
    least: int
    low: float
    median: float
    high: float
    most: int
    alone: float
    same_class: float | None
    unknown: int
    by_class: float | None = None
    classes: tuple[float | None, ...] = ()

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The inverse of ``asdict``; what older versions did not count is absent."""
        return cls(**{**content, "classes": tuple(content.get("classes", ()))})


@dataclass(frozen=True)
class RelationStatistics:
    """Statistics of a relation matrix. Pairs of readings of one film are left out.

    Two readings of one film are positives anyway, and have the same label by definition.

    Attributes:
        readings: all of them.
        valid: those with gaze enough to be compared.
        pairs: of valid readings of different films.
        same_film_pairs: pairs of valid readings of one film; left out.
        quantiles: of the similarity of these pairs, by name (``0.5``); empty where they are not known.
        base_rate: share of the pairs of different films that have the same class: chance for ``same_class``; None
            without labels.
        unknown: pairs whose labels do not tell.
        chosen: of the matrix's own threshold.
        candidates: of other thresholds; empty where the similarities are not known.
        basis: hash of films and labels, see `basis_digest`.
        by_class: of all pairs of different films: chance for ``by_class`` of a threshold.
        classes: the same of each class, chance for ``classes``.
    """

    readings: int
    valid: int
    pairs: int
    same_film_pairs: int
    quantiles: dict[str, float]
    base_rate: float | None
    unknown: int
    chosen: ThresholdStatistics
    candidates: tuple[ThresholdStatistics, ...]
    basis: str
    by_class: float | None = None
    classes: tuple[float | None, ...] = ()

    @classmethod
    def of(
        cls,
        relations: RelationMatrix,
        asked: Threshold,
        scores: npt.NDArray[np.float32] | None,
        films: npt.NDArray[np.int64],
        labels: Labels | None,
    ) -> Self:
        """Count.

        Args:
            relations: two valid rows at least must be of different films.
            asked: what was asked for.
            scores: float32 ``[N, N]``, similarities in the order of the matrix's rows; None: not known.
            films: int64 ``[N]``, number of each reading's film, in the same order.
            labels: int64 ``[N]`` (below 0: unknown) or float32 ``[N, K]`` in {0, 1, NaN}, in the same order.
        """
        valid = relations.valid
        chosen = _Counter(asked.name, relations.threshold, _related(relations), labels)
        others = []
        if scores is not None:
            bounds = [(one.name, one.of(scores, valid, films)) for one in CANDIDATES]
            others = [_Counter(name, bound, _above(scores, bound), labels) for name, bound in bounds]
        chance = None if labels is None else ClassPurity(labels)
        pairs = same_film = same = told = 0
        for start in range(0, len(valid), _ROWS):
            rows = slice(start, min(start + _ROWS, len(valid)))
            both = valid[rows, None] & valid[None, :]
            other_film = films[rows, None] != films[None, :]
            counted = both & other_film
            agreement = None if labels is None else label_agreement(labels, rows)
            pairs += int(counted.sum())
            same_film += int((both & ~other_film).sum()) - int(valid[rows].sum())
            if agreement is not None:
                same += int((agreement.same & counted).sum())
                told += int(((agreement.same | agreement.different) & counted).sum())
            if chance is not None:
                chance.add(rows, counted)
            for counter in (chosen, *others):
                related = counter.above(rows) & counted
                counter.degrees.append(related.sum(axis=1)[valid[rows]])
                if agreement is not None:
                    counter.same += int((agreement.same & related).sum())
                    counter.told += int(((agreement.same | agreement.different) & related).sum())
                if counter.purity is not None:
                    counter.purity.add(rows, related)
        by_class = () if chance is None else chance.shares()
        return cls(
            readings=len(valid),
            valid=int(valid.sum()),
            pairs=pairs // 2,
            same_film_pairs=same_film // 2,
            quantiles={} if scores is None else _quantiles(scores, valid, films),
            base_rate=same / told if told else None,
            unknown=(pairs - told) // 2,
            chosen=chosen.result(pairs),
            candidates=tuple(counter.result(pairs) for counter in others),
            basis=basis_digest(films, labels),
            by_class=balanced(by_class),
            classes=by_class,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values: counts, numbers and no ids."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        chosen = ThresholdStatistics.from_json(content["chosen"])
        candidates = tuple(ThresholdStatistics.from_json(one) for one in content["candidates"])
        classes = tuple(content.get("classes", ()))
        return cls(**{**content, "chosen": chosen, "candidates": candidates, "classes": classes})


class _Counter:
    """Collects the ordered pairs that one threshold relates."""

    def __init__(self, asked: str, threshold: float, above: _Above, labels: Labels | None) -> None:
        self.asked, self.threshold, self.above = asked, threshold, above
        self.purity = None if labels is None else ClassPurity(labels)
        self.degrees: list[npt.NDArray[np.int64]] = []
        self.same = self.told = 0

    def result(self, pairs: int) -> ThresholdStatistics:
        degrees = np.concatenate(self.degrees)
        low, median, high = (float(value) for value in np.quantile(degrees, (0.1, 0.5, 0.9)))
        classes = () if self.purity is None else self.purity.shares()
        return ThresholdStatistics(
            asked=self.asked,
            threshold=self.threshold,
            pairs=int(degrees.sum()) // 2,
            share=float(degrees.sum()) / pairs if pairs else None,
            mean=float(degrees.mean()),
            least=int(degrees.min()),
            low=low,
            median=median,
            high=high,
            most=int(degrees.max()),
            alone=float((degrees == 0).mean()),
            same_class=self.same / self.told if self.told else None,
            unknown=(int(degrees.sum()) - self.told) // 2,
            by_class=balanced(classes),
            classes=classes,
        )


def _above(scores: npt.NDArray[np.float32], threshold: float) -> _Above:
    return lambda rows: np.asarray(scores[rows]) > np.float32(threshold)


def _related(relations: RelationMatrix) -> _Above:
    def block(rows: slice) -> npt.NDArray[np.bool_]:
        first, last = relations.indptr[rows.start], relations.indptr[rows.stop]
        dense = np.zeros((rows.stop - rows.start, len(relations)), dtype=np.bool_)
        dense[np.repeat(np.arange(len(dense)), relations.degrees[rows]), relations.indices[first:last]] = True
        return dense

    return block


def _quantiles(
    scores: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], films: npt.NDArray[np.int64]
) -> dict[str, float]:
    last = number_of_pairs(valid, films) - 1
    values = order_statistics(scores, valid, [round(level * last) for level in _QUANTILES], films)
    return {f"{level:g}": float(value) for level, value in zip(_QUANTILES, values, strict=True)}
