"""A phantom whose second process often has no gaze."""

from typing import Any

from data_modules import PhantomDataModule


class OneSidedPhantom(PhantomDataModule):
    """On the second process no sample has gaze in validation and in every other training step, the first one included.

    One process alone validates the same: there every other sample has none, as the processes take them in turn. The
    batches of validation have an even size. Other parts are as they are.
    """

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Take the gaze away before maps are rendered of it."""
        trainer = self.trainer
        assert trainer is not None
        taken = slice(0, 0)
        if trainer.global_rank == 1 and (trainer.validating or (trainer.training and trainer.global_step % 2 == 0)):
            taken = slice(None)
        elif trainer.world_size == 1 and trainer.validating:
            taken = slice(1, None, 2)
        batch["fixation_mask"][taken] = False
        batch["has_gaze"][taken] = False
        return super().on_after_batch_transfer(batch, dataloader_idx)
