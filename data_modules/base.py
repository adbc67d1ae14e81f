"""What all data modules share: from a table of readings to loaders of batches."""

import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from data_modules.alignment import Align, chest_fits, with_alignment_note
from data_modules.augment import PRESETS, Augmentation, AugmentationName, Augmenter
from data_modules.collate import collate
from data_modules.dataset import GazeDataset, Sample
from data_modules.errors import DataError
from data_modules.film_fits import FilmFits
from data_modules.films.cache import FilmCache, open_cache
from data_modules.films.cache_files import CacheFiles
from data_modules.films.intensity import Intensity
from data_modules.fingerprint import fingerprint_of
from data_modules.gaze_sources import GazeSource, GazeWeight, gaze_of
from data_modules.geometry import FilmFit
from data_modules.given_gaze import given_gaze
from data_modules.learnable import refuse_nothing_to_learn, warn_of_unknown_classes
from data_modules.loading import finish_batch, late_loader
from data_modules.parts_in_use import parts_in_use
from data_modules.reader_policy import ReaderPolicy, mean_readers, mean_weight
from data_modules.readings import LabelType, ReadingTable, Split
from data_modules.reference_films import reference_films
from data_modules.references import other_gaze, readings_of_films
from data_modules.samplers import EvaluationSampler, even_batch_size
from data_modules.sampling import Sampling
from data_modules.smaller import check_smaller
from data_modules.sources import Missing
from data_modules.sources.phantom_folder import is_phantom
from data_modules.splits import (
    Parts,
    SplitKind,
    announce_split,
    assert_filled,
    assign_split,
    checked_fraction,
    write_split,
)
from data_modules.summary import summary
from data_modules.training_films import DrawnFilms
from data_modules.training_mean import MeanMap
from data_modules.training_part import TrainingPart
from data_modules.two_views import refuse_equal_views
from gaze_lightning.gaze import Fixations
from gaze_lightning.gaze.similarity import RelationMatrix
from gaze_lightning.protocols import FilmStatistics, TrainingGaze

if TYPE_CHECKING:
    from data_modules.doctor.finding import Finding

Rows = npt.NDArray[np.int64]

_NEEDED: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "validate"),
    "validate": ("validate",),
    "test": ("test",),
    "predict": ("test",),
}


class GazeDataModule(LightningDataModule):
    """Base of the data modules. A concrete one says how its source is read, with `read_table`.

    A source without labels has no class names, and its batches no ``label``: it trains what needs gaze only.

    Args:
        class_names: names of the classes, in the order of the labels; empty without labels.
        label_type: ``single`` (exclusive classes) or ``multi``.
        open_data: true if films may leave this machine (synthetic or openly licensed).
        intensity: how films become grey values (`data_modules.films.intensity`); ``stored`` for JPEG and PNG, a named
            policy for DICOM.
        image_size: (H, W) of the network's image, pixels; films are fitted into it and padded.
        saliency_size: (h, w) of the rendered saliency map, cells.
        batch_size: per process, in training; the last incomplete batch is left out.
        eval_batch_size: per process, in evaluation.
        num_workers: processes that load data; 0: none beside the training process.
        split: ``official`` (the source's own), ``stratified`` (70/10/20 % of the patients), ``kfold``, ``file``, or a
            rule of a paper (``released_row_order``, ``released_mod10``: by image, they leak patients and say how many;
            ``egd_authors``: by patient).
        split_seed: of the stratified and the k-fold split; independent of ``seed``.
        split_file: CSV with columns sample_id (or subject) and split, for ``file``.
        folds: number of parts of the k-fold split.
        fold: which of them is tested, from 0; the next one validates.
        held_out: split.csv files of other runs: their test patients are kept out of training and validation here.
        cache_dir: folder of the resized films; None: a temporary one, gone after the run.
        gaze_source: gaze of training samples: their own, another patient's (``shuffled``) or the mean map (``mean``).
            Evaluation always uses the own gaze.
        gaze_weight: what a fixation counts for: its ``duration``, or one (``count``), or its duration spread over its
            Gaussian (``density``: narrow ones are higher).
        augmentation: ``none``, ``light``, ``strong``, or the ranges themselves.
        sampling: how training readings are drawn: each once (``shuffled``), every class as often
            (``class_balanced``), or half of them with gaze (``gaze_balanced``).
        seed: of order, augmentation and shuffled gaze.
        missing: whether films that are missing or unreadable are an error, or their readings are dropped and counted.
        label_fraction: share of the training patients that train, chosen by class and ``split_seed`` (`keep_fraction`);
            the rest is left out and counted. An epoch has as many draws as with all of them.
    """

    def __init__(
        self,
        class_names: list[str],
        label_type: LabelType,
        open_data: bool,
        intensity: Intensity,
        image_size: tuple[int, int],
        saliency_size: tuple[int, int],
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        split: SplitKind,
        split_seed: int,
        split_file: str | None,
        folds: int,
        fold: int,
        held_out: list[str] | None,
        cache_dir: str | None,
        gaze_source: GazeSource,
        gaze_weight: GazeWeight,
        augmentation: AugmentationName | Augmentation,
        sampling: Sampling,
        seed: int,
        missing: Missing,
        label_fraction: float = 1.0,
    ) -> None:
        super().__init__()
        self.class_names = list(class_names)
        self.label_type: LabelType = label_type
        self.open_data = open_data
        self.intensity: Intensity = intensity
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.saliency_size = (int(saliency_size[0]), int(saliency_size[1]))
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.split: SplitKind = split
        self.split_seed = split_seed
        self.split_file = split_file
        if split == "kfold" and not (folds >= 3 and 0 <= fold < folds):
            raise DataError(
                f"There is no fold {fold} of {folds}: choose folds of at least 3 (one tests, one validates, the rest "
                "train) and fold from 0 to folds - 1."
            )
        self.folds = folds
        self.fold = fold
        self.held_out = list(held_out or [])
        if cache_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="gaze_lightning_")  # removed with this object
        self.cache_dir = Path(self._temporary.name if cache_dir is None else cache_dir).expanduser()
        self.gaze_source = gaze_source
        self.gaze_weight = gaze_weight
        self.augmentation = PRESETS[augmentation] if isinstance(augmentation, str) else augmentation
        self.sampling: Sampling = sampling
        self.seed = seed
        self.missing: Missing = missing
        self.label_fraction = checked_fraction(label_fraction)
        self.readings: pd.DataFrame
        """The readings in use, with the part of the split in the column ``split``; exists after `setup`."""
        self.excluded: dict[str, dict[str, int]]
        """Readings, and gaze points and outlines, that were left out: reason -> number; exists after `setup`."""
        self._table: ReadingTable | None = None
        self._own_fits: list[FilmFit | None] | None = None
        self._datasets: dict[str, GazeDataset] = {}
        self._has_split = False
        self._moves_pixels = True
        self._two_views = False
        self._relations: tuple[RelationMatrix, float] | None = None
        self._stage_batch_size: int | None = None
        self._stage_image_size: tuple[int, int] | None = None

    data_note = ""
    """One line for reports that says where the films come from, and how many patients leak where a split lets them."""

    reader_policy: ReaderPolicy = "separate"
    """What is made of several readings of one film; sources that have them offer the choice."""

    align: Align = "film"
    """How films are placed on the canvas; sources that have chest boxes offer the choice."""

    chest_margin: float = 0.1
    """What ``chest_box`` shows around the box on each side, as a fraction of its width and height."""

    @abstractmethod
    def read_table(self) -> ReadingTable:
        """Read the source.

        Raises:
            DataError: if the data cannot be used as they are.
        """

    def source_checks(self) -> list["Finding"]:
        """What only this source can check, for the data doctor (`data_modules.doctor`)."""
        return []

    def assign_parts(self, table: ReadingTable) -> Parts:
        """Part of each reading: ``train``, ``validate``, ``test``, or empty where a file split does not name it."""
        file = Path(self.split_file) if self.split_file else None
        return assign_split(table, self.split, self.split_seed, file, self.folds, self.fold)

    def prepare_data(self) -> None:
        """Build the cache of resized films, once per machine."""
        self._open(self.table(), progress=True)

    def setup(self, stage: str) -> None:
        """Read the table, split by patient, make the data sets of a stage.

        Data without labels that are only predicted need no split, and get none.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            DataError: if a patient is in two parts, a part is empty, films are unreadable, or there is nothing to learn
                from: neither labels nor gaze, or names of classes without labels.
        """
        split = stage != "predict" or self.table().labels is not None
        if split:
            refuse_nothing_to_learn(self.table(), self.class_names)
        if not self._datasets or (split and not self._has_split):
            self._arrange(split)
        if self._has_split:
            assert_filled(self.readings["split"].to_numpy(dtype=str), _NEEDED[stage], self._removed)

    def follow_stage(self, batch_size: int | None, image_size: tuple[int, int] | None) -> None:
        """Give the batches of a stage of the training their sizes.

        Args:
            batch_size: per process, of training loaders made from now on; None: its own.
            image_size: (H, W) to which images of all parts are reduced from the next batch on, pixels, by area pooling
                on the device; None: its own. Everything in pixels follows; maps keep ``saliency_size``.

        Raises:
            ValueError: if the batch size is not positive, or images cannot be reduced to the size (`check_smaller`).
        """
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}")
        size = None if image_size is None else (int(image_size[0]), int(image_size[1]))
        if size is not None:
            check_smaller(self.image_size, size)
        self._stage_batch_size, self._stage_image_size = batch_size, size

    def with_gaze(self, part: Split) -> int:
        """How many readings of a part have gaze; exists after `setup`."""
        return sum(len(own) > 0 for own in self._datasets[part].gaze)

    def training_films(self, n: int | None, seed: int) -> DrawnFilms:
        """Draw films of the training part, balanced over the classes (`draw_balanced`); needs `setup`.

        Args:
            n: number of films, each counted once whatever its number of readings; None: all.
            seed: of the draw, independent of ``seed``.

        Raises:
            DataError: if the training part is empty.
            ValueError: if ``n`` is not positive.
        """
        return DrawnFilms.of(self._datasets["train"], self.class_names, n, seed)

    def film_statistics(self) -> FilmStatistics | None:
        """Mean, structure and coverage of training films (`TrainingPart`), always the same tensors; needs `setup`."""
        return self._training.film_statistics

    def mean_training_gaze(self) -> Tensor | None:
        """Mean of the training readings' own maps on their films (`TrainingPart`), always the same; needs `setup`."""
        return self._training.mean_gaze

    def training_gaze(self) -> TrainingGaze:
        """Gaze of the training samples as they train (``gaze_source``) on a square frame (`TrainingPart`)."""
        return self._training.gaze

    def draw_related_together(self, relations: RelationMatrix, share: float) -> None:
        """Put related readings beside each other in the epochs of training loaders made from now on (`RelatedOrder`).

        Args:
            relations: of the training readings.
            share: how many of the samples that have a related one left in the epoch are followed by one, 0 to 1.

        Raises:
            DataError: if the matrix has readings that do not train, or the share is none.
        """
        self._training.related_order(relations, share)
        self._relations = (relations, share)

    @property
    def gaze_remedy(self) -> str:
        """What a user can do where no training reading has gaze."""
        return "choose data with gaze (data/egd_cxr, data/reflacx, data/joint, data/cxr_p, data/phantom)"

    @property
    def flips(self) -> bool:
        """Whether the augmentation may mirror films."""
        return self.augmentation is not None and self.augmentation.flip > 0

    def show_two_views(self) -> None:
        """Give the batches of training loaders made from now on a ``second_view``, augmented independently.

        Raises:
            DataError: if there is no augmentation that could tell the views apart, or a task moves the films.
        """
        refuse_equal_views(self.augmentation, self._moves_pixels)
        self._two_views = True

    def reference_loader(self, part: Literal["train", "validate"], n: int | None) -> DataLoader[Sample] | None:
        """Films of a part that have labels, not augmented, each once over all processes; see `reference_films`.

        Args:
            part: of the split.
            n: at most so many films, balanced over the classes; None: all.

        Returns:
            None where no film has a label, or, with a warning, where there are fewer films than processes.

        Raises:
            ValueError: if ``n`` is not positive.
        """
        films = reference_films(self._datasets[part], n, processes=self._place()[1])
        return None if films is None else self._evaluation_of(films)

    def patients(self, part: Split) -> frozenset[str]:
        """Real ids of the patients of a part; needs `setup`."""
        return frozenset(self.readings.loc[self.readings["split"] == part, "subject"])

    def leave_geometry_to_task(self, leave: bool = True) -> None:
        """Leave the geometric augmentation of training films to the task, which finds the affine as ``warp``.

        Fixations, boxes and maps move as before, by the same affine; brightness and contrast are changed here. It holds
        for training loaders made from now on. Without augmentation there is no ``warp``.

        Args:
            leave: False undoes it: films are moved here again.

        Raises:
            DataError: if films are shown in two views: there is one affine per sample.
        """
        if self._two_views:
            refuse_equal_views(self.augmentation, not leave)
        self._moves_pixels = not leave

    def write_split(self, path: Path) -> None:
        """Write the split as CSV: ``sample_id, subject, split``. It holds real ids and belongs into the run folder."""
        write_split(self.readings, path)

    def fingerprint(self) -> str:
        """Hash of readings, films, labels, parts, gaze and outlines (`fingerprint_of`); needs `setup`."""
        return fingerprint_of(self.readings, self.table(), self._cache.sizes, self._cache.digest, self.film_fits())

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled, augmented, without the last incomplete batch."""
        rank, world = self._place()
        sampler = self._training.sampler(self.sampling, self.seed, world, rank, self._relations)
        batch_size = self._stage_batch_size or self.batch_size
        if len(sampler) < batch_size:
            raise DataError(
                f"An epoch of the training part has {len(sampler)} readings on each of {world} process(es), fewer than "
                f"batch_size {batch_size}. Choose a smaller batch_size."
            )
        self._training.dataset.show(self._two_views, self._moves_pixels)
        return self._loader(self._training.dataset, sampler, batch_size, drop_last=True)

    def val_dataloader(self) -> DataLoader[Sample]:
        """The validation part, every sample once."""
        return self._evaluation_loader("validate")

    def test_dataloader(self) -> DataLoader[Sample]:
        """The test part, every sample once."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Sample]:
        """The test part, every sample once; without labels, and if only predict was set up, all readings."""
        return self._evaluation_loader("predict")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """On the device: image to float32 in [0, 1] and to the stage's size, fixations to the saliency map."""
        return finish_batch(batch, self.saliency_size, self._stage_image_size)

    def table(self) -> ReadingTable:
        """The readings as training uses them: `read_table`, once, and the policy for several readers of a film."""
        if self._table is None:
            table = self.read_table()
            if self.reader_policy == "mean_map":
                table = mean_readers(table, self.gaze_weight)
            self._own_fits = self._fits_on(table, self.image_size)
            if self._own_fits is not None:
                table = with_alignment_note(table, self._own_fits)
            self._table = table
        return self._table

    def film_fits(self) -> list[FilmFit | None] | None:
        """Where each film lies on the canvas, in the order of the cache, None for a whole film; None: all whole."""
        self.table()
        return self._own_fits

    def _fits_on(self, table: ReadingTable, canvas: tuple[int, int]) -> list[FilmFit | None] | None:
        return chest_fits(table, canvas, self.chest_margin) if self.align == "chest_box" else None

    def films_are_cached(self) -> bool:
        """Whether the cache of resized films is complete, so that `prepare_data` only opens it."""
        films = self.table().frame.drop_duplicates("image_path")
        sizes = films[["height", "width"]].to_numpy()
        paths, fits = films["image_path"].tolist(), self.film_fits()
        return CacheFiles.of(paths, sizes, self.image_size, self.cache_dir, self.intensity, fits).is_complete()

    def _open(self, table: ReadingTable, progress: bool) -> FilmCache:
        films = table.frame.drop_duplicates("image_path")
        return open_cache(
            films["image_path"].tolist(),
            films[["height", "width"]].to_numpy(),
            self.image_size,
            self.cache_dir,
            [str(place) for place in films["source_row"]],
            self.missing,
            progress,
            self.intensity,
            self.film_fits(),
        )

    def _arrange(self, split: bool) -> None:
        """Films, split and data sets of all parts; without a split all readings are there to be predicted."""
        root = getattr(self, "root", None)
        if root and not self.open_data and is_phantom(Path(root)):
            self.data_note = f"Phantom (synthetic films and gaze, no clinical evidence) as {self.data_note}"
        table = self.table()
        self._cache = self._open(table, progress=False)
        self._fits = FilmFits(self._cache.sizes, self.image_size, self.film_fits())
        paths = table.frame["image_path"]
        films = paths.map({path: index for index, path in enumerate(paths.drop_duplicates())}).to_numpy(dtype=np.int64)
        readable = ~np.isin(films, list(self._cache.unreadable))
        assigned = self.assign_parts(table) if split else None
        in_use = parts_in_use(table, readable, assigned, self.held_out, self.label_fraction, self.split_seed)
        parts, usable, self._removed, could_train = in_use
        if split:
            name = f"kfold, fold {self.fold} of {self.folds}" if self.split == "kfold" else self.split
            if leak := announce_split(table.frame, parts, self.split, name):
                self.data_note = f"{self.data_note}. {leak}"
        self.excluded = {"readings": dict(self._removed), "gaze and outlines": dict(table.excluded_points)}
        if self._cache.constant:
            rank_zero_warn(f"{len(self._cache.constant)} films have the same value everywhere: nothing to see there.")
        self.readings = table.frame.assign(split=parts)[usable].reset_index(drop=True)
        warn_of_unknown_classes(table, parts)
        rank_zero_info(summary(table, parts, usable, self._removed))
        gaze = gaze_of(table.frame["sample_id"].tolist(), table.fixations)
        readings = readings_of_films(films, usable & np.array([len(own) > 0 for own in gaze], dtype=np.bool_))
        for name in ("train", "validate", "test", "predict"):
            chosen = usable & (parts == ("test" if name == "predict" else name))
            if name == "predict" and not split:
                chosen = usable
            rows = np.flatnonzero(chosen)
            others = other_gaze(rows, films, readings, gaze) if readings and name == "test" else None
            self._datasets[name] = self._dataset(table, rows, films, gaze, others, train=name == "train")
        self._training = TrainingPart(
            self._datasets["train"],
            [gaze[row] for row in np.flatnonzero(parts == "train")],
            self._weight(),
            self.saliency_size,
            partial(self._fits_on, table),
            one_per_film=self.reader_policy == "random_reader",
            whole=films[could_train] if self.label_fraction < 1 else None,
            scan_paths=table.scan_paths and self.gaze_source != "mean",
        )
        self._training_mean = self._training.mean_map(padded=films[parts == "test"])
        self._has_split = split

    def _weight(self) -> GazeWeight:
        """What a fixation of the table counts for."""
        return mean_weight(self.gaze_weight) if self.reader_policy == "mean_map" else self.gaze_weight

    def _dataset(
        self,
        table: ReadingTable,
        rows: Rows,
        films: Rows,
        all_gaze: Sequence[Fixations],
        others: Mapping[int, Mapping[int, Fixations]] | None,
        train: bool,
    ) -> GazeDataset:
        frame = table.frame.iloc[rows]
        ids, subjects = frame["sample_id"].tolist(), frame["subject"].tolist()
        gaze, weight = [all_gaze[row] for row in rows], self._weight()
        if train:
            gaze, weight = given_gaze(
                self.gaze_source, gaze, weight, films[rows], self._fits, subjects, self.seed, self.saliency_size
            )
        augmenter = None
        if train and self.augmentation is not None:
            augmenter = Augmenter(self.augmentation, self.image_size, self.seed, weight=weight)
        return GazeDataset(
            sample_ids=ids,
            subjects=subjects,
            films=films[rows],
            cache=self._cache,
            gaze=gaze,
            weight=weight,
            image_size=self.image_size,
            labels=None if table.labels is None else table.labels[rows],
            regions=None if train or not table.regions else [table.regions.get(name, ()) for name in ids],
            n_classes=len(self.class_names),
            mask_kinds={region.kind for regions in table.regions.values() for region in regions},
            with_visible=any(own.visible is not None for own in table.fixations.values()),
            augmenter=augmenter,
            others=others,
            fits=self._fits,
        )

    def _place(self) -> tuple[int, int]:
        """Rank and number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _evaluation_loader(self, part: str) -> DataLoader[Sample]:
        return self._evaluation_of(self._datasets[part], self._training_mean.map if part == "test" else None)

    def _evaluation_of(self, dataset: Dataset[Sample], mean_map: MeanMap | None = None) -> DataLoader[Sample]:
        """Every sample once over all processes, equally many batches on each."""
        rank, world = self._place()
        size = even_batch_size(len(dataset), world, self.eval_batch_size)  # type: ignore[arg-type]
        return self._loader(dataset, EvaluationSampler(dataset, world, rank), size, drop_last=False, mean_map=mean_map)

    def _loader(
        self,
        dataset: Dataset[Sample],
        sampler: DistributedSampler[Any],
        batch_size: int,
        drop_last: bool,
        mean_map: MeanMap | None = None,
    ) -> DataLoader[Sample]:
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        collated = partial(collate, mean_map=mean_map)
        return late_loader(dataset, sampler, batch_size, drop_last, collated, self.num_workers, on_gpu, self.seed)
