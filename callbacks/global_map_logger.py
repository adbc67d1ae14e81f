"""What one map for all films looks like: while it is learnt, and against the mean film and the mean gaze."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.cam_cases import numpy_of
from callbacks.cam_logger import unnoticed
from callbacks.gathering import data_note
from callbacks.global_map_evolution import MapOfEpoch, choose_epochs, draw_evolution
from callbacks.global_map_panels import draw_global_map
from callbacks.panel_parts import Floats, save_png
from callbacks.sharing import share_pictures
from gaze_lightning.evaluation.files import replacing
from gaze_lightning.evaluation.map_comparison import MapComparison, covered, map_correlation
from gaze_lightning.evaluation.map_comparison_table import print_map_comparison
from gaze_lightning.protocols import FilmStatistics, HasGlobalMap, OffersTrainingFilms

_FOLDER = "attention"
_PICTURES = "Pictures of the global map"


class GlobalMapLogger(Callback):
    """Keep and draw the map by which a task weighs the pixels of all films; other tasks are left alone.

    Into ``attention`` of the run folder go, in training, ``maps/start.npy`` (before the first step),
    ``maps/epoch_000.npy`` and so on (the map with which the epoch was validated; the last epoch's is that of its end),
    all float32 ``[H, W]``, and at the end ``evolution.png``. A resumed training goes on with the maps that are there.
    A test writes the tested map ``map.npy``, the pixels that are compared ``compared.npy`` (bool ``[H, W]``: at least
    half of the training films cover them), ``map.png``, and ``comparison.json`` with the agreement of the map with the
    mean training gaze, beside that of the mean film, of a centred Gaussian and of an even map. The comparison is
    printed.

    Mean film and gaze come from a data module with ``OffersTrainingFilms``: they are those of the training part of the
    data that are tested. Without such a module, and without a training part, only the map is shown. Only the process
    of rank zero works, and the training does not notice. Pictures are offered to online loggers as those of
    ``CAMLogger`` are.

    Args:
        every_n_epochs: keep the map of every n-th epoch, and of the last; 0: nothing during training.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        super().__init__()
        if every_n_epochs < 0:
            raise ValueError(f"every_n_epochs={every_n_epochs} must not be negative")
        self.every_n_epochs = every_n_epochs
        self._epoch: int | None = None
        self._unprinted: MapComparison | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the map before the first step of a training; a resumed one has it already."""
        self._epoch = None
        if self.every_n_epochs and trainer.global_step == 0:
            self._keep(trainer, pl_module, "start")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the map of this epoch."""
        self._epoch = trainer.current_epoch
        if self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._keep(trainer, pl_module, _name(self._epoch))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the last map and draw how it came about."""
        if not self.every_n_epochs or self._epoch is None:
            return
        last = self._keep(trainer, pl_module, _name(self._epoch))
        if last is None:
            return
        films = _films(trainer, pl_module)
        path = Path(trainer.default_root_dir) / _FOLDER / "evolution.png"
        where = covered(films.statistics, last)
        maps = [
            MapOfEpoch(name.replace("_", " "), numpy_of(values), map_correlation(values, last, where))
            for name, values in _kept(path.parent / "maps", self._epoch)
        ]
        save_png(draw_evolution(maps, where.numpy(), film=films.mean, note=data_note(trainer)), path)
        share_pictures(trainer, f"{_FOLDER}/evolution", [path], _PICTURES)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare and draw the map that was tested."""
        values = _map_of(trainer, pl_module)
        if values is None:
            return
        folder = Path(trainer.default_root_dir) / _FOLDER
        films = _films(trainer, pl_module)
        where = covered(films.statistics, values)
        comparison = MapComparison.of(values, films.statistics, films.gaze)
        _save(folder / "map.npy", numpy_of(values))
        _save(folder / "compared.npy", where.numpy())
        comparison.save(folder / "comparison.json", data_note(trainer))
        figure = draw_global_map(
            numpy_of(values),
            where.numpy(),
            film=films.mean,
            n_films=comparison.films,
            gaze=None if films.gaze is None else numpy_of(films.gaze),
            title=_title(comparison),
            note=data_note(trainer),
        )
        save_png(figure, folder / "map.png")
        share_pictures(trainer, f"{_FOLDER}/map", [folder / "map.png"], _PICTURES)
        self._unprinted = comparison

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print the comparison last, when the progress bar is gone."""
        if self._unprinted is not None:
            print_map_comparison(self._unprinted, data_note(trainer))
            self._unprinted = None

    def _keep(self, trainer: Trainer, pl_module: LightningModule, name: str) -> Tensor | None:
        values = _map_of(trainer, pl_module)
        if values is not None:
            _save(Path(trainer.default_root_dir) / _FOLDER / "maps" / f"{name}.npy", numpy_of(values))
        return values


class _Films(NamedTuple):
    """What the data module tells of the training films, as far as it does."""

    statistics: FilmStatistics | None
    gaze: Tensor | None

    @property
    def mean(self) -> Floats | None:
        return None if self.statistics is None else numpy_of(self.statistics.mean)


def _films(trainer: Trainer, module: torch.nn.Module) -> _Films:
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, OffersTrainingFilms):
        return _Films(None, None)
    with unnoticed(module):
        statistics, gaze = data.film_statistics(), data.mean_training_gaze()
    return _Films(statistics, None if gaze is None else gaze.cpu())


def _map_of(trainer: Trainer, module: LightningModule) -> Tensor | None:
    """The map on the CPU, on the process of rank zero; None elsewhere, and of a task without one map for all films."""
    if not trainer.is_global_zero or not isinstance(module, HasGlobalMap):
        return None
    with unnoticed(module):
        values = module.global_map()
        return None if values is None else values.detach().to("cpu", torch.float32, copy=True)


def _name(epoch: int) -> str:
    return f"epoch_{epoch:03d}"


def _save(path: Path, values: np.ndarray[Any, Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, values, allow_pickle=False)


def _kept(folder: Path, last: int) -> list[tuple[str, Tensor]]:
    """Maps of the start and of some epochs up to ``last``; later ones are of an attempt that was cut off."""
    epochs = sorted(int(path.stem.removeprefix("epoch_")) for path in folder.glob("epoch_*.npy"))
    names = ["start", *(_name(epoch) for epoch in choose_epochs([epoch for epoch in epochs if epoch <= last]))]
    files = [folder / f"{name}.npy" for name in names]
    return [(file.stem, torch.from_numpy(np.load(file))) for file in files if file.is_file()]


def _title(comparison: MapComparison) -> str:
    """The numbers in one line."""
    low, high = f"{comparison.low:.2f}", f"{comparison.high:.2f}"
    words = [f"Global map   mean {comparison.mean:.2f}, sd {comparison.sd:.3f}, {low} to {high}"]
    if comparison.films is not None:
        words.append(f"CC with the mean film {comparison.film_cc:.2f}")
    if comparison.gaze is not None:
        words.append(f"with the mean gaze CC {comparison.gaze.cc:.2f}, KL {comparison.gaze.kl:.2f}")
    return "   ·   ".join(words).replace(" -", " \N{MINUS SIGN}")
