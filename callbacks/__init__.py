"""Lightning callbacks: observers (CAM pages, maps, results, speed, provenance) and the ones that stage a training."""

from callbacks.acceleration import Acceleration
from callbacks.cam_logger import CAMLogger
from callbacks.epoch_seed import EpochSeed
from callbacks.gaze_relations import GazeRelations
from callbacks.global_map_logger import GlobalMapLogger
from callbacks.prediction_writer import PredictionWriter
from callbacks.preemption import Preemption
from callbacks.provenance import Provenance
from callbacks.reload_on_plateau import ReloadOnPlateau
from callbacks.rescaled_schedule import RescaledSchedule
from callbacks.stage import Stage, StageSize
from callbacks.stage_progress import StageProgressBar
from callbacks.staged_checkpoint import StagedCheckpoint
from callbacks.staged_training import StagedTraining
from callbacks.test_report import TestReport
from callbacks.throughput import Throughput

__all__ = [
    "Acceleration",
    "CAMLogger",
    "EpochSeed",
    "GazeRelations",
    "GlobalMapLogger",
    "PredictionWriter",
    "Preemption",
    "Provenance",
    "ReloadOnPlateau",
    "RescaledSchedule",
    "Stage",
    "StageProgressBar",
    "StageSize",
    "StagedCheckpoint",
    "StagedTraining",
    "TestReport",
    "Throughput",
]
