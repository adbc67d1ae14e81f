"""What a run does when SLURM warns that it will be stopped."""

import os
import signal as signals
import subprocess
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from callbacks.provenance import Provenance
from gaze_lightning.run_folder import is_named_by_chance
from gaze_lightning.slurm import job_id


class Preemption(Callback):
    """Put the SLURM job back into the queue when the signal comes of ``#SBATCH --signal=SIGUSR1@120 --requeue``.

    The signal is only noted when it comes, for it comes at any moment, in the middle of writing a file as well. After
    the batch under way the process of rank zero saves what its loggers hold, writes ``pre-empted`` into
    ``provenance.json`` and calls ``scontrol requeue``. Nothing of this needs the other processes, which let the signal
    pass, as do processes that load data, however they are started: SLURM sends it to all, and they inherit that it is
    blocked. No checkpoint is written: the job goes on from that of the last complete epoch. Training continues until
    SLURM ends the processes, and an epoch that is complete by then counts. A second signal changes nothing. Outside a
    SLURM job this callback does nothing.

    A command that would not find its folder again is not requeued: started without ``srun`` and without ``--run_dir``.

    Before the first epoch, while data are prepared, the signal ends the job as it would without this callback: what
    takes longer than the time limit would only begin again.

    Args:
        signal: the signal that the batch script asks for.
        attempts: a job is not requeued again when the same epoch has been cut short so often. An epoch that is longer
            than the time limit would otherwise be begun for ever.
    """

    def __init__(self, signal: Literal["SIGUSR1", "SIGUSR2"] = "SIGUSR1", attempts: int = 3) -> None:
        super().__init__()
        if attempts < 1:
            raise ValueError(f"attempts={attempts} must be positive")
        self.signal = signal
        self.attempts = attempts
        self._signalled = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen, to the end of the process: the signal's default is to end it."""
        if job_id() is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            number = signals.Signals[self.signal]
            signals.signal(number, self._note)  # where a thread that is older than the next line takes it
            signals.pthread_sigmask(signals.SIG_BLOCK, {number})

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Requeue the job if the signal has come."""
        self._act(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Requeue the job if the signal has come."""
        self._act(trainer)

    def on_test_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Requeue the job if the signal has come."""
        self._act(trainer)

    def on_predict_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Requeue the job if the signal has come."""
        self._act(trainer)

    def _note(self, signum: int, frame: Any) -> None:
        self._signalled = True

    def _act(self, trainer: Trainer) -> None:
        if not (self._signalled or signals.Signals[self.signal] in signals.sigpending()):
            return
        self._signalled = False
        job = job_id()
        if job is None or not trainer.is_global_zero:
            return
        signals.signal(signals.Signals[self.signal], signals.SIG_IGN)  # the job is requeued once
        for logger in trainer.loggers:
            logger.save()
        command = trainer.state.fn or TrainerFn.FITTING
        doing = f"in epoch {trainer.current_epoch}" if command == TrainerFn.FITTING else f"during {command.value}"
        provenance = next((one for one in trainer.callbacks if isinstance(one, Provenance)), None)  # type: ignore[attr-defined]
        before = 0 if provenance is None else provenance.note(trainer, f"pre-empted {doing}")
        if is_named_by_chance(Path(trainer.default_root_dir)):
            rank_zero_warn(
                f"{self.signal}: SLURM is about to stop this job {doing}. It is not put back into the queue: started "
                "without srun and without --run_dir, the same command would begin anew in another folder. "
                f"{_by_hand(trainer)}"
            )
            return
        if before + 1 >= self.attempts:
            rank_zero_warn(
                f"{self.signal}: SLURM is about to stop this job. It is not put back into the queue: it was stopped "
                f"{doing} {before + 1} times, as if that took longer than the time limit (#SBATCH --time) allows. "
                f"Give more. {_by_hand(trainer)}"
            )
            return
        refusal = _requeue(job)
        if refusal is not None:
            rank_zero_warn(
                f"{self.signal}: SLURM is about to stop this job {doing}, and it could not be put back into the queue. "
                f"`scontrol requeue {job}`: {refusal}. {_by_hand(trainer)}"
            )
            return
        rank_zero_info(
            f"{self.signal}: SLURM is about to stop job {job} {doing}; it is in the queue again. {_rest(trainer)}"
        )


def _requeue(job: str) -> str | None:
    """Put a job back into the queue.

    Returns:
        None, or what went wrong.
    """
    command = ["scontrol", "requeue", job]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    except FileNotFoundError:
        return "there is no scontrol here (in a container it must be bound to its place)"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode < 0:
        return f"ended by signal {-done.returncode} before it had answered (squeue tells whether the job is there)"
    said = " ".join(f"{done.stdout} {done.stderr}".split())
    return None if done.returncode == 0 else f"{said or 'no output'} (status {done.returncode})"


def _has_an_epoch(trainer: Trainer) -> bool:
    return (Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt").is_file()


def _by_hand(trainer: Trainer) -> str:
    """How the run is gone on with in another job."""
    if _has_an_epoch(trainer):
        return f"To go on in a new job: gaze-lightning resume --run {os.path.relpath(trainer.default_root_dir)}"
    return "There is no complete epoch to go on from: start it anew in a new job."


def _rest(trainer: Trainer) -> str:
    """From where the run will go on."""
    if _has_an_epoch(trainer):
        return "It will go on in this folder from its last complete epoch (last.ckpt)."
    return "There is no complete epoch: it will start anew in this folder."
