"""What one phantom film consists of."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

PhantomClass = Literal["Normal", "CHF", "pneumonia"]
BoolMask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Finding:
    """One thing a radiologist would report on a film.

    Attributes:
        label: REFLACX label of phases 2-3, e.g. ``"Consolidation"`` or ``"Support devices"``.
        mask: bool ``[H, W]``, where it is; never empty.
        severity: 0 (barely there) .. 1 (obvious); drives the reader's certainty.
        of_class: true when it is part of the signs of the film's diagnosis, false for a distractor.
    """

    label: str
    mask: BoolMask
    severity: float
    of_class: bool


@dataclass(frozen=True)
class Film:
    """A drawn film with everything that is known about it. All masks ``[H, W]``, coordinates in film pixels.

    Attributes:
        image: uint8 ``[H, W]``, MONOCHROME2 (air dark).
        diagnosis: the film's class.
        view: ``"PA"`` or ``"AP"``.
        anatomy: masks ``left_lung``, ``right_lung``, ``mediastanum`` (heart included; the spelling is that of the
            EGD-CXR files), ``aortic_knob``. "left" and "right" are the patient's: the right lung is left on the image.
        findings: signs of the diagnosis and distractors that a reader would name.
        search_regions: name -> (x, y) of the places that a systematic reading visits (apices, lungs zones, hila, heart,
            aortic knob, diaphragm, costophrenic angles, spine, shoulders, ...).
        chest_box: xmin, ymin, xmax, ymax of lungs and heart.
    """

    image: npt.NDArray[np.uint8]
    diagnosis: PhantomClass
    view: Literal["PA", "AP"]
    anatomy: dict[str, BoolMask]
    findings: list[Finding]
    search_regions: dict[str, tuple[float, float]]
    chest_box: tuple[float, float, float, float]
    extras: dict[str, float] = field(default_factory=dict)
    """Distractor counts and the like, for the test that no class can be read from them."""
