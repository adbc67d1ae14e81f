"""REFLACX 1.0.0."""

from pathlib import Path
from typing import TYPE_CHECKING

from data_modules.alignment import Align
from data_modules.augment import Augmentation, AugmentationName
from data_modules.base import GazeDataModule
from data_modules.films.intensity import Intensity
from data_modules.gaze_sources import GazeSource, GazeWeight
from data_modules.reader_policy import ReaderPolicy
from data_modules.readings import ReadingTable
from data_modules.sampling import Sampling
from data_modules.sources import (
    REFLACX_LABELS,
    FilmFormat,
    Missing,
    PointSource,
    locate_films,
    locate_reflacx,
    read_reflacx,
)
from data_modules.sources.mimic_cxr import FILMS_NAME
from data_modules.sources.phantom_folder import is_phantom
from data_modules.splits import SplitKind
from gaze_lightning.gaze import REFLACX_SIGMA_DEGREES

if TYPE_CHECKING:
    from data_modules.doctor.finding import Finding


class ReflacxDataModule(GazeDataModule):
    """REFLACX 1.0.0 over the films of MIMIC-CXR (multi-label).

    Readings of one film share a patient, hence a part of the split. The options that it shares with all data modules
    are described in `GazeDataModule`.

    Args:
        root: folder that holds ``physionet.org/files``, or REFLACX's own folder.
        films_root: the own folder of MIMIC-CXR-JPG (or, for ``dicom``, MIMIC-CXR), if it does not lie below ``root``.
        tables_root: folder with the tables of MIMIC-CXR-JPG, if they lie elsewhere.
        phases: phases of the study to read.
        labels: the classes; None: all 14 of phases 2 and 3.
        certainty_threshold: a label is positive from this certainty on (0..5).
        readers: several readings of one film as samples of their own (``separate``), as one sample with the mean of
            their maps and the majority's labels (``mean_map``), or one of them drawn per epoch (``random_reader``; in
            evaluation all of them).
        point_source: ``fixations``, or ``raw_samples`` (``gaze_data``, 1000 Hz; all of them take about 6 GB of memory).
        raw_step: read every n-th raw sample only, for n times as long.
        sigma_degrees: standard deviation of the Gaussian per fixation, degrees of visual angle.
        films_format: ``jpg`` (MIMIC-CXR-JPG) or ``dicom`` (MIMIC-CXR).
        intensity: how films become grey values; DICOM films need a named policy.
        align: ``film`` places films whole; ``chest_box`` places each so that the mean of its readers' chest boxes fills
            the image, and cuts what lies outside. The boxes are drawn by people, those of the test films too; films
            without one are placed whole.
        chest_margin: what ``chest_box`` shows around the box on each side, as a fraction of its width and height.
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
        gaze_weight: weight of a fixation; ``density`` makes the authors' maps.
        augmentation: of training films.
        sampling: how training readings are drawn.
        seed: of order, augmentation, shuffled gaze.
        missing: policy for missing and unreadable films.
        label_fraction: share of the training patients that train.
    """

    data_note = "REFLACX 1.0.0 over MIMIC-CXR-JPG"

    def __init__(
        self,
        root: str | None = None,
        films_root: str | None = None,
        tables_root: str | None = None,
        phases: list[int] | None = None,
        labels: list[str] | None = None,
        certainty_threshold: float = 3,
        readers: ReaderPolicy = "separate",
        point_source: PointSource = "fixations",
        raw_step: int = 1,
        sigma_degrees: float = REFLACX_SIGMA_DEGREES,
        films_format: FilmFormat = "jpg",
        intensity: Intensity = "stored",
        align: Align = "film",
        chest_margin: float = 0.1,
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
        gaze_weight: GazeWeight = "density",
        augmentation: AugmentationName | Augmentation = "none",
        sampling: Sampling = "shuffled",
        seed: int = 0,
        missing: Missing = "error",
        label_fraction: float = 1.0,
    ) -> None:
        super().__init__(
            class_names=list(REFLACX_LABELS if labels is None else labels),
            label_type="multi",
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
        self.phases = (1, 2, 3) if phases is None else tuple(phases)
        self.certainty_threshold = certainty_threshold
        self.reader_policy = readers
        self.align = align
        self.chest_margin = chest_margin
        self.point_source: PointSource = point_source
        self.raw_step = raw_step
        self.sigma_degrees = sigma_degrees

    def source_checks(self) -> list["Finding"]:
        """Compare what REFLACX says twice: certainties, parts on screen and film sizes, checksums."""
        from data_modules.sources.checksums import check_sums  # the doctor knows the data modules
        from data_modules.sources.reflacx_check import check_reflacx

        root = locate_reflacx(self.root, phases=self.phases)
        tables = [f"main_data/metadata_phase_{phase}.csv" for phase in self.phases]
        return [*check_reflacx(root, self.phases, not is_phantom(self.root)), *check_sums(root, tables)]

    def read_table(self) -> ReadingTable:
        """Read REFLACX and its films.

        Raises:
            DataError: if a folder, file, column or film is missing, or tables contradict each other.
        """
        return read_reflacx(
            locate_reflacx(self.root, phases=self.phases),
            locate_films(self.root, self.films_root, self.films_format, self.tables_root),
            phases=self.phases,
            labels=self.class_names,
            certainty_threshold=self.certainty_threshold,
            sigma_degrees=self.sigma_degrees,
            point_source=self.point_source,
            raw_step=self.raw_step,
            missing=self.missing,
        )
