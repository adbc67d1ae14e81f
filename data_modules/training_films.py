"""Films of the training part, drawn so that classes are balanced, and read block by block."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_modules.dataset import GazeDataset
from data_modules.errors import DataError
from data_modules.films.cache import FilmCache

Rows = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32]

_BLOCK = 64  # films that are hashed at a time


class DrawnFilms:
    """Some films of the training part, each once, in canonical (not augmented) geometry; in the order of the cache.

    Nothing is kept in memory: blocks are read from the memory map whenever they are asked for.

    Args:
        cache: the films.
        films: which of them, ascending.
        sample_ids: one reading of each.
        class_counts: class -> films that show it.
    """

    def __init__(self, cache: FilmCache, films: Rows, sample_ids: Sequence[str], class_counts: dict[str, int]) -> None:
        self.cache = cache
        self.films = films
        self.sample_ids = tuple(sample_ids)
        self.class_counts = class_counts

    @classmethod
    def of(cls, dataset: GazeDataset, class_names: Sequence[str], n: int | None, seed: int) -> Self:
        """Draw films of a data set with `draw_balanced`; several readings of a film count once, with the first's label.

        Args:
            dataset: the training part.
            class_names: in the order of the labels.
            n: number of films; None: all.
            seed: of the draw.

        Raises:
            DataError: if there are no films.
            ValueError: if ``n`` is not positive.
        """
        films, first = np.unique(dataset.films, return_index=True)
        if not len(films):
            raise DataError("The training part has no films to show. Choose a split that has a training part.")
        known = dataset.labels is not None
        labels: Labels = np.zeros(len(films), dtype=np.int64) if dataset.labels is None else dataset.labels[first]
        drawn = draw_balanced(labels, n, seed)
        counts = {name: len(shown) for name, shown in _films_of_classes(labels[drawn], class_names).items()}
        ids = [dataset.sample_ids[index] for index in first[drawn].tolist()]
        return cls(dataset.cache, films[drawn], ids, counts if known else {})

    @cached_property
    def digest(self) -> str:
        """Hash of the films' size and pixels in their order, 16 hexadecimal digits; reads all of them, once."""
        digest = hashlib.sha256()
        for block in self.blocks(_BLOCK):
            for film in block[:, 0].numpy():
                digest.update(str(film.shape).encode())
                digest.update(film)
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.films)

    def blocks(self, size: int) -> Iterator[Tensor]:
        """Yield the films in their order, uint8 ``[b, 1, H, W]`` with ``b`` at most ``size``.

        Raises:
            ValueError: if ``size`` is not positive.
        """
        if size < 1:
            raise ValueError(f"a block has at least one film, got {size}")
        for start in range(0, len(self), size):
            films = [self.cache[film] for film in self.films[start : start + size].tolist()]
            yield torch.from_numpy(np.stack(films))[:, None]


def draw_balanced(labels: Labels, n: int | None, seed: int) -> Rows:
    """Draw films in turn from the classes, in an order and from places that the seed decides.

    Single-label: the numbers of films per class differ by at most one as long as no class is used up. Multi-label: a
    film belongs to each class that it shows, or to "none of them" (a value that is not known shows nothing), and one
    that was drawn for one class is not drawn again for another. A smaller draw is part of a larger one.

    Args:
        labels: one entry per film: int64 class index ``[N]`` (all alike: films are drawn uniformly), or float32
            ``[N, K]`` in {0, 1, NaN}.
        n: number of films; None, or as many as there are or more: all.
        seed: of the draw.

    Returns:
        Indices of the films, ascending.

    Raises:
        ValueError: if ``n`` is not positive.
    """
    if n is not None and n < 1:
        raise ValueError(f"the number of films must be positive, got {n}")
    if n is None or n >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    generator = np.random.default_rng(seed)
    strata = [iter(generator.permutation(films).tolist()) for films in _strata(labels)]
    order = generator.permutation(len(strata)).tolist()
    drawn: set[int] = set()
    while len(drawn) < n:
        for stratum in order:
            film = next((film for film in strata[stratum] if film not in drawn), None)
            if film is not None and len(drawn) < n:
                drawn.add(film)
    return np.array(sorted(drawn), dtype=np.int64)


def _strata(labels: Labels) -> list[Rows]:
    """Films of each class, and those of none; together they are all films."""
    if labels.ndim == 1:
        return [np.flatnonzero(labels == value) for value in np.unique(labels)]
    shown = labels == 1
    return [np.flatnonzero(column) for column in (*shown.T, ~shown.any(axis=1))]


def _films_of_classes(labels: Labels, class_names: Sequence[str]) -> dict[str, Rows]:
    """Films that show each class."""
    shown = labels[:, None] == np.arange(len(class_names)) if labels.ndim == 1 else labels == 1
    return {name: np.flatnonzero(column) for name, column in zip(class_names, shown.T, strict=True)}
