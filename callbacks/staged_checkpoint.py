"""Checkpoint selection that knows stages."""

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor


class StagedCheckpoint(ModelCheckpoint):
    """``ModelCheckpoint`` that selects nothing in stages with ``select: false`` and starts afresh at every boundary.

    With ``save_last: true`` the last checkpoint is written after *every* epoch, in every stage (upstream writes it only
    when a best one was found as well, so that a resumed run would fall back to the best epoch).
    """

    _select = True

    def start_stage(self, select: bool, fresh: bool) -> None:
        """Called by ``StagedTraining``."""
        self._select = select
        if fresh:
            self.best_k_models = {}
            self.kth_best_model_path = self.best_model_path = ""
            self.best_model_score = self.current_score = None

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Called by Lightning: whether this epoch is among the best ones."""
        return self._select and super().check_monitor_top_k(trainer, current)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Called by Lightning."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._should_save_on_train_epoch_end(trainer):
            self._keep_last(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Called by Lightning."""
        super().on_validation_end(trainer, pl_module)
        if not self._should_save_on_train_epoch_end(trainer):
            self._keep_last(trainer)

    def _keep_last(self, trainer: Trainer) -> None:
        if self.save_last and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
