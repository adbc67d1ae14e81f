"""Checkpoint selection that knows stages."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from callbacks.stage import Stage

_SHELVED = ".previous"


class StagedCheckpoint(ModelCheckpoint):
    """``ModelCheckpoint`` that follows the stages of a training.

    Each selecting stage has its own best epoch, by the stage's ``monitor`` and ``mode`` or, where it names none, by
    those given here. The last selecting stage writes it under ``filename``, an earlier one under ``filename-<stage>``.
    Stages with ``select: false`` select nothing and leave what earlier ones found.

    With ``save_last: true`` the last checkpoint is written at the end of *every* epoch, in every stage, after
    validation and everything else that belongs to the epoch, and at no other time: a run resumed from it goes on
    exactly where the next epoch begins. (Upstream writes it only when a best one was found as well, and in mid-epoch
    after errors.) An epoch of which not all batches were done (``max_steps``, ``max_time``, a stop in mid-epoch) leaves
    it as it was. With ``save_top_k: 1`` a file of the same name is written over.

    A best file that the last checkpoint names is kept, beside a newer one as ``<name>.ckpt.previous``, until the next
    last checkpoint is written. A run that died in between and resumes puts it back, and finds what it had.

    When a run resumes, files in ``dirpath`` under the names that the checkpoint tells are preferred to those under the
    recorded path, so that a run folder can be moved.
    """

    selects_result = True
    """Whether the best epoch so far is one of the last selecting stage, whose best checkpoint is the run's result."""

    _select = True
    _own: tuple[str | None, str, str | None] | None = None
    _outdated: tuple[str, ...] = ()

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

    @property
    def tells_files_apart(self) -> bool:
        """Whether files of different epochs have different names, or only one is kept."""
        name = self.filename or "{epoch}"
        return self.save_top_k == 1 or self._enable_version_counter or "{epoch" in name or "{step" in name

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
        self.selects_result = final
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
        if not self.save_last or trainer.fast_dev_run or trainer.state.fn != TrainerFn.FITTING:  # type: ignore[attr-defined]
            return
        if not epoch_is_complete(trainer):
            rest = "there is no last checkpoint, and a resumed run would start anew"
            if self.last_model_path:
                name = Path(self.last_model_path).name
                rest = f"{name} stays that of epoch {trainer.current_epoch - 1}, after which a resumed run goes on"
            rank_zero_info(f"the training ended within epoch {trainer.current_epoch}: {rest}")
            return
        super()._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        outdated, self._outdated = self._outdated, ()
        for path in outdated:
            if path not in self.best_k_models and path != self.best_model_path:
                super()._remove_checkpoint(trainer, path)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so if nothing was selected."""
        score = self.best_model_score
        if self.monitor is not None and score is not None and not torch.isfinite(score):
            rank_zero_warn(
                f"{self.monitor} was NaN or infinite in every epoch (as it is in a validation without gaze, or with "
                f"one outcome only): {Path(self.best_model_path).name} is the first of these epochs, not the best one"
            )

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put back the files that were written over after this checkpoint."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if trainer.is_global_zero:
            for shelved in Path(self.dirpath or "").glob(f"*{_SHELVED}"):
                present = shelved.with_suffix("")
                if present.is_file() and _moment(present) <= (checkpoint["epoch"], checkpoint["global_step"]):
                    shelved.unlink()
                else:
                    shelved.replace(present)
        trainer.strategy.barrier("best files")

    def state_dict(self) -> dict[str, Any]:
        """What was found."""
        return super().state_dict() | {"selects_result": self.selects_result}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what was found, also in another folder."""
        self.selects_result = state_dict.get("selects_result", True)
        models = {self.find(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        paths = {name: self.find(state_dict.get(name, "")) for name in names}
        super().load_state_dict(state_dict | paths | {"best_k_models": models, "dirpath": self.dirpath})

    def find(self, path: str) -> str:
        """Where a file that this callback has written is now: in ``dirpath``, or where it was."""
        beside = Path(self.dirpath or "") / Path(path).name
        return str(beside) if path and beside.is_file() else path

    def _save_topk_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        if not self._select:
            return
        if self._own is not None and self.monitor is not None and self.monitor not in monitor_candidates:
            return  # a stage that has not been validated yet
        super()._save_topk_checkpoint(trainer, monitor_candidates)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        if self.save_last and filepath != self.last_model_path:
            shelved = f"{filepath}{_SHELVED}"
            if trainer.is_global_zero and Path(filepath).is_file() and not Path(shelved).is_file():
                Path(filepath).replace(shelved)
            self._outdated = (*self._outdated, shelved)
        super()._save_checkpoint(trainer, filepath)

    def _remove_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        """Called by Lightning; with a last checkpoint, which may name the file, it is removed after the next one."""
        if self.save_last:
            self._outdated = (*self._outdated, filepath)
        else:
            super()._remove_checkpoint(trainer, filepath)

    def _save_last_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        """Called by Lightning in mid-epoch as well: ``on_train_epoch_end`` alone writes the last checkpoint."""


def epoch_is_complete(trainer: Trainer) -> bool:
    """Whether all batches of the epoch under way have been done; ``limit_train_batches`` counts as all."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return bool(progress.is_last_batch) or progress.current.ready >= trainer.num_training_batches


def _moment(path: Path) -> tuple[int, int]:
    """Epoch and optimiser step of a checkpoint."""
    stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return int(stored["epoch"]), int(stored["global_step"])
