"""Compilation of a task's network, and the precisions that a training can do with."""

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.protocols import HasPureParts

_ALL_HALF = ("16-true", "bf16-true")
_VERSIONS = 256
"""Of one forward, of all parts together: torch's own limit (8) is used up by four stages with two sizes of films."""


class Acceleration(Callback):
    """Compile the parts of a task that are pure functions of tensors (``HasPureParts``), in place.

    ``torch.compile`` of a whole ``LightningModule`` fails as soon as it logs. Compiled in place, the parts keep their
    names: checkpoints of compiled and of other runs are the same, and either can resume, test or predict the other.
    What is not compiled (losses, maps, gaze) computes as before.

    It happens in ``setup``, before the model is wrapped for several processes; torch compiles when a part is first
    called. It compiles again, once each, for training and evaluation, for a second size of films or batches (from then
    on for any size), and where a stage freezes parameters or modules: the first step after such a change is slow, the
    result does not depend on it. With ``aot_eager`` a run gives the numbers of one that is not compiled up to
    rounding; ``inductor`` fuses operations, so it rounds differently, and draws other random numbers in dropout.
    Where processes share the statistics of batch norm (``SyncBatchNorm``) it is refused: no one has tried it.

    Precision is the trainer's: ``32-true``, ``bf16-mixed`` or ``16-mixed``. Losses, maps, gaze and metrics are computed
    in float32 or float64 with all of them. What turns everything into half precision is refused.

    Args:
        compile: compile. It pays on long trainings on GPUs; minutes at the start. ``inductor`` needs a C++ compiler,
            on GPUs triton as well.
        compile_backend: of ``torch.compile``; ``aot_eager`` compiles nothing, to look for faults.
    """

    def __init__(self, compile: bool = False, compile_backend: str = "inductor") -> None:
        super().__init__()
        self.compile, self.compile_backend = compile, compile_backend

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compile, for whatever is to be done with the task.

        Raises:
            ConfigurationError: the precision is half throughout, there is no such backend, the task does not say
                what can be compiled, or its batch norm is to be synchronised over processes.
        """
        if trainer.precision in _ALL_HALF:
            raise ConfigurationError(
                f"trainer.precision: {trainer.precision} rounds places of fixations, batch statistics and weights to "
                "half precision as well: use bf16-mixed or 16-mixed"
            )
        if not self.compile:
            return
        known = torch.compiler.list_backends(exclude_tags=())
        if self.compile_backend not in known:
            raise ConfigurationError(
                f"acceleration.compile_backend: torch knows no {self.compile_backend!r}; there are {', '.join(known)}"
            )
        if not isinstance(pl_module, HasPureParts):
            raise ConfigurationError(
                f"acceleration.compile: {type(pl_module).__name__} does not say which of its parts can be compiled "
                "(pure_parts): leave it out"
            )
        if trainer.world_size > 1 and getattr(trainer.strategy, "_layer_sync", None) is not None:
            raise ConfigurationError(
                f"acceleration.compile: the batch norm of {type(pl_module).__name__} is synchronised over "
                f"{trainer.world_size} processes (SyncBatchNorm), which communicates within the network; compiled, "
                "that was never tested: leave acceleration.compile out, or train on one device"
            )
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _VERSIONS)
        parts = [part for part in pl_module.pure_parts() if part._compiled_call_impl is None]
        for part in parts:
            part.compile(backend=self.compile_backend)
        if parts:
            names = ", ".join(type(part).__name__ for part in parts)
            rank_zero_info(f"Compiled by {self.compile_backend} when first called: {names}")
