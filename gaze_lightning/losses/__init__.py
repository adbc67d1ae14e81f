"""Losses as plain ``nn.Module``s."""

from gaze_lightning.losses.classification import ClassificationLoss
from gaze_lightning.losses.gaze_cam import GazeCAM, GazeCAMLoss, GazeTarget
from gaze_lightning.losses.uncertainty import UncertaintyWeighting

__all__ = ["ClassificationLoss", "GazeCAM", "GazeCAMLoss", "GazeTarget", "UncertaintyWeighting"]
