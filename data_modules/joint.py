"""EyeGaze and REFLACX together."""

from pathlib import Path
from typing import TYPE_CHECKING

from data_modules.alignment import Align
from data_modules.augment import Augmentation, AugmentationName
from data_modules.base import GazeDataModule
from data_modules.films.intensity import Intensity
from data_modules.gaze_sources import GazeSource, GazeWeight
from data_modules.reader_policy import ReaderPolicy, mean_readers, mean_weight
from data_modules.readings import ReadingTable
from data_modules.sampling import Sampling
from data_modules.sources import (
    Blank,
    EgdSigma,
    FilmFormat,
    Labeller,
    Missing,
    PointSource,
    Uncertain,
    locate_egd_cxr,
    locate_films,
    locate_reflacx,
    read_egd_cxr,
    read_reflacx,
)
from data_modules.sources.joint import read_joint
from data_modules.sources.joint_labels import LabelSpace, joint_labels
from data_modules.sources.mimic_cxr import FILMS_NAME
from data_modules.sources.phantom_folder import is_phantom
from data_modules.splits import SplitKind
from gaze_lightning.gaze import REFLACX_SIGMA_DEGREES

if TYPE_CHECKING:
    from data_modules.doctor.finding import Finding


class JointDataModule(GazeDataModule):
    """EyeGaze (EGD-CXR 1.0.0) and REFLACX 1.0.0 over the films of MIMIC-CXR (multi-label).

    Patients and films are the same in both, so that one split holds for all. The options that it shares with all data
    modules are described in `GazeDataModule`, the label spaces in `data_modules.sources.joint_labels`.

    Args:
        root: folder that holds ``physionet.org/files``.
        egd_root: EGD-CXR's own folder, if it does not lie below ``root``.
        reflacx_root: REFLACX's own folder, if it does not lie below ``root``.
        films_root: the own folder of MIMIC-CXR-JPG (or, for ``dicom``, MIMIC-CXR), if it does not lie below ``root``.
        tables_root: folder with the tables of MIMIC-CXR-JPG, if they lie elsewhere.
        label_space: ``findings`` (REFLACX's labels, those of EyeGaze from its master sheet), ``chexpert`` (labels of
            the studies' reports), or ``egd`` (Normal, CHF, pneumonia; unknown on films that only REFLACX has).
        labels: the classes, out of those of the label space; None: all of them.
        labeller: whose labels of the reports: ``chexpert`` or ``negbio``.
        uncertain: what -1 in them becomes: unknown (``ignore``), ``positive`` or ``negative``.
        blank: what becomes of a label that the report does not mention: unknown (``ignore``) or ``negative``.
        phases: phases of REFLACX to read.
        certainty_threshold: a finding of REFLACX is positive from this certainty on (0..5).
        readers: several readings of one film in REFLACX as samples of their own (``separate``), as one sample with the
            mean of their maps and the majority's labels (``mean_map``), or one of all readings of the film drawn per
            epoch (``random_reader``; in evaluation all of them).
        point_source: ``fixations``, or ``raw_samples`` (60 Hz and 1000 Hz).
        raw_step: read every n-th raw sample of REFLACX only, for n times as long.
        sigma: standard deviation of the Gaussian per point of EyeGaze; see `EyeGazeDataModule`.
        sigma_degrees: standard deviation of the Gaussian per fixation of REFLACX, degrees of visual angle.
        films_format: ``jpg`` (MIMIC-CXR-JPG) or ``dicom`` (MIMIC-CXR).
        intensity: how films become grey values; DICOM films need a named policy.
        align: ``film`` places films whole; ``chest_box`` places each so that the mean of its readers' chest boxes fills
            the image, and cuts what lies outside. The boxes are REFLACX's, drawn by people, those of the test films
            too; films without one are placed whole.
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
        gaze_weight: weight of a fixation; ``density`` makes REFLACX's authors' maps and weighs the fixations of
            EyeGaze, whose Gaussians are alike, by their duration.
        augmentation: of training films.
        sampling: how training readings are drawn.
        seed: of order, augmentation, shuffled gaze.
        missing: policy for missing and unreadable films.
        label_fraction: share of the training patients that train.
    """

    data_note = "EyeGaze (EGD-CXR 1.0.0) and REFLACX 1.0.0 over MIMIC-CXR-JPG"

    def __init__(
        self,
        root: str | None = None,
        egd_root: str | None = None,
        reflacx_root: str | None = None,
        films_root: str | None = None,
        tables_root: str | None = None,
        label_space: LabelSpace = "findings",
        labels: list[str] | None = None,
        labeller: Labeller = "chexpert",
        uncertain: Uncertain = "ignore",
        blank: Blank = "ignore",
        phases: list[int] | None = None,
        certainty_threshold: float = 3,
        readers: ReaderPolicy = "separate",
        point_source: PointSource = "fixations",
        raw_step: int = 1,
        sigma: EgdSigma = "ggcam",
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
        split: SplitKind = "stratified",
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
            class_names=list(joint_labels(label_space, labels)),
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
            gaze_weight=mean_weight(gaze_weight) if readers == "mean_map" else gaze_weight,
            augmentation=augmentation,
            sampling=sampling,
            seed=seed,
            missing=missing,
            label_fraction=label_fraction,
        )
        self.root = None if root is None else Path(root)
        self.egd_root = None if egd_root is None else Path(egd_root)
        self.reflacx_root = None if reflacx_root is None else Path(reflacx_root)
        self.films_root = None if films_root is None else Path(films_root)
        self.tables_root = None if tables_root is None else Path(tables_root)
        self.label_space: LabelSpace = label_space
        self.labeller: Labeller = labeller
        self.uncertain: Uncertain = uncertain
        self.blank: Blank = blank
        self.phases = (1, 2, 3) if phases is None else tuple(phases)
        self.certainty_threshold = certainty_threshold
        self.mean_map = readers == "mean_map"
        self.reader_policy = "random_reader" if readers == "random_reader" else "separate"
        self.align = align
        self.chest_margin = chest_margin
        self.point_source: PointSource = point_source
        self.raw_step = raw_step
        self.sigma: EgdSigma = sigma
        self.sigma_degrees = sigma_degrees
        self.films_format: FilmFormat = films_format
        self.data_note = self.data_note.replace(FILMS_NAME["jpg"], FILMS_NAME[films_format])
        self.weight_of_readers: GazeWeight = gaze_weight

    def source_checks(self) -> list["Finding"]:
        """Compare what each source says twice; see the modules of the sources."""
        from data_modules.sources.egd_findings import egd_findings  # the doctor knows the data modules
        from data_modules.sources.mimic_check import check_mimic_labels
        from data_modules.sources.reflacx_check import check_reflacx

        known = not is_phantom(self.root)
        films = locate_films(self.root, self.films_root, self.films_format, self.tables_root)
        egd = locate_egd_cxr(self.root, self.egd_root, self.point_source)
        reflacx = locate_reflacx(self.root, self.reflacx_root, self.phases)
        findings = [*egd_findings(egd, films, self.point_source, known), *check_reflacx(reflacx, self.phases, known)]
        return findings + (check_mimic_labels(films.table_folder, egd) if self.label_space == "chexpert" else [])

    def read_table(self) -> ReadingTable:
        """Read both sources and their films.

        Raises:
            DataError: if a folder, file, column or film is missing, or tables contradict each other.
        """
        films = locate_films(self.root, self.films_root, self.films_format, self.tables_root)
        egd_root = locate_egd_cxr(self.root, self.egd_root, self.point_source, "data.init_args.egd_root")
        egd = read_egd_cxr(egd_root, films, point_source=self.point_source, sigma=self.sigma, missing=self.missing)
        reflacx = read_reflacx(
            locate_reflacx(self.root, self.reflacx_root, self.phases, "data.init_args.reflacx_root"),
            films,
            phases=self.phases,
            labels=self.class_names if self.label_space == "findings" else None,
            certainty_threshold=self.certainty_threshold,
            sigma_degrees=self.sigma_degrees,
            point_source=self.point_source,
            raw_step=self.raw_step,
            missing=self.missing,
        )
        if self.mean_map:  # EyeGaze has one reader; its durations follow the weight all the same
            egd, reflacx = (mean_readers(table, self.weight_of_readers) for table in (egd, reflacx))
        return read_joint(
            egd,
            reflacx,
            label_space=self.label_space,
            labels=self.class_names,
            egd_root=egd_root,
            films=films,
            labeller=self.labeller,
            uncertain=self.uncertain,
            blank=self.blank,
        )
