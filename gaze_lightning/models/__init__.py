"""Networks as plain ``nn.Module``s."""

from gaze_lightning.models.anchor_images import (
    PrincipalImages,
    noise_like,
    permute_pixels,
    principal_images,
    standardise,
)
from gaze_lightning.models.backbone import Backbone, Taps
from gaze_lightning.models.batch_stack_attention import BatchStackAttention
from gaze_lightning.models.cam_classifier import CAMClassifier
from gaze_lightning.models.cam_head import CAMHead
from gaze_lightning.models.double_conv import DoubleConv
from gaze_lightning.models.dual_encoder_unet import DualEncoderOutput, DualEncoderUNet, FusionInputs
from gaze_lightning.models.embedder import Embedded, Embedder
from gaze_lightning.models.fit_map import fit_map
from gaze_lightning.models.free_mask import FreeMask
from gaze_lightning.models.fuse import Fusion, fuse
from gaze_lightning.models.fusion_head import FusionHead
from gaze_lightning.models.global_attention import GlobalAttention
from gaze_lightning.models.key_queue import KeyQueue
from gaze_lightning.models.local_attention import LocalAttention
from gaze_lightning.models.momentum_copy import MomentumCopy
from gaze_lightning.models.mtunet import MTUNet, MTUNetOutput
from gaze_lightning.models.normalise import normalise_films
from gaze_lightning.models.pixel_classifier import PixelClassifier, PixelClassifierKind
from gaze_lightning.models.positives import Pairs, Positives, PositivesMode
from gaze_lightning.models.projection_head import OutNorm, ProjectionHead
from gaze_lightning.models.residual_encoder import ResidualEncoder
from gaze_lightning.models.residual_se import ResidualSE
from gaze_lightning.models.saliency_head import SaliencyHead
from gaze_lightning.models.shared_map import SharedMap
from gaze_lightning.models.unet_decoder import UNetDecoder
from gaze_lightning.models.warp import warp
from gaze_lightning.models.weights import LoadReport, load_weights

__all__ = [
    "Backbone",
    "BatchStackAttention",
    "CAMClassifier",
    "CAMHead",
    "DoubleConv",
    "DualEncoderOutput",
    "DualEncoderUNet",
    "Embedded",
    "Embedder",
    "FreeMask",
    "Fusion",
    "FusionHead",
    "FusionInputs",
    "GlobalAttention",
    "KeyQueue",
    "LoadReport",
    "LocalAttention",
    "MTUNet",
    "MTUNetOutput",
    "MomentumCopy",
    "OutNorm",
    "Pairs",
    "PixelClassifier",
    "PixelClassifierKind",
    "Positives",
    "PositivesMode",
    "PrincipalImages",
    "ProjectionHead",
    "ResidualEncoder",
    "ResidualSE",
    "SaliencyHead",
    "SharedMap",
    "Taps",
    "UNetDecoder",
    "fit_map",
    "fuse",
    "load_weights",
    "noise_like",
    "normalise_films",
    "permute_pixels",
    "principal_images",
    "standardise",
    "warp",
]
