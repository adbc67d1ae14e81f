"""The knobs of the phantom."""

from dataclasses import dataclass

PHANTOM_VERSION = 1


@dataclass(frozen=True)
class PhantomKnobs:
    """Everything that changes what the phantom looks like. Same knobs, same version: same data set.

    Attributes:
        n_train: training patients (one film each; a tenth of them have a second film).
        n_validate: validation patients.
        n_test: test patients.
        height: typical film height in pixels; sizes vary around it, some films are landscape.
        width: typical film width in pixels.
        seed: seed of everything that is drawn.
        chf_contrast: strength of the signs of heart failure; multiplied by a severity ~ U(0.55, 1.25).
        pneumonia_contrast: the same for the consolidation of pneumonia.
        gaze_lesion_share: share of the dwell time that goes to findings, 0..1.
        gaze_noise: standard deviation of the fixation position, as a fraction of the film's height.
        gaze_miss_rate: share of abnormal readings in which the reader overlooks the finding.
        missing_gaze: share of films whose reading lacks gaze altogether.
        shortcut: share of training and validation films whose class can be read from a bright tag at the film's
            edge; on test films the tag is placed at random. 0 draws no tag.
        raw_gaze: also write raw 60 Hz samples (``eye_gaze.csv``); large.
    """

    n_train: int = 360
    n_validate: int = 90
    n_test: int = 300
    height: int = 480
    width: int = 400
    seed: int = 0
    chf_contrast: float = 0.46
    pneumonia_contrast: float = 3.2
    gaze_lesion_share: float = 0.25
    gaze_noise: float = 0.02
    gaze_miss_rate: float = 0.1
    missing_gaze: float = 0.03
    shortcut: float = 0.0
    raw_gaze: bool = False
