"""A map of the whole canvas against what the training films and their gaze have in common."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from gaze_lightning.evaluation.files import replacing
from gaze_lightning.metrics import correlation_coefficient, saliency_kl
from gaze_lightning.metrics.saliency_agreement import centre_map
from gaze_lightning.protocols import FilmStatistics

COMPARED_WITH = "mean film and gaze are those of the training part of the data that are tested"
"""Said in the file and to people: a test on other data than those of the training compares with these others."""


class Agreement(NamedTuple):
    """How well a map agrees with the mean gaze."""

    cc: float
    """Pearson correlation in [-1, 1]; NaN for a constant map."""
    kl: float
    """KL(gaze || map), nats, best 0."""


class MapComparison(NamedTuple):
    """What a global map is like. All values over the pixels that at least half of the training films cover."""

    mean: float
    sd: float
    """Population standard deviation."""
    low: float
    high: float
    share: float
    """Those pixels' share of the canvas; 1 where the training films are not known."""
    films: int | None
    """Number of training films; None: not known."""
    structure: float
    """Of the mean training film (see ``FilmStatistics``); NaN where it is not known."""
    film_cc: float
    """Correlation with the mean training film; NaN where it is not known or undefined."""
    gaze: Agreement | None
    """With the mean training gaze; None without gaze."""
    references: dict[str, Agreement]
    """The same of ``mean_film``, ``centre`` (the Gaussian of ``gaze_references`` on the box of those pixels) and
    ``even`` (a constant map); empty without gaze."""

    @classmethod
    def of(cls, values: Tensor, statistics: FilmStatistics | None, gaze: Tensor | None) -> Self:
        """Compare a map.

        Args:
            values: ``[H, W]``, not negative. Of a map with NaN or infinity (of a network that has diverged) every value
                is NaN.
            statistics: of the training films, at ``[H, W]``; None: not known.
            gaze: mean training gaze ``[H, W]``, not negative, any scale; None: there is none.
        """
        where = covered(statistics, values)
        inside = values.double()[where]
        references = {}
        if gaze is not None:
            maps = {"centre": _centre(where), "even": torch.ones_like(values)}
            if statistics is not None:
                maps = {"mean_film": statistics.mean, **maps}
            references = {name: agreement(one, gaze, where) for name, one in maps.items()}
        return cls(
            mean=float(inside.mean()),
            sd=float(inside.std(correction=0)),
            low=float(inside.min()),
            high=float(inside.max()),
            share=float(where.double().mean()),
            films=None if statistics is None else statistics.n,
            structure=math.nan if statistics is None else statistics.structure,
            film_cc=math.nan if statistics is None else map_correlation(values, statistics.mean, where),
            gaze=None if gaze is None else agreement(values, gaze, where),
            references=references,
        )

    def save(self, path: Path, data: str) -> None:
        """Write JSON; undefined values become null.

        Args:
            path: the file.
            data: one line that says where the films come from.
        """
        known = None if self.films is None else {"cc": self.film_cc, "structure": self.structure, "n": self.films}
        content = {
            "format": 1,
            "data": data,
            "compared_with": None if self.films is None and self.gaze is None else COMPARED_WITH,
            "compared_share_of_canvas": self.share,
            "map": {"mean": self.mean, "sd": self.sd, "min": self.low, "max": self.high},
            "mean_film": known,
            "mean_gaze": None if self.gaze is None else self.gaze._asdict(),
            "references": {name: one._asdict() for name, one in self.references.items()},
        }
        with replacing(path) as temporary:
            text = json.dumps(_without_nan(content), indent=2, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")


def covered(statistics: FilmStatistics | None, values: Tensor) -> Tensor:
    """Where at least half of the training films are: bool ``[H, W]`` of a map's size; everywhere if not known."""
    return torch.ones_like(values, dtype=torch.bool) if statistics is None else statistics.coverage >= 0.5


def agreement(values: Tensor, gaze: Tensor, where: Tensor) -> Agreement:
    """Score a map ``[H, W]`` against gaze ``[H, W]`` at the pixels of ``where``; both sum to 1 there for KL."""
    pred, target = _selected(values, where), _selected(gaze, where)
    if not torch.isfinite(pred).all():
        return Agreement(math.nan, math.nan)
    return Agreement(float(correlation_coefficient(pred, target)), float(saliency_kl(pred, target)))


def map_correlation(a: Tensor, b: Tensor, where: Tensor) -> float:
    """Pearson correlation of two maps ``[H, W]`` over the pixels of ``where``.

    NaN where one of them is constant there, or not finite.
    """
    first, second = _selected(a, where), _selected(b, where)
    if not (torch.isfinite(first).all() and torch.isfinite(second).all()):
        return math.nan
    return float(correlation_coefficient(first, second))


def _selected(values: Tensor, where: Tensor) -> Tensor:
    return values.double()[where][None, None]


def _centre(where: Tensor) -> Tensor:
    """The centred Gaussian of the references, on the box around the pixels of ``where``."""
    rows, columns = (torch.nonzero(where.any(dim=axis))[:, 0].tolist() for axis in (1, 0))
    box = torch.tensor([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]])
    canvas = torch.zeros(1, 1, *where.shape)
    return centre_map({"image": canvas, "saliency": canvas, "film_box": box, "sample_id": [""]})[0]


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    return None if isinstance(content, float) and not math.isfinite(content) else content
