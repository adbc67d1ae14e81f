"""From what a model said about each sample to tables of results."""

from gaze_lightning.evaluation.measured import Measured, Reference
from gaze_lightning.evaluation.names import readable_name
from gaze_lightning.evaluation.outputs import SampleOutputs, SampleRow, predicted_classes, rows_of
from gaze_lightning.evaluation.results import Results, compute_results
from gaze_lightning.evaluation.tables import print_results

__all__ = [
    "Measured",
    "Reference",
    "Results",
    "SampleOutputs",
    "SampleRow",
    "compute_results",
    "predicted_classes",
    "print_results",
    "readable_name",
    "rows_of",
]
