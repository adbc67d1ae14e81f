"""Features of films with known labels, to which those of other films are compared."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple, Self

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from gaze_lightning.metrics.hashed_choice import hashed_keys, smallest_keys


class ReferenceBank(NamedTuple):
    """Films of all processes, each once, in an order that depends neither on batches nor on the number of processes.

    Attributes:
        features: float32 ``[m, C]``, on the device of the task.
        label: int64 ``[m]`` or float32 ``[m, K]`` in {0, 1, NaN}.
    """

    features: Tensor
    label: Tensor

    @classmethod
    def of(
        cls,
        task: LightningModule,
        loader: Iterable[Any] | None,
        features_of: Callable[[Tensor], Tensor],
        most_batches: int | None = None,
    ) -> Self | None:
        """Run the films of a loader through a network, in the trainer's precision; every process must call it.

        Args:
            task: it and the data module move the batches to the device, as those of the loops.
            loader: this process's batches, with labels; None: there are no such films.
            features_of: films ``[B, 1, H, W]`` to features ``[B, C]``; in evaluation mode.
            most_batches: of each process; None: all.

        Returns:
            None where no film has a label.
        """
        trainer = task.trainer
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            for raw in islice(loader or (), most_batches):
                batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(raw))
                if "label" in batch:
                    features = features_of(batch["image"]).float()
                    parts.append((hashed_keys(batch["sample_id"], features.device), features, batch["label"]))
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        rows = rows_of_all(task, columns)
        if not rows:
            return None
        key, features, label = rows
        order = smallest_keys(key, len(key))
        return cls(features[order], label[order])


def rows_of_all(task: LightningModule, columns: list[Tensor]) -> list[Tensor]:
    """Rows of all processes one after the other; a process may have any number of them, also none.

    Args:
        task: attached to a trainer.
        columns: tensors with as many rows as each other, the same columns in each process; empty: no rows.

    Returns:
        The columns of all processes; empty where nobody has rows.
    """
    world = task.trainer.world_size
    if world == 1:
        return columns
    forms: list[list[tuple[tuple[int, ...], torch.dtype]]] = [[] for _ in range(world)]
    torch.distributed.all_gather_object(forms, [(tuple(column.shape), column.dtype) for column in columns])
    most = max((form[0][0][0] for form in forms if form), default=0)
    known = next((form for form in forms if form), [])
    gathered = []
    for number, (shape, dtype) in enumerate(known):
        padded = torch.zeros(most, *shape[1:], dtype=dtype, device=task.device)
        if columns:
            padded[: len(columns[number])] = columns[number]
        everywhere = task.all_gather(padded)
        assert isinstance(everywhere, Tensor)
        counts = [form[number][0][0] if form else 0 for form in forms]
        gathered.append(torch.cat([part[:count] for part, count in zip(everywhere, counts, strict=True)]))
    return gathered
