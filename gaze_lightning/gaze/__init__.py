"""Gaze as points: fixations of a reading and their rendering into maps."""

from gaze_lightning.gaze.area import cell_overlap
from gaze_lightning.gaze.fixations import Fixations
from gaze_lightning.gaze.saliency import (
    EGD_SIGMA_PX,
    REFLACX_SIGMA_DEGREES,
    Normalise,
    Sampling,
    render_saliency,
    render_saliency_batch,
    scaled_sigma,
)

__all__ = [
    "EGD_SIGMA_PX",
    "REFLACX_SIGMA_DEGREES",
    "Fixations",
    "Normalise",
    "Sampling",
    "cell_overlap",
    "render_saliency",
    "render_saliency_batch",
    "scaled_sigma",
]
