"""CXR-P: gaze on pneumothorax films."""

from pathlib import Path

from data_modules.augment import Augmentation, AugmentationName
from data_modules.base import GazeDataModule
from data_modules.films.intensity import Intensity
from data_modules.gaze_sources import GazeSource, GazeWeight
from data_modules.readings import ReadingTable
from data_modules.sampling import Sampling
from data_modules.sources import Missing
from data_modules.sources.cxr_p import CXR_P_CLASSES, read_cxr_p
from data_modules.sources.cxr_p_films import locate_cxr_p
from data_modules.splits import SplitKind


class CxrPDataModule(GazeDataModule):
    """CXR-P (Saab et al. 2021): a radiologist's gaze on SIIM-ACR films, pneumothorax or not (single-label).

    The gaze is openly licensed, the films have terms of their own, so ``open_data`` is false unless you say otherwise.
    Durations are numbers of merged gaze samples, not seconds. No patient ids exist: leakage cannot be checked. The
    options that it shares with all data modules are described in `GazeDataModule`.

    Args:
        root: folder that holds the gaze (itself, or in ``cxr_p_gaze``) and the films.
        gaze_root: folder of the gaze (``readings.csv`` and ``fixations.csv``, or ``cxr_gaze_data.json`` as published),
            if it does not lie in ``root``.
        films_root: folder of the films (``<image_id>.dcm``, ``.png`` or ``.jpg``, there or anywhere below), if it is
            not ``root``.
        masks_csv: ``train-rle.csv`` of the challenge; None: in ``films_root`` or beside the gaze, if it is there.
        sigma_px: standard deviation of the Gaussian per fixation, film pixels; None: 2.5 % of the padded height
            (`gaze_lightning.gaze.scaled_sigma`).
        open_data: true if the films may leave this machine.
        intensity: how films become grey values; DICOM films need a named policy.
        image_size: (H, W), pixels.
        saliency_size: (h, w), cells.
        batch_size: in training, per process.
        eval_batch_size: in evaluation, per process.
        num_workers: loading processes.
        split: ``official`` is the public train/test list with an eighth of train cut off for validation.
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

    data_note = "CXR-P (gaze of Saab et al. 2021 over SIIM-ACR films)"

    def __init__(
        self,
        root: str | None = None,
        gaze_root: str | None = None,
        films_root: str | None = None,
        masks_csv: str | None = None,
        sigma_px: float | None = None,
        open_data: bool = False,
        intensity: Intensity = "stored",
        image_size: tuple[int, int] = (224, 224),
        saliency_size: tuple[int, int] = (56, 56),
        batch_size: int = 16,
        eval_batch_size: int = 32,
        num_workers: int = 0,
        split: SplitKind = "official",
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
        super().__init__(
            class_names=list(CXR_P_CLASSES),
            label_type="single",
            open_data=open_data,
            intensity=intensity,
            image_size=image_size,
            saliency_size=saliency_size,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            split=split,
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
        self.root = None if root is None else Path(root)
        self.gaze_root = None if gaze_root is None else Path(gaze_root)
        self.films_root = None if films_root is None else Path(films_root)
        self.masks_csv = None if masks_csv is None else Path(masks_csv).expanduser()
        self.sigma_px = sigma_px

    def read_table(self) -> ReadingTable:
        """Read gaze, labels, masks and films.

        Raises:
            DataError: if a folder, file, column or film is missing, or tables contradict each other.
        """
        gaze_root = locate_cxr_p(self.root, self.gaze_root)
        films_root = self.films_root or self.root or gaze_root
        return read_cxr_p(
            gaze_root, films_root.expanduser(), self.masks_csv, sigma_px=self.sigma_px, missing=self.missing
        )
