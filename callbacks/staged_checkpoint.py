"""Checkpoint selection that knows stages."""

from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from callbacks.stage import Stage


class StagedCheckpoint(ModelCheckpoint):
    """``ModelCheckpoint`` that follows the stages of a training.

    Each selecting stage has its own best epoch, by the stage's ``monitor`` and ``mode`` or, where it names none, by
    those given here. The last selecting stage writes it under ``filename``, an earlier one under ``filename-<stage>``.
    Stages with ``select: false`` select nothing and leave what earlier ones found.

    With ``save_last: true`` the last checkpoint is written at the end of *every* epoch, in every stage, after
    validation and everything else that belongs to the epoch, and at no other time: a run resumed from it goes on
    exactly where the next epoch begins. (Upstream writes it only when a best one was found as well, and in mid-epoch
    after errors.) With ``save_top_k: 1`` a file of the same name is written over.

    When a run resumes, files in ``dirpath`` under the names that the checkpoint tells are preferred to those under the
    recorded path, so that a run folder can be moved.
    """

    _select = True
    _own: tuple[str | None, str, str | None] | None = None

    @property
    def state_key(self) -> str:
        """The same in all stages, whatever is monitored."""
        monitor, mode = self.own_monitor
        return self._generate_state_key(
            monitor=monitor,
            mode=mode,
            every_n_train_steps=self._every_n_train_steps,
            every_n_epochs=self._every_n_epochs,
            train_time_interval=self._train_time_interval,
        )

    @property
    def own_monitor(self) -> tuple[str | None, str]:
        """``monitor`` and ``mode`` as given, which stages without a monitor use."""
        return (self.monitor, self.mode) if self._own is None else self._own[:2]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called by Lightning."""
        super().setup(trainer, pl_module, stage)
        self.save_last = bool(self.save_last)  # a link to the best one would not be the last
        if self.save_top_k == 1:
            self._enable_version_counter = False

    def start_stage(self, stage: Stage, *, final: bool, fresh: bool) -> None:
        """Called by ``StagedTraining``."""
        self._own = self._own or (self.monitor, self.mode, self.filename)
        monitor, mode, filename = self._own
        self._select = stage.select
        if not stage.select:
            return
        self.monitor = stage.monitor or monitor
        self.mode = stage.mode or mode
        self.filename = filename if final else f"{filename or '{epoch}-{step}'}-{stage.name}"
        if fresh:
            self.best_k_models = {}
            self.kth_best_model_path = self.best_model_path = ""
            self.best_model_score = self.current_score = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Called by Lightning, last of what belongs to an epoch."""
        super().on_train_epoch_end(trainer, pl_module)
        if self.save_last and not trainer.fast_dev_run and trainer.state.fn == TrainerFn.FITTING:  # type: ignore[attr-defined]
            super()._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what was found, also in another folder."""
        models = {self.find(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        paths = {name: self.find(state_dict.get(name, "")) for name in names}
        super().load_state_dict(state_dict | paths | {"best_k_models": models, "dirpath": self.dirpath})

    def find(self, path: str) -> str:
        """Where a file that this callback has written is now: in ``dirpath``, or where it was."""
        beside = Path(self.dirpath or "") / Path(path).name
        return str(beside) if path and beside.is_file() else path

    def _save_topk_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        if self._select:
            super()._save_topk_checkpoint(trainer, monitor_candidates)

    def _save_last_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        """Called by Lightning in mid-epoch as well: ``on_train_epoch_end`` alone writes the last checkpoint."""
