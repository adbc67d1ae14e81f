"""LightningModules: one per method."""

from gaze_lightning.tasks.attention_classifier import AttentionClassifier
from gaze_lightning.tasks.base import GazeTask
from gaze_lightning.tasks.byol import BYOL
from gaze_lightning.tasks.classifier import Classifier
from gaze_lightning.tasks.contrastive import ContrastiveTask
from gaze_lightning.tasks.cooperative import Cooperative
from gaze_lightning.tasks.ggcam import GGCAM
from gaze_lightning.tasks.moco import MoCo
from gaze_lightning.tasks.multi_task import MultiTask
from gaze_lightning.tasks.multi_task_unet import MultiTaskUNet
from gaze_lightning.tasks.pretrained_classifier import PretrainedClassifier
from gaze_lightning.tasks.simclr import SimCLR
from gaze_lightning.tasks.simsiam import SimSiam

__all__ = [
    "BYOL",
    "GGCAM",
    "AttentionClassifier",
    "Classifier",
    "ContrastiveTask",
    "Cooperative",
    "GazeTask",
    "MoCo",
    "MultiTask",
    "MultiTaskUNet",
    "PretrainedClassifier",
    "SimCLR",
    "SimSiam",
]
