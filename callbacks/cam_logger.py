"""Pictures of what a model looks at, during and after training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.seed import isolate_rng

from callbacks.cam_cases import cases_of, choose_cases
from callbacks.cam_panels import draw_cam_page
from callbacks.gathering import data_note, loaders_of
from callbacks.panel_parts import save_png
from callbacks.saliency_panels import draw_saliency_page
from callbacks.sharing import share_pictures
from callbacks.stage import position_in
from gaze_lightning.privacy import opaque_id
from gaze_lightning.protocols import HasLossTerms, LabelType, MakesCAMs, PredictsSaliency


class CAMLogger(Callback):
    """Draw the class activation maps of a fixed sample of cases: film, gaze map, one CAM per class, lesion outline.

    Of tasks that predict gaze: film, gaze, predicted gaze, their difference, and one CAM where there are any. The foot
    names the stage of a staged training and its loss terms: a head that no stage has trained yet still says something.

    PNG pages lie in ``cams/epoch_000`` and so on, ``cams/validate`` and ``cams/test`` of the run folder. Only the
    process of rank zero works, on its own copy of a few samples (read from the data set of the first loader, without
    worker processes), and the training does not notice: weights, gradients, buffers, random states and the modes of
    all modules are the same with and without this callback. Models with neither ``class_activation_maps`` nor
    ``predict_saliency`` are skipped.

    Pages are offered to the loggers that send pictures elsewhere (``GuardedWandbLogger``), which do so where the
    source is declared open or somebody has allowed it.

    Args:
        every_n_epochs: draw after the validation of every n-th epoch; 0: not during training.
        n_cases: how many cases.
        on_test: draw in ``test`` too.
        cases_per_page: rows of a page.
    """

    def __init__(
        self,
        every_n_epochs: int = 5,
        n_cases: int = 6,
        on_test: bool = True,
        cases_per_page: int = 3,
    ) -> None:
        super().__init__()
        if every_n_epochs < 0 or n_cases < 1 or cases_per_page < 1:
            raise ValueError(
                f"every_n_epochs={every_n_epochs} must not be negative; n_cases={n_cases} and"
                f" cases_per_page={cases_per_page} must be positive"
            )
        self.every_n_epochs = every_n_epochs
        self.n_cases = n_cases
        self.on_test = on_test
        self.cases_per_page = cases_per_page
        self._told: set[str] = set()
        self._chosen: dict[str, list[int]] = {}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the validation cases of this epoch."""
        if trainer.sanity_checking:
            return
        if trainer.state.fn != TrainerFn.FITTING:
            self._log(trainer, pl_module, trainer.val_dataloaders, "validate")
        elif self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._log(trainer, pl_module, trainer.val_dataloaders, f"epoch_{trainer.current_epoch:03d}")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the test cases."""
        if self.on_test:
            self._log(trainer, pl_module, trainer.test_dataloaders, "test")

    def _log(self, trainer: Trainer, pl_module: LightningModule, loaders: Any, stage: str) -> None:
        if not trainer.is_global_zero:
            return
        if not isinstance(pl_module, (MakesCAMs, PredictsSaliency)):
            self._tell(
                f"{type(pl_module).__name__} neither makes class activation maps nor predicts gaze: no CAM panels."
            )
            return
        loader = next(iter(loaders_of(loaders)), None)
        if loader is None or not hasattr(loader, "dataset") or not len(loader.dataset):
            return
        names: list[str] = list(getattr(pl_module, "class_names", []))
        label_type: LabelType = getattr(pl_module, "label_type", "single")
        with unnoticed(pl_module):
            key = "test" if stage == "test" else "validation"
            if key not in self._chosen:
                self._chosen[key] = choose_cases(loader.dataset, self.n_cases, len(names), label_type)
            batch = loader.collate_fn([loader.dataset[index] for index in self._chosen[key]])
            batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
            with trainer.precision_plugin.forward_context():
                outputs = pl_module.predict_step(batch, 0)
            if outputs.get("cam") is None and outputs.get("saliency") is None:
                self._tell(f"{type(pl_module).__name__} gives neither maps nor predicted gaze: no CAM panels.")
                return
            titles = [f"case {i}  {opaque_id(sample)}" for i, sample in enumerate(batch["sample_id"], start=1)]
            cases = cases_of(batch, outputs, label_type, titles)
        folder = Path(trainer.default_root_dir) / "cams" / stage
        note = "   ·   ".join([data_note(trainer), stage.replace("_", " "), *_progress(trainer, pl_module)])
        draw = draw_cam_page if cases[0].saliency is None else draw_saliency_page
        pages = []
        for start in range(0, len(cases), self.cases_per_page):
            page = folder / f"page_{start // self.cases_per_page + 1:02d}.png"
            save_png(draw(cases[start : start + self.cases_per_page], names, note=note), page)
            pages.append(page)
        share_pictures(trainer, f"cams/{key}", pages, "CAM panels")

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            rank_zero_info(text)


@contextmanager
def unnoticed(module: torch.nn.Module) -> Iterator[None]:
    """Run something on a module in evaluation mode without gradients, and leave no trace.

    The modes of all submodules and the random states of Python, NumPy and torch are put back. Gradients are off by
    ``no_grad`` rather than inference mode, so that a tensor that the module keeps stays usable in training.

    Args:
        module: the module that is called inside.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        with isolate_rng(include_cuda=torch.cuda.is_available()), torch.no_grad():
            module.eval()
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def _progress(trainer: Trainer, module: object) -> list[str]:
    """For the foot of a page in training: the stage, and the terms of the loss in use where it does not use all."""
    if trainer.state.fn != TrainerFn.FITTING:
        return []
    position = position_in(trainer)
    words = [] if position is None else [f"stage {position.name}"]
    if isinstance(module, HasLossTerms) and set(module.active_loss_terms) != set(module.loss_terms):
        terms = [term for term in module.loss_terms if term in module.active_loss_terms]
        words.append(f"loss terms in use: {', '.join(terms)}")
    return words
