"""Tensors that all processes must have alike."""

from collections.abc import Iterable

import torch
from torch import Tensor


def same_on_all(tensors: Iterable[Tensor]) -> None:
    """Give the first process's values to all others; every process must call this.

    Args:
        tensors: the same ones in the same order on every process, on a device of the process group.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    with torch.no_grad():
        for tensor in tensors:
            sent = tensor.detach().contiguous()  # channels_last tensors cannot be sent as they are
            distributed.broadcast(sent, src=0)
            tensor.copy_(sent)
