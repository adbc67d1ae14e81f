"""Data modules: from each source's files to batches (see `gaze_lightning.batch.Batch`)."""

from data_modules.augment import Augmentation
from data_modules.base import GazeDataModule
from data_modules.egd_cxr import EyeGazeDataModule
from data_modules.errors import DataError
from data_modules.folder import FolderDataModule
from data_modules.manifest import ManifestDataModule
from data_modules.phantom_module import PhantomDataModule
from data_modules.reflacx import ReflacxDataModule
from data_modules.split import write_split

__all__ = [
    "Augmentation",
    "DataError",
    "EyeGazeDataModule",
    "FolderDataModule",
    "GazeDataModule",
    "ManifestDataModule",
    "PhantomDataModule",
    "ReflacxDataModule",
    "write_split",
]
