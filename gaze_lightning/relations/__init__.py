"""Relations between readings as files: built once, named, loaded read-only."""

from gaze_lightning.relations.access import open_artefact
from gaze_lightning.relations.artefact import Artefact, load_artefact, save_artefact
from gaze_lightning.relations.digest import gaze_digest
from gaze_lightning.relations.scores import similarity_scores
from gaze_lightning.relations.statistics import RelationStatistics
from gaze_lightning.relations.statistics_table import print_statistics
from gaze_lightning.relations.thresholds import Threshold, threshold_of

__all__ = [
    "Artefact",
    "RelationStatistics",
    "Threshold",
    "gaze_digest",
    "load_artefact",
    "open_artefact",
    "print_statistics",
    "save_artefact",
    "similarity_scores",
    "threshold_of",
]
