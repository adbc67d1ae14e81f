"""LightningModules: one per method."""

from gaze_lightning.tasks.attention_classifier import AttentionClassifier
from gaze_lightning.tasks.base import GazeTask
from gaze_lightning.tasks.classifier import Classifier
from gaze_lightning.tasks.cooperative import Cooperative
from gaze_lightning.tasks.ggcam import GGCAM
from gaze_lightning.tasks.multi_task import MultiTask
from gaze_lightning.tasks.multi_task_unet import MultiTaskUNet

__all__ = ["GGCAM", "AttentionClassifier", "Classifier", "Cooperative", "GazeTask", "MultiTask", "MultiTaskUNet"]
