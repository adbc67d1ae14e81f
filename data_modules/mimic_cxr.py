"""MIMIC-CXR, as JPG or DICOM."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data_modules.augment import Augmentation, AugmentationName
from data_modules.base import GazeDataModule
from data_modules.errors import DataError
from data_modules.films.intensity import Intensity
from data_modules.gaze_sources import GazeSource, GazeWeight
from data_modules.reader_policy import mean_weight
from data_modules.readings import ReadingTable
from data_modules.sampling import Sampling
from data_modules.sources import (
    MIMIC_LABELS,
    Blank,
    EgdSigma,
    FilmFormat,
    FilmIndex,
    Labeller,
    Missing,
    TestLabels,
    Uncertain,
    Unlabelled,
    locate_egd_cxr,
    locate_films,
    locate_reflacx,
    read_egd_cxr,
    read_mimic_cxr,
    read_reflacx,
)
from data_modules.sources.mimic_cxr import FILMS_NAME
from data_modules.sources.mimic_labels import labeller_table
from data_modules.sources.mimic_tables import METADATA, SPLIT
from data_modules.sources.phantom_folder import is_phantom
from data_modules.splits import SplitKind
from gaze_lightning.gaze import REFLACX_SIGMA_DEGREES

if TYPE_CHECKING:
    from data_modules.doctor.finding import Finding


class MimicCXRDataModule(GazeDataModule):
    """MIMIC-CXR over all its films (multi-label): for baselines and for pre-training, with gaze where there is some.

    One reading per film, with the labels of its study. The options that it shares with all data modules are described
    in `GazeDataModule`, the meaning of the labels in `data_modules.sources.mimic_labels`. For pre-training without
    labels set ``unlabelled`` to ``keep``.

    Args:
        root: folder that holds ``physionet.org/files``, or the films' own folder.
        films_root: the own folder of MIMIC-CXR-JPG (or, for ``dicom``, MIMIC-CXR), if it does not lie below ``root``.
        tables_root: folder with the tables of MIMIC-CXR-JPG, if they lie elsewhere.
        labeller: whose labels: ``chexpert`` or ``negbio``.
        labels: the classes; None: all 14.
        uncertain: what -1 becomes: unknown (``ignore``), ``positive`` or ``negative``.
        blank: what becomes of a label that the report does not mention: unknown (``ignore``) or ``negative``.
        views: values of ViewPosition to keep; None: all films.
        test_labels: whose labels the test part gets: the ``labeller``'s, or one ``radiologist``'s (MIMIC-CXR-JPG 2.1.0,
            some of the test reports; needs the official split).
        unlabelled: whether films of studies without labels are left out or kept with unknown labels.
        gaze_sources: sources in ``root`` whose gaze is attached to their films; None: no gaze. Several readings of a
            film become one, the mean of the readers' maps.
        egd_root: EGD-CXR's own folder, if it does not lie below ``root``.
        reflacx_root: REFLACX's own folder, if it does not lie below ``root``.
        sigma: standard deviation of the Gaussian per fixation of EyeGaze; see `EyeGazeDataModule`.
        sigma_degrees: standard deviation of the Gaussian per fixation of REFLACX, degrees of visual angle.
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
        gaze_weight: weight of a fixation.
        augmentation: of training films.
        sampling: how training readings are drawn.
        seed: of order, augmentation, shuffled gaze.
        missing: policy for missing and unreadable films.
        label_fraction: share of the training patients that train.
    """

    data_note = "MIMIC-CXR-JPG"

    def __init__(
        self,
        root: str | None = None,
        films_root: str | None = None,
        tables_root: str | None = None,
        labeller: Labeller = "chexpert",
        labels: list[str] | None = None,
        uncertain: Uncertain = "ignore",
        blank: Blank = "ignore",
        views: list[str] | None = ["PA", "AP"],  # noqa: B006 - never changed; the CLI prints it as the default
        test_labels: TestLabels = "labeller",
        unlabelled: Unlabelled = "drop",
        gaze_sources: list[Literal["egd_cxr", "reflacx"]] | None = None,
        egd_root: str | None = None,
        reflacx_root: str | None = None,
        sigma: EgdSigma = "ggcam",
        sigma_degrees: float = REFLACX_SIGMA_DEGREES,
        films_format: FilmFormat = "jpg",
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
        if test_labels == "radiologist" and split != "official":
            raise ValueError(f"a radiologist labelled films of the official test part only; split is {split}")
        super().__init__(
            class_names=list(MIMIC_LABELS if labels is None else labels),
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
            gaze_weight=mean_weight(gaze_weight) if gaze_sources else gaze_weight,
            augmentation=augmentation,
            sampling=sampling,
            seed=seed,
            missing=missing,
            label_fraction=label_fraction,
        )
        self.root = None if root is None else Path(root)
        self.films_root = None if films_root is None else Path(films_root)
        self.tables_root = None if tables_root is None else Path(tables_root)
        self.labeller: Labeller = labeller
        self.uncertain: Uncertain = uncertain
        self.blank: Blank = blank
        self.views = None if views is None else tuple(views)
        self.test_labels: TestLabels = test_labels
        self.unlabelled: Unlabelled = unlabelled
        self.gaze_sources = tuple(gaze_sources or ())
        self.egd_root = None if egd_root is None else Path(egd_root)
        self.reflacx_root = None if reflacx_root is None else Path(reflacx_root)
        self.sigma: EgdSigma = sigma
        self.sigma_degrees = sigma_degrees
        self.films_format: FilmFormat = films_format
        self.data_note = self.data_note.replace(FILMS_NAME["jpg"], FILMS_NAME[films_format])
        self.weight_of_readers: GazeWeight = gaze_weight

    @property
    def gaze_remedy(self) -> str:
        """What a user can do where no training reading has gaze."""
        if not self.gaze_sources:
            return "name sources of gaze (data.init_args.gaze_sources=[egd_cxr] or [reflacx])"
        sources = " and ".join(self.gaze_sources)
        return f"look at data.init_args.split and views: no film of {sources} is in the training part"

    def source_checks(self) -> list["Finding"]:
        """Compare what the tables, and those of the gaze attached, say twice; see the modules of the sources."""
        from data_modules.sources.checksums import check_sums  # the doctor knows the data modules
        from data_modules.sources.egd_findings import egd_findings
        from data_modules.sources.mimic_check import check_mimic_labels
        from data_modules.sources.reflacx_check import check_reflacx

        films = locate_films(self.root, self.films_root, self.films_format, self.tables_root)
        folder, known = films.table_folder, not is_phantom(self.root)
        names = [METADATA, SPLIT, labeller_table("chexpert"), labeller_table("negbio")]
        sums = check_sums(folder, [name + end for name in names for end in ("", ".gz")])
        findings = [*check_mimic_labels(folder, _egd_beside(self.root)), *sums]
        if "egd_cxr" in self.gaze_sources:
            findings += egd_findings(self._gaze_root("egd_cxr"), films, "fixations", known)
        if "reflacx" in self.gaze_sources:
            findings += check_reflacx(self._gaze_root("reflacx"), (1, 2, 3), known)
        return findings

    def read_table(self) -> ReadingTable:
        """Read MIMIC-CXR, and the gaze of other sources on its films.

        Raises:
            DataError: if a folder, file, column or film is missing, or tables contradict each other.
        """
        films = locate_films(self.root, self.films_root, self.films_format, self.tables_root)
        return read_mimic_cxr(
            films,
            labeller=self.labeller,
            labels=self.class_names,
            uncertain=self.uncertain,
            blank=self.blank,
            views=self.views,
            test_labels=self.test_labels,
            unlabelled=self.unlabelled,
            missing=self.missing,
            gaze={name: self._gaze(name, films) for name in self.gaze_sources},
            gaze_weight=self.weight_of_readers,
        )

    def _gaze(self, name: Literal["egd_cxr", "reflacx"], films: FilmIndex) -> ReadingTable:
        root = self._gaze_root(name)
        if name == "egd_cxr":
            return read_egd_cxr(root, films, sigma=self.sigma, missing=self.missing)
        return read_reflacx(root, films, sigma_degrees=self.sigma_degrees, missing=self.missing)

    def _gaze_root(self, name: Literal["egd_cxr", "reflacx"]) -> Path:
        if name == "egd_cxr":
            return locate_egd_cxr(self.root, self.egd_root, argument="data.init_args.egd_root")
        return locate_reflacx(self.root, self.reflacx_root, argument="data.init_args.reflacx_root")


def _egd_beside(root: Path | None) -> Path | None:
    """The folder of EGD-CXR, if it lies below the same root."""
    try:
        return None if root is None else locate_egd_cxr(root)
    except DataError:
        return None
