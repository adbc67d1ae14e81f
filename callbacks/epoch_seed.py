"""Random numbers that depend on the epoch, not on what happened before it."""

import os
import random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class EpochSeed(Callback):
    """Seed Python, numpy and torch at the first batch of every training epoch.

    The seed follows from that of ``seed_everything`` (environment variable ``PL_GLOBAL_SEED``), the epoch and the rank:
    a run that was interrupted and resumed draws the same numbers as one that was not, in dropout and wherever else a
    global generator is asked. (Checkpoints hold no state of the generators, and seeding earlier than at batch 0 is not
    enough: loaders draw at different moments in the first epoch after a start and in later ones.) The order of samples
    has to depend on seed and epoch as well, as the project's samplers do. Without a global seed this callback does
    nothing.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed at batch 0."""
        seed = os.environ.get("PL_GLOBAL_SEED")
        if batch_idx or seed is None:
            return
        words = np.random.SeedSequence((int(seed), trainer.current_epoch, trainer.global_rank)).generate_state(3)
        random.seed(int(words[0]))
        np.random.seed(int(words[1]))  # noqa: NPY002 - the global generator is what others may use
        torch.manual_seed(int(words[2]))
