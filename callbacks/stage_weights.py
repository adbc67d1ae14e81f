"""Weights at the boundary of two stages, the same on all processes."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from gaze_lightning.same_on_all import same_on_all


def take_weights(trainer: Trainer, pl_module: LightningModule, path: str, epoch: int | None, source: str) -> None:
    """Load a stage's best weights and buffers on the first process and give them to all others.

    Every process must call this.

    Args:
        trainer: the trainer.
        pl_module: the task; it must have exactly the tensors of the checkpoint.
        path: the checkpoint.
        epoch: the epoch that it must be of.
        source: the stage's name, for messages.

    Raises:
        ValueError: the checkpoint is not there, unreadable, of another epoch, or does not fit; on all processes.
    """
    message, error = "", ""
    if trainer.is_global_zero:
        try:
            message = _load(pl_module, path, epoch)
        except Exception as reason:  # whatever it is, the others wait for an answer
            error = str(reason) if isinstance(reason, ValueError) else f"{path}: {type(reason).__name__}: {reason}"
    error = trainer.strategy.broadcast(error)
    if error:
        raise ValueError(f"weights of stage {source!r}: {error}")
    rank_zero_info(f"weights of stage {source!r}: {message}")
    same_on_all(itertools.chain(pl_module.parameters(), pl_module.buffers()))


def _load(pl_module: LightningModule, path: str, epoch: int | None) -> str:
    if not path or not Path(path).is_file():
        raise ValueError(
            f"there is no checkpoint {path or 'of its best epoch'}; it has to be where the run wrote it, or in the "
            "folder of the checkpoint callback under the same name"
        )
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if epoch is not None and checkpoint["epoch"] != epoch:
        raise ValueError(
            f"{path} is of epoch {checkpoint['epoch']}, the best epoch was {epoch}: a later run has written over it; "
            "resume from that run's last checkpoint"
        )
    pl_module.on_load_checkpoint(checkpoint)
    given: Mapping[str, Tensor] = checkpoint["state_dict"]
    wanted = pl_module.state_dict()
    shared = given.keys() & wanted.keys()
    misshapen = sorted(name for name in shared if given[name].shape != wanted[name].shape)
    missing, unexpected = sorted(wanted.keys() - shared), sorted(given.keys() - shared)
    counts = (
        f"{len(shared) - len(misshapen)} of {len(wanted)} tensors match, {len(missing)} missing, "
        f"{len(unexpected)} unexpected, {len(misshapen)} of another shape"
    )
    if missing or unexpected or misshapen or not wanted:
        names = ", ".join([*missing, *unexpected, *misshapen][:5])
        raise ValueError(f"{path} does not fit the model: {counts} ({names}, ...)")
    pl_module.load_state_dict(given, strict=True)
    return f"epoch {checkpoint['epoch']}, {counts}"
