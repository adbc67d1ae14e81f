"""Checkpoints that appear complete or not at all."""

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is complete and on the disk.

    A process or node that dies meanwhile leaves the checkpoint that was there before. Upstream writes into the system's
    temporary folder first; where runs lie on another file system, as on clusters, the move from there is a copy over
    the earlier checkpoint, and neither is whole until it is finished.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Called by the strategy on the process that writes.

        Raises:
            TypeError: storage options are given; there are none.
        """
        if storage_options is not None:
            raise TypeError(f"{type(self).__name__} has no storage_options")
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{place.name}.part")  # one writer; what a death leaves is written over
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(place)
