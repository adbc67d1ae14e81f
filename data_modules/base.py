"""What all data modules share: from a table of readings to loaders of batches."""

import tempfile
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from data_modules.alignment import Align, chest_fits, with_alignment_note
from data_modules.augment import PRESETS, Augmentation, AugmentationName, Augmenter
from data_modules.collate import collate
from data_modules.dataset import GazeDataset, Sample
from data_modules.errors import DataError
from data_modules.film_fits import FilmFits
from data_modules.film_statistics import evenly_spaced, film_statistics
from data_modules.films.cache import FilmCache, open_cache
from data_modules.films.intensity import Intensity
from data_modules.fingerprint import fingerprint_of
from data_modules.gaze_sources import GazeSource, GazeWeight, gaze_of, mean_gaze, shuffled_gaze
from data_modules.geometry import FilmFit
from data_modules.learnable import refuse_nothing_to_learn, warn_of_unknown_classes
from data_modules.loading import LateLoader, finish_batch, start_worker
from data_modules.reader_policy import ReaderPolicy, mean_readers, mean_weight
from data_modules.readings import LabelType, ReadingTable, Split
from data_modules.references import other_gaze, readings_of_films
from data_modules.samplers import EvaluationSampler, TrainingSampler, even_batch_size
from data_modules.sampling import Sampling, sampling_weights
from data_modules.smaller import check_smaller
from data_modules.sources import Missing
from data_modules.sources.phantom_folder import is_phantom
from data_modules.splits import (
    BY_IMAGE,
    Parts,
    SplitKind,
    assert_disjoint,
    assert_filled,
    assign_split,
    hold_out,
    leak_summary,
    split_summary,
    write_split,
)
from data_modules.summary import summary
from data_modules.training_films import DrawnFilms
from data_modules.training_gaze import mean_on_films
from data_modules.training_mean import MeanMap, TrainingMean, largest_padding
from gaze_lightning.gaze import Fixations
from gaze_lightning.protocols import FilmStatistics

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
        self.readings: pd.DataFrame
        """The readings in use, with the part of the split in the column ``split``; exists after `setup`."""
        self.excluded: dict[str, dict[str, int]]
        """Readings, and gaze points and outlines, that were left out: reason -> number; exists after `setup`."""
        self._table: ReadingTable | None = None
        self._own_fits: list[FilmFit | None] | None = None
        self._datasets: dict[str, GazeDataset] = {}
        self._has_split = False
        self._moves_pixels = True
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
        """Mean, structure and coverage of at most 4096 training films, evenly spaced in their order; needs `setup`.

        Computed once: every call returns the same tensors.

        Returns:
            None if the training part is empty.
        """
        return self._film_statistics

    @cached_property
    def _film_statistics(self) -> FilmStatistics | None:
        films = evenly_spaced(np.unique(self._datasets["train"].films))
        return film_statistics(self._cache, films, self._boxes(films)) if len(films) else None

    def mean_training_gaze(self) -> Tensor | None:
        """Mean of the training readings' own maps, placed on their films and averaged; needs `setup`.

        It is the mean in fractions of the film (of the canvas where films are aligned) that evaluation compares with
        (``mean_saliency``), and as coarse: its cells are those of ``saliency_size``. Tails reach into the padding as
        far as these films need them; other parts have no say. Computed once: every call returns the same tensor.

        Returns:
            float32 ``[H, W]`` on the canvas, sums to 1; None if no training reading has gaze.
        """
        return self._mean_training_gaze

    @cached_property
    def _mean_training_gaze(self) -> Tensor | None:
        train = self._datasets["train"]
        gaze = gaze_of(list(train.sample_ids), self.table().fixations)  # whatever gaze_source gives them
        films = train.films[[len(own) > 0 for own in gaze]]
        mean = self._mean_of(gaze, train.films, padded=films).map
        return None if mean is None else mean_on_films(mean, self._boxes(films), self.image_size)

    def leave_geometry_to_task(self, leave: bool = True) -> None:
        """Leave the geometric augmentation of training films to the task, which finds the affine as ``warp``.

        Fixations, boxes and maps move as before, by the same affine; brightness and contrast are changed here. It holds
        for training loaders made from now on. Without augmentation there is no ``warp``.

        Args:
            leave: False undoes it: films are moved here again.
        """
        self._moves_pixels = not leave
        if "train" in self._datasets and self._datasets["train"].augmenter is not None:
            self._datasets["train"].augmenter.moves_pixels = self._moves_pixels

    def write_split(self, path: Path) -> None:
        """Write the split as CSV: ``sample_id, subject, split``. It holds real ids and belongs into the run folder."""
        write_split(self.readings, path)

    def fingerprint(self) -> str:
        """Hash of readings, films, labels, parts, gaze and outlines (`fingerprint_of`); needs `setup`."""
        return fingerprint_of(self.readings, self.table(), self._cache.sizes, self._cache.digest, self.film_fits())

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled, augmented, without the last incomplete batch."""
        dataset = self._datasets["train"]
        rank, world = self._place()
        has_gaze = np.array([len(gaze) > 0 for gaze in dataset.gaze])
        groups = dataset.films if self.reader_policy == "random_reader" else None
        weights = sampling_weights(self.sampling, dataset.labels, has_gaze, groups)
        sampler = TrainingSampler(dataset, self.seed, world, rank, weights, groups)
        batch_size = self._stage_batch_size or self.batch_size
        if len(sampler) < batch_size:
            raise DataError(
                f"An epoch of the training part has {len(sampler)} readings on each of {world} process(es), fewer than "
                f"batch_size {batch_size}. Choose a smaller batch_size."
            )
        return self._loader(dataset, sampler, batch_size, drop_last=True)

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
            if self.align == "chest_box":
                self._own_fits = chest_fits(table, self.image_size, self.chest_margin)
                table = with_alignment_note(table, self._own_fits)
            self._table = table
        return self._table

    def film_fits(self) -> list[FilmFit | None] | None:
        """Where each film lies on the canvas, in the order of the cache, None for a whole film; None: all whole."""
        self.table()
        return self._own_fits

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
        removed = Counter(table.excluded)
        usable = ~np.isin(films, list(self._cache.unreadable))
        removed["readings of films that cannot be read"] += int((~usable).sum())
        parts: Parts = np.full(len(films), "", dtype="<U8")
        if split:
            parts = self.assign_parts(table)
            removed["readings that the split does not name"] += int((usable & (parts == "")).sum())
            usable &= parts != ""
            parts = np.where(usable, parts, "")
            if self.held_out:
                parts, count = hold_out(table.frame, parts, [Path(file) for file in self.held_out])
                removed["readings of patients whom another run tests"] += count
                usable &= parts != ""
            self._announce_split(table.frame, parts)
        self._removed = +removed
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
        trained = np.flatnonzero(usable & (parts == "train"))
        tested = films[usable & (parts == "test")]
        self._training_mean = self._mean_of([gaze[row] for row in trained], films[trained], padded=tested)
        self._has_split = split
        for known in ("_film_statistics", "_mean_training_gaze"):  # of the parts before these
            vars(self).pop(known, None)

    def _announce_split(self, frame: pd.DataFrame, parts: Parts) -> None:
        """Refuse a split in which patients leak, unless a paper's rule was asked for; then say how many."""
        name = f"kfold, fold {self.fold} of {self.folds}" if self.split == "kfold" else self.split
        if self.split in BY_IMAGE:
            leak = leak_summary(frame, parts)
            self.data_note = f"{self.data_note}. Split {name}: {leak}"
            rank_zero_warn(f"Split {name} (a paper's rule, by image): {leak}")
        else:
            assert_disjoint(frame, parts)
            rank_zero_info(f"Split {name}: {split_summary(frame, parts)}.")

    def _weight(self) -> GazeWeight:
        """What a fixation of the table counts for."""
        return mean_weight(self.gaze_weight) if self.reader_policy == "mean_map" else self.gaze_weight

    def _mean_of(self, gaze: Sequence[Fixations], films: Rows, padded: Rows) -> TrainingMean:
        """The mean map of readings, given the film of each; it goes on as far as the films ``padded`` are padded."""
        return TrainingMean(
            self._fits.to_frame(gaze, films),
            self._fits.frame_sizes(films),
            self._weight(),
            self.saliency_size,
            largest_padding(self._fits.frame_sizes(padded), self.image_size),
            self._fits.aligned,
        )

    def _sizes(self, films: Rows) -> list[tuple[int, int]]:
        """(height, width) of the frames in which gaze of these films is exchanged and averaged (`FilmFits`)."""
        return [(int(height), int(width)) for height, width in self._fits.frame_sizes(films)]

    def _boxes(self, films: Rows) -> npt.NDArray[np.float64]:
        """Where films lie on the canvas: x0, y0, x1, y1 ``[n, 4]``, pixels."""
        return self._fits.boxes(films)

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
        if train and self.gaze_source != "own":
            gaze, sizes = self._fits.to_frame(gaze, films[rows]), self._sizes(films[rows])
            if self.gaze_source == "shuffled":
                gaze = shuffled_gaze(gaze, sizes, subjects, self.seed)
            else:
                gaze, weight = mean_gaze(gaze, sizes, weight, self.saliency_size), "duration"
            gaze = self._fits.from_frame(gaze, films[rows])
        augmenter = None
        if train and self.augmentation is not None:
            augmenter = Augmenter(self.augmentation, self.image_size, self.seed, self._moves_pixels)
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
        dataset = self._datasets[part]
        rank, world = self._place()
        size = even_batch_size(len(dataset), world, self.eval_batch_size)
        mean_map = self._training_mean.map if part == "test" else None
        return self._loader(dataset, EvaluationSampler(dataset, world, rank), size, drop_last=False, mean_map=mean_map)

    def _loader(
        self,
        dataset: GazeDataset,
        sampler: DistributedSampler[Any],
        batch_size: int,
        drop_last: bool,
        mean_map: MeanMap | None = None,
    ) -> DataLoader[Sample]:
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return LateLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=partial(collate, mean_map=mean_map),
            pin_memory=on_gpu,
            drop_last=drop_last,
            worker_init_fn=start_worker,
            generator=torch.Generator().manual_seed(self.seed),  # loading draws nothing from the global generator
            persistent_workers=self.num_workers > 0,
        )
