"""What a task asks of the training part as a whole."""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor

from data_modules.dataset import GazeDataset
from data_modules.film_fits import FilmFits
from data_modules.film_statistics import evenly_spaced, film_statistics
from data_modules.gaze_column import GazeColumn
from data_modules.gaze_sources import GazeWeight, reaches
from data_modules.geometry import FilmFit
from data_modules.related_order import RelatedOrder
from data_modules.samplers import TrainingSampler
from data_modules.sampling import Sampling, sampling_weights
from data_modules.training_gaze import mean_on_films
from data_modules.training_mean import TrainingMean
from gaze_lightning.gaze import Fixations
from gaze_lightning.gaze.similarity import RelationMatrix
from gaze_lightning.protocols import FilmStatistics, TrainingGaze

SQUARE = (1024, 1024)
"""The frame (H, W) in which gaze of different films is compared, pixels; whatever the canvas, so that who is alike does
not depend on it."""


class TrainingPart:
    """The training readings of one split. What is computed of them is computed once.

    Args:
        dataset: the readings as they train.
        own_gaze: the gaze of each, film pixels, whatever the data set gives them.
        own_weight: what a fixation of it counts for.
        grid: (h, w) of maps of the film, cells.
        fits_on: fit of each film on a canvas (H, W), None for a whole one; None: all whole.
        one_per_film: whether an epoch shows one reading of each film.
        whole: film of each reading of the training part of which these are a share: an epoch has as many draws as it
            would have there; None: these are all.
        scan_paths: whether the gaze of each is one scan path, see `TrainingGaze`.
    """

    def __init__(
        self,
        dataset: GazeDataset,
        own_gaze: Sequence[Fixations],
        own_weight: GazeWeight,
        grid: tuple[int, int],
        fits_on: Callable[[tuple[int, int]], list[FilmFit | None] | None],
        one_per_film: bool,
        whole: npt.NDArray[np.int64] | None = None,
        scan_paths: bool = True,
    ) -> None:
        self.dataset = dataset
        self._draws = None if whole is None else len(np.unique(whole) if one_per_film else whole)
        self._own_gaze = GazeColumn(own_gaze)
        self._own_weight: GazeWeight = own_weight
        self._grid = grid
        self._fits_on = fits_on
        self._groups = dataset.films if one_per_film else None
        self._scan_paths = scan_paths
        self._related: tuple[RelationMatrix, float, RelatedOrder] | None = None

    @cached_property
    def film_statistics(self) -> FilmStatistics | None:
        """Of at most 4096 films, evenly spaced in their order; None where there are none."""
        films = evenly_spaced(np.unique(self.dataset.films))
        return film_statistics(self.dataset.cache, films, self.dataset.fits.boxes(films)) if len(films) else None

    @cached_property
    def mean_gaze(self) -> Tensor | None:
        """Mean of the own maps, placed on their films and averaged: float32 ``[H, W]``, sums to 1; None without gaze.

        It is the mean in fractions of the film (of the canvas where films are aligned) that evaluation compares with
        (``mean_saliency``), and as coarse: its cells are those of ``saliency_size``. Tails reach into the padding as
        far as these films need them; other parts have no say.
        """
        films = self.dataset.films[self._own_gaze.present]
        mean = self.mean_map(padded=films).map
        return None if mean is None else mean_on_films(mean, self.dataset.fits.boxes(films), self.dataset.image_size)

    def mean_map(self, padded: npt.NDArray[np.int64]) -> TrainingMean:
        """The mean of the own maps in fractions of the film; it goes on as far as the films ``padded`` are padded."""
        data = self.dataset
        return TrainingMean.of(self._own_gaze, data.films, padded, data.fits, self._own_weight, self._grid)

    @cached_property
    def gaze(self) -> TrainingGaze:
        """The gaze that the samples are given, on a square frame (`SQUARE`) into which films are fitted as usual.

        Points that do not reach the frame are left out, and readings that have no point or weight left.
        """
        data = self.dataset
        fits = FilmFits(data.fits.sizes, SQUARE, self._fits_on(SQUARE))
        rows, gaze = [], []
        for row in np.flatnonzero(data.gaze.present).tolist():
            fit = fits.fit(int(data.films[row]))
            own = data.gaze[row].affine(fit.scale, fit.scale, fit.offset_x, fit.offset_y)
            own = own.select(reaches(own, SQUARE))
            if own.weights(data.weight).sum() > 0:
                rows.append(row)
                gaze.append(own)
        ids = tuple(data.sample_ids[row] for row in rows)
        labels = None if data.labels is None else data.labels[rows]
        films = data.films[np.array(rows, dtype=np.int64)]
        return TrainingGaze(ids, tuple(gaze), SQUARE, films, labels, self._scan_paths)

    def sampler(
        self, sampling: Sampling, seed: int, world: int, rank: int, relations: tuple[RelationMatrix, float] | None
    ) -> TrainingSampler:
        """Decide what an epoch draws, see `sampling_weights` and `TrainingSampler`.

        Args:
            sampling: how readings are drawn.
            seed: of the order.
            world: number of processes.
            rank: of this process.
            relations: of readings that are drawn together, and the share that is; see `related_order`.

        Raises:
            DataError: if there is nothing to balance.
        """
        related = None if relations is None else self.related_order(*relations)
        has_gaze: npt.NDArray[np.bool_] = self.dataset.gaze.present
        weights = sampling_weights(sampling, self.dataset.labels, has_gaze, self._groups)
        return TrainingSampler(self.dataset, seed, world, rank, weights, self._groups, self._draws, related)

    def related_order(self, relations: RelationMatrix, share: float) -> RelatedOrder:
        """Put related readings beside each other, see `RelatedOrder.of`; the last one is kept."""
        if self._related is None or self._related[0] is not relations or self._related[1] != share:
            order = RelatedOrder.of(relations, self.dataset.sample_ids, self.dataset.films, share)
            self._related = (relations, share, order)
        return self._related[2]
