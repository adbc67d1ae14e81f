"""From what a model said about each sample to tables of results."""

from gaze_lightning.evaluation.outputs import SampleOutputs, SampleRow, predicted_classes, rows_of
from gaze_lightning.evaluation.results import Measured, Results, compute_results
from gaze_lightning.evaluation.tables import print_results, readable_name

__all__ = [
    "Measured",
    "Results",
    "SampleOutputs",
    "SampleRow",
    "compute_results",
    "predicted_classes",
    "print_results",
    "readable_name",
    "rows_of",
]
