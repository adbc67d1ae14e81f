"""Networks as plain ``nn.Module``s."""

from gaze_lightning.models.backbone import Backbone, Taps
from gaze_lightning.models.cam_classifier import CAMClassifier
from gaze_lightning.models.cam_head import CAMHead
from gaze_lightning.models.double_conv import DoubleConv
from gaze_lightning.models.dual_encoder_unet import DualEncoderOutput, DualEncoderUNet, FusionInputs
from gaze_lightning.models.fusion_head import FusionHead
from gaze_lightning.models.mtunet import MTUNet, MTUNetOutput
from gaze_lightning.models.normalise import normalise_films
from gaze_lightning.models.residual_encoder import ResidualEncoder
from gaze_lightning.models.residual_se import ResidualSE
from gaze_lightning.models.saliency_head import SaliencyHead
from gaze_lightning.models.unet_decoder import UNetDecoder
from gaze_lightning.models.weights import LoadReport, load_weights

__all__ = [
    "Backbone",
    "CAMClassifier",
    "CAMHead",
    "DoubleConv",
    "DualEncoderOutput",
    "DualEncoderUNet",
    "FusionHead",
    "FusionInputs",
    "LoadReport",
    "MTUNet",
    "MTUNetOutput",
    "ResidualEncoder",
    "ResidualSE",
    "SaliencyHead",
    "Taps",
    "UNetDecoder",
    "load_weights",
    "normalise_films",
]
