"""What callbacks share when several processes take part."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed
from pytorch_lightning import LightningDataModule, Trainer
from torch.distributed import ProcessGroup


@contextmanager
def patience() -> Iterator[ProcessGroup | None]:
    """A group of all processes that waits without end: for work of hours on one, longer than other groups wait.

    All processes enter before the work begins. One that dies is noticed at once: its connections close.

    Yields:
        The group, for `all_ranks`; None with one process.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        yield None
        return
    # Lightning waits for `prepare_data` in the same way
    group = torch.distributed.new_group(backend="gloo", timeout=timedelta(days=10000))
    assert isinstance(group, ProcessGroup)  # a number stands for groups that this process is not in
    try:
        yield group
    finally:
        torch.distributed.destroy_process_group(group)


def all_ranks(rows: list[Any], group: ProcessGroup | None = None) -> list[Any]:
    """Concatenate a list over all processes, in the order of their ranks; with one process, return it.

    Every process must call this. Only for small things on the CPU: the lists are pickled.

    Args:
        rows: this process's items.
        group: of all processes, in which they wait for each other; None: the default one.

    Returns:
        The items of all processes, on every process.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    parts: list[list[Any]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, rows, group=group)
    return [row for part in parts for row in part]


def loaders_of(loaders: Any) -> list[Any]:
    """The loaders of ``trainer.test_dataloaders`` and its like, which hold one loader, several or none."""
    if loaders is None:
        return []
    return list(loaders) if isinstance(loaders, (list, tuple)) else [loaders]


def data_note(trainer: Trainer) -> str:
    """One line that says where the films come from: the data module's ``data_note``, or its class's name."""
    datamodule: LightningDataModule | None = getattr(trainer, "datamodule", None)
    if datamodule is None:
        return "data given as loaders"
    return str(getattr(datamodule, "data_note", "") or type(datamodule).__name__)
