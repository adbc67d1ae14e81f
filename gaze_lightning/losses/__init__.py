"""Losses as plain ``nn.Module``s."""

from gaze_lightning.losses.attraction import AttractionLoss
from gaze_lightning.losses.classification import ClassificationLoss
from gaze_lightning.losses.gaze_cam import GazeCAM, GazeCAMLoss, GazeTarget
from gaze_lightning.losses.info_nce import MultiPositiveInfoNCE
from gaze_lightning.losses.label_pairs import LabelPairs, label_pairs
from gaze_lightning.losses.nt_xent import MultiPositiveNTXent
from gaze_lightning.losses.pair_loss import PairLoss
from gaze_lightning.losses.positive_pairs import Normalise
from gaze_lightning.losses.saliency_kl import SaliencyKLLoss, SaliencyLoss
from gaze_lightning.losses.supcon import SupConLoss
from gaze_lightning.losses.total_variation import total_variation
from gaze_lightning.losses.triplet import TripletLoss
from gaze_lightning.losses.uncertainty import UncertaintyWeighting

__all__ = [
    "AttractionLoss",
    "ClassificationLoss",
    "GazeCAM",
    "GazeCAMLoss",
    "GazeTarget",
    "LabelPairs",
    "MultiPositiveInfoNCE",
    "MultiPositiveNTXent",
    "Normalise",
    "PairLoss",
    "SaliencyKLLoss",
    "SaliencyLoss",
    "SupConLoss",
    "TripletLoss",
    "UncertaintyWeighting",
    "label_pairs",
    "total_variation",
]
