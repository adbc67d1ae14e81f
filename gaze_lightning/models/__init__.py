"""Networks as plain ``nn.Module``s."""

from gaze_lightning.models.backbone import Backbone
from gaze_lightning.models.cam_classifier import CAMClassifier
from gaze_lightning.models.cam_head import CAMHead
from gaze_lightning.models.weights import LoadReport, load_weights

__all__ = ["Backbone", "CAMClassifier", "CAMHead", "LoadReport", "load_weights"]
