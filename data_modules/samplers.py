"""Which sample goes to which process, and in which order."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset, DistributedSampler


class TrainingSampler(DistributedSampler[Any]):
    """Shuffles and yields ``(epoch, index)``, so that augmentation can depend on the epoch alone.

    The order depends on (seed, epoch) only, never on a global generator: a resumed run sees what an uninterrupted one
    would have seen. On several processes the last samples are repeated so that each process has as many steps.

    Args:
        dataset: only its length is used.
        seed: of the order.
        num_replicas: number of processes.
        rank: of this process.
    """

    def __init__(self, dataset: Dataset[Any], seed: int, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (epoch, index) of this process's samples."""
        epoch = int(self.epoch)
        return ((epoch, int(index)) for index in super().__iter__())


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
        ValueError: if there are fewer samples than processes, or a size is not positive.
    """
    if batch_size < 1 or world_size < 1:
        raise ValueError(f"batch_size and world_size must be positive, got {batch_size} and {world_size}")
    if n < world_size:
        raise ValueError(f"{n} samples cannot be evaluated by {world_size} processes; use fewer devices")
    fewest, over = divmod(n, world_size)
    if over == 0:
        return batch_size
    candidates = [*range(batch_size, 0, -1), *range(batch_size + 1, fewest + 2)]
    even: int = next(size for size in candidates if fewest % size != 0)
    return even


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Random numbers of one sample in one epoch: the same in any process, worker and order."""
    return np.random.default_rng((seed, epoch, index))


def seed_of(generator: np.random.Generator) -> int:
    """Draw a seed for a library that wants an integer below 2**32."""
    return int(generator.integers(2**32))
