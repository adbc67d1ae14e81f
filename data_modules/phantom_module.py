"""The built-in phantom."""

from pathlib import Path

from pytorch_lightning.utilities import rank_zero_info

from data_modules.augment import Augmentation, AugmentationName
from data_modules.egd_cxr import EyeGazeDataModule
from data_modules.films.intensity import Intensity
from data_modules.gaze_sources import GazeSource, GazeWeight
from data_modules.phantom.knobs import PhantomKnobs
from data_modules.phantom.write import is_complete, write_phantom
from data_modules.sampling import Sampling
from data_modules.sources import EgdSigma, Missing, PointSource
from data_modules.splits import SplitKind


class PhantomDataModule(EyeGazeDataModule):
    """Synthetic chest films with simulated reading gaze, read through the EyeGaze reader (single-label).

    Written on first use. Same knobs, same films. A test bench, never clinical evidence. The knobs are described in
    `PhantomKnobs`, the options that it shares with all data modules in `GazeDataModule`.

    Args:
        root: folder of the phantom; made if absent.
        n_train: training patients.
        n_validate: validation patients.
        n_test: test patients.
        height: typical film height, pixels.
        width: typical film width, pixels.
        phantom_seed: of everything that is drawn.
        chf_contrast: strength of the signs of heart failure.
        pneumonia_contrast: strength of the consolidation.
        gaze_lesion_share: share of dwell time on findings.
        gaze_noise: standard deviation of fixations, fraction of the film's height.
        gaze_miss_rate: share of abnormal films whose finding the reader overlooks.
        missing_gaze: share of films without gaze.
        shortcut: share of training films whose class a bright tag gives away.
        point_source: ``fixations``, or ``raw_samples``, which are then written as well (large).
        sigma: standard deviation of the Gaussian per point: ``ggcam`` (2.5 % of the height of the film padded to 6:5),
            ``egd`` (150 px, the data set's authors), or film pixels.
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

    data_note = "Phantom: drawn films, simulated gaze; a test bench, no clinical evidence"

    def __init__(
        self,
        root: str = "./data/phantom",
        n_train: int = PhantomKnobs.n_train,
        n_validate: int = PhantomKnobs.n_validate,
        n_test: int = PhantomKnobs.n_test,
        height: int = PhantomKnobs.height,
        width: int = PhantomKnobs.width,
        phantom_seed: int = PhantomKnobs.seed,
        chf_contrast: float = PhantomKnobs.chf_contrast,
        pneumonia_contrast: float = PhantomKnobs.pneumonia_contrast,
        gaze_lesion_share: float = PhantomKnobs.gaze_lesion_share,
        gaze_noise: float = PhantomKnobs.gaze_noise,
        gaze_miss_rate: float = PhantomKnobs.gaze_miss_rate,
        missing_gaze: float = PhantomKnobs.missing_gaze,
        shortcut: float = PhantomKnobs.shortcut,
        point_source: PointSource = "fixations",
        sigma: EgdSigma = "ggcam",
        intensity: Intensity = "stored",
        image_size: tuple[int, int] = (96, 80),
        saliency_size: tuple[int, int] = (48, 40),
        batch_size: int = 16,
        eval_batch_size: int = 64,
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
            root=root,
            point_source=point_source,
            sigma=sigma,
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
        self.open_data = True
        self.folder = Path(root).expanduser()
        self.lesion_root = self.folder / "phantom_truth"
        self.knobs = PhantomKnobs(
            n_train=n_train,
            n_validate=n_validate,
            n_test=n_test,
            height=height,
            width=width,
            seed=phantom_seed,
            chf_contrast=chf_contrast,
            pneumonia_contrast=pneumonia_contrast,
            gaze_lesion_share=gaze_lesion_share,
            gaze_noise=gaze_noise,
            gaze_miss_rate=gaze_miss_rate,
            missing_gaze=missing_gaze,
            shortcut=shortcut,
            raw_gaze=point_source == "raw_samples",
        )

    def prepare_data(self) -> None:
        """Write the phantom if it is not there yet, then build the cache.

        Raises:
            DataError: if the folder holds something else, or a phantom of other knobs.
        """
        if not is_complete(self.folder, self.knobs):
            rank_zero_info(f"Drawing the phantom into {self.folder} (once).")
            write_phantom(self.folder, self.knobs)
        super().prepare_data()
