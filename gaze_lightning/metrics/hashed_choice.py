"""A choice of samples by hashes of their keys: as good as random, yet the same in every epoch, order and process."""

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor


def hashed_keys(keys: Sequence[str], device: torch.device | None = None) -> Tensor:
    """64 bits of each key, the same in every process, as Python's own hashes are not: int64 ``[B]``."""
    hashes = [int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big", signed=True) for key in keys]
    return torch.tensor(hashes, dtype=torch.int64, device=device)


def smallest_keys(keys: Tensor, most: int) -> Tensor:
    """Places of the ``most`` smallest of hashed keys, in their order, each key once.

    Args:
        keys: int64 ``[B]``.
        most: how many places to return at most.

    Returns:
        int64 ``[b]``; of equal keys the first place.
    """
    ordered, order = keys.sort(stable=True)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return order[first][:most]
