"""LightningModules: one per method."""

from gaze_lightning.tasks.base import GazeTask
from gaze_lightning.tasks.classifier import Classifier
from gaze_lightning.tasks.ggcam import GGCAM

__all__ = ["GGCAM", "Classifier", "GazeTask"]
