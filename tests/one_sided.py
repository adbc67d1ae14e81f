"""A phantom whose second process often has no gaze."""

from typing import Any

from data_modules import PhantomDataModule


class OneSidedPhantom(PhantomDataModule):
    """On the second process no sample has gaze in validation and in every other training step, the first one included.

    Other parts are as they are.
    """

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Take the gaze away before maps are rendered of it."""
        trainer = self.trainer
        assert trainer is not None
        if trainer.global_rank == 1 and (trainer.validating or (trainer.training and trainer.global_step % 2 == 0)):
            batch["fixation_mask"] = batch["fixation_mask"].zero_()
            batch["has_gaze"] = batch["has_gaze"].zero_()
        return super().on_after_batch_transfer(batch, dataloader_idx)
