"""Anybody's own films."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.utilities import rank_zero_info

from data_modules.alignment import Align
from data_modules.augment import Augmentation, AugmentationName
from data_modules.base import GazeDataModule
from data_modules.errors import DataError
from data_modules.films.intensity import Intensity
from data_modules.gaze_sources import GazeSource, GazeWeight
from data_modules.reader_policy import ReaderPolicy
from data_modules.readings import ReadingTable
from data_modules.sampling import Sampling
from data_modules.sources import FixationColumns, Missing, read_manifest
from data_modules.sources.manifest_discovery import discover
from data_modules.splits import SplitKind


class ManifestDataModule(GazeDataModule):
    """Own films: a CSV of images with labels, a CSV of fixations, or both.

    With ``label_columns`` multi-label, with ``class_column`` and ``class_names`` single-label, with neither good for
    what needs gaze only, and for prediction. Where no table is named, the folder is looked through for tables and
    columns with the usual names (`data_modules.sources.manifest_discovery`), and what was recognised is said. The
    options that it shares with all data modules are described in `GazeDataModule`.

    Args:
        root: folder that the image paths are relative to.
        images_csv: one row per image; relative to ``root``.
        fixations_csv: one row per fixation; relative to ``root``.
        image_column: column with the image's path below ``root``.
        subject_column: column with the patient; None: every image is a patient of its own.
        split_column: column with train, validate or test; then ``split`` is official.
        label_columns: one column per class, 1 / 0 / blank.
        class_column: one column with the name of the class.
        class_names: the names in ``class_column``, in the order wanted.
        fixation_columns: the layout of ``fixations_csv``.
        readers: several readers of one image as samples of their own (``separate``), as one sample with the mean of
            their maps (``mean_map``) or with all fixations at once (``merged``), or one of them drawn per epoch
            (``random_reader``; in evaluation all of them).
        sigma_px: standard deviation of the Gaussian per fixation, image pixels; None: 2.5 % of the padded height
            (`gaze_lightning.gaze.scaled_sigma`).
        open_data: true if the films may leave this machine (openly licensed).
        intensity: how films become grey values; DICOM films need a named policy.
        align: ``film`` places films whole; ``chest_box`` places each so that its chest box fills the network's image,
            and cuts what lies outside; films without one are placed whole.
        chest_box_columns: four columns of ``images_csv``: left, upper, right and lower edge of the chest, pixels of the
            image file; blank where it is not known.
        chest_margin: what ``chest_box`` shows around the box on each side, as a fraction of its width and height.
        image_size: (H, W), pixels.
        saliency_size: (h, w), cells.
        batch_size: in training, per process.
        eval_batch_size: in evaluation, per process.
        num_workers: loading processes.
        split: the patient split; None: ``official`` with ``split_column``, ``stratified`` without.
        split_seed: of the stratified split.
        split_file: of the file split.
        folds: of the k-fold split.
        fold: the one that is tested.
        held_out: split.csv files of runs whose test patients must not train here.
        cache_dir: folder of the resized films.
        gaze_source: gaze of training samples.
        gaze_weight: weight of a fixation.
        augmentation: of training films.
        sampling: how training readings are drawn.
        seed: of order, augmentation, shuffled gaze.
        missing: policy for missing and unreadable films.
        label_fraction: share of the training patients that train.
    """

    data_note = "own films (manifest)"

    resolved: Mapping[str, Any] = {}
    """Arguments that were recognised in the folder: a run's configuration keeps them, whatever the folder becomes."""

    def __init__(
        self,
        root: str | None = None,
        images_csv: str | None = None,
        fixations_csv: str | None = None,
        image_column: str = "image",
        subject_column: str | None = None,
        split_column: str | None = None,
        label_columns: list[str] | None = None,
        class_column: str | None = None,
        class_names: list[str] | None = None,
        fixation_columns: FixationColumns | None = None,
        readers: ReaderPolicy | Literal["merged"] = "separate",
        sigma_px: float | None = None,
        open_data: bool = False,
        intensity: Intensity = "stored",
        align: Align = "film",
        chest_box_columns: list[str] | None = None,
        chest_margin: float = 0.1,
        image_size: tuple[int, int] = (224, 224),
        saliency_size: tuple[int, int] = (56, 56),
        batch_size: int = 16,
        eval_batch_size: int = 32,
        num_workers: int = 0,
        split: SplitKind | None = None,
        split_seed: int = 0,
        split_file: str | None = None,
        folds: int = 5,
        fold: int = 0,
        held_out: list[str] | None = None,
        cache_dir: str = "./data/cache",
        gaze_source: GazeSource = "own",
        gaze_weight: GazeWeight = "duration",
        augmentation: AugmentationName | Augmentation = "none",
        sampling: Sampling = "shuffled",
        seed: int = 0,
        missing: Missing = "error",
        label_fraction: float = 1.0,
    ) -> None:
        if root is not None and images_csv is None and fixations_csv is None:
            found = discover(Path(root).expanduser())
            rank_zero_info(found.announcement())
            images_csv, fixations_csv = found.images_csv, found.fixations_csv
            subject_column = subject_column or found.subject_column
            if split in (None, "official"):
                split_column = split_column or found.split_column
            if class_column is None:
                label_columns = label_columns or list(found.label_columns)
            fixation_columns = fixation_columns or found.fixation_columns
            self.resolved = {
                "images_csv": images_csv,
                "fixations_csv": fixations_csv,
                "subject_column": subject_column,
                "split_column": split_column,
                "label_columns": label_columns,
                "fixation_columns": None if fixation_columns is None else asdict(fixation_columns),
            }
        if class_column is not None and not class_names:
            raise ValueError("class_column needs class_names: the names that occur in it, in the order wanted")
        if split_column is not None and split not in (None, "official"):
            raise ValueError(f"split_column is read for split: official only, not for split: {split}; leave one out")
        super().__init__(
            class_names=list(class_names or label_columns or []),
            label_type="multi" if class_column is None else "single",
            open_data=open_data,
            intensity=intensity,
            image_size=image_size,
            saliency_size=saliency_size,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            split=split or ("stratified" if split_column is None else "official"),
            split_seed=split_seed,
            split_file=split_file,
            folds=folds,
            fold=fold,
            held_out=held_out,
            cache_dir=cache_dir,
            gaze_source=gaze_source,
            gaze_weight=gaze_weight,
            augmentation=augmentation,
            sampling=sampling,
            seed=seed,
            missing=missing,
            label_fraction=label_fraction,
        )
        self.root = root
        self.images_csv = None if images_csv is None else Path(images_csv)
        self.fixations_csv = None if fixations_csv is None else Path(fixations_csv)
        self.image_column = image_column
        self.subject_column = subject_column
        self.split_column = split_column
        self.label_columns = label_columns or []
        self.class_column = class_column
        self.fixation_columns = fixation_columns
        self.merged = readers == "merged"
        if readers != "merged":
            self.reader_policy = readers
        self.sigma_px = sigma_px
        self.align = align
        self.chest_box_columns = chest_box_columns or []
        self.chest_margin = chest_margin

    @property
    def gaze_remedy(self) -> str:
        """What a user can do where no training reading has gaze."""
        if self.fixations_csv is None:
            return "name the table of the fixations (data.init_args.fixations_csv)"
        return "look at data.init_args.split: the fixations are of images outside the training part"

    def read_table(self) -> ReadingTable:
        """Read the CSV tables.

        Raises:
            DataError: if no table is given, or a file, column or image is missing or cannot be right.
        """
        if self.root is None:
            raise DataError("Own films need DATA_ROOT=<their folder> (data.init_args.root).")
        return read_manifest(
            Path(self.root).expanduser(),
            self.images_csv,
            self.fixations_csv,
            image_column=self.image_column,
            subject_column=self.subject_column,
            split_column=self.split_column,
            label_columns=self.label_columns,
            class_column=self.class_column,
            class_names=self.class_names if self.class_column is not None else None,
            fixation_columns=self.fixation_columns,
            readers="merged" if self.merged else "separate",
            sigma_px=self.sigma_px,
            chest_box_columns=self.chest_box_columns,
            missing=self.missing,
        )
