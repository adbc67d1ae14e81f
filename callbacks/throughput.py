"""How fast a training is, and when it, or its stage, will be over."""

import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info

from callbacks.stage import position_in


class Throughput(Callback):
    """Print images per second and the time left after the first training steps, and the total at the end.

    Observes only. The estimate covers the training steps, not validation; stages (`StagedTraining`) differ in speed, so
    each is measured, and the estimate is for the stage. On a CPU with several threads that turns
    out slow, it names the first remedy: one thread. (Two threads on cores that are shared with other programs were
    measured 8 to 22 times slower than one, because the threads wait for each other.)

    Args:
        warm_up: steps that are not timed: the first ones fill caches and queues.
        steps: steps over which the speed is measured.
        slow_below: images per second below which the advice is printed, on a CPU with several threads.

    Attributes:
        images_per_second: the speed over the measured steps, all processes together; None before.
    """

    def __init__(self, warm_up: int = 2, steps: int = 5, slow_below: float = 10.0) -> None:
        super().__init__()
        if warm_up < 0 or steps < 1:
            raise ValueError(f"warm_up={warm_up} must not be negative and steps={steps} must be positive")
        self.warm_up = warm_up
        self.steps = steps
        self.slow_below = slow_below
        self.images_per_second: float | None = None
        self._stage: int | None = None
        self._done = 0
        self._images = 0
        self._total_images = 0
        self._since = 0.0
        self._start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._done = self._images = self._total_images = 0
        self.images_per_second = None
        self._start = self._since = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock anew where a stage starts."""
        position = position_in(trainer)
        if position is not None and position.number != self._stage:
            self._stage, self._done, self._images = position.number, 0, 0
            self._since = self._now(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch's images; after the measured steps, print the speed."""
        images = len(batch["image"]) * trainer.world_size
        self._done += 1
        self._total_images += images
        if self._done <= self.warm_up:
            if self._done == self.warm_up:
                self._since = self._now(pl_module)
            return
        self._images += images
        if self._done == self.warm_up + self.steps:
            self.images_per_second = self._images / max(self._now(pl_module) - self._since, 1e-9)
            rank_zero_info(self._message(trainer, pl_module, images, batch_idx))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the total, validation and logging included."""
        elapsed = max(self._now(pl_module) - self._start, 1e-9)
        rank_zero_info(
            f"Trained on {self._total_images} images in {readable_time(elapsed)}:"
            f" {self._total_images / elapsed:.1f} images/s, validation included."
        )

    def _message(self, trainer: Trainer, pl_module: LightningModule, images: int, batch_idx: int) -> str:
        speed = self.images_per_second or 0.0
        position = position_in(trainer)
        epochs, batches = trainer.max_epochs, trainer.num_training_batches
        left = -1 if epochs is None else epochs - trainer.current_epoch
        text, what = f"Training at {speed:.1f} images/s", "training steps"
        if position is not None:
            left, what = position.epochs - position.epoch + 1, f"stage {position.number}/{position.stages}"
        if left > 0 and batches != float("inf"):
            steps = left * int(batches) - (batch_idx + 1)
            text += f"; about {readable_time(steps * images / speed)} of {what} left"
        text += "."
        threads = torch.get_num_threads()
        if pl_module.device.type == "cpu" and threads > 1 and speed < self.slow_below:
            text += (
                f" That is slow for {threads} threads: if other programs use these cores, one thread is often many"
                " times faster. Stop and start again with THREADS=1 (with make), OMP_NUM_THREADS=1 (without)."
            )
        return text

    @staticmethod
    def _now(pl_module: LightningModule) -> float:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        return time.perf_counter()


def readable_time(seconds: float) -> str:
    """Write a duration for people, e.g. ``2 min 40 s``.

    Args:
        seconds: the duration.

    Returns:
        Hours and minutes, minutes and seconds, or seconds.
    """
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
