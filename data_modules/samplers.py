"""Which sample goes to which process, and in which order."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, DistributedSampler

from data_modules.errors import DataError
from data_modules.related_order import RelatedOrder


class TrainingSampler(DistributedSampler[Any]):
    """Shuffles and yields ``(epoch, index)``, so that augmentation can depend on the epoch alone.

    The order depends on (seed, epoch) only, never on a global generator: a resumed run sees what an uninterrupted one
    would have seen. It is the same for any number of processes ``w``, of which process ``r`` takes the elements r,
    r + w, r + 2w, ...; at the end the first elements are repeated so that each process has as many steps.

    With weights, an epoch has as many draws as there are readings, and a reading is drawn either the whole number of
    times just below or just above its expected number (systematic resampling in a random order), so rare readings never
    miss several epochs by bad luck more than their weight asks for.

    With groups, an epoch has as many draws as there are films: of each film one reading, any with the same probability.
    With both, a film is drawn as often as its readings' weights add up to, and each of its readings in proportion to
    its weight; the numbers of both are just below or just above the expected ones.

    With a number of draws of its own, an epoch repeats (or leaves out) readings evenly: without weights each is drawn
    the whole number of times just below or just above the mean, with groups each film.

    Args:
        dataset: only its length is used.
        seed: of the order.
        num_replicas: number of processes.
        rank: of this process.
        weights: float64 ``[n]``, relative expected number of draws of each reading; None: all alike.
        groups: int64 ``[n]``, film of each reading, of which an epoch shows one reading; None: all readings.
        draws: of an epoch, over all processes; None: as many as readings, with groups as many as films.
        related: puts related readings beside each other; the draws are the same.

    Raises:
        ValueError: if weights or groups do not have one entry per reading, or weights are negative, not finite or all
            zero, or there are no draws.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        seed: int,
        num_replicas: int = 1,
        rank: int = 0,
        weights: npt.NDArray[np.float64] | None = None,
        groups: npt.NDArray[np.int64] | None = None,
        draws: int | None = None,
        related: RelatedOrder | None = None,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed)
        n = len(dataset)  # type: ignore[arg-type]
        for name, values in (("weights", weights), ("groups", groups)):
            if values is not None and values.shape != (n,):
                raise ValueError(f"{name} must have one entry for each of the {n} readings, got shape {values.shape}")
        if weights is not None and not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
            raise ValueError("weights must be finite, not negative and not all zero")
        if draws is not None and draws < 1:
            raise ValueError(f"draws must be positive, got {draws}")
        self.films = None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.int64)
        shown = n if self.films is None else int(self.films.max(initial=-1)) + 1
        self.draws = shown if draws is None else draws
        if weights is None and self.draws != shown:
            weights = np.ones(n) if self.films is None else 1 / np.bincount(self.films)[self.films]
        self.weights = weights
        self.related = related
        self.num_samples = -(-self.draws // num_replicas)
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (epoch, index) of this process's samples."""
        epoch = int(self.epoch)
        if self.weights is None and self.films is None and self.related is None:
            return ((epoch, int(index)) for index in super().__iter__())
        order = self._order(epoch)
        if self.related is not None:
            stream = np.random.SeedSequence((self.seed, epoch), spawn_key=(1, 1))
            order = self.related(order, np.random.default_rng(stream))
        order = np.resize(order, self.total_size)  # repeats from the start
        return ((epoch, index) for index in order[self.rank :: self.num_replicas].tolist())

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """All readings of an epoch, int64 ``[draws]``, in the order of all processes together."""
        if self.weights is None and self.films is None:  # that of torch's sampler
            shuffled = torch.randperm(len(self.dataset), generator=torch.Generator().manual_seed(self.seed + epoch))  # type: ignore[arg-type]
            return np.asarray(shuffled.numpy(), dtype=np.int64)
        # the spawn key keeps this stream apart from those of `sample_generator`
        generator = np.random.default_rng(np.random.SeedSequence((self.seed, epoch), spawn_key=(1,)))
        readings = generator.permutation(len(self.dataset))  # type: ignore[arg-type]
        if self.films is not None:
            rank = generator.permutation(int(self.films.max()) + 1)
            readings = readings[np.argsort(rank[self.films[readings]], kind="stable")]  # films together, in any order
        if self.weights is not None:
            readings = _systematic(readings, self.weights, self.draws, generator.random())
        elif self.films is not None:
            films = self.films[readings]
            readings = readings[np.diff(films, prepend=-1) != 0]  # the first of each film
        return generator.permutation(readings).astype(np.int64)


def _systematic(
    readings: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], draws: int, start: float
) -> npt.NDArray[np.int64]:
    """Lay the readings' expected numbers end to end on [0, draws) and take what lies at start, start + 1, ...

    Args:
        readings: indices, in a random order.
        weights: of all readings, by index.
        draws: number of draws.
        start: in [0, 1).
    """
    readings = readings[weights[readings] > 0]
    ends = np.cumsum(weights[readings])
    below = np.ceil(draws * (ends / ends[-1]) - start).clip(0, draws).astype(np.int64)
    below[-1] = draws  # whatever the last digits of the sum
    return np.repeat(readings, np.diff(below, prepend=0))


class EvaluationSampler(DistributedSampler[Any]):
    """Yields every sample exactly once over all processes, in order and without padding.

    Process ``r`` of ``w`` takes the samples r, r + w, r + 2w, ...; use it with `even_batch_size`, or processes may
    wait for each other for ever.

    Args:
        dataset: only its length is used.
        num_replicas: number of processes.
        rank: of this process.
    """

    def __init__(self, dataset: Dataset[Any], num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=False)
        self.n = len(dataset)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this process's samples."""
        return iter(range(self.rank, self.n, self.num_replicas))

    def __len__(self) -> int:
        return len(range(self.rank, self.n, self.num_replicas))


def even_batch_size(n: int, world_size: int, batch_size: int) -> int:
    """Find the batch size nearest to the wanted one with which all processes evaluate equally many batches.

    Without padding some processes have one sample more. If that sample filled a batch of its own, the other processes
    would already be in another collective operation, and the run would hang.

    Args:
        n: number of samples.
        world_size: number of processes.
        batch_size: wanted.

    Raises:
        DataError: if there are fewer samples than processes.
        ValueError: if a size is not positive.
    """
    if batch_size < 1 or world_size < 1:
        raise ValueError(f"batch_size and world_size must be positive, got {batch_size} and {world_size}")
    if n < world_size:
        raise DataError(
            f"{world_size} processes cannot share the {n} sample(s) of a part that is evaluated: each needs one, or the"
            f" others wait for it. Use fewer devices (--trainer.devices={max(1, n)}), or a split with more in each."
        )
    fewest, over = divmod(n, world_size)
    if over == 0:
        return batch_size
    candidates = [*range(batch_size, 0, -1), *range(batch_size + 1, fewest + 2)]
    even: int = next(size for size in candidates if fewest % size != 0)
    return even


def sample_generator(seed: int, epoch: int, index: int, view: int = 0) -> np.random.Generator:
    """Random numbers of one view of one sample in one epoch: the same in any process, worker and order."""
    # spawn key 1 is the sampler's, with two numbers before it, which are filled up with zeros
    return np.random.default_rng(np.random.SeedSequence((seed, epoch, index), spawn_key=(1 + view,) if view else ()))


def seed_of(generator: np.random.Generator) -> int:
    """Draw a seed for a library that wants an integer below 2**32."""
    return int(generator.integers(2**32))
