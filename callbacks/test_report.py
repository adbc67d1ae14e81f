"""The results of a test: one table, two files."""

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info

from callbacks.gathering import all_ranks, data_note, loaders_of
from gaze_lightning.batch import Batch
from gaze_lightning.evaluation import Results, SampleOutputs, SampleRow, compute_results, print_results, rows_of


class TestReport(Callback):
    """Collect what ``test_step`` returns, compute results over every sample once, write and print them.

    Works on any number of processes: rows are gathered, repeated samples (distributed samplers fill up with them) are
    dropped, and the count must equal the data set's length. Into the run folder go ``predictions.csv`` (real ids; stays
    local) and ``results.json``; the table goes to the console, the values as ``test/<name>`` to the loggers and into
    ``trainer.callback_metrics``. Models whose ``test_step`` returns no ``probability`` are left alone;
    ``[B, 0]``, of models without classes, is a result without classification. ``extra_probabilities`` of the outputs
    (``[B, K]`` by name, e.g. ``knn``) are measured beside ``probability``. A task whose probabilities are not its own
    says in ``classifier_note`` where they come from, and the table repeats it.

    Args:
        n_boot: resamples of patients behind each interval.
        print_table: print the table.

    Attributes:
        results: of the last test; None before.
    """

    __test__ = False  # not a test class, whatever its name says to pytest

    def __init__(self, n_boot: int = 1000, print_table: bool = True) -> None:
        super().__init__()
        if n_boot < 1:
            raise ValueError(f"n_boot={n_boot} must be positive")
        self.n_boot = n_boot
        self.print_table = print_table
        self.results: Results | None = None
        self._unprinted = False
        self._rows: list[SampleRow] = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start empty."""
        self._rows = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the small part of the outputs."""
        if isinstance(outputs, dict) and "probability" in outputs:
            self._rows += rows_of(outputs)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute on every process (they hold the same rows), write and print on the first.

        Raises:
            RuntimeError: the whole set was tested, but the count of samples is not the data set's length.
        """
        rows = all_ranks(self._rows)
        self._rows = []
        if not rows:
            return
        outputs = SampleOutputs.from_rows(rows)
        _check_count(trainer, outputs)
        names, label_type = list(pl_module.class_names), pl_module.label_type  # type: ignore[arg-type]
        self.results = compute_results(
            outputs,
            names,
            label_type,  # type: ignore[arg-type]
            data=data_note(trainer),
            classifier=str(getattr(pl_module, "classifier_note", "")),
            notes=getattr(pl_module, "result_notes", ()),
            n_boot=self.n_boot,
        )
        # the same values on all processes, so that averaging them changes nothing and no process waits for another
        values = {f"test/{name}": value for name, value in self.results.values().items()}
        pl_module.log_dict(values, sync_dist=trainer.world_size > 1, batch_size=len(outputs))
        if not trainer.is_global_zero:
            return
        root = Path(trainer.default_root_dir)
        outputs.write_csv(root / "predictions.csv", names, label_type)  # type: ignore[arg-type]
        self.results.save(root / "results.json")
        self._unprinted = self.print_table

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print the table last, when the progress bar is gone."""
        if self._unprinted and self.results is not None:
            self._unprinted = False
            print_results(self.results)


def _check_count(trainer: Trainer, outputs: SampleOutputs) -> None:
    """Compare the count with the data set's length, where the loaders state one and none was cut short."""
    loaders = loaders_of(trainer.test_dataloaders)
    lengths = [len(loader.dataset) for loader in loaders if hasattr(getattr(loader, "dataset", None), "__len__")]
    batches = [len(loader) for loader in loaders if hasattr(loader, "__len__")]
    if len(lengths) < len(loaders) or len(batches) < len(loaders):
        return
    if any(used < there for used, there in zip(trainer.num_test_batches, batches, strict=True)):
        rank_zero_info(f"Only a part of the test set was used: {len(outputs)} of {sum(lengths)} samples.")
    elif len(outputs) != sum(lengths):
        raise RuntimeError(
            f"{len(outputs)} different samples were tested, but the test set has {sum(lengths)}: two readings share a"
            " sample_id, or a sampler leaves samples out. Give every reading its own sample_id."
        )
