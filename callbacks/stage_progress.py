"""A progress display that says which stage is running."""

from pytorch_lightning.callbacks import RichProgressBar

from callbacks.stage import position_in


class StageProgressBar(RichProgressBar):
    """Lightning's rich progress bar; with stages it says ``stage 2/4 classify  1/3`` (epoch of the stage)."""

    def _get_train_description(self, current_epoch: int) -> str:
        position = position_in(self.trainer)
        if position is None:
            return super()._get_train_description(current_epoch)
        text = f"stage {position.number}/{position.stages} {position.name}  {position.epoch}/{position.epochs}"
        return text.ljust(len(self.validation_description))  # bars of one width do not flicker
