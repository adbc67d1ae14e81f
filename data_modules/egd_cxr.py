"""EyeGaze (EGD-CXR 1.0.0)."""

from pathlib import Path
from typing import TYPE_CHECKING

from data_modules.augment import Augmentation, AugmentationName
from data_modules.base import GazeDataModule
from data_modules.films.intensity import Intensity
from data_modules.gaze_sources import GazeSource, GazeWeight
from data_modules.readings import ReadingTable
from data_modules.sampling import Sampling
from data_modules.sources import (
    EGD_CLASSES,
    EgdSigma,
    FilmFormat,
    Missing,
    PointSource,
    locate_egd_cxr,
    locate_films,
    read_egd_cxr,
)
from data_modules.sources.mimic_cxr import FILMS_NAME
from data_modules.sources.phantom_folder import is_phantom
from data_modules.splits import SplitKind

if TYPE_CHECKING:
    from data_modules.doctor.finding import Finding


class EyeGazeDataModule(GazeDataModule):
    """EyeGaze (EGD-CXR 1.0.0) over the films of MIMIC-CXR: Normal, CHF, pneumonia (single-label).

    The options that it shares with all data modules are described in `GazeDataModule`.

    Args:
        root: folder that holds ``physionet.org/files``, or EGD-CXR's own folder.
        films_root: the own folder of MIMIC-CXR-JPG (or, for ``dicom``, MIMIC-CXR), if it does not lie below ``root``.
        tables_root: folder with the tables of MIMIC-CXR-JPG, if they lie elsewhere.
        point_source: ``fixations``, or ``raw_samples`` (60 Hz; the setting of GG-CAM).
        sigma: standard deviation of the Gaussian per point: ``ggcam`` (2.5 % of the height of the film padded to 6:5),
            ``egd`` (150 px, the data set's authors), or film pixels.
        films_format: ``jpg`` (MIMIC-CXR-JPG) or ``dicom`` (MIMIC-CXR).
        intensity: how films become grey values; DICOM films need a named policy.
        image_size: (H, W), pixels.
        saliency_size: (h, w), cells.
        batch_size: in training, per process.
        eval_batch_size: in evaluation, per process.
        num_workers: loading processes.
        split: the patient split.
        split_seed: of the stratified split.
        split_file: of the file split.
        folds: of the k-fold split.
        fold: the one that is tested.
        held_out: split.csv files of runs whose test patients must not train here.
        cache_dir: folder of the resized films.
        gaze_source: gaze of training samples.
        gaze_weight: weight of a point.
        augmentation: of training films.
        sampling: how training readings are drawn.
        seed: of order, augmentation, shuffled gaze.
        missing: policy for missing and unreadable films.
        label_fraction: share of the training patients that train.
    """

    data_note = "EyeGaze (EGD-CXR 1.0.0) over MIMIC-CXR-JPG"

    def __init__(
        self,
        root: str | None = None,
        films_root: str | None = None,
        tables_root: str | None = None,
        point_source: PointSource = "fixations",
        sigma: EgdSigma = "ggcam",
        films_format: FilmFormat = "jpg",
        intensity: Intensity = "stored",
        image_size: tuple[int, int] = (224, 224),
        saliency_size: tuple[int, int] = (56, 56),
        batch_size: int = 16,
        eval_batch_size: int = 32,
        num_workers: int = 0,
        split: SplitKind = "stratified",
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
            class_names=list(EGD_CLASSES),
            label_type="single",
            open_data=False,
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
        self.films_root = None if films_root is None else Path(films_root)
        self.tables_root = None if tables_root is None else Path(tables_root)
        self.films_format: FilmFormat = films_format
        self.data_note = self.data_note.replace(FILMS_NAME["jpg"], FILMS_NAME[films_format])
        self.point_source: PointSource = point_source
        self.sigma: EgdSigma = sigma
        self.lesion_root: Path | None = None

    def source_checks(self) -> list["Finding"]:
        """Compare what EGD-CXR says twice: coordinates on film and screen, classes and findings, checksums."""
        from data_modules.sources.egd_findings import egd_findings  # the doctor knows the data modules

        root = locate_egd_cxr(self.root, point_source=self.point_source)
        films = locate_films(self.root, self.films_root, self.films_format, self.tables_root)
        return egd_findings(root, films, self.point_source, known_count=not is_phantom(self.root))

    def read_table(self) -> ReadingTable:
        """Read EGD-CXR and its films.

        Raises:
            DataError: if a folder, file, column or film is missing, or tables contradict each other.
        """
        return read_egd_cxr(
            locate_egd_cxr(self.root, point_source=self.point_source),
            locate_films(self.root, self.films_root, self.films_format, self.tables_root),
            point_source=self.point_source,
            sigma=self.sigma,
            missing=self.missing,
            lesion_root=self.lesion_root,
        )
